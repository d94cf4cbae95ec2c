"""Which context the methods of a protocol see when its connection is used in another one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.loops import Loop
from support.net import receive_all, socket_pair
from support.protocols import Recorder
from support.tls import TlsPeer, client_context, server_context
from support.transports import until

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
SIZE = 3 * 2**20


class Looks(Recorder):
    """Writes down what the variable is in each method."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def _look(self, name: str) -> None:
        self.seen.append((name, VARIABLE.get()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._look("made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look("data")

    def eof_received(self) -> bool:
        super().eof_received()
        self._look("eof")
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._look("lost")


@asynccontextmanager
async def plain(loop: Loop) -> AsyncIterator[Any]:
    """A connection, and what sends to it and receives from it."""
    with socket_pair() as (ours, theirs):
        transport, protocol = await loop.create_connection(Looks, sock=ours)

        async def send(data: bytes) -> None:
            await loop.sock_sendall(theirs, data)

        async def receive(length: int) -> None:
            await receive_all(loop, theirs, length)

        yield transport, protocol, send, receive, theirs.close


@asynccontextmanager
async def encrypted(loop: Loop) -> AsyncIterator[Any]:
    """The same, of an encrypted one."""
    with socket_pair() as (ours, theirs):
        peer = TlsPeer(loop, theirs, client_context())
        shaking = asyncio.ensure_future(peer.handshake())
        transport, protocol = await loop.connect_accepted_socket(Looks, ours, ssl=server_context())
        await shaking
        yield transport, protocol, peer.send, peer.receive, theirs.close


KINDS: dict[str, Callable[[Loop], Any]] = {"plain": plain, "encrypted": encrypted}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["close", "abort"])
def test_who_uses_a_connection_lends_it_no_context(pyloop_loop: Loop, kind: str, end: str) -> None:
    """On asyncio the variables of a request that paused a connection are those of all that come after it."""

    async def main() -> None:
        VARIABLE.set("made")
        async with KINDS[kind](pyloop_loop) as (transport, protocol, send, receive, hang_up):

            async def request() -> None:
                VARIABLE.set("request")
                transport.pause_reading()
                await send(b"while it is paused")
                await asyncio.sleep(0.001)
                assert protocol.data == b""
                transport.resume_reading()
                await protocol.received(18)
                transport.pause_reading()
                transport.resume_reading()
                await send(b" and later")
                await protocol.received(28)
                transport.set_write_buffer_limits(high=0)
                transport.write(bytes(SIZE))
                await receive(SIZE)
                await until(lambda: "resume" in protocol.events)
                getattr(transport, end)()
                hang_up()

            await asyncio.create_task(request())
            await protocol.lost
        names = [name for name, _ in protocol.seen]
        assert names[0] == "made" and names[-2:] == ["resume", "lost"] and names.count("data") >= 2
        # Encryption tells whoever writes, inside of `write`, to pause and to go on.
        told_by_write = {"resume"} if kind == "encrypted" else set()
        assert {name for name, value in protocol.seen if value != "made"} == told_by_write

    pyloop_loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_that_was_paused_with_data_in_hand_goes_on_in_the_context_of_its_connection(
    pyloop_loop: Loop, kind: str
) -> None:
    class Pauses(Looks):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.seen) == 2:
                self.transport.pause_reading()

    async def main() -> None:
        VARIABLE.set("made")
        async with KINDS[kind](pyloop_loop) as (transport, protocol, send, *_):
            protocol.__class__ = Pauses
            await send(bytes(2**17))
            await protocol.until(lambda: not transport.is_reading())
            VARIABLE.set("request")
            transport.resume_reading()
            await protocol.received(2**17)
            transport.abort()
            await protocol.lost
        assert {value for _, value in protocol.seen} == {"made"}

    pyloop_loop.run_until_complete(main())
