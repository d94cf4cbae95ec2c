"""What a million tasks and a million timers cost, in memory and in time, on each loop.

    python benches/scale.py [--loop asyncio,uvloop,rloop,pyloop] [--tasks 1000000] [--timers 1000000]

Every number comes from a process of its own. Memory is the growth of the resident set by things that are all
pending at once, so it has everything in it: coroutine, task, what the loop keeps of it, the allocator's
rounding. Time is the process's processor time: nothing here waits, and other programs disturb it less. The
garbage collector is left on, as it is in a program.
"""

import argparse
import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from loops import LOOPS, installed, new_event_loop

Measurement = Callable[[int], Coroutine[Any, Any, float]]


def resident() -> int:
    """Bytes of memory that the process has now."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def nothing() -> None:
    """The callback of every timer."""


async def task_bytes(n: int) -> float:
    """Bytes for one of n tasks that all wait."""
    gate = asyncio.get_running_loop().create_future()

    async def waiter() -> None:
        await gate

    tasks: list[asyncio.Task[None] | None] = [None] * n
    before = resident()
    for i in range(n):
        tasks[i] = asyncio.create_task(waiter())
    await asyncio.sleep(0)  # all of them come to their await
    grown = resident() - before
    gate.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(task is not None and task.done() for task in tasks)
    return grown / n


async def task_micros(n: int) -> float:
    """Microseconds for one of n tasks: spawn, one switch, finish."""
    loop = asyncio.get_running_loop()
    left = 0

    async def work() -> None:
        nonlocal left
        await asyncio.sleep(0)
        left -= 1
        if not left:
            done.set_result(None)

    timings = []
    for _ in range(max(3, 300_000 // n)):
        done, left = loop.create_future(), n
        start = process_time()
        tasks = [asyncio.create_task(work()) for _ in range(n)]
        await done
        timings.append(process_time() - start)
        del tasks
    return median(timings) / n * 1e6


async def timer_bytes(n: int) -> float:
    """Bytes for one of n pending timers."""
    loop = asyncio.get_running_loop()
    handles: list[asyncio.TimerHandle | None] = [None] * n
    before = resident()
    for i in range(n):
        handles[i] = loop.call_later(3600 + i % 1000, nothing)
    grown = resident() - before
    for handle in handles:
        assert handle is not None
        handle.cancel()
    return grown / n


async def timer_micros(n: int) -> float:
    """Microseconds to make and cancel one of n timers that are all pending at once."""
    loop = asyncio.get_running_loop()
    timings = []
    for _ in range(max(3, 300_000 // n)):
        start = process_time()
        handles = [loop.call_later(3600 + i % 1000, nothing) for i in range(n)]
        await asyncio.sleep(0)
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0)
        timings.append(process_time() - start)
        del handles
    return median(timings) / n * 1e6


async def timer_left(n: int) -> float:
    """Bytes that stay for each of n timers cancelled at once: do the cancelled pile up until they are due?"""
    loop = asyncio.get_running_loop()
    before = resident()
    for i in range(n):
        loop.call_later(3600, nothing).cancel()
        if i % 1000 == 0:
            await asyncio.sleep(0)
    return (resident() - before) / n


MEASUREMENTS: dict[str, Measurement] = {
    measure.__name__: measure for measure in (task_bytes, task_micros, timer_bytes, timer_micros, timer_left)
}


def ask(loop: str, name: str, n: int) -> str:
    """One measurement from a fresh process, or a dash; the reason goes to stderr."""
    command = [sys.executable, __file__, "--worker", loop, name, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        print(f"{loop}, {name}({n}): {why[0]}", file=sys.stderr)
        return "-"
    number = float(done.stdout)
    return f"{number:,.0f}" if name.endswith(("bytes", "left")) else f"{number:.2f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", default=",".join(LOOPS), help="which loops")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--timers", type=int, default=1_000_000)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        loop, name, n = options.worker
        with asyncio.Runner(loop_factory=lambda: new_event_loop(loop)) as runner:
            print(runner.run(MEASUREMENTS[name](int(n))))
        return
    sizes = [n for n in (1_000, 10_000, 100_000) if n < options.tasks] + [options.tasks]
    rows = [(f"bytes a task, {options.tasks:,} pending", "task_bytes", options.tasks)]
    rows += [(f"us a task (spawn, switch, finish), {n:,} at once", "task_micros", n) for n in sizes]
    rows += [(f"bytes a timer, {options.timers:,} pending", "timer_bytes", options.timers)]
    rows += [
        (f"us a timer (make, cancel), {n:,} pending", "timer_micros", n) for n in (1_000, options.timers)
    ]
    rows += [(f"bytes left by each of {options.timers:,} cancelled", "timer_left", options.timers)]
    loops, words = installed(options.loop.split(","))
    print("; ".join(words), end="\n\n")
    print(f"{'':50}" + "".join(f"{loop:>10}" for loop in loops))
    for title, name, n in rows:
        print(f"{title:50}", end="", flush=True)
        for loop in loops:
            print(f"{ask(loop, name, n):>10}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
