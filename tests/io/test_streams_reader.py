"""What a transport does for asyncio's StreamReader: bytes, the waiter, the limit, and what is patched."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any
from unittest import mock

import pytest

from support.loops import Run
from support.net import socket_pair


@asynccontextmanager
async def reading(limit: int = 2**16) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A reader and its writer over a socket, and the socket at the other end."""
    with socket_pair() as (ours, peer):
        reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
        try:
            yield reader, writer, peer
        finally:
            writer.close()
            # The connection may have ended with an error, which is what a test is about.
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come about")


def test_bytes_are_in_the_readers_buffer(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            buffer = reader._buffer
            for data in (b"one", b" two", bytes(1000)):
                waiting = reader._waiter = asyncio.get_running_loop().create_future()
                peer.send(data)
                await waiting
                assert buffer.endswith(data)
            assert reader._buffer is buffer and type(buffer) is bytearray
            assert buffer == b"one two" + bytes(1000)
            assert not reader.at_eof() and not reader._paused and reader._waiter is None

    run(main())


def test_who_waits_is_woken_once(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            waiting = asyncio.ensure_future(reader.read(100))
            await until(lambda: reader._waiter is not None)
            waiter = reader._waiter
            peer.send(b"data")
            await until(waiter.done)
            assert reader._waiter is None and waiter.result() is None
            assert await waiting == b"data"

    run(main())


def test_a_waiter_of_somebodys_own_is_woken(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            waiter = asyncio.Future[None]()
            reader._waiter = waiter
            peer.send(b"data")
            await waiter
            assert reader._waiter is None and reader._buffer == b"data"
            reader._waiter = cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            peer.send(b" more")
            await until(lambda: reader._waiter is None)
            assert reader._buffer == b"data more"

    run(main())


def test_more_than_twice_the_limit_pauses_the_transport(run: Run) -> None:
    async def main() -> None:
        async with reading(limit=10) as (reader, writer, peer):
            peer.send(bytes(20))
            await until(lambda: len(reader._buffer) == 20)
            assert not reader._paused and writer.transport.is_reading()
            peer.send(b"x")
            await until(lambda: reader._paused)
            assert not writer.transport.is_reading()
            peer.send(b"later")
            await asyncio.sleep(0)
            assert len(reader._buffer) == 21
            assert await reader.read(10) == bytes(10)
            assert reader._paused
            assert await reader.read(1) == bytes(1)
            assert not reader._paused and writer.transport.is_reading()
            assert await reader.readexactly(15) == bytes(9) + b"xlater"

    run(main())


@pytest.mark.parametrize("limit", [3, 3.5, 2**80, True])
def test_the_limit_is_the_instances(run: Run, limit: Any) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            reader._limit = limit
            peer.send(b"1234567")
            await until(lambda: reader._buffer)
            assert reader._paused is (limit in (3, True))

    run(main())


def test_a_transport_that_cannot_be_paused_is_not_asked_again(run: Run) -> None:
    async def main() -> None:
        async with reading(limit=1) as (reader, _, peer):
            reader._transport = mock.Mock()
            reader._transport.pause_reading.side_effect = NotImplementedError
            peer.send(b"123")
            await until(lambda: reader._buffer)
            assert reader._transport is None and not reader._paused
            peer.send(b"456")
            await until(lambda: reader._buffer == b"123456")

    run(main())


def test_a_reader_without_a_transport_is_not_paused(run: Run) -> None:
    async def main() -> None:
        async with reading(limit=1) as (reader, _, peer):
            reader._transport = None
            peer.send(b"123")
            await until(lambda: reader._buffer)
            assert not reader._paused

    run(main())


def failures(run: Run, break_it: Callable[[Any, Any], Any]) -> tuple[list[str], Any]:
    """What the exception handler is told when data comes for a broken reader, and the reader's exception."""
    told = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with reading() as (reader, writer, peer):
            kept = break_it(reader, writer)
            peer.send(b"data")
            await until(lambda: writer.transport.is_closing())
            await until(lambda: reader.exception() is not None)
            del kept
            return reader.exception()

    raised = run(main())
    return [f"{each['message']} {type(each['exception']).__name__}" for each in told], raised


def test_a_buffer_that_is_lent_out_is_an_error(run: Run) -> None:
    def lend(reader: Any, _: Any) -> Any:
        reader._buffer += b"here"
        return memoryview(reader._buffer)

    told, raised = failures(run, lend)
    assert told == ["Fatal error: protocol.data_received() call failed. BufferError"]
    assert type(raised) is BufferError


def test_data_after_the_end_is_an_error(run: Run) -> None:
    told, raised = failures(run, lambda reader, _: reader.feed_eof())
    assert told == ["Fatal error: protocol.data_received() call failed. AssertionError"]
    assert str(raised) == "feed_data after feed_eof"


def test_a_waiter_that_is_done_is_an_error(run: Run) -> None:
    def finish(reader: Any, _: Any) -> None:
        reader._waiter = asyncio.get_running_loop().create_future()
        reader._waiter.set_result(None)

    told, _ = failures(run, finish)
    assert told == ["Fatal error: protocol.data_received() call failed. InvalidStateError"]


def test_a_reader_that_nobody_has_any_more_gets_nothing(run: Run) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            reader: Any = asyncio.StreamReader()
            protocol: Any = asyncio.StreamReaderProtocol(reader)
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
            reader = None
            assert protocol._stream_reader is None
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.002)
            assert not transport.is_closing()
            transport.close()
            await protocol._closed

    run(main())


def test_another_reader_in_the_protocol_gets_what_comes_then(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, writer, peer):
            peer.send(b"one")
            await until(lambda: reader._buffer)
            other: Any = asyncio.StreamReader()
            protocol = writer.transport.get_protocol()
            protocol._stream_reader_wr = lambda: other
            peer.send(b"two")
            await until(lambda: other._buffer)
            assert (bytes(reader._buffer), bytes(other._buffer)) == (b"one", b"two")

    run(main())


def test_another_protocol_gets_what_comes_then(run: Run) -> None:
    class Other(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data.upper())

    async def main() -> None:
        async with reading() as (reader, writer, peer):
            before = writer.transport.get_protocol()
            writer.transport.set_protocol(Other(reader))
            peer.send(b"one")
            assert await reader.read(3) == b"ONE"
            writer.transport.set_protocol(asyncio.StreamReaderProtocol(reader))
            peer.send(b"two")
            assert await reader.read(3) == b"two"
            writer.transport.set_protocol(before)

    run(main())


class Shouting(asyncio.StreamReader):
    def feed_data(self, data: Any) -> None:
        super().feed_data(bytes(data).upper())


def test_a_subclass_of_the_reader_is_fed_by_its_method(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            reader.__class__ = Shouting
            peer.send(b"data")
            assert await reader.read(100) == b"DATA"

    run(main())


FED_BY = {
    "a method of the reader's class": (asyncio.StreamReader, "feed_data"),
    "a method that the reader's class calls": (asyncio.StreamReader, "_wakeup_waiter"),
    "a method of the protocol's class": (asyncio.StreamReaderProtocol, "data_received"),
}


@pytest.mark.parametrize("what", FED_BY)
def test_a_method_that_is_patched_in_the_midst_of_a_connection_is_called(run: Run, what: str) -> None:
    owner, name = FED_BY[what]
    original: Any = getattr(owner, name)
    called = []

    def patched(self: Any, *args: Any) -> None:
        called.append(args)
        original(self, *args)

    async def main() -> None:
        async with reading() as (reader, _, peer):
            peer.send(b"one")
            await until(lambda: reader._buffer == b"one")
            with mock.patch.object(owner, name, patched):
                peer.send(b"two")
                await until(lambda: reader._buffer == b"onetwo")
                assert len(called) == 1
            peer.send(b"three")
            await until(lambda: reader._buffer == b"onetwothree")
            assert len(called) == 1

    run(main())


@pytest.mark.parametrize("name", ["feed_data", "_wakeup_waiter", "data_received"])
def test_a_method_that_an_instance_has_for_itself_is_called(run: Run, name: str) -> None:
    called = []

    async def main() -> None:
        async with reading() as (reader, writer, peer):
            peer.send(b"one")
            await until(lambda: reader._buffer == b"one")
            owner = writer.transport.get_protocol() if name == "data_received" else reader
            original = getattr(owner, name)

            def own(*args: Any) -> None:
                called.append(args)
                original(*args)

            setattr(owner, name, own)
            peer.send(b"two")
            await until(lambda: reader._buffer == b"onetwo")
            delattr(owner, name)
            peer.send(b"three")
            await until(lambda: reader._buffer == b"onetwothree")
            assert len(called) == 1

    run(main())


def taken(owner: Any) -> None:
    vars(owner)


def replaced(owner: Any) -> None:
    owner.__dict__ = dict(vars(owner))


def another(owner: Any) -> None:
    owner.another = 1


def many(owner: Any) -> None:
    vars(owner).update((f"name {number}", number) for number in range(100))


def in_another_order(owner: Any) -> None:
    for name, value in list(vars(owner).items()):
        delattr(owner, name)
        setattr(owner, name, value)


def one_for_another(owner: Any) -> None:
    del owner._loop
    owner.another = 1


def of_another_class(owner: Any) -> None:
    cls = type(owner)
    owner.__class__ = type("Other", (cls,), {})
    owner.__class__ = cls


WAYS = [taken, replaced, another, many, in_another_order, one_for_another, of_another_class]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("whose", ["reader", "protocol"])
def test_attributes_that_are_kept_in_another_way_are_those_that_are_used(
    run: Run, whose: str, way: Callable[[Any], None]
) -> None:
    called = []

    async def main() -> None:
        async with reading() as (reader, writer, peer):
            protocol = writer.transport.get_protocol()
            owner = reader if whose == "reader" else protocol
            loop, name = owner._loop, "feed_data" if whose == "reader" else "data_received"
            waiting = asyncio.ensure_future(reader.readexactly(3))
            await asyncio.sleep(0)
            way(owner)
            reader._buffer = reader._buffer.copy()
            peer.send(b"one")
            assert await waiting == b"one"
            original = getattr(owner, name)

            def own(data: Any) -> None:
                called.append(bytes(data))
                original(data)

            vars(owner)[name] = own
            peer.send(b"two")
            await until(lambda: reader._buffer == b"two")
            del vars(owner)[name]
            peer.send(b"three")
            await until(lambda: reader._buffer == b"twothree")
            assert called == [b"two"]
            owner._loop = loop

    run(main())


def test_an_attribute_that_is_missing_is_missed(run: Run, handled: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with reading() as (reader, writer, peer):
            del reader._eof
            peer.send(b"data")
            await until(lambda: writer.transport.is_closing())
            reader._eof = False

    run(main())
    (context,) = handled
    assert isinstance(context["exception"], AttributeError)


def test_a_reader_that_a_property_chooses_is_fed(run: Run) -> None:
    other: Any = None

    async def main() -> None:
        nonlocal other
        async with reading() as (reader, _, peer):
            other = asyncio.StreamReader()
            chosen = property(lambda self: other)
            with mock.patch.object(asyncio.StreamReaderProtocol, "_stream_reader", chosen):
                peer.send(b"data")
                await until(lambda: other._buffer)
            assert other._buffer == b"data" and not reader._buffer

    run(main())


def test_attributes_that_a_class_hands_out_are_those_that_are_used(run: Run) -> None:
    limit = property(lambda self: 1, lambda self, value: None)

    async def main() -> None:
        async with reading() as (reader, _, peer):
            with mock.patch.object(asyncio.StreamReader, "_limit", limit, create=True):
                peer.send(b"123")
                await until(lambda: reader._buffer)
                assert reader._paused

    run(main())


def functions_called(run: Run, main: Any) -> set[str]:
    """The names of the Python functions that were called while it ran."""
    seen = set[str]()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        run(main)
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.acceleration("direct_calls")
def test_pyloop_feeds_a_reader_without_calling_python(run: Run, loop_kind: str) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            peer.send(b"data")
            assert await reader.read(4) == b"data"

    called = functions_called(run, main())
    assert ("feed_data" in called) is (loop_kind == "asyncio")
