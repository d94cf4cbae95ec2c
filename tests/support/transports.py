"""A stream transport with a plain socket at the other end, and what its tests do with the two."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.net import receive_all, socket_pair
from support.protocols import Recorder

MEGABYTES = os.urandom(2**20) * 3
FAMILIES = pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])

# What the exception handler is told when a method raises.
FATAL = {
    "data_received": "Fatal error: protocol.data_received() call failed.",
    "eof_received": "Fatal error: protocol.eof_received() call failed.",
    "get_buffer": "Fatal error: protocol.get_buffer() call failed.",
    "buffer_updated": "Fatal error: protocol.buffer_updated() call failed.",
}


class HalfOpen(Recorder):
    """Goes on writing when the peer sends no more."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


class Buffered(asyncio.BufferedProtocol):
    """Receives into a buffer of its own."""

    size = 1000

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.buffer: Any = bytearray(self.size)
        self.hints: list[int] = []
        self.counts: list[int] = []

    @property
    def data(self) -> bytearray:
        return self.recorder.data

    @property
    def lost(self) -> asyncio.Future[None]:
        return self.recorder.lost

    @property
    def events(self) -> list[str]:
        return self.recorder.events

    @property
    def error(self) -> Exception | None:
        return self.recorder.error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.recorder.connection_made(transport)

    def get_buffer(self, sizehint: int) -> Any:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.counts.append(nbytes)
        self.recorder.data_received(bytes(memoryview(self.buffer).cast("B")[:nbytes]))

    def eof_received(self) -> bool | None:
        return self.recorder.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.connection_lost(exc)

    async def received(self, length: int) -> bytes:
        return await self.recorder.received(length)


@asynccontextmanager
async def transport_and_peer(
    make: Callable[[], Any] = Recorder, family: int = socket.AF_UNIX
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A transport, its protocol, and the plain socket at the other end."""
    loop = asyncio.get_running_loop()
    with socket_pair(family) as (ours, peer):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        transport, protocol = await loop.create_connection(make, sock=ours)
        try:
            yield transport, protocol, peer
        finally:
            if transport.get_protocol() is not None:
                transport.abort()
                await asyncio.sleep(0.001)


async def until(condition: Callable[[], Any]) -> None:
    """Waits for what nobody tells of."""
    while not condition():
        await asyncio.sleep(0.0005)


async def everything(peer: socket.socket) -> bytes:
    """What the peer receives until the end of the stream."""
    return await receive_all(asyncio.get_running_loop(), peer, 2**40)


def fill(transport: Any) -> bytes:
    """Writes so much that some of it has to wait; what was written."""
    transport.write(MEGABYTES)
    assert transport.get_write_buffer_size() > 0
    return MEGABYTES


def fill_peer(peer: socket.socket) -> int:
    """Sends as much as the kernel takes at the other end; how much that is."""
    sent = 0
    try:
        while True:
            sent += peer.send(bytes(2**16))
    except BlockingIOError:
        return sent
