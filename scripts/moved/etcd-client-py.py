"""What of etcd-client-py is measured: calls of gRPC to a server on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from etcd_client import Client

if TYPE_CHECKING:
    from moved.measure import Operations

CONTENT = bytes(256)


async def operations(_: Path) -> Operations:
    client = Client([f"http://127.0.0.1:{os.environ['ETCD_PORT']}"])
    # Open to the end: where the last one closes the original stops its runtime, below those that open one.
    connection = await client.connect().__aenter__()
    for i in range(32):
        await connection.put(b"measured/%d" % i, CONTENT)

    async def connected() -> None:
        async with client.connect() as another:
            await another.get(b"measured/0")

    return {
        "connect, get of a key, close": connected,
        "get of a key": lambda: connection.get(b"measured/0"),
        "get of 32 keys by their prefix": lambda: connection.get_prefix(b"measured/"),
        "put of a key": lambda: connection.put(b"measured/0", CONTENT),
    }
