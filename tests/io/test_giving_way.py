"""A task that gives way (`await asyncio.sleep(0)`) lets what has arrived through, as on asyncio.

pyloop's turns take less than a microsecond, and it looks at its descriptors in each that began five
microseconds after the last look: a few turns may see nothing, asyncio's see all.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import socket_pair
from support.protocols import Datagrams, Recorder

#: What sends something, and what tells how much has come.
Ways = tuple[Callable[[], Any], Callable[[], int]]
FEW = 60


@asynccontextmanager
async def connection(loop: Loop) -> AsyncIterator[Ways]:
    with socket_pair() as (ours, theirs):
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        yield lambda: theirs.send(b"x"), lambda: len(protocol.data)
        transport.abort()
        await protocol.lost


@asynccontextmanager
async def clients(loop: Loop) -> AsyncIterator[Ways]:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    connected: list[socket.socket] = []
    address = server.sockets[0].getsockname()
    yield lambda: connected.append(socket.create_connection(address)), lambda: len(made)
    for each in connected:
        each.close()
    await asyncio.wait([each.lost for each in made])
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def pipe(loop: Loop) -> AsyncIterator[Ways]:
    out, into = os.pipe()
    transport, protocol = await loop.connect_read_pipe(Recorder, open(out, "rb", 0))
    yield lambda: os.write(into, b"x"), lambda: len(protocol.data)
    os.close(into)
    transport.close()
    await protocol.lost


@asynccontextmanager
async def datagrams(loop: Loop) -> AsyncIterator[Ways]:
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(transport.get_extra_info("sockname"))
        yield lambda: sock.send(b"x"), protocol.received.qsize
    transport.close()
    await protocol.lost


@asynccontextmanager
async def reader(loop: Loop) -> AsyncIterator[Ways]:
    with socket_pair() as (ours, theirs):
        got = bytearray()
        loop.add_reader(ours, lambda: got.extend(ours.recv(10)))
        yield lambda: theirs.send(b"x"), lambda: len(got)
        loop.remove_reader(ours)


@asynccontextmanager
async def sock_recv(loop: Loop) -> AsyncIterator[Ways]:
    with socket_pair() as (ours, theirs):
        got = bytearray()

        async def receive() -> None:
            while data := await loop.sock_recv(ours, 10):
                got.extend(data)

        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        yield lambda: theirs.send(b"x"), lambda: len(got)
        theirs.close()
        await task


KINDS = {each.__name__: each for each in (connection, clients, pipe, datagrams, reader, sock_recv)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_arrived_is_seen_when_a_task_gives_way(loop: Loop, run: Run, kind: str) -> None:
    async def main() -> None:
        async with KINDS[kind](loop) as (send, count):
            before = count()
            for i in range(1, 21):
                send()
                given_way = 0
                while count() < before + i:
                    await asyncio.sleep(0)
                    given_way += 1
                    assert given_way < FEW

    run(main())
