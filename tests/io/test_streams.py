"""TCP through the loop: connections, transports and their protocols."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import trsock
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Loop, Run
from support.net import closed_port, deaf_server, pending
from support.protocols import Echo, Recorder

MEGABYTES = os.urandom(2**20) * 3


@asynccontextmanager
async def connected(
    client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder
) -> AsyncIterator[tuple[Any, Any]]:
    """The protocols of both ends of a TCP connection. Both ends are closed in the end."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()

    def accept() -> Any:
        protocol = server()
        loop.call_soon(accepted.set_result, protocol)
        return protocol

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    transport, ours = await loop.create_connection(client, *listener.sockets[0].getsockname())
    theirs = await accepted
    try:
        yield ours, theirs
    finally:
        for each in transport, theirs.transport:
            if not each.is_closing():
                each.abort()
        listener.close()
        await listener.wait_closed()
        await asyncio.sleep(0)


def test_data_goes_both_ways(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.write(b"ping")
            assert await theirs.received(4) == b"ping"
            theirs.transport.write(b"pong")
            assert await ours.received(4) == b"pong"

    run(main())


def test_megabytes_go_both_ways(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.write(MEGABYTES)
            theirs.transport.write(MEGABYTES[::-1])
            assert await theirs.received(len(MEGABYTES)) == MEGABYTES
            assert await ours.received(len(MEGABYTES)) == MEGABYTES[::-1]

    run(main())


def test_many_small_writes_arrive_in_order(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            expected = b"".join(b"%d," % i for i in range(5000))
            for i in range(5000):
                ours.transport.write(b"%d," % i)
            assert await theirs.received(len(expected)) == expected

    run(main())


def test_a_write_is_sent_at_once_if_it_can_be(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, _):
            ours.transport.write(b"now")
            assert ours.transport.get_write_buffer_size() == 0

    run(main())


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_buffer_that_was_sent_may_be_changed(run: Run, kind: type) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            buffer = bytearray(b"before")
            ours.transport.write(kind(buffer))
            buffer[:] = b"after!"
            assert await theirs.received(6) == b"before"

    run(main())


@pytest.mark.parametrize("thing", ["text", 1, None, [b"x"]], ids=repr)
def test_what_is_no_bytes_cannot_be_written(run: Run, thing: Any) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            with pytest.raises(TypeError):
                ours.transport.write(thing)
            ours.transport.write(b"good")
            assert await theirs.received(4) == b"good"

    run(main())


def test_writelines_writes_all(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.writelines([b"one", bytearray(b"two"), memoryview(b"three"), b""])
            assert await theirs.received(11) == b"onetwothree"
            ours.transport.writelines([])
            parts = [b"%d" % i * 1000 for i in range(3000)]
            ours.transport.writelines(parts)
            assert await theirs.received(11 + sum(map(len, parts))) == b"onetwothree" + b"".join(parts)

    run(main())


def test_close_sends_what_is_buffered_first(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            theirs.transport.pause_reading()
            ours.transport.write(MEGABYTES * 4)
            assert ours.transport.get_write_buffer_size() > 0
            ours.transport.close()
            assert ours.transport.is_closing()
            theirs.transport.resume_reading()
            assert await theirs.received(4 * len(MEGABYTES)) == MEGABYTES * 4
            await asyncio.wait([ours.lost, theirs.lost])
            assert ours.error is None
            assert theirs.error is None

    run(main())


def test_abort_drops_what_is_buffered(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            theirs.transport.pause_reading()
            ours.transport.write(MEGABYTES * 3)
            ours.transport.abort()
            await ours.lost
            assert ours.error is None
            assert ours.transport.get_write_buffer_size() == 0
            theirs.transport.resume_reading()
            await theirs.lost
            assert len(theirs.data) < 3 * len(MEGABYTES)

    run(main())


def test_connection_lost_comes_once_and_last(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            theirs.transport.write(b"data")
            theirs.transport.close()
            theirs.transport.close()
            await asyncio.wait([ours.lost, theirs.lost])
            ours.transport.close()
            ours.transport.abort()
            await asyncio.sleep(0.001)
            assert ours.events == ["made", "eof", "lost"]
            assert theirs.events == ["made", "lost"]
            assert ours.data == b"data"

    run(main())


def test_connection_lost_is_not_called_by_close_itself(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, _):
            for close in ours.transport.close, ours.transport.abort:
                close()
                assert "lost" not in ours.events
            await ours.lost

    run(main())


def test_a_reset_by_the_peer_is_the_error_of_connection_lost(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            linger = theirs.transport.get_extra_info("socket")
            linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.transport.abort()
            await ours.lost
            assert isinstance(ours.error, ConnectionResetError)

    run(main())


def test_writing_to_a_closed_transport_is_dropped(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.close()
            ours.transport.write(b"too late")
            await asyncio.wait([ours.lost, theirs.lost])
            for _ in range(10):
                ours.transport.write(b"too late")
            assert theirs.data == b""

    run(main())


def test_eof_goes_one_way(run: Run) -> None:
    class HalfOpen(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main() -> None:
        async with connected(HalfOpen, HalfOpen) as (ours, theirs):
            assert ours.transport.can_write_eof()
            ours.transport.write(MEGABYTES)
            ours.transport.write_eof()
            with pytest.raises(RuntimeError, match="Cannot call write"):
                ours.transport.write(b"after")
            await theirs.until(lambda: "eof" in theirs.events)
            assert theirs.data == MEGABYTES
            theirs.transport.write(b"answer")
            assert await ours.received(6) == b"answer"
            theirs.transport.close()
            await theirs.lost

    run(main())


def test_eof_closes_a_transport_whose_protocol_does_not_mind(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.write_eof()
            await asyncio.wait([ours.lost, theirs.lost])
            assert theirs.events == ["made", "eof", "lost"]

    run(main())


def test_paused_reading_holds_data_back(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            assert theirs.transport.is_reading()
            theirs.transport.pause_reading()
            theirs.transport.pause_reading()
            assert not theirs.transport.is_reading()
            ours.transport.write(b"data")
            await asyncio.sleep(0.005)
            assert theirs.data == b""
            theirs.transport.resume_reading()
            theirs.transport.resume_reading()
            assert theirs.transport.is_reading()
            assert await theirs.received(4) == b"data"

    run(main())


def test_writing_is_paused_when_too_much_is_buffered(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            ours.transport.set_write_buffer_limits(high=1000, low=100)
            assert ours.transport.get_write_buffer_limits() == (100, 1000)
            theirs.transport.pause_reading()
            ours.transport.write(MEGABYTES * 3)
            assert ours.events == ["made", "pause"]
            assert ours.transport.get_write_buffer_size() > 1000
            theirs.transport.resume_reading()
            await ours.until(lambda: "resume" in ours.events)
            assert ours.transport.get_write_buffer_size() <= 100
            await theirs.received(3 * len(MEGABYTES))

    run(main())


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [(None, None, (16384, 65536)), (0, None, (0, 0)), (None, 100, (100, 400)), (500, 5, (5, 500))],
)
def test_write_buffer_limits_have_defaults(run: Run, high: int, low: int, expected: tuple[int, int]) -> None:
    async def main() -> None:
        async with connected() as (ours, _):
            ours.transport.set_write_buffer_limits(high, low)
            assert ours.transport.get_write_buffer_limits() == expected
            with pytest.raises(ValueError, match="must be >= low"):
                ours.transport.set_write_buffer_limits(1, 2)

    run(main())


def test_transports_are_asyncios_and_show_a_transport_socket(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            assert ours.transport.get_extra_info("peername") == theirs.transport.get_extra_info("sockname")
            for each in ours.transport, theirs.transport:
                assert isinstance(each, asyncio.Transport)
                sock = each.get_extra_info("socket")
                assert isinstance(sock, trsock.TransportSocket)
                assert sock.getsockname() == each.get_extra_info("sockname")
                assert sock.getpeername() == each.get_extra_info("peername")
                assert sock.family == socket.AF_INET
                assert each.get_extra_info("nothing") is None
                assert each.get_extra_info("nothing", 1) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


def test_methods_may_be_replaced_on_a_transport(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            written: list[bytes] = []
            original = ours.transport.write
            ours.transport.write = written.append
            ours.transport.write(b"kept")
            ours.transport.get_extra_info = lambda name: name
            assert ours.transport.get_extra_info("any") == "any"
            original(b"sent")
            assert await theirs.received(4) == b"sent"
            assert written == [b"kept"]

    run(main())


def test_the_protocol_may_be_changed(run: Run) -> None:
    async def main() -> None:
        async with connected() as (ours, theirs):
            assert ours.transport.get_protocol() is ours
            assert ours.transport._protocol is ours  # private, and read by programs
            new = Recorder()
            new.transport = ours.transport
            ours.transport.set_protocol(new)
            assert ours.transport.get_protocol() is new
            theirs.transport.write(b"data")
            assert await new.received(4) == b"data"
            assert ours.data == b""
            theirs.transport.close()
            await new.lost
            assert not ours.lost.done()

    run(main())


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(1000)
        self.recorder = Recorder()
        self.hints: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.recorder.data_received(bytes(self.buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.connection_lost(exc)


def test_a_buffered_protocol_receives_into_its_own_buffer(run: Run) -> None:
    async def main() -> None:
        async with connected(server=Buffered) as (ours, theirs):
            ours.transport.write(MEGABYTES)
            assert await theirs.recorder.received(len(MEGABYTES)) == MEGABYTES
            assert len(theirs.hints) > len(MEGABYTES) / 1000
            ours.transport.close()
            await theirs.recorder.lost

    run(main())


def test_a_protocol_that_fails_is_reported_and_loses_its_connection(
    run: Run, handled: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise LookupError("in the protocol")

    async def main() -> None:
        async with connected(server=Failing) as (ours, theirs):
            ours.transport.write(b"data")
            await theirs.lost
            assert isinstance(theirs.error, LookupError)
            assert handled[0]["exception"] is theirs.error
            assert "Fatal error: protocol.data_received() call failed." in handled[0]["message"]

    run(main())


def test_a_connection_to_a_refused_port_fails(loop: Loop, run: Run) -> None:
    async def main(port: int) -> None:
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "127.0.0.1", port)
        connect: Any = loop.create_connection  # typeshed does not know this argument
        with pytest.raises(ExceptionGroup) as caught:
            await connect(Recorder, "127.0.0.1", port, all_errors=True)
        assert isinstance(caught.value.exceptions[0], ConnectionRefusedError)

    with closed_port() as port:
        run(main(port))


@pytest.mark.parametrize("more", [{}, {"happy_eyeballs_delay": 0.01, "interleave": 1}], ids=["", "happy"])
def test_a_connection_is_made_to_a_name(loop: Loop, run: Run, more: dict[str, Any]) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Recorder, "localhost", port, **more)
        transport.write(b"echo")
        assert await protocol.received(4) == b"echo"
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())


def test_an_address_that_does_not_answer_holds_no_other_up(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with deaf_server() as deaf:

            async def getaddrinfo(*_: Any, **more: Any) -> list[Any]:
                both = deaf, server.sockets[0].getsockname()
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in both]

            loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
            before = set(descriptors())
            transport, protocol = await loop.create_connection(
                Recorder, "somewhere", 1, happy_eyeballs_delay=0.01
            )
            transport.write(b"echo")
            assert await protocol.received(4) == b"echo"
            transport.close()
            await protocol.lost
            server.close()
            await server.wait_closed()
            assert set(descriptors()) <= before  # the other attempt has been given up

    run(main())


def test_a_connection_comes_from_the_local_address_that_was_asked_for(loop: Loop, run: Run) -> None:
    async def main(port: int) -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(Recorder, *where, local_addr=("127.0.0.1", port))
        assert transport.get_extra_info("sockname")[1] == port
        transport.abort()
        server.close()
        await server.wait_closed()

    with closed_port() as port:
        pass
    run(main(port))


def test_create_connection_checks_its_arguments(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            connect: Any = loop.create_connection
            wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
                ((), {}),
                (("127.0.0.1", 1), {"sock": sock}),
                (("127.0.0.1", 1), {"server_hostname": "name"}),
                (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
                ((), {"ssl": True, "sock": sock}),
            ]
            for arguments, more in wrong:
                with pytest.raises(ValueError):
                    await connect(Recorder, *arguments, **more)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.create_connection(Recorder, sock=sock)

    run(main())


def test_a_cancelled_connection_attempt_leaves_nothing(loop: Loop, run: Run) -> None:
    async def main(address: tuple[str, int]) -> None:
        task = await pending(loop.create_connection(Recorder, *address))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with deaf_server() as address:
        run(main(address))


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("how", ["host", "sock"])
def test_a_connection_attempt_may_be_cancelled_at_each_of_its_turns(
    loop: Loop, run: Run, turns: int, how: str
) -> None:
    """A descriptor has one owner at every moment: whoever is cancelled closes it, and closes it once."""

    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        sock = socket.create_connection(address)
        coro = loop.create_connection(Recorder, *address)
        if how == "sock":
            coro.close()
            coro = loop.create_connection(Recorder, sock=sock)
        task = asyncio.ensure_future(coro)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.close()
            await protocol.lost
        sock.close()
        others = [socket.socket() for _ in range(3)]  # they get the number if it was closed
        for _ in range(3):
            await asyncio.sleep(0)
        assert all(other.fileno() >= 0 and os.fstat(other.fileno()) for other in others)
        for other in others:
            other.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_reader_and_writer_work_line_by_line(run: Run) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line[::-1])
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for i in range(50):
            writer.write(b"line %d\n" % i)
            assert await reader.readexactly(len(b"line %d\n" % i)) == (b"line %d\n" % i)[::-1]
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_drain_waits_for_a_slow_reader(run: Run) -> None:
    async def main() -> None:
        arrived: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        writers = []

        def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            arrived.put_nowait(reader)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1000)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        there = await arrived.get()
        writer.write(MEGABYTES * 3)
        task = await pending(writer.drain())
        assert await there.readexactly(3 * len(MEGABYTES)) == MEGABYTES * 3
        await task
        for each in writer, *writers:
            each.close()
            await each.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())
