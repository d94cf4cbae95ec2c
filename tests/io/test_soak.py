"""Five hundred connections of each kind, made, used and closed: nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from pathlib import Path

import pytest

from support.guard import descriptors, kernel_threads
from support.life_cycles import ALL, QUICK, Place, place
from support.loops import Loop


def _counts() -> tuple[int, int, int]:
    """How many descriptors, threads and blocks of memory there are."""
    gc.collect()
    return len(descriptors()), kernel_threads() + threading.active_count(), sys.getallocatedblocks()


@pytest.mark.parametrize("name", ALL)
def test_five_hundred_life_cycles_leave_nothing(pyloop_loop: Loop, name: str, tmp_path: Path) -> None:
    life, count = ALL[name], 500 if name in QUICK else 50

    async def cycles(where: Place, count: int) -> None:
        for _ in range(count // 10):
            await asyncio.gather(*(life(where) for _ in range(10)))
        await asyncio.sleep(0.01)  # servers hear of the last end

    async def main() -> None:
        async with place(tmp_path) as where:
            await cycles(where, 50)
            # What is kept for use again grows at first, as does the executor; a leak does so each time.
            grown = (0, 0, 0)
            for _ in range(6):
                descriptors, threads, blocks = _counts()
                await cycles(where, count)
                now = _counts()
                grown = now[0] - descriptors, now[1] - threads, (now[2] - blocks) // count
                if max(grown) <= 0:
                    return
            pytest.fail(f"each time there are more descriptors, threads or, for each life, blocks: {grown}")

    pyloop_loop.run_until_complete(main())
