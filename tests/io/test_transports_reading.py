"""What a stream transport promises about reading, by protocols of both kinds, that may take turns."""

from __future__ import annotations

import array
import asyncio
import functools
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import pyloop
from support.loops import Loop, Run
from support.net import receive_all, socket_pair
from support.protocols import Recorder
from support.transports import (
    FAMILIES,
    FATAL,
    MEGABYTES,
    Buffered,
    fill,
    fill_peer,
    transport_and_peer,
    until,
)

# Reading.


def test_reading_is_paused_and_resumed(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            assert transport.is_reading() is True
            for _ in range(2):
                transport.pause_reading()
                assert transport.is_reading() is False
            peer.send(b"data")
            await asyncio.sleep(0.002)
            assert protocol.data == b""
            for _ in range(2):
                transport.resume_reading()
                assert transport.is_reading() is True
            assert await protocol.received(4) == b"data"

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_closed_transport_reads_no_more_and_cannot_resume(run: Run, end: str) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            peer.send(b"unread")
            getattr(transport, end)()
            assert not transport.is_reading()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()
            await protocol.lost
            transport.pause_reading()
            transport.resume_reading()
            assert protocol.data == b""
            assert protocol.events == ["made", "lost"]

    run(main())


def test_reading_may_be_paused_in_connection_made(run: Run) -> None:
    class Paused(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        with socket_pair() as (ours, peer):
            peer.send(b"early")
            transport, protocol = await asyncio.get_running_loop().create_connection(Paused, sock=ours)
            await asyncio.sleep(0.002)
            assert protocol.data == b""
            transport.resume_reading()
            assert await protocol.received(5) == b"early"
            transport.close()
            await protocol.lost

    run(main())


def test_reading_may_be_paused_and_resumed_while_data_is_received(run: Run) -> None:
    class Stutters(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            assert not self.transport.is_reading()
            if len(self.data) % 2:
                self.transport.resume_reading()
            else:
                self.loop.call_soon(self.transport.resume_reading)

    async def main() -> None:
        async with transport_and_peer(Stutters, socket.AF_INET) as (_, protocol, peer):
            await asyncio.get_running_loop().sock_sendall(peer, MEGABYTES)
            assert await protocol.received(len(MEGABYTES)) == MEGABYTES

    run(main())


def test_a_pause_while_data_is_received_holds_the_rest_back(run: Run) -> None:
    class Once(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        async with transport_and_peer(Once) as (transport, protocol, peer):
            transport.pause_reading()
            sent = fill_peer(peer)
            transport.resume_reading()
            await until(lambda: protocol.data)
            before = len(protocol.data)
            peer.send(b"x")
            sent += 1
            await asyncio.sleep(0.002)
            assert len(protocol.data) == before
            while len(protocol.data) < sent:
                transport.resume_reading()
                await asyncio.sleep(0.0005)

    run(main())


def test_one_call_gives_no_more_than_a_quarter_of_a_megabyte(run: Run) -> None:
    class Sizes(Recorder):
        largest = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.largest = max(self.largest, len(data))

    async def main() -> None:
        async with transport_and_peer(Sizes, socket.AF_INET) as (_, protocol, peer):
            await asyncio.get_running_loop().sock_sendall(peer, MEGABYTES * 2)
            await protocol.received(2 * len(MEGABYTES))
            assert 0 < protocol.largest <= 2**18

    run(main())


def test_received_bytes_stay_as_they_are_whatever_their_size(run: Run) -> None:
    """Few are copied from the loop's buffer, many are received where they stay."""

    class Kept(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[bytes] = []

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.kept.append(data)

    async def main() -> None:
        async with transport_and_peer(Kept, socket.AF_INET) as (transport, protocol, peer):
            sent = b""
            for size in (1, 40_000, 100_000, 10, 130_000, 2**18, 2**19, 2**18, 5, 70_000, 70_000):
                transport.pause_reading()
                piece = MEGABYTES[size : 2 * size]
                sent += piece[: peer.send(piece)]
                transport.resume_reading()
                await protocol.received(len(sent))
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost
            assert b"".join(protocol.kept) == sent == protocol.data
            assert protocol.events == ["made", "eof", "lost"]

    run(main())


def test_a_loop_that_is_busy_with_both_ends_of_a_connection_looks_after_all_else(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stopped = False

        class Echo(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                if not stopped:
                    self.transport.write(data)

        with socket_pair(socket.AF_INET) as (one, other):
            (first, _), (second, _) = [await loop.create_connection(Echo, sock=sock) for sock in (one, other)]
            first.write(b"to and fro")
            called = loop.create_future()
            call = functools.partial(loop.call_soon_threadsafe, called.set_result, None)
            threading.Timer(0.002, call).start()
            async with transport_and_peer() as (_, protocol, peer):
                peer.send(b"data")
                assert await protocol.received(4) == b"data"
            if isinstance(loop, pyloop.EventLoop):
                await pyloop.sleep(0.002)  # by tokio's clock
            await asyncio.sleep(0.002)
            await called
            stopped = True
            first.abort()
            second.abort()
            await asyncio.sleep(0.001)

    run(main())


class Small(Buffered):
    """Has what arrives in pieces of ten bytes, and does something with each."""

    size = 10

    def __init__(self, each: Callable[[], Any]) -> None:
        super().__init__()
        self.each = each

    def buffer_updated(self, count: int) -> None:
        super().buffer_updated(count)
        self.each()


def test_what_a_piece_makes_ready_goes_before_the_next(run: Run) -> None:
    async def main() -> None:
        loop, events = asyncio.get_running_loop(), list[str]()

        def each() -> None:
            events.append("piece")
            loop.call_soon(events.append, "callback")

        async with transport_and_peer(lambda: Small(each)) as (_, protocol, peer):
            peer.send(bytes(100))
            await protocol.received(100)
            await asyncio.sleep(0)
            assert events == ["piece", "callback"] * 10

    run(main())


def test_a_loop_that_a_piece_stops_receives_no_more(loop: Loop, run: Run) -> None:
    with socket_pair() as (ours, peer):
        _, protocol = run(loop.create_connection(lambda: Small(loop.stop), sock=ours))
        peer.send(bytes(100))
        for number in range(1, 11):
            loop.run_forever()
            assert len(protocol.counts) == number
        protocol.transport.abort()
        run(asyncio.wait_for(protocol.lost, 1))


def test_a_thread_and_a_timer_are_heard_while_pieces_come(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called, due = loop.create_future(), loop.create_future()
        from_thread = functools.partial(loop.call_soon_threadsafe, called.set_result, None)
        with socket_pair() as (ours, peer):

            def each() -> None:
                if len(protocol.counts) == 1:
                    loop.call_later(0.001, due.set_result, None)
                    threading.Timer(0.001, from_thread).start()
                # There is never an end of it.
                peer.send(bytes(10))

            protocol = Small(each)
            transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
            peer.send(bytes(1000))
            await asyncio.gather(called, due)
            assert len(protocol.counts) > 1 and set(protocol.counts) == {10}
            transport.abort()
            await protocol.lost

    run(main())


def test_urgent_data_does_not_hide_what_is_behind_it(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (_, protocol, peer):
            for i in range(20):
                peer.send(b"before")
                peer.send(b"!", socket.MSG_OOB)
                peer.send(b"behind")
                await protocol.received(12 * (i + 1))
            assert protocol.data == b"beforebehind" * 20
            peer.close()
            await protocol.lost

    run(main())


@pytest.mark.parametrize("buffered", [False, True], ids=["Protocol", "BufferedProtocol"])
def test_descriptors_that_come_with_bytes_do_not_hide_what_is_behind_them(run: Run, buffered: bool) -> None:
    async def main() -> None:
        make: Any = Buffered if buffered else Recorder
        async with transport_and_peer(make) as (_, protocol, peer):
            with open(os.devnull) as file:
                for i in range(20):
                    peer.send(b"before")
                    socket.send_fds(peer, [b"with"], [file.fileno()] * 3)
                    socket.send_fds(peer, [b"more"], [file.fileno()])
                    peer.send(b"behind")
                    await protocol.received(20 * (i + 1))
            assert protocol.data == b"beforewithmorebehind" * 20
            peer.close()
            await protocol.lost

    run(main())


# Buffered protocols.


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(1),
        bytearray(7000),
        memoryview(bytearray(500)),
        memoryview(bytearray(500))[100:200],
        array.array("B", bytes(300)),
        memoryview(bytearray(600)).cast("B", (20, 30)),
    ],
    ids=["one byte", "bytearray", "memoryview", "slice", "array", "grid"],
)
def test_data_is_received_into_the_buffer_of_the_protocol(run: Run, buffer: Any) -> None:
    async def main() -> None:
        async with transport_and_peer(Buffered) as (_, protocol, peer):
            protocol.buffer = buffer
            size = memoryview(buffer).nbytes
            await asyncio.get_running_loop().sock_sendall(peer, MEGABYTES[: size * 40])
            peer.shutdown(socket.SHUT_WR)
            await protocol.lost
            assert protocol.data == MEGABYTES[: size * 40]
            assert set(protocol.hints) == {-1}
            assert max(protocol.counts) <= size
            assert protocol.events == ["made", "eof", "lost"]
            if isinstance(buffer, bytearray):
                buffer.extend(b"resizable again")

    run(main())


@pytest.mark.parametrize("buffer", [bytearray(), memoryview(bytearray())], ids=["bytearray", "memoryview"])
def test_an_empty_buffer_is_refused(run: Run, handled: list[dict[str, Any]], buffer: Any) -> None:
    async def main() -> None:
        async with transport_and_peer(Buffered) as (transport, protocol, peer):
            protocol.buffer = buffer
            peer.send(b"data")
            await protocol.lost
            assert isinstance(protocol.error, RuntimeError)
            assert str(protocol.error) == "get_buffer() returned an empty buffer"
            assert handled == [
                {
                    "message": FATAL["get_buffer"],
                    "exception": protocol.error,
                    "transport": transport,
                    "protocol": protocol,
                }
            ]

    run(main())


@pytest.mark.parametrize(
    ("buffer", "kind", "message"),
    [
        (None, TypeError, FATAL["get_buffer"]),
        (7, TypeError, FATAL["get_buffer"]),
        ([1], TypeError, "Fatal read error on socket transport"),
        (b"constant", Exception, "Fatal read error on socket transport"),
        (memoryview(bytearray(10))[::2], Exception, "Fatal read error on socket transport"),
    ],
    ids=["None", "7", "list", "read-only", "gaps"],
)
def test_what_is_no_writable_buffer_is_refused(
    run: Run, handled: list[dict[str, Any]], buffer: Any, kind: type[Exception], message: str
) -> None:
    async def main() -> None:
        async with transport_and_peer(Buffered) as (_, protocol, peer):
            protocol.buffer = buffer
            peer.send(b"data")
            await protocol.lost
            assert isinstance(protocol.error, kind)
            assert [context["message"] for context in handled] == [message]

    run(main())


def test_a_buffered_protocol_may_pause_and_resume(run: Run) -> None:
    class Stutters(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main() -> None:
        async with transport_and_peer(Stutters, socket.AF_INET) as (_, protocol, peer):
            await asyncio.get_running_loop().sock_sendall(peer, MEGABYTES[:100_000])
            assert await protocol.received(100_000) == MEGABYTES[:100_000]

    run(main())


def test_the_end_of_the_stream_waits_behind_a_full_buffer(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(Buffered) as (_, protocol, peer):
            protocol.buffer = bytearray(4)
            peer.send(b"12345678")
            peer.close()
            await protocol.lost
            assert protocol.counts == [4, 4]
            assert protocol.events == ["made", "eof", "lost"]

    run(main())


# Another protocol.


@FAMILIES
def test_protocols_of_both_kinds_may_take_turns(run: Run, family: int) -> None:
    async def main() -> None:
        async with transport_and_peer(family=family) as (transport, first, peer):
            data, last, loop = bytearray(), first, asyncio.get_running_loop()
            for i in range(20):
                peer.send(b"%05d" % i)
                await last.received(5)
                data += last.data
                last = Buffered() if i % 2 else Recorder()
                last.connection_made(transport)
                transport.set_protocol(last)
                assert transport.get_protocol() is last
            await loop.sock_sendall(peer, b"end")
            assert await last.received(3) == b"end"
            assert data == b"".join(b"%05d" % i for i in range(20))
            peer.close()
            await last.lost
            assert not first.lost.done()

    run(main())


@pytest.mark.parametrize("buffered", [False, True], ids=["Protocol", "BufferedProtocol"])
def test_a_protocol_may_hand_over_while_it_receives(run: Run, buffered: bool) -> None:
    class HandsOver(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.next = Buffered() if buffered else Recorder()
            self.next.connection_made(self.transport)
            self.transport.set_protocol(self.next)

    async def main() -> None:
        async with transport_and_peer(HandsOver) as (transport, protocol, peer):
            transport.pause_reading()
            sent = fill_peer(peer)
            transport.resume_reading()
            await until(lambda: protocol.data)
            await asyncio.sleep(0)
            peer.send(b"x")
            got = len(protocol.data)
            assert len(await protocol.next.received(sent + 1 - got)) == sent + 1 - got
            assert len(protocol.data) == got

    run(main())


def test_the_new_protocol_is_told_of_flow_control(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, old, peer):
            fill(transport)
            new = Recorder()
            transport.set_protocol(new)
            await receive_all(asyncio.get_running_loop(), peer, len(MEGABYTES))
            await until(lambda: not transport.get_write_buffer_size())
            assert (old.events, new.events) == (["made", "pause"], ["resume"])

    run(main())
