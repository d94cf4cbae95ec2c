"""What a stream transport does when a method of its protocol raises."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import receive_all, socket_pair
from support.protocols import Recorder
from support.transports import (
    FAMILIES,
    FATAL,
    MEGABYTES,
    Buffered,
    HalfOpen,
    everything,
    fill,
    fill_peer,
    transport_and_peer,
)


@pytest.mark.parametrize("method", FATAL)
@pytest.mark.parametrize("kind", [LookupError, asyncio.CancelledError, GeneratorExit, OSError])
def test_a_protocol_that_raises_loses_its_connection(
    run: Run, handled: list[dict[str, Any]], method: str, kind: type[BaseException]
) -> None:
    async def main() -> None:
        make: Any = Buffered if "buffer" in method else Recorder
        async with transport_and_peer(make) as (transport, protocol, peer):
            error = kind("in the protocol")

            def fail(*_: Any) -> None:
                raise error

            setattr(protocol, method, fail)
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost
            assert protocol.error is error
            if kind is OSError:  # the network's affair
                assert handled == []
            else:
                assert handled == [
                    {
                        "message": FATAL[method],
                        "exception": error,
                        "transport": transport,
                        "protocol": protocol,
                    }
                ]

    run(main())


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_a_connection_goes_its_way_when_its_protocol_raises_at_its_ends(
    run: Run, handled: list[dict[str, Any]], method: str
) -> None:
    error = LookupError("in the protocol")

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if method == "connection_made":
                raise error

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise error

    async def main() -> None:
        async with transport_and_peer(Failing) as (transport, protocol, peer):
            if method == "connection_made":
                assert {"message", "exception", "handle"} <= set(handled[0])
                assert handled[0]["exception"] is error
                assert handled[0]["message"].startswith("Exception in callback ")
                assert "connection_made" in handled[0]["message"]
                assert isinstance(handled[0]["handle"], asyncio.Handle)
                peer.send(b"goes on")
                assert await protocol.received(7) == b"goes on"
            handled.clear()
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)
            assert len(handled) == 1
            assert {"message", "exception", "handle"} <= set(handled[0])
            assert handled[0]["exception"] is error
            assert "connection_lost" in handled[0]["message"]
            assert await everything(peer) == b""  # the socket was closed all the same

    run(main())


def test_a_socket_that_somebody_else_has_closed_is_reported(
    run: Run, handled: list[dict[str, Any]], unraisable: list[str]
) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        os.close(ours.fileno())
        transport.abort()
        await protocol.lost
        await asyncio.sleep(0)
        theirs.close()

    run(main())
    (context,) = handled
    assert context["exception"].errno == errno.EBADF


class Stop(KeyboardInterrupt):
    pass


@FAMILIES
@pytest.mark.parametrize("kind", [Stop, SystemExit])
@pytest.mark.parametrize("buffered", [False, True], ids=["Protocol", "BufferedProtocol"])
def test_what_ends_the_run_leaves_it_and_nothing_is_lost(
    loop: Loop, family: int, kind: type[BaseException], buffered: bool
) -> None:
    def interrupt(protocol: Any) -> None:
        if not hasattr(protocol, "interrupted"):
            protocol.interrupted = True
            raise kind

    class Data(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            interrupt(self)

    class Buffer(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            interrupt(self)

    async def begin(ours: socket.socket) -> Any:
        make: Any = Buffer if buffered else Data
        return await loop.create_connection(make, sock=ours)

    with socket_pair(family) as (ours, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        transport, protocol = loop.run_until_complete(begin(ours))
        transport.pause_reading()
        loop.run_until_complete(asyncio.sleep(0.001))
        sent = fill_peer(peer)
        loop.run_until_complete(asyncio.sleep(0.001))
        transport.resume_reading()
        with pytest.raises(kind):
            loop.run_forever()
        assert 0 < len(protocol.data) <= sent
        assert not transport.is_closing()
        loop.run_until_complete(protocol.received(sent))
        assert len(protocol.data) == sent
        fill(transport)
        assert loop.run_until_complete(receive_all(loop, peer, len(MEGABYTES))) == MEGABYTES
        transport.close()
        loop.run_until_complete(protocol.lost)


@FAMILIES
def test_what_ends_the_run_does_not_keep_what_waits_from_being_sent(loop: Loop, family: int) -> None:
    class Interrupted(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"stop":
                raise Stop

    async def begin(ours: socket.socket) -> Any:
        return await loop.create_connection(Interrupted, sock=ours)

    with socket_pair(family) as (ours, peer):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        transport, protocol = loop.run_until_complete(begin(ours))
        fill(transport)
        got = len(loop.run_until_complete(receive_all(loop, peer, 2**17)))
        # Both at once: the kernel takes more, and something has come.
        for _ in range(20):
            try:
                while data := peer.recv(2**16):
                    got += len(data)
            except BlockingIOError:
                pass
            peer.send(b"stop")
            with pytest.raises(Stop):
                loop.run_forever()
        got += len(loop.run_until_complete(receive_all(loop, peer, len(MEGABYTES) - got)))
        assert got == len(MEGABYTES)
        transport.close()
        loop.run_until_complete(protocol.lost)


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
def test_what_ends_the_run_may_come_out_of_any_method(loop: Loop, method: str) -> None:
    class Interrupted(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if method == "connection_made":
                raise Stop

        def eof_received(self) -> None:
            super().eof_received()
            if method == "eof_received" and self.events.count("eof") == 1:
                raise Stop

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if method == "connection_lost":
                raise Stop

    async def main(ours: socket.socket) -> Any:
        return await loop.create_connection(Interrupted, sock=ours)

    with socket_pair() as (ours, peer):
        task = loop.create_task(main(ours))
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(Stop):
            loop.run_forever()
        transport, protocol = loop.run_until_complete(task)
        if not protocol.lost.done():
            loop.run_until_complete(protocol.lost)
        loop.run_until_complete(asyncio.sleep(0))
        assert transport.get_protocol() is None
        assert loop.run_until_complete(everything(peer)) == b""


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_what_ends_the_run_in_resume_writing_does_not_keep_the_stream_from_ending(
    pyloop_loop: Loop, end: str
) -> None:
    loop = pyloop_loop

    class Interrupted(HalfOpen):
        def resume_writing(self) -> None:
            super().resume_writing()
            raise Stop

    async def begin(ours: socket.socket) -> Any:
        return await loop.create_connection(Interrupted, sock=ours)

    with socket_pair() as (ours, peer):
        transport, protocol = loop.run_until_complete(begin(ours))
        transport.set_write_buffer_limits(high=0)
        fill(transport)
        getattr(transport, end)()
        task = loop.create_task(everything(peer))
        with pytest.raises(Stop):
            loop.run_forever()
        assert loop.run_until_complete(task) == MEGABYTES
        transport.close()
        loop.run_until_complete(protocol.lost)
