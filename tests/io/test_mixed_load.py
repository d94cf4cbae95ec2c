"""Everything at once: connections of each kind come and go, and every byte of large transfers is summed up.

A second as a rule; `PYLOOP_MIXED_LOAD=600 python -m pytest tests/io/test_mixed_load.py` makes it ten minutes.
"""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from support.guard import descriptors
from support.life_cycles import ALL, TLS, Place, place
from support.loops import Loop
from support.patience import PATIENCE

SECONDS = float(os.environ.get("PYLOOP_MIXED_LOAD", "1"))
LARGE = 3_000_000


async def transfer(where: Place, encrypted: bool, dice: random.Random) -> int:
    """Send so much, in pieces of any size, and compare what comes back, read in other pieces."""
    address = where.tls if encrypted else where.tcp
    tls: dict[str, Any] = {"ssl": TLS, "server_hostname": "localhost"} if encrypted else {}
    reader, writer = await asyncio.open_connection(*address, **tls)
    try:
        data = dice.randbytes(dice.randrange(1, LARGE))

        async def send() -> None:
            at = 0
            while at < len(data):
                size = dice.choice([1, 100, 1_000, 65_536, 300_000])
                writer.write(data[at : at + size])
                at += size
                await writer.drain()

        sending = asyncio.create_task(send())
        left, digest = len(data), hashlib.sha256()
        while left:
            size = dice.choice([10, 4_096, 2**18])
            received = await (
                reader.readexactly(min(size, left)) if dice.random() < 0.3 else reader.read(size)
            )
            assert received
            digest.update(received)
            left -= len(received)
        await sending
        assert digest.digest() == hashlib.sha256(data).digest()
        return len(data)
    finally:
        writer.close()
        await writer.wait_closed()


def test_every_byte_arrives_whatever_else_there_is(pyloop_loop: Loop, tmp_path: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, SECONDS + PATIENCE, PATIENCE)
    faulthandler.dump_traceback_later(SECONDS + 3 * PATIENCE, exit=True)
    lived: Counter[str] = Counter()

    async def lives(name: str, where: Place, end: float) -> None:
        while pyloop_loop.time() < end:
            await ALL[name](where)
            lived[name] += 1

    async def transfers(where: Place, end: float, seed: int) -> None:
        dice = random.Random(seed)
        while pyloop_loop.time() < end:
            lived["bytes"] += await transfer(where, bool(seed % 2), dice)

    async def main() -> None:
        async with place(tmp_path) as where:
            before, end = len(descriptors()), pyloop_loop.time() + SECONDS
            async with asyncio.TaskGroup() as group:
                for name in ALL:
                    for _ in range(1 if name == "subprocess" else 3):
                        group.create_task(lives(name, where, end))
                for seed in range(4):
                    group.create_task(transfers(where, end, seed))
            await asyncio.sleep(0.01)  # servers hear of the last end
            assert len(descriptors()) <= before + 1  # the executor's pool may have grown

    pyloop_loop.run_until_complete(main())
    assert set(lived) == {*ALL, "bytes"}
    print(dict(lived))
