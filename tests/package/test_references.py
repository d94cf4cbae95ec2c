"""Nothing is left behind per call: the references of the interpreter stay as many over a thousand cycles.

A debug build of CPython counts every reference (`sys.gettotalrefcount`); the others count the blocks of
memory in use, which finds an object that is never freed and misses a reference too many to one that lives on.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.extension import ext, start_extension
from support.loops import Loop
from support.rust import rust, sync

CYCLES = 1000
# A leak of one in fifty cycles is seen; what the interpreter itself keeps for later is not mistaken for one.
MOST = CYCLES // 50

Cycle = Callable[[Loop], Awaitable[object]]

total: Callable[[], int] = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)


@pytest.fixture(scope="module", autouse=True)
def background() -> None:
    start_extension()


async def give(value: int) -> int:
    return value


async def task_and_await(loop: Loop) -> None:
    assert await loop.create_task(give(1)) == 1


async def task_cancelled(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def future_set_result(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert await future == 1


async def future_never_awaited(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(id)
    future.set_result(None)
    await asyncio.sleep(0)


async def later_and_cancel(loop: Loop) -> None:
    loop.call_later(3600, id, loop).cancel()


async def soon_threadsafe(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon_threadsafe(id, loop).cancel()
    loop.call_soon_threadsafe(future.set_result, None)
    await future


async def rust_ready(loop: Loop) -> None:
    assert await rust.ready(loop) is loop


async def rust_yield_once(loop: Loop) -> None:
    assert await rust.yield_once(loop) is loop


async def rust_cancelled(loop: Loop) -> None:
    task = loop.create_task(rust.never())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def rust_closed(loop: Loop) -> None:
    rust.never().close()


async def rust_failed(loop: Loop) -> None:
    with pytest.raises(ZeroDivisionError):
        await rust.error(ZeroDivisionError())


async def extension_yields(loop: Loop) -> None:
    await ext.yield_once()


async def extension_cancelled(loop: Loop) -> None:
    task = loop.create_task(ext.never())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def extension_awaits_python(loop: Loop) -> None:
    assert await ext.awaits(give(1)) == 1


async def extension_streams(loop: Loop) -> None:
    assert [item async for item in ext.counts(3)] == [0, 1, 2]


async def channel(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)
    await sender.send(loop)
    assert await receiver.recv() is loop


CYCLES_OF_ALL: list[Cycle] = [
    task_and_await,
    task_cancelled,
    future_set_result,
    future_never_awaited,
    later_and_cancel,
    soon_threadsafe,
    rust_ready,
    rust_yield_once,
    rust_cancelled,
    rust_closed,
    rust_failed,
    extension_yields,
    extension_cancelled,
    extension_awaits_python,
    extension_streams,
    channel,
]


async def repeat(cycle: Cycle, loop: Loop) -> None:
    for _ in range(CYCLES):
        await cycle(loop)


async def growth(cycle: Cycle, loop: Loop) -> int:
    """What a thousand cycles add. The first thousand fill what is kept for the next: free lists, caches."""
    await repeat(cycle, loop)
    gc.collect()
    before = total()
    await repeat(cycle, loop)
    gc.collect()
    return total() - before


@pytest.mark.parametrize("cycle", CYCLES_OF_ALL, ids=lambda cycle: cycle.__name__)
def test_a_thousand_cycles_leave_no_reference_behind(pyloop_loop: Loop, cycle: Cycle) -> None:
    pyloop_loop.set_debug(False)  # which keeps tracebacks
    # One run may be disturbed (a cache that grows); a leak grows in each of them.
    grown = [pyloop_loop.run_until_complete(growth(cycle, pyloop_loop)) for _ in range(3)]
    assert min(grown) <= MOST, grown


def test_a_reference_that_is_left_behind_is_seen(pyloop_loop: Loop) -> None:
    kept: list[Any] = []

    async def leak(loop: Loop) -> None:
        kept.append(loop.create_future())

    pyloop_loop.set_debug(False)
    assert pyloop_loop.run_until_complete(growth(leak, pyloop_loop)) >= CYCLES
