"""asyncio code and Rust futures on one thread: a real job, with checked results, and what an await costs.

    python examples/demo.py [FILE ...]

The job: count the lines, words and bytes of files (by default of this repository). Four workers take the
files from an asyncio.Queue and send each through a TCP connection to a server in the same process, with a
timeout. All of that is plain asyncio code; between two files a worker rests on a timer of tokio, and one more
of those ticks all the while. The exit code is 1 if a check fails.
"""

import argparse
import asyncio
import os
import platform
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby, repeat
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import pyloop
from pyloop._native import _testing as rust

failed: list[str] = []


def check(what: str, passed: bool) -> None:
    """Say what is claimed and whether it holds."""
    print(f"   {'ok  ' if passed else 'FAIL'} {what}")
    if not passed:
        failed.append(what)


# ---- the job: asyncio as everyone writes it ----------------------------------------------------------------


class Counts(NamedTuple):
    """What `wc` prints of a file."""

    lines: int
    words: int
    size: int


Files = dict[str, bytes]
Answers = dict[str, Counts]


def count_plainly(data: bytes) -> Counts:
    """The answer that the server has to give, without any of it."""
    return Counts(data.count(b"\n"), len(data.split()), len(data))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: a file comes in line by line, its counts go back."""
    lines = words = size = 0
    async for line in reader:
        lines += line.endswith(b"\n")
        words += len(line.split())
        size += len(line)
    writer.write(b"%d %d %d\n" % (lines, words, size))
    await writer.drain()
    writer.close()


async def ask(port: int, data: bytes) -> Counts:
    """Send one file to the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    writer.write_eof()
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return Counts(*map(int, answer.split()))


async def worker(
    port: int, queue: asyncio.Queue[str], files: Files, answers: Answers, trace: list[str]
) -> None:
    """Take files until there are none: each waits for a Rust timer, then for asyncio's streams."""
    while not queue.empty():
        name = queue.get_nowait()
        await pyloop.sleep(0.002)
        async with asyncio.timeout(30):
            answers[name] = await ask(port, files[name])
        trace.append("file")


async def tick(trace: list[str]) -> None:
    """A Rust timer, again and again."""
    while True:
        await pyloop.sleep(0.001)
        trace.append("tick")


async def job(files: Files) -> None:
    """Count the files and check what came back."""
    trace: list[str] = []
    answers: Answers = {}
    queue: asyncio.Queue[str] = asyncio.Queue()
    for name in files:
        queue.put_nowait(name)

    start = perf_counter()
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**26) as server:
        port = server.sockets[0].getsockname()[1]
        ticking = asyncio.create_task(tick(trace))
        await asyncio.gather(*(worker(port, queue, files, answers, trace) for _ in range(4)))
        ticking.cancel()
    elapsed = perf_counter() - start

    largest = max(answers, key=lambda name: answers[name].size)
    total = Counts(*map(sum, zip(*answers.values(), strict=True)))
    show(answers[largest], largest)
    show(total, f"all {len(files)}, in {elapsed * 1e3:.0f} ms")
    right = {name: count_plainly(data) for name, data in files.items()}
    check("each answer is what a plain loop over the files counts", answers == right)
    runs = [kind for kind, _ in groupby(trace)]
    ticks = trace.count("tick")
    check(
        f"{ticks} ticks of a Rust timer, files done between them {runs.count('file')} times",
        runs[0] == "tick",
    )


def show(counts: Counts, of: str) -> None:
    """One line of the report."""
    print(f"   {counts.lines:>9,} lines {counts.words:>9,} words {counts.size:>11,} bytes  {of}")


# ---- asyncio and Rust in one another's hands ---------------------------------------------------------------


async def together() -> None:
    """What asyncio offers for its own futures works with Rust's."""
    trace: list[str] = []

    async def steps(name: str, pause: Callable[[], Awaitable[object]]) -> None:
        for _ in range(3):
            trace.append(name)
            await pause()

    await asyncio.gather(steps("asyncio", partial(asyncio.sleep, 0)), steps("rust", rust.yield_once))
    check(f"two tasks take turns: {' '.join(trace)}", trace == ["asyncio", "rust"] * 3)

    start = perf_counter()
    first, second = await asyncio.gather(asyncio.sleep(0.1, "asyncio"), pyloop.sleep(0.1, "rust"))
    elapsed = perf_counter() - start
    check(
        f"gather of asyncio.sleep(0.1) and pyloop.sleep(0.1): {first}, {second}, {elapsed * 1e3:.0f} ms",
        (first, second) == ("asyncio", "rust") and 0.1 <= elapsed < 0.19,
    )

    start = perf_counter()
    try:
        async with asyncio.timeout(0.02):
            await rust.never()
    except TimeoutError:
        elapsed = perf_counter() - start
    check(
        f"asyncio.timeout(0.02) ends a Rust future that never does: {elapsed * 1e3:.0f} ms", elapsed >= 0.02
    )


def threads() -> int:
    """How many threads this process has, Python's and all others."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return threading.active_count()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))


# ---- what one await costs ----------------------------------------------------------------------------------


async def native() -> None:
    """A coroutine that does nothing."""


async def costs() -> dict[str, float]:
    """Nanoseconds for one await of each kind on the running loop."""
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "native coroutine": native,
        "asyncio future, already done": repeat(done).__next__,
        "asyncio.sleep(0)": partial(asyncio.sleep, 0),
        "Rust future, ready": partial(rust.ready, None),
        "Rust future, yields once": rust.yield_once,
        "pyloop.sleep(0)": partial(pyloop.sleep, 0),
    }
    taken = {}
    for kind, make in kinds.items():
        start = perf_counter()
        for _ in range(5_000):
            await make()
        taken[kind] = (perf_counter() - start) / 5_000 * 1e9
    return taken


def cost_table() -> None:
    """pyloop beside stock asyncio, in turn, the best of five."""
    ours, stock = [], []
    for _ in range(5):
        ours.append(pyloop.run(costs()))
        stock.append(asyncio.run(costs()))
    print(f"   {'':30}{'pyloop':>9}{'asyncio':>10}")
    for kind in ours[0]:
        best, others = (min(run[kind] for run in runs) for runs in (ours, stock))
        print(f"   {kind:30}{best:9,.0f}{others:10,.0f}")


async def work(files: Files) -> None:
    """All that runs on pyloop alone."""
    print("1. A job: the counts of files, over TCP, by four workers")
    await job(files)
    print("2. asyncio code and Rust futures")
    await together()
    check(f"threads of this process: {threads()}", threads() == 1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="default: this repository's sources"
    )
    paths: list[Path] = parser.parse_args().files
    root = Path(__file__).resolve().parent.parent
    if not paths:
        patterns = "README.md", "src/**/*.rs", "python/**/*.py", "tests/*.py", "examples/*.py"
        paths = sorted(path for pattern in patterns for path in root.glob(pattern))
    try:
        files = {os.path.relpath(path, root): path.read_bytes() for path in paths}
    except OSError as error:
        parser.error(str(error))

    print(f"pyloop on {platform.python_implementation()} {platform.python_version()}, {platform.system()}")
    pyloop.run(work(files))
    print("3. One await, in nanoseconds (best of five; asyncio is woken by call_soon_threadsafe)")
    cost_table()
    print(f"{len(failed)} checks failed." if failed else "All checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
