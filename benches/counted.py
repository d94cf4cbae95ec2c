"""Runs the workloads whose instructions are counted, in the process that check.py has valgrind watch.

A mark is a call of getpgid(2), which nothing else here makes: callgrind writes down what it has counted so
far and begins anew. Each workload runs a few iterations between two marks, then many: the difference leaves
out what comes once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from dataclasses import dataclass

import pyloop
from workloads import WORKLOADS, Run, clock, nothing

MARKS = 4  # of each workload: around few, around many
CONNECTIONS = 64
MESSAGE = b"x" * 1024


async def timers(n: int) -> float:
    """1,000 timers that are due, in no order: no loop waits for the clock, and the clock decides nothing."""
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        done = loop.create_future()
        past = loop.time() - 1
        for i in range(999):
            loop.call_at(past + (i * 7_919 % 4_001) / 1e6, nothing)
        loop.call_at(past + 1e-2, done.set_result, None)
        await done
    return clock() - start


async def done_callbacks(n: int) -> float:
    """A future with a callback: what a protocol or a library does with it."""
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        future = loop.create_future()
        future.add_done_callback(id)
        future.set_result(None)
        await future
        await asyncio.sleep(0)
    return clock() - start


async def getaddrinfo(n: int) -> float:
    """A numeric address."""
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 80)
    start = clock()
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80)
    return clock() - start


async def sock_echo(n: int) -> float:
    """1 KiB there and back on each connection, both ends on the loop."""
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


async def streams_echo(n: int) -> float:
    """The same with streams."""

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


@dataclass(frozen=True)
class Counted:
    """A workload. Iterations enough that a young collection more or less is a small part of them, not
    more."""

    run: Run
    operations: int  # in an iteration
    few: int
    many: int


def _of(name: str, few: int, many: int) -> Counted:
    work = WORKLOADS[name]
    return Counted(work.run, work.ops, few, many)


COUNTED: dict[str, Counted] = {
    "call_soon_small": _of("call_soon_small", 5, 45),
    "one_a_turn": _of("one_a_turn", 200, 3_200),
    "timer_cancel": _of("timer_cancel", 1, 4),
    "timers": Counted(timers, 1_000, 1, 4),
    "sleep0": _of("sleep0", 200, 3_200),
    "gather": _of("gather", 1, 4),
    "create_task": _of("create_task", 100, 1_600),
    "switch500": _of("switch500", 1, 9),
    "future_pingpong": _of("future_pingpong", 100, 1_600),
    "done_callbacks": Counted(done_callbacks, 1, 100, 1_600),
    "queue1": _of("queue1", 100, 1_600),
    "timeout": _of("timeout", 50, 1_050),
    "getaddrinfo": Counted(getaddrinfo, 1, 50, 1_050),
    "sock_echo": Counted(sock_echo, CONNECTIONS, 2, 12),
    "streams_echo": Counted(streams_echo, CONNECTIONS, 2, 12),
    "await_rust_ready": _of("await_rust_ready", 500, 10_500),
    "await_rust_yield_once": _of("await_rust_yield_once", 200, 3_200),
}


def main() -> None:
    for name in sys.argv[1:]:
        work, loop = COUNTED[name], pyloop.new_event_loop()
        for _ in range(2):
            loop.run_until_complete(work.run(work.few))
        for count in (work.few, work.many):
            gc.collect()
            os.getpgid(0)
            loop.run_until_complete(work.run(count))
            os.getpgid(0)
        loop.close()


if __name__ == "__main__":
    main()
