"""What an await of a Rust future costs: pyloop's bridge, PyO3's `async fn` and pyo3-async-runtimes, side by side.

    maturin develop --release -m benches/bridge/Cargo.toml
    python benches/bridge/run.py [--rounds 7] [--only ready,yield] [--markdown]

Every workload is run by all of its contestants in turn, in short slices, in one process; each has its loop. The
figures are medians over the rounds of the time an await took (wall clock), the ratios medians of the ratios within a
round: a machine that is slow for a while is slow for all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import contextmanager
from typing import Any

import bridge_bench as rust  # type: ignore[import-not-found, unused-ignore]
import pyloop
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "pyloop": pyloop.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}

type Work = Callable[[int], Coroutine[Any, Any, None]]


async def native() -> int:
    return 7


async def native_none() -> None:
    return None


def one_by_one(make: Callable[[], Awaitable[Any]]) -> Work:
    async def work(n: int) -> None:
        for _ in range(n):
            await make()

    return work


def gathered(make: Callable[[], Awaitable[Any]]) -> Work:
    async def work(n: int) -> None:
        for _ in range(n // 100):
            await asyncio.gather(*[make() for _ in range(100)])

    return work


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def http(method: str) -> Work:
    """32 requests at a time against a server written in asyncio on the same loop."""

    async def work(n: int) -> None:
        client = rust.Client()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
        for _ in range(n // 32):
            assert await asyncio.gather(*[getattr(client, method)(url) for _ in range(32)]) == [5] * 32
        server.close()

    return work


@contextmanager
def spinning(on: bool) -> Any:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    if on:
        thread.start()
    yield
    stop.set()
    if on:
        thread.join()


class Workload:
    def __init__(self, name: str, awaits: int, *, spin: bool = False, **contestants: tuple[str, Work]) -> None:
        """`awaits` is for ours, in a slice; a slower contestant makes fewer."""
        self.name, self.awaits, self.spin, self.contestants = name, awaits, spin, contestants


def everywhere(name: str, work: Work) -> dict[str, tuple[str, Work]]:
    return {f"{name}@{loop}": (loop, work) for loop in LOOPS}


def workloads() -> list[Workload]:
    both = ("uvloop", "asyncio")

    def par(work: Work) -> dict[str, tuple[str, Work]]:
        return {f"par@{loop}": (loop, work) for loop in both}

    return [
        Workload("ready", 100_000, pyloop=("pyloop", one_by_one(rust.ready_pyloop)),
                 native=("pyloop", one_by_one(native)), **everywhere("pyo3", one_by_one(rust.ready_pyo3)),
                 **par(one_by_one(rust.ready_par))),
        Workload("ready, no result", 100_000, pyloop=("pyloop", one_by_one(rust.none_pyloop)),
                 native=("pyloop", one_by_one(native_none)), **everywhere("pyo3", one_by_one(rust.none_pyo3))),
        Workload("yield once", 50_000, pyloop=("pyloop", one_by_one(rust.yield_pyloop)),
                 sleep0=("pyloop", one_by_one(lambda: asyncio.sleep(0))),
                 **everywhere("pyo3", one_by_one(rust.yield_pyo3)), **par(one_by_one(rust.yield_par))),
        Workload("gather of 100, yield once", 20_000, pyloop=("pyloop", gathered(rust.yield_pyloop)),
                 **everywhere("pyo3", gathered(rust.yield_pyo3)), **par(gathered(rust.yield_par))),
        Workload("gather of 100, ready", 20_000, pyloop=("pyloop", gathered(rust.ready_pyloop)),
                 **par(gathered(rust.ready_par))),
        Workload("ready, a Python thread spinning", 20_000, spin=True,
                 pyloop=("pyloop", one_by_one(rust.ready_pyloop)), **par(one_by_one(rust.ready_par))),
        Workload("oneshot from a thread", 5_000, pyloop=("pyloop", one_by_one(rust.thread_pyloop)),
                 **everywhere("pyo3", one_by_one(rust.thread_pyo3)), **par(one_by_one(rust.thread_par))),
        Workload("into_future of a coroutine", 20_000, pyloop=("pyloop", one_by_one(lambda: rust.into_pyloop(native()))),
                 **par(one_by_one(lambda: rust.into_par(native())))),
        Workload("HTTP request (32 at a time)", 1_600, pyloop=("pyloop", http("get_pyloop")),
                 uvloop=("uvloop", http("get_pyloop")), **par(http("get_par"))),
    ]  # fmt: skip


def measure(workload: Workload, runners: dict[str, asyncio.Runner], rounds: int) -> dict[str, list[float]]:
    """Seconds an await, by contestant, one for each round."""
    counts: dict[str, int] = {}
    for name, (loop, work) in workload.contestants.items():
        # As many as take about as long as ours, so that a slice is never longer than a second.
        probe = 32 if name.startswith("HTTP") else 100
        with spinning(workload.spin):
            began = time.perf_counter()
            runners[loop].run(work(probe * (32 if "HTTP" in workload.name else 1)))
            took = time.perf_counter() - began
        most = int(0.25 / (took / (probe * (32 if "HTTP" in workload.name else 1))))
        counts[name] = max(100, min(workload.awaits, most) // 100 * 100)
        if "HTTP" in workload.name:
            counts[name] = max(96, counts[name] // 32 * 32)
    times: dict[str, list[float]] = {name: [] for name in workload.contestants}
    for _ in range(rounds):
        for name, (loop, work) in workload.contestants.items():
            with spinning(workload.spin):
                began = time.perf_counter()
                runners[loop].run(work(counts[name]))
                times[name].append((time.perf_counter() - began) / counts[name])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="workloads whose names begin with one of these, by commas")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    runners = {name: asyncio.Runner(loop_factory=factory) for name, factory in LOOPS.items()}
    rows = []
    for workload in workloads():
        if options.only and not workload.name.startswith(tuple(options.only.split(","))):
            continue
        times = measure(workload, runners, options.rounds)
        ours = times["pyloop"]
        cells = []
        for group in ("native", "sleep0", "pyo3", "par", "uvloop"):
            candidates = [name for name in times if name.split("@")[0] == group]
            if not candidates:
                cells.append("")
                continue
            best = min(candidates, key=lambda name: statistics.median(times[name]))
            ratio = statistics.median(other / mine for other, mine in zip(times[best], ours, strict=True))
            loop = f" {best.split('@')[1]}" if "@" in best else ""
            cells.append(f"{statistics.median(times[best]) * 1e6:.2f}{loop} ({ratio:.3g}x)")
        rows.append([workload.name, f"{statistics.median(ours) * 1e6:.2f}", *cells])
        if not options.markdown:
            print(" | ".join(rows[-1]), flush=True)
    if options.markdown:
        print("| microseconds an await | pyloop | coroutine | sleep(0) | PyO3 async fn | pyo3-async-runtimes | ours on uvloop |")
        print("|---|---|---|---|---|---|---|")
        for row in rows:
            print(f"| {' | '.join(row)} |")
    for runner in runners.values():
        runner.close()


if __name__ == "__main__":
    main()
