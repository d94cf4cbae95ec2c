"""What is measured: one short coroutine function a workload, the same code for every loop.

A workload gets a number of iterations `n`, prepares what it needs, does them, and returns the seconds that
they alone took. `ops` operations make one iteration, so `n * ops / seconds` is its rate. The target is what
pyloop has to reach as a multiple of uvloop's rate in the same run; None where it is only shown.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Any

clock: Callable[[], float] = perf_counter  # compare.py may put process_time here
Run = Callable[[int], Coroutine[Any, Any, float]]


@dataclass(frozen=True)
class Workload:
    """One row of the comparison."""

    name: str
    title: str
    run: Run
    ops: int  # operations in one iteration
    target: float | None  # as a multiple of uvloop's rate
    only: str | None  # the one loop that has it, or None for all


WORKLOADS: dict[str, Workload] = {}


def workload(
    title: str, *, ops: int = 1, target: float | None = None, only: str | None = None
) -> Callable[[Run], Run]:
    """Enter the function into WORKLOADS under its own name."""

    def enter(run: Run) -> Run:
        name = run.__name__
        WORKLOADS[name] = Workload(name, title, run, ops, target, only)
        return run

    return enter


def nothing() -> None:
    """The callback that costs nothing but its call."""


def nothing3(_a: int, _b: int, _c: int) -> None:
    """The same with three arguments."""


async def leaf() -> int:
    """The coroutine that is done at its first step."""
    return 1


# ---- callbacks ---------------------------------------------------------------------------------------------


@workload("call_soon, in batches of 100,000", ops=100_000, target=4)
async def call_soon(n: int) -> float:
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        for _ in range(99_999):
            loop.call_soon(nothing)
        done = loop.create_future()
        loop.call_soon(done.set_result, None)
        await done
    return clock() - start


@workload("call_soon with 3 arguments, the same", ops=100_000, target=3)
async def call_soon_args(n: int) -> float:
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        for _ in range(99_999):
            loop.call_soon(nothing3, 1, 2, 3)
        done = loop.create_future()
        loop.call_soon(done.set_result, None)
        await done
    return clock() - start


@workload("call_soon, in batches of 100", ops=100)
async def call_soon_small(n: int) -> float:
    """What a program does: the call, the context and the callback's frame are most of it on any loop."""
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        for _ in range(99):
            loop.call_soon(nothing)
        done = loop.create_future()
        loop.call_soon(done.set_result, None)
        await done
    return clock() - start


@workload("one callback a turn", target=4.5)
async def one_a_turn(n: int) -> float:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(again)
        else:
            done.set_result(None)

    start = clock()
    loop.call_soon(again)
    await done
    return clock() - start


@workload("call_soon_threadsafe from a thread", ops=10_000, target=2.3)
async def threadsafe(n: int) -> float:
    """The thread sends bursts of 10,000 and waits for each to be run, or memory would be what is measured."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    ran = threading.Semaphore(0)

    def sender() -> None:
        for _ in range(n):
            for _ in range(9_999):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(ran.release)
            ran.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=sender)
    start = clock()
    thread.start()
    await done
    elapsed = clock() - start
    thread.join()
    return elapsed


# ---- timers ------------------------------------------------------------------------------------------------


@workload("call_later + cancel", ops=1_000, target=4.5)
async def timer_cancel(n: int) -> float:
    """A turn of the loop after each thousand: that is when a loop may clear the cancelled away."""
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        for _ in range(1_000):
            loop.call_later(10, nothing).cancel()
        await asyncio.sleep(0)
    return clock() - start


@workload("timers firing, 50,000 at a time", ops=50_000, target=2.3)
async def timers(n: int) -> float:
    """Delays of 1 to 5 ms in no order; making them takes longer than that, so no loop waits for the clock."""
    loop = asyncio.get_running_loop()
    delays = [0.001 + (i * 7_919 % 4_001) / 1e6 for i in range(50_000)]
    elapsed = 0.0
    for _ in range(n):
        done = loop.create_future()
        left = len(delays)

        def fire() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)  # noqa: B023 - set before the next iteration

        start = clock()
        for delay in delays:
            loop.call_later(delay, fire)
        await done
        elapsed += clock() - start
    return elapsed


# ---- tasks and futures -------------------------------------------------------------------------------------


@workload("sleep(0) in one task", target=3)
async def sleep0(n: int) -> float:
    start = clock()
    for _ in range(n):
        await asyncio.sleep(0)
    return clock() - start


@workload("spawn + gather of 1,000", ops=1_000, target=1.8)
async def gather(n: int) -> float:
    start = clock()
    for _ in range(n):
        await asyncio.gather(*[leaf() for _ in range(1_000)])
    return clock() - start


@workload("create_task + await", target=2.5)
async def create_task(n: int) -> float:
    start = clock()
    for _ in range(n):
        await asyncio.create_task(leaf())
    return clock() - start


@workload("500 tasks switching with sleep(0)", ops=500, target=1.8)
async def switch500(n: int) -> float:
    async def switcher() -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(switcher()) for _ in range(500)]
    start = clock()
    await asyncio.wait(tasks)
    return clock() - start


@workload("a future to and fro between two tasks", ops=2, target=2.7)
async def future_pingpong(n: int) -> float:
    loop = asyncio.get_running_loop()
    balls = [loop.create_future(), loop.create_future()]

    async def player(me: int, other: int) -> None:
        for _ in range(n):
            await balls[me]
            balls[me] = loop.create_future()
            balls[other].set_result(None)

    tasks = [asyncio.create_task(player(0, 1)), asyncio.create_task(player(1, 0))]
    start = clock()
    balls[0].set_result(None)
    await asyncio.wait(tasks)
    return clock() - start


@workload("Queue(1), producer and consumer", target=2.2)
async def queue1(n: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def producer() -> None:
        for i in range(n):
            await queue.put(i)

    start = clock()
    task = asyncio.create_task(producer())
    for _ in range(n):
        await queue.get()
    await task
    return clock() - start


@workload("asyncio.timeout around sleep(0)", target=1.5)
async def timeout(n: int) -> float:
    start = clock()
    for _ in range(n):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
    return clock() - start


# ---- threads -----------------------------------------------------------------------------------------------


@workload("run_in_executor", target=1.15)
async def executor(n: int) -> float:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, nothing)  # the thread is started here
    start = clock()
    for _ in range(n):
        await loop.run_in_executor(None, nothing)
    return clock() - start


# ---- the price of one await --------------------------------------------------------------------------------


@workload("await of a native coroutine")
async def await_native(n: int) -> float:
    start = clock()
    for _ in range(n):
        await leaf()
    return clock() - start


@workload("await of a Rust future that is ready", only="pyloop")
async def await_rust_ready(n: int) -> float:
    ready = importlib.import_module("pyloop._native")._testing.ready
    start = clock()
    for _ in range(n):
        await ready(None)
    return clock() - start


@workload("await of a Rust future that yields once", only="pyloop")
async def await_rust_yield_once(n: int) -> float:
    yield_once = importlib.import_module("pyloop._native")._testing.yield_once
    start = clock()
    for _ in range(n):
        await yield_once()
    return clock() - start
