"""An endpoint of datagrams, and what its tests do with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from support.protocols import Datagrams

HERE = ("127.0.0.1", 0)


@asynccontextmanager
async def endpoint(protocol: Callable[[], Any] = Datagrams, **more: Any) -> AsyncIterator[Any]:
    """A protocol whose endpoint is closed in the end; `local_addr` is one of 127.0.0.1 without any other."""
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(protocol, **(more or {"local_addr": HERE}))
    try:
        yield made
    finally:
        if not transport.is_closing():
            transport.close()
        await made.lost


@contextmanager
def udp_socket() -> Iterator[socket.socket]:
    """A UDP socket with an address."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(HERE)
        sock.setblocking(False)
        yield sock


@contextmanager
def full_pair(path: Any, kind: type[socket.socket] = socket.socket) -> Iterator[tuple[Any, socket.socket]]:
    """Two Unix sockets, of which the first is connected to the second, whose queue is full soon."""
    with (
        kind(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        peer.bind(str(path))
        ours.connect(str(path))
        for each in ours, peer:
            each.setblocking(False)
        yield ours, peer


def fill(transport: Any, data: bytes = b"x" * 1000, addr: Any = None) -> int:
    """Sends until something waits to be sent; how many were sent, the one that waits with them."""
    for count in range(1, 10_000):
        transport.sendto(data, addr)
        if transport.get_write_buffer_size():
            return count
    raise AssertionError("the kernel takes everything")


def drain(peer: socket.socket) -> list[bytes]:
    """What is there to be received."""
    found = []
    while True:
        try:
            found.append(peer.recv(2**18))
        except BlockingIOError:
            return found


async def until(condition: Callable[[], Any]) -> None:
    """Waits for it, turn by turn."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")
