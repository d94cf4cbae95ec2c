"""What a stream transport is: what it shows, who holds it, its contexts, its socket."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import socket
import sys
import tempfile
import warnings
import weakref
from asyncio import trsock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.loops import Loop, LoopFactory, Run
from support.net import receive_all, socket_pair
from support.protocols import Echo, Recorder
from support.transports import FAMILIES, MEGABYTES, fill, transport_and_peer

# What a transport is.


@FAMILIES
def test_a_transport_knows_its_socket_and_addresses(run: Run, family: int) -> None:
    async def main() -> None:
        async with transport_and_peer(family=family) as (transport, protocol, peer):
            assert isinstance(transport, asyncio.Transport)
            sock = transport.get_extra_info("socket")
            assert type(sock) is trsock.TransportSocket
            assert sock.family == family
            known = {name: transport.get_extra_info(name) for name in ("sockname", "peername")}
            assert known == {"sockname": peer.getpeername(), "peername": peer.getsockname()}
            assert transport.get_extra_info("nothing") is None
            assert transport.get_extra_info("nothing", 7) == 7
            transport.close()
            await protocol.lost
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert sock.fileno() == -1

    run(main())


def test_anything_may_be_set_on_a_transport(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            transport.anything = 7
            assert transport.anything == 7
            assert {transport: 1}[transport] == 1
            transport._extra["more"] = 8
            assert transport.get_extra_info("more") == 8
            seen: list[bytes] = []
            transport.write = seen.append
            transport.write(b"seen")
            assert seen == [b"seen"]
            del transport.write
            transport.write(b"sent")
            assert await receive_all(asyncio.get_running_loop(), peer, 4) == b"sent"

    run(main())


def test_a_transport_that_is_over_is_forgotten(run: Run) -> None:
    async def main() -> tuple[weakref.ref[Any], ...]:
        async with transport_and_peer() as (transport, protocol, _):
            fill(transport)
            gone = weakref.ref(transport), weakref.ref(protocol)
            transport.abort()
            await protocol.lost
        return gone

    gone = run(main())
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_a_transport_that_is_over_lets_go_of_its_protocol(run: Run) -> None:
    async def main() -> None:
        with socket_pair() as (ours, _):
            transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            transport.close()
            await protocol.lost
            gone = weakref.ref(protocol)
            await asyncio.sleep(0)
            del protocol
            gc.collect()
            assert gone() is None
            assert transport.is_closing()

    run(main())


def test_the_text_of_a_transport_says_what_it_does(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            text = repr(transport)
            assert text.startswith("<") and text.endswith(
                f"Transport fd={fd} read=polling write=<idle, bufsize=0>>"
            )
            transport.pause_reading()
            assert "read=idle" in repr(transport)
            transport.resume_reading()
            fill(transport)
            size = transport.get_write_buffer_size()
            assert f"read=polling write=<polling, bufsize={size}>" in repr(transport)
            transport.close()
            assert f"Transport closing fd={fd} read=idle write=<polling" in repr(transport)
            transport.abort()
            await protocol.lost
            await asyncio.sleep(0)
            assert repr(transport).endswith(f"Transport closed fd={fd}>")

    run(main())


@contextmanager
def unclosed() -> Iterator[None]:
    """A transport is warned of inside; so may its socket be."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert {each.category for each in caught} == {ResourceWarning}
    assert any(str(each.message).startswith("unclosed transport <") for each in caught)


@pytest.mark.parametrize("is_paused", [False, True], ids=["reading", "paused"])
def test_a_transport_that_nobody_closed_is_warned_of(loop_factory: LoopFactory, is_paused: bool) -> None:
    async def main(ours: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        if is_paused:
            transport.pause_reading()

    ours, peer = socket.socketpair()
    with peer:
        loop = loop_factory()
        with unclosed():
            try:
                loop.run_until_complete(main(ours))
            finally:
                loop.close()
                del ours, loop
                gc.collect()
        assert peer.recv(1) == b""  # the warning closed it


def test_a_paused_transport_that_nobody_holds_goes(loop: Loop) -> None:
    async def main(ours: socket.socket) -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()

    ours, peer = socket.socketpair()
    with peer:
        with unclosed():
            loop.run_until_complete(main(ours))
            del ours
            loop.run_until_complete(asyncio.sleep(0.001))
            gc.collect()
        assert peer.recv(1) == b""


@pytest.mark.since(3, 15)
def test_a_transport_calls_its_protocol_in_the_very_context_that_it_is_given(loop: Loop, run: Run) -> None:
    variable = contextvars.ContextVar[str]("variable")
    context = contextvars.copy_context()

    class Sets(asyncio.Protocol):
        def __init__(self) -> None:
            self.seen = loop.create_future()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            variable.set("made")

        def data_received(self, data: bytes) -> None:
            self.seen.set_result(variable.get())

    async def main() -> None:
        with socket_pair() as (ours, peer):
            inside: Any = loop
            made = inside._create_connection_transport(ours, Sets, None, None, context=context)
            transport, protocol = await made
            peer.send(b"data")
            assert await protocol.seen == context[variable] == "made"
            transport.abort()
            await asyncio.sleep(0)

    run(main())


def test_a_paused_transport_that_sent_a_file_and_that_nobody_holds_goes(loop: Loop) -> None:
    async def main(ours: socket.socket) -> weakref.ref[Any]:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()
        with tempfile.TemporaryFile() as file:
            file.write(b"the file")
            file.flush()
            await loop.sendfile(transport, file)
        return weakref.ref(transport)

    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with peer:
        gone: weakref.ref[Any] | None = None
        try:
            with unclosed():
                gone = loop.run_until_complete(main(ours))
                del ours
                loop.run_until_complete(asyncio.sleep(0.001))
                gc.collect()
            if sys.version_info < (3, 15) or not isinstance(loop, asyncio.SelectorEventLoop):
                assert gone() is None  # asyncio's of 3.15 stays
            assert peer.recv(100) == b"the file"
            if gone() is None:
                assert peer.recv(1) == b""
        finally:
            if gone is not None and (transport := gone()) is not None:
                transport.abort()


def test_a_transport_can_be_used_as_far_as_possible_when_its_loop_is_closed(
    loop_factory: LoopFactory,
) -> None:
    async def main(ours: socket.socket) -> Any:
        return await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)

    with socket_pair() as (ours, peer):
        loop = loop_factory()
        try:
            transport, _ = loop.run_until_complete(main(ours))
        finally:
            loop.close()
        transport.write(b"goes out")
        assert peer.recv(100) == b"goes out"
        assert "fd=" in repr(transport)
        with pytest.raises(RuntimeError, match="closed"):
            transport.close()
        with unclosed():
            del transport, loop
            gc.collect()


# Contexts.

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_every_method_of_a_protocol_sees_the_context_that_its_connection_was_made_in(run: Run) -> None:
    seen: dict[str, str] = {}

    class Looks(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen["made"] = VARIABLE.get()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen["data"] = VARIABLE.get()
            VARIABLE.set("changed inside")

        def eof_received(self) -> None:
            super().eof_received()
            seen["eof"] = VARIABLE.get()
            VARIABLE.set("changed inside")

    async def main() -> None:
        VARIABLE.set("made")
        async with transport_and_peer(Looks) as (_, protocol, peer):
            VARIABLE.set("later")
            peer.send(b"data")
            await protocol.received(4)
            peer.close()
            await protocol.lost
            assert seen["made"] == "made"
            assert seen["data"] == "made"
            assert VARIABLE.get() == "later"

    run(main())
    assert VARIABLE.get() == "unset"


def test_pause_writing_is_called_in_the_context_of_who_writes(run: Run) -> None:
    class Looks(Recorder):
        def pause_writing(self) -> None:
            self.seen = VARIABLE.get()

    async def main() -> None:
        async with transport_and_peer(Looks) as (transport, protocol, _):
            VARIABLE.set("writes")
            fill(transport)
            assert protocol.seen == "writes"

    run(main())


# Sockets.


@pytest.mark.parametrize("proto", [0, socket.IPPROTO_TCP], ids=["0", "tcp"])
def test_small_writes_go_out_at_once(pyloop_loop: Loop, proto: int) -> None:
    loop = pyloop_loop

    async def main() -> None:
        accepted: asyncio.Future[Any] = loop.create_future()

        class Accepts(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.set_result(self)

        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto)
        listening.bind(("127.0.0.1", 0))
        server = await loop.create_server(Accepts, sock=listening)
        transport, ours = await loop.create_connection(Recorder, *listening.getsockname())
        theirs = await accepted
        for each in transport, theirs.transport:
            assert each.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        await asyncio.wait([ours.lost, theirs.lost])
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_a_descriptor_of_a_transport_is_not_to_be_watched(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with transport_and_peer() as (transport, _, _):
            fd = transport.get_extra_info("socket").fileno()
            refused = pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <")
            for watch in loop.add_reader, loop.add_writer:
                with refused:
                    watch(fd, print)
            for stop in loop.remove_reader, loop.remove_writer:
                with refused:
                    stop(fd)
            with refused:
                loop.add_reader(transport.get_extra_info("socket"), print)

    run(main())


def test_the_socket_of_a_transport_is_not_for_the_loops_socket_methods(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with transport_and_peer() as (transport, _, peer):
            sock = socket.socket(fileno=transport.get_extra_info("socket").fileno())
            sock.setblocking(False)
            try:
                refused = pytest.raises(RuntimeError, match="is used by transport")
                with refused:
                    await loop.sock_recv(sock, 10)
                with refused:
                    await loop.sock_recv_into(sock, bytearray(10))
                fill(transport)
                with refused:
                    await loop.sock_sendall(sock, b"data")
            finally:
                sock.detach()
            assert await receive_all(loop, peer, len(MEGABYTES)) == MEGABYTES

    run(main())


def test_an_abstract_unix_socket_carries_megabytes_both_ways(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        name = f"\0pyloop-transports-{os.getpid()}"
        server = await loop.create_unix_server(Echo, name)
        transport, protocol = await loop.create_unix_connection(Recorder, name)
        assert transport.get_extra_info("peername") == name.encode()
        transport.write(MEGABYTES)
        assert await protocol.received(len(MEGABYTES)) == MEGABYTES
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())
