"""Sockets for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.loops import Loop


@contextmanager
def socket_pair(
    family: int = socket.AF_UNIX, kind: int = socket.SOCK_STREAM
) -> Iterator[tuple[socket.socket, ...]]:
    """Two connected sockets that do not block, of any family."""
    if family == socket.AF_UNIX:
        pair = socket.socketpair(family, kind)
    elif kind == socket.SOCK_STREAM:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_server((host, 0), family=socket.AddressFamily(family)) as server:
            client = socket.create_connection(server.getsockname()[:2])
            pair = client, server.accept()[0]
    else:
        pair = socket.socket(family, kind), socket.socket(family, kind)
        for each in pair:
            each.bind(("127.0.0.1", 0))
        pair[0].connect(pair[1].getsockname())
        pair[1].connect(pair[0].getsockname())
    with pair[0], pair[1]:
        for each in pair:
            each.setblocking(False)
        yield pair


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on and nobody else gets."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def deaf_server() -> Iterator[tuple[str, int]]:
    """The address of a server to which a connection attempt stays pending: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting: list[socket.socket] = []
        try:
            for _ in range(4):
                one = socket.socket()
                waiting.append(one)
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            yield server.getsockname()
        finally:
            for one in waiting:
                one.close()


async def receive_all(loop: Loop, sock: socket.socket, length: int) -> bytes:
    """The next `length` bytes, or fewer if that is all there is."""
    got = bytearray()
    while len(got) < length:
        data = await loop.sock_recv(sock, 2**16)
        if not data:
            break
        got += data
    return bytes(got)


async def pending(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has begun and waits."""
    task = asyncio.ensure_future(coro)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(coro: Coroutine[Any, Any, Any]) -> None:
    """Begins to wait for it and gives up."""
    task = await pending(coro)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
