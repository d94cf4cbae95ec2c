"""What is measured: one short coroutine function a workload, the same code for every loop.

A workload gets a number of iterations `n`, prepares what it needs, does them, and returns the seconds that
they alone took. `ops` operations make one iteration, so `n * ops / seconds` is its rate. The target is what
pyloop has to reach as a multiple of uvloop's rate in the same run; None where it is only shown.
"""

import asyncio
import importlib
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

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


# ---- threads and names -------------------------------------------------------------------------------------


@workload("run_in_executor", target=1.15)
async def executor(n: int) -> float:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, nothing)  # the thread is started here
    start = clock()
    for _ in range(n):
        await loop.run_in_executor(None, nothing)
    return clock() - start


@workload("numeric getaddrinfo", target=1.8)
async def getaddrinfo(n: int) -> float:
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80)
    start = clock()
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80)
    return clock() - start


# ---- sockets: 64 connections, 1 KiB there and back is one operation ----------------------------------------

CONNECTIONS = 64
MESSAGE = b"x" * 1024


@workload("sock_* echo, 64 connections, 1 KiB", ops=CONNECTIONS, target=3.5)
async def sock_echo(n: int) -> float:
    loop = asyncio.get_running_loop()

    async def serve(sock: socket.socket) -> None:
        with sock:
            while data := await loop.sock_recv(sock, 4096):
                await loop.sock_sendall(sock, data)

    async def client(sock: socket.socket) -> None:
        for _ in range(n):
            await loop.sock_sendall(sock, MESSAGE)
            missing = len(MESSAGE)
            while missing:
                missing -= len(await loop.sock_recv(sock, 4096))

    clients, servers = [], []
    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as listener:
        listener.setblocking(False)
        for _ in range(CONNECTIONS):
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, listener.getsockname())
            clients.append(sock)
            servers.append(asyncio.create_task(serve((await loop.sock_accept(listener))[0])))
    start = clock()
    await asyncio.gather(*map(client, clients))
    elapsed = clock() - start
    for sock in clients:
        sock.close()
    await asyncio.gather(*servers)
    return elapsed


@workload("the system calls of that, without any loop", ops=CONNECTIONS, only="pyloop")
async def sock_bare(n: int) -> float:
    """Two sends and two receives: more than this no loop can save."""
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as listener:
        for _ in range(CONNECTIONS):
            sock = socket.create_connection(listener.getsockname())
            pairs.append((sock, listener.accept()[0]))
    start = clock()
    for _ in range(n):
        for ours, _theirs in pairs:
            ours.send(MESSAGE)
        for _ours, theirs in pairs:
            theirs.send(theirs.recv(4096))
        for ours, _theirs in pairs:
            ours.recv(4096)
    elapsed = clock() - start
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    return elapsed


@workload("streams echo, 64 connections, 1 KiB", ops=CONNECTIONS)
async def streams_echo(n: int) -> float:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(n):
            writer.write(MESSAGE)
            await reader.readexactly(len(MESSAGE))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=CONNECTIONS)
    address = server.sockets[0].getsockname()
    pairs = [await asyncio.open_connection(*address) for _ in range(CONNECTIONS)]
    start = clock()
    await asyncio.gather(*(client(*pair) for pair in pairs))
    elapsed = clock() - start
    for _, writer in pairs:
        writer.close()
        await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.02)  # the server's side sees the end too
    return elapsed


class EchoServer(asyncio.Protocol):
    """Sends back what it gets."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's and rloop's are no subclasses of it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoClient(EchoServer):
    """Sends a message, waits until all of it is back, and so on `rounds` times; then `done` is set."""

    def start(self, rounds: int) -> asyncio.Future[None]:
        self.rounds, self.missing = rounds, len(MESSAGE)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.write(MESSAGE)
        return self.done

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if not self.missing:
            self.rounds, self.missing = self.rounds - 1, len(MESSAGE)
            if self.rounds:
                self.transport.write(MESSAGE)
            else:
                self.done.set_result(None)


@workload("protocol echo, 64 connections, 1 KiB", ops=CONNECTIONS)
async def protocol_echo(n: int) -> float:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoServer, "127.0.0.1", 0, backlog=CONNECTIONS)
    address = server.sockets[0].getsockname()
    clients = [(await loop.create_connection(EchoClient, *address))[1] for _ in range(CONNECTIONS)]
    start = clock()
    await asyncio.gather(*(client.start(n) for client in clients))
    elapsed = clock() - start
    for client in clients:
        client.transport.close()
    server.close()
    await asyncio.sleep(0.02)  # the server's side sees the end too
    return elapsed


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
