"""A request to a small server, both on one loop: what docs/watching.md has a picture of.

    python examples/traced.py [trace.json]

https://ui.perfetto.dev opens the file.
"""

from __future__ import annotations

import asyncio
import json
import sys

import pyloop
from pyloop import fs


async def look_up(key: int) -> str:
    data = await fs.read(__file__)  # a Rust future, and a thread that reads
    return data.decode()[key : key + 1000]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        keys = json.loads(line)
        found = await asyncio.gather(*map(look_up, keys))
        writer.write(json.dumps(found).encode() + b"\n")
    writer.close()
    await writer.wait_closed()


async def request(port: int, keys: list[int]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(json.dumps(keys).encode() + b"\n")
    found = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return len(found)


async def main(path: str) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await request(port, [0])  # the first time is not the usual one
    with pyloop.trace(path):
        await asyncio.sleep(0)  # the records begin with the next turn
        await request(port, [1, 2])
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    pyloop.run(main(sys.argv[1] if len(sys.argv) > 1 else "trace.json"))
