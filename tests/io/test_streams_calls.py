"""What `read` and its like, and `drain`, promise as coroutines: on asyncio's loop and on pyloop's."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import sys
import types
import warnings
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest

from support.loops import LoopFactory, Run, new_loop
from support.net import socket_pair

# What each is called with, what comes from the peer, and what it gives then.
CALLS = {
    "read": ((100,), b"data\n", b"data\n"),
    "readexactly": ((4,), b"data\n", b"data"),
    "readuntil": ((b"ta",), b"data\n", b"data"),
    "readline": ((), b"data\n", b"data\n"),
}
EACH = pytest.mark.parametrize("what", CALLS)


@asynccontextmanager
async def reading(limit: int = 2**16) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A reader and its writer over a socket that has been read from, and the socket at the other end."""
    with socket_pair() as (ours, peer):
        reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
        peer.send(b"first")
        assert await reader.readexactly(5) == b"first"
        try:
            yield reader, writer, peer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@EACH
def test_it_gives_what_is_there_and_waits_for_what_is_not(run: Run, what: str) -> None:
    args, data, expected = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, peer):
            call = getattr(reader, what)
            waiting: Any = asyncio.ensure_future(call(*args))
            await turns()
            waiter: Any = reader._waiter
            assert [waiting.done(), asyncio.isfuture(waiter)] == [False, True]
            peer.send(data)
            assert await waiting == expected and reader._waiter is None
            await reader.read(len(reader._buffer))
            reader.feed_data(data)
            assert await call(*args) == expected

    run(main())


@EACH
def test_it_is_a_coroutine_to_who_asks(run: Run, what: str) -> None:
    args, data, _ = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, peer):
            function = getattr(reader, what)
            assert inspect.iscoroutinefunction(function)
            assert inspect.iscoroutinefunction(getattr(asyncio.StreamReader, what))
            coroutine: Any = function(*args)
            assert [ask(coroutine) for ask in (inspect.iscoroutine, asyncio.iscoroutine)] == [True, True]
            kinds = inspect.isawaitable, asyncio.isfuture, lambda each: isinstance(each, types.CoroutineType)
            assert [kind(coroutine) for kind in kinds] == [True, False, True]
            assert coroutine.__name__ == what and coroutine.__qualname__ == f"StreamReader.{what}"
            assert coroutine.cr_code.co_name in (what, f"StreamReader.{what}")
            public = {name for name in dir(types.CoroutineType) if not name.startswith("__")}
            assert public <= set(dir(coroutine))
            assert repr(coroutine).startswith(f"<coroutine object StreamReader.{what} at 0x")
            assert inspect.getcoroutinestate(coroutine) == "CORO_CREATED"
            task = asyncio.create_task(coroutine)
            await turns()
            assert inspect.getcoroutinestate(coroutine) == "CORO_SUSPENDED"
            assert coroutine.cr_await is not None and what in repr(task)
            peer.send(data)
            await task
            assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED" and coroutine.cr_frame is None

    run(main())


@EACH
def test_it_does_nothing_until_it_is_awaited(run: Run, what: str) -> None:
    args, data, expected = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, _):
            reader.feed_data(data)
            call = getattr(reader, what)
            coroutine = call(*args)
            assert reader._buffer == data
            coroutine.close()
            assert reader._buffer == data
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                call(*args)
                gc.collect()
            (warning,) = caught
            assert str(warning.message).startswith(f"coroutine 'StreamReader.{what}' was never awaited")
            assert await call(*args) == expected

    run(main())


@EACH
def test_it_is_awaited_once(run: Run, what: str) -> None:
    args, data, expected = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, peer):
            coroutine = getattr(reader, what)(*args)
            with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
                coroutine.send(1)
            task = asyncio.create_task(coroutine)
            await turns()

            async def second() -> None:
                await coroutine

            with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
                await second()
            peer.send(data)
            assert await task == expected
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await coroutine
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                coroutine.throw(LookupError)
            coroutine.close()

    run(main())


@EACH
def test_two_cannot_wait(run: Run, what: str) -> None:
    args, data, expected = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, peer):
            first = asyncio.create_task(getattr(reader, what)(*args))
            await turns()
            name = "readuntil" if what == "readline" else what
            text = f"{name}() called while another coroutine is already waiting for incoming data"
            with pytest.raises(RuntimeError) as caught:
                await getattr(reader, what)(*args)
            assert str(caught.value) == text
            peer.send(data)
            assert await first == expected

    run(main())


@EACH
def test_it_is_cancelled_and_nothing_is_lost(run: Run, what: str) -> None:
    args, data, expected = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, peer):
            call = getattr(reader, what)
            waiting = asyncio.create_task(call(*args))
            await turns()
            waiter = reader._waiter
            waiting.cancel("enough")
            assert waiter.cancelled()
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await waiting
            assert reader._waiter is None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call(*args), 0.001)
            assert reader._waiter is None
            peer.send(data)
            first, none = await asyncio.gather(call(*args), asyncio.sleep(0))
            assert (first, none) == (expected, None)

    run(main())


@EACH
def test_it_is_cancelled_before_it_has_begun(run: Run, what: str) -> None:
    args, data, _ = CALLS[what]

    async def main() -> None:
        async with reading() as (reader, _, _):
            reader.feed_data(data)
            waiting = asyncio.create_task(getattr(reader, what)(*args))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert reader._buffer == data

    run(main())


@EACH
@pytest.mark.parametrize("how", ["throw", "close", "drop"])
def test_a_call_that_waits_and_ends_is_no_waiter(run: Run, what: str, how: str) -> None:
    async def main() -> None:
        async with reading() as (reader, _, _):
            coroutine = getattr(reader, what)(*CALLS[what][0])
            waiter = coroutine.send(None)
            assert waiter is reader._waiter and coroutine.cr_suspended
            if how == "throw":
                with pytest.raises(LookupError, match="thrown"):
                    coroutine.throw(LookupError("thrown"))
            elif how == "close":
                coroutine.close()
            del coroutine
            assert reader._waiter is None

    run(main())


@EACH
def test_the_readers_exception_is_raised(run: Run, what: str) -> None:
    args = CALLS[what][0]

    async def main() -> None:
        async with reading() as (reader, writer, _):
            waiting = asyncio.create_task(getattr(reader, what)(*args))
            await turns()
            reader.set_exception(LookupError("broken"))
            for awaited in waiting, getattr(reader, what)(*args), writer.drain():
                with pytest.raises(LookupError, match="broken"):
                    await awaited

    run(main())


def test_what_the_end_leaves_is_in_the_error(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            waiting = asyncio.create_task(reader.readexactly(10))
            await turns()
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await waiting
            assert (caught.value.partial, caught.value.expected) == (b"data", 10)
            assert reader.at_eof() and await reader.read(10) == b"" and await reader.readline() == b""
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readuntil(b"x")

    run(main())


def test_a_line_beyond_the_limit_is_an_error_and_gone(run: Run) -> None:
    async def main() -> None:
        async with reading(limit=5) as (reader, writer, peer):
            peer.send(b"123456789\nnext\n")
            with pytest.raises(
                ValueError, match="Separator is found, but chunk is longer than limit"
            ) as caught:
                await reader.readline()
            context = caught.value.__context__
            assert isinstance(context, asyncio.LimitOverrunError) and context.consumed == 9
            assert await reader.readline() == b"next\n" and not reader._paused
            peer.send(b"123456789")
            with pytest.raises(ValueError, match="Separator is not found, and chunk exceed the limit"):
                await reader.readline()
            assert not reader._buffer and writer.transport.is_reading()
            peer.send(b"123456789")
            with pytest.raises(asyncio.LimitOverrunError) as overrun:
                await reader.readuntil(b"ab")
            assert overrun.value.consumed == 8 and reader._buffer == b"123456789"

    run(main())


def test_a_call_for_more_than_the_limit_resumes_a_paused_transport(run: Run) -> None:
    async def main() -> None:
        async with reading(limit=5) as (reader, _, peer):
            peer.send(bytes(100))
            await turns(20)
            assert reader._paused
            waiting = asyncio.create_task(reader.readexactly(150))
            await turns(20)
            peer.send(bytes(50))
            assert await waiting == bytes(150) and not reader._paused

    run(main())


@EACH
def test_a_method_that_is_patched_is_called(run: Run, what: str) -> None:
    async def patched(self: Any, *args: Any) -> str:
        return "patched"

    async def main() -> None:
        async with reading() as (reader, _, _):
            args, data, expected = CALLS[what]
            reader.feed_data(data)
            with mock.patch.object(asyncio.StreamReader, what, patched):
                assert await getattr(reader, what)(*args) == "patched"
            with mock.patch.object(reader, what, mock.AsyncMock(return_value="mocked")):
                assert await getattr(reader, what)(*args) == "mocked"
            assert await getattr(reader, what)(*args) == expected

    run(main())


@pytest.mark.parametrize("name", ["_wait_for_data", "_maybe_resume_transport", "readuntil"])
def test_what_a_method_calls_is_called_when_it_is_patched(run: Run, name: str) -> None:
    original, called = getattr(asyncio.StreamReader, name), list[str]()

    def patched(self: Any, *args: Any) -> Any:
        called.append(name)
        return original(self, *args)

    async def main() -> None:
        async with reading() as (reader, _, peer):
            with mock.patch.object(asyncio.StreamReader, name, patched):
                waiting = asyncio.create_task(reader.readline())
                await turns()
                peer.send(b"line\n")
                assert await waiting == b"line\n" and called == [name]
            waiting = asyncio.create_task(reader.readline())
            await turns()
            with mock.patch.object(asyncio.StreamReader, name, patched):
                peer.send(b"line\n")
                assert await waiting == b"line\n"
            peer.send(b"line\n")
            assert await reader.readline() == b"line\n"

    run(main())


def test_a_subclass_has_its_own_methods(run: Run) -> None:
    class Reader(asyncio.StreamReader):
        async def read(self, n: int = -1) -> bytes:
            return (await super().read(n)).upper()

    async def main() -> None:
        async with reading() as (reader, _, peer):
            reader.__class__ = Reader
            peer.send(b"data")
            assert await reader.read(10) == b"DATA"

    run(main())


@pytest.mark.since(3, 13)
def test_separators_in_a_tuple(run: Run) -> None:
    async def main() -> None:
        async with reading() as (reader, _, peer):
            peer.send(b"one;two,")
            assert await reader.readuntil((b",", b";")) == b"one;"
            assert await reader.readuntil((b",", b";")) == b"two,"

    run(main())


@pytest.mark.parametrize("call", ["read", "readexactly"])
def test_keywords_and_numbers_of_other_kinds(run: Run, call: str) -> None:
    class Number(int):
        pass

    async def main() -> None:
        async with reading() as (reader, _, peer):
            peer.send(b"123")
            function = getattr(reader, call)
            assert await function(n=1) == b"1"
            assert await function(True) == b"2"
            assert await function(Number(1)) == b"3"
            assert await function(0) == b""
            with pytest.raises(TypeError):
                await function("1")
            with pytest.raises(TypeError):
                function(1, 2)

    run(main())


def test_drain_waits_for_a_transport_that_takes_no_more(run: Run) -> None:
    async def main() -> None:
        async with reading() as (_, writer, peer):
            await writer.drain()
            writer.transport.set_write_buffer_limits(high=10)
            writer.write(bytes(2**20))
            draining = asyncio.create_task(writer.drain())
            await turns()
            assert not draining.done()
            received = 0
            while not draining.done():
                try:
                    received += len(peer.recv(2**16))
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert await draining is None

    run(main())


def test_drain_of_a_connection_that_is_over(run: Run) -> None:
    async def main() -> None:
        async with reading() as (_, writer, _):
            draining = writer.drain()
            assert inspect.iscoroutinefunction(writer.drain) and asyncio.iscoroutine(draining)
            writer.transport.abort()
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await draining

    run(main())


@EACH
def test_a_reader_that_goes_with_its_call_is_collected(run: Run, what: str) -> None:
    async def main() -> None:
        async with reading() as (reader, _, _):
            other: Any = asyncio.StreamReader()
            other.call = getattr(other, what)(*CALLS[what][0])
            other.call.send(None)
            gone = mock.Mock()
            weakref.finalize(other, gone)
            del other
            gc.collect()
            gone.assert_called_once()
            assert reader

    run(main())


def test_a_reader_of_another_loop_is_asyncios(pyloop_factory: LoopFactory) -> None:
    async def kinds() -> set[str]:
        async with reading() as (reader, writer, peer):
            peer.send(b"data\n")
            found = set()
            for coroutine in reader.read(1), reader.readexactly(1), reader.readline(), writer.drain():
                found.add(type(coroutine).__name__)
                await coroutine
            return found

    ours, theirs = pyloop_factory(), new_loop("asyncio")
    try:
        for _ in range(2):
            assert ours.run_until_complete(kinds()) <= {"_StreamCall", "coroutine"}
            assert theirs.run_until_complete(kinds()) == {"coroutine"}
    finally:
        ours.close()
        theirs.close()


@pytest.mark.acceleration("function_calls")
@pytest.mark.acceleration("direct_calls")
def test_pyloop_reads_and_drains_without_a_frame_of_python(pyloop_factory: LoopFactory) -> None:
    seen = set[str]()

    def note(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code.co_qualname)

    async def main() -> None:
        async with reading() as (reader, writer, peer):
            sys.setprofile(note)
            for size in (4, 100):
                waiting = asyncio.create_task(reader.read(size))
                await turns()
                peer.send(b"data\n" * 10)
                await waiting
                await writer.drain()
                assert len(await reader.readline()) > 0
            sys.setprofile(None)

    loop = pyloop_factory()
    try:
        loop.run_until_complete(main())
    finally:
        sys.setprofile(None)
        loop.close()
    if not sys.flags.dev_mode:
        assert not [name for name in seen if name.startswith("Stream")]
