"""Many tasks: each costs as much as the first ones did, and takes no more memory than one of asyncio's.

Each measurement is made in a process of its own, which runs this file and prints what it found.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]

FEW, MANY, CROWD = 1_000, 100_000, 200_000
PENDING = 20_000


# What is measured.


async def _yielding() -> None:
    await asyncio.sleep(0)


async def _ended_by(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        await task


def _seconds_per_task(new_loop: Callable[[], asyncio.AbstractEventLoop], count: int) -> float:
    """The processor time to make, run and forget a task among `count`, the best of a few rounds."""
    best = float("inf")
    for _ in range(max(2, 10_000 // count)):
        loop = new_loop()
        start = time.process_time()

        async def main() -> None:
            await _ended_by([asyncio.create_task(_yielding()) for _ in range(count)])

        loop.run_until_complete(main())
        best = min(best, time.process_time() - start)
        loop.close()
    return best / count


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _waiting() -> None:
    await asyncio.get_running_loop().create_future()


async def _waiting_for_an_event() -> None:
    await asyncio.Event().wait()


#: How a task can wait. Each is measured in a process of its own: memory that an earlier one gave back, or did
#: not, would be counted.
WAITS: dict[str, Callable[[], Any]] = {
    "waiting": _waiting,
    "waiting-for-an-event": _waiting_for_an_event,
    "sleeping": lambda: asyncio.sleep(3600),
}


def _bytes_per_task(new_loop: Callable[[], asyncio.AbstractEventLoop], wait: Callable[[], Any]) -> float:
    """The resident memory that one of many pending tasks takes."""
    loop = new_loop()

    async def fill(count: int) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(wait()) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks

    kept = loop.run_until_complete(fill(100))
    gc.collect()
    before = _resident()
    kept += loop.run_until_complete(fill(PENDING))
    gc.collect()
    after = _resident()
    for task in kept:
        task.cancel()
    loop.run_until_complete(asyncio.wait(kept))
    loop.close()
    return (after - before) / PENDING


def _measure(kind: str, what: str) -> dict[str, float]:
    from support.loops import new_loop

    gc.disable()
    if what == "collector":
        without = _seconds_per_task(lambda: new_loop(kind), CROWD)
        gc.enable()
        return {"without": without, "with": _seconds_per_task(lambda: new_loop(kind), CROWD)}
    if what in WAITS:
        return {"bytes": _bytes_per_task(lambda: new_loop(kind), WAITS[what])}
    return {
        "few": _seconds_per_task(lambda: new_loop(kind), FEW),
        "many": _seconds_per_task(lambda: new_loop(kind), MANY),
    }


# The tests.


@functools.cache
def measured(kind: str, what: str) -> dict[str, float]:
    """What a fresh process measures on loops of that kind, asked for once."""
    environment = {**os.environ, "PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, __file__, kind, what]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    answer: dict[str, float] = json.loads(found.stdout)
    return answer


def test_a_task_costs_the_same_among_a_hundred_thousand_as_among_a_thousand(loop_kind: str) -> None:
    found = measured(loop_kind, "time")
    # Caches make it up to twice as dear; what grows with the number makes it a hundred times as dear.
    assert found["many"] < 4 * found["few"], found


@pytest.mark.acceleration("collector", "task_register")
@pytest.mark.usefixtures("pyloop_factory")
def test_the_cycle_collector_has_little_to_do_with_a_crowd() -> None:
    found = measured("pyloop", "collector")
    # Looked through again and again they cost twice as much, on asyncio too.
    assert found["with"] < 1.5 * found["without"], found


@pytest.mark.acceleration("task_register")
@pytest.mark.usefixtures("pyloop_factory")
@pytest.mark.parametrize("how", WAITS)
def test_a_pending_task_takes_no_more_memory_than_one_of_asyncio(how: str) -> None:
    ours, theirs = measured("pyloop", how)["bytes"], measured("asyncio", how)["bytes"]
    assert ours <= theirs * 1.02, f"{ours:.0f} bytes, {theirs:.0f} bytes"  # pages are counted, not bytes


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
