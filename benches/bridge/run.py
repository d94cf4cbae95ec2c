"""What an await of a Rust future costs: pyloop, PyO3's `async fn` and pyo3-async-runtimes side by side.

    maturin develop --release -m benches/bridge/Cargo.toml
    python benches/bridge/run.py [--rounds 7] [--only ready,yield] [--markdown]

All contestants of a workload run in turn, in slices of at most a quarter of a second, in one process, each
on the loop after its `@`. The figures are medians over the rounds of the wall-clock time an await took, in
microseconds; the ratios (another's time divided by ours) are medians of the ratios within a round: a machine
that is slow for a while is slow for all. Of several loops the one that suits the contestant best is shown,
and the next best when that is pyloop.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import operator
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bridge_bench
import uvloop

import pyloop

rust: Any = bridge_bench

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "pyloop": pyloop.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
SLICE = 0.25

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


HOPS = 16


def hopping(method: str, at_a_time: int) -> Work:
    """Futures that go to a blocking thread and back so often; a hop counts as an await."""

    async def work(n: int) -> None:
        make, once = getattr(rust, method), HOPS * at_a_time
        for _ in range(n // once):
            got = await asyncio.gather(*[make(HOPS) for _ in range(at_a_time)])
            assert got == [sum(range(HOPS))] * at_a_time

    return work


def hop_workload(at_a_time: int) -> Workload:
    return Workload(
        f"`spawn_blocking`, {HOPS} in a row, {at_a_time} at a time",
        {
            "pyloop@pyloop": hopping("hops_pyloop", at_a_time),
            "spawned@pyloop": hopping("hops_spawned", at_a_time),
            "ours@uvloop": hopping("hops_pyloop", at_a_time),
        }
        | par(hopping("hops_par", at_a_time)),
        unit=HOPS * at_a_time,
    )


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def http(method: str) -> Work:
    """Requests, 32 at a time, to a server written in asyncio on the same loop."""

    async def work(n: int) -> None:
        client = rust.Client()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(n // 32):
            got = await asyncio.gather(*[getattr(client, method)(url) for _ in range(32)])
            assert got == [5] * 32
        server.close()

    return work


MESSAGE = bytes(1024)


async def on_each_connection(
    connect: Callable[[], Awaitable[Any]], message: Callable[[Any], Awaitable[Any]], connections: int, n: int
) -> None:
    async def client(connection: Any) -> None:
        for _ in range(n // connections):
            assert await message(connection) == len(MESSAGE)

    opened = [await connect() for _ in range(connections)]
    await asyncio.gather(*[client(connection) for connection in opened])


def by_rust(port: int, connections: int, kind: str) -> Work:
    connect, message = f"new_{kind}", f"message_{kind}"

    async def work(n: int) -> None:
        make = functools.partial(getattr(rust.Connection, connect), port)
        await on_each_connection(make, operator.methodcaller(message), connections, n)

    return work


def by_socket(port: int, connections: int) -> Work:
    async def work(n: int) -> None:
        loop, opened = asyncio.get_running_loop(), []

        async def connect() -> socket.socket:
            opened.append(connection := socket.create_connection(("127.0.0.1", port)))
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection

        async def message(connection: socket.socket) -> int:
            await loop.sock_sendall(connection, MESSAGE)
            return len(await loop.sock_recv(connection, len(MESSAGE)))

        await on_each_connection(connect, message, connections, n)
        for connection in opened:
            connection.close()

    return work


def without_python(port: int, connections: int) -> Work:
    async def work(n: int) -> None:
        rust.messages_in_rust(port, connections, n // connections)

    return work


def socket_workload(port: int, connections: int) -> Workload:
    """Messages of 1 KiB to an echo server in another thread, and back."""
    return Workload(
        f"socket round trip, {connections} connection{'s' * (connections > 1)}",
        {
            "pyloop@pyloop": by_rust(port, connections, "pyloop"),
            "rust@pyloop": without_python(port, connections),
            "ours@uvloop": by_rust(port, connections, "pyloop"),
        }
        | everywhere("sock", by_socket(port, connections))
        | par(by_rust(port, connections, "par")),
        unit=connections,
    )


@contextmanager
def spinning(on: bool) -> Iterator[None]:
    """Another Python thread that wants the GIL all the time."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    if on:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if on:
            thread.join()


@dataclass
class Workload:
    name: str
    #: By name, `@` and loop; the first part says which column.
    contestants: dict[str, Work]
    #: Awaits are made by so many.
    unit: int = 1
    spin: bool = False

    def slice(self, runner: asyncio.Runner, work: Work, awaits: int) -> float:
        """Seconds an await."""
        with spinning(self.spin):
            began = time.perf_counter()
            runner.run(work(awaits))
            return (time.perf_counter() - began) / awaits

    def measure(self, runners: dict[str, asyncio.Runner], rounds: int) -> dict[str, list[float]]:
        """Seconds an await, by contestant, one for each round."""
        times: dict[str, list[float]] = {name: [] for name in self.contestants}
        awaits = {}
        for name, work in self.contestants.items():
            runner, probe = runners[name.split("@")[1]], max(32, self.unit)
            self.slice(runner, work, probe)
            took = self.slice(runner, work, probe)
            awaits[name] = max(1, min(100_000, int(SLICE / took)) // self.unit) * self.unit
        for _ in range(rounds):
            for name, work in self.contestants.items():
                times[name].append(self.slice(runners[name.split("@")[1]], work, awaits[name]))
        return times


def everywhere(name: str, work: Work) -> dict[str, Work]:
    return {f"{name}@{loop}": work for loop in LOOPS}


def par(work: Work) -> dict[str, Work]:
    """pyo3-async-runtimes, on the loops its users have."""
    return {"par@uvloop": work, "par@asyncio": work}


def workloads() -> Iterator[Workload]:
    each = one_by_one
    yield Workload(
        "ready",
        {"pyloop@pyloop": each(rust.ready_pyloop), "coroutine@pyloop": each(native)}
        | everywhere("pyo3", each(rust.ready_pyo3))
        | par(each(rust.ready_par)),
    )
    yield Workload(
        "ready, None",
        {"pyloop@pyloop": each(rust.none_pyloop), "coroutine@pyloop": each(native_none)}
        | everywhere("pyo3", each(rust.none_pyo3)),
    )
    yield Workload(
        "yield once",
        {"pyloop@pyloop": each(rust.yield_pyloop), "coroutine@pyloop": each(lambda: asyncio.sleep(0))}
        | everywhere("pyo3", each(rust.yield_pyo3))
        | par(each(rust.yield_par)),
    )
    yield Workload(
        "gather of 100, ready",
        {"pyloop@pyloop": gathered(rust.ready_pyloop), "coroutine@pyloop": gathered(native)}
        | everywhere("pyo3", gathered(rust.ready_pyo3))
        | par(gathered(rust.ready_par)),
        unit=100,
    )
    yield Workload(
        "gather of 100, yield once",
        {"pyloop@pyloop": gathered(rust.yield_pyloop), "coroutine@pyloop": gathered(lambda: asyncio.sleep(0))}
        | everywhere("pyo3", gathered(rust.yield_pyo3))
        | par(gathered(rust.yield_par)),
        unit=100,
    )
    yield Workload(
        "ready, another Python thread spinning",
        {"pyloop@pyloop": each(rust.ready_pyloop)} | par(each(rust.ready_par)),
        spin=True,
    )
    yield Workload(
        "oneshot completed by a thread",
        {"pyloop@pyloop": each(rust.thread_pyloop)}
        | everywhere("pyo3", each(rust.thread_pyo3))
        | par(each(rust.thread_par)),
    )
    yield Workload(
        "`into_future` of a Python coroutine",
        {"pyloop@pyloop": each(lambda: rust.into_pyloop(native()))}
        | par(each(lambda: rust.into_par(native()))),
    )
    yield Workload(
        "HTTP request (reqwest, 32 at a time)",
        {"pyloop@pyloop": http("get_pyloop"), "ours@uvloop": http("get_pyloop")} | par(http("get_par")),
        unit=32,
    )
    yield hop_workload(1)
    yield hop_workload(32)
    port = rust.serve()
    yield socket_workload(port, 1)
    yield socket_workload(port, 32)


COLUMNS = {
    "coroutine": "a Python coroutine",
    "pyo3": "PyO3 `async fn`",
    "par": "pyo3-async-runtimes",
    "spawned": "`spawn_into_py`",
    "ours": "pyloop's on uvloop",
    "sock": "`sock_*` of the loop",
    "rust": "Rust alone",
}


def row(name: str, times: dict[str, list[float]]) -> list[str]:
    """What each column's contestant took on the loop that suits it best, and on the best that is not ours."""
    ours = times["pyloop@pyloop"]
    cells = [name, f"{statistics.median(ours) * 1e6:.2f}"]
    for column in COLUMNS:
        candidates = [name for name in times if name.split("@")[0] == column]
        candidates.sort(key=lambda name: statistics.median(times[name]))
        shown = candidates[:1]
        if shown and shown[0].endswith("@pyloop"):
            shown = candidates[:2]
        entries = []
        for chosen in shown:
            ratio = statistics.median(other / mine for other, mine in zip(times[chosen], ours, strict=True))
            where = f" on {chosen.split('@')[1]}" if len(candidates) > 1 else ""
            entries.append(f"{statistics.median(times[chosen]) * 1e6:.2f}{where} ({ratio:.3g})")
        cells.append(", ".join(entries))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="workloads whose names begin with one of these, by commas")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    runners = {name: asyncio.Runner(loop_factory=factory) for name, factory in LOOPS.items()}
    titles = ["us an await", "pyloop", *(f"{title} (ratio)" for title in COLUMNS.values())]
    line = "| {} |" if options.markdown else "{}"
    print(line.format(" | ".join(titles)))
    if options.markdown:
        print("|---" * len(titles) + "|")
    for workload in workloads():
        if workload.name.startswith(tuple(options.only.split(","))):
            cells = row(workload.name, workload.measure(runners, options.rounds))
            print(line.format(" | ".join(cells)), flush=True)
    for runner in runners.values():
        runner.close()


if __name__ == "__main__":
    main()
