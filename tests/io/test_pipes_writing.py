"""How transports of pipes write, and hear of a reader that goes."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import pytest

from support.loops import Run
from support.pipes import MUCH, fill, pipe, reading, sockets, terminal, writing


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), b""])
def test_what_may_be_written(run: Run, data: Any) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        writer.transport.write(data)
        writer.transport.writelines([data, b"-", data])
        assert writer.transport.get_write_buffer_size() == 0
        writer.transport.close()
        await writer.lost
        assert out.read() == bytes(data) * 2 + b"-" + bytes(data)
        out.close()

    run(main())


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]])
def test_what_may_not_be_written(run: Run, data: Any) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        with pytest.raises(AssertionError, match=r"^('text'|None|1|\[b'x'\])$"):
            writer.transport.write(data)
        writer.transport.close()
        await writer.lost
        out.close()

    run(main())


def test_a_buffer_that_is_kept_is_copied(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        room = fill(into.fileno())
        data = bytearray(b"before")
        writer.transport.write(data)
        data[:] = b"after."
        assert writer.transport.get_write_buffer_size() == 6
        writer.transport.close()
        assert (await reader_of(out, room + 6))[-6:] == b"before"
        await writer.lost

    async def reader_of(out: Any, length: int) -> bytes:
        reader = await reading(out)
        data: bytes = await reader.received(length)
        await reader.lost
        return data

    run(main())


@pytest.mark.parametrize("make", [pipe, sockets])
def test_everything_is_written_before_a_closed_pipe_is_lost(run: Run, make: Any) -> None:
    async def main() -> None:
        out, into = make()
        writer = await writing(into)
        for part in (MUCH, b"1", b"2" * 400_000, b"3"):
            writer.transport.write(part)
        writer.transport.write_eof()
        assert writer.transport.is_closing()
        size = writer.transport.get_write_buffer_size()
        assert size > 0
        writer.transport.write(b"too late")
        writer.transport.close()
        writer.transport.write_eof()
        assert writer.transport.get_write_buffer_size() == size
        reader = await reading(out)
        await reader.lost
        assert reader.data == MUCH + b"1" + b"2" * 400_000 + b"3"
        await writer.lost
        assert writer.error is None
        assert writer.events == ["made", "pause", "resume", "lost"]

    run(main())


def test_limits_are_asyncios(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        transport = writer.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        fill(into.fileno())
        transport.set_write_buffer_limits(high=10, low=5)
        transport.write(b"x" * 10)
        assert writer.events == ["made"]
        transport.write(b"x")
        assert writer.events == ["made", "pause"]
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        out.read(4096 * 16)
        await writer.until(lambda: "resume" in writer.events)
        transport.close()
        await writer.lost
        out.close()

    run(main())


@pytest.mark.parametrize("make", [pipe, sockets])
def test_a_reader_that_goes_is_heard_of_without_a_write(run: Run, make: Any) -> None:
    async def main() -> None:
        out, into = make()
        writer = await writing(into)
        out.close()
        await writer.lost
        assert writer.error is None
        assert writer.transport.is_closing()

    run(main())


def test_a_reader_that_goes_while_the_rest_is_written_is_an_error(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        writer.transport.write(MUCH)
        writer.transport.close()
        out.close()
        await writer.lost
        assert isinstance(writer.error, BrokenPipeError)
        assert writer.transport.get_write_buffer_size() == 0

    run(main())


def test_a_socket_that_is_only_written_ends_when_its_peer_says_something(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        writer = await writing(ours)
        theirs.send(b"hello?")
        await writer.lost
        assert writer.error is None
        theirs.close()

    run(main())


def test_a_write_that_fails_ends_the_pipe_and_later_ones_are_warned_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        out.close()
        writer.transport.write(b"x")
        assert writer.transport.is_closing()
        for _ in range(4):
            writer.transport.write(b"x")
        assert not caplog.records
        writer.transport.write(b"")
        writer.transport.write(b"x")
        await writer.lost
        assert isinstance(writer.error, BrokenPipeError)

    caplog.set_level(logging.WARNING, "asyncio")
    run(main())
    (record,) = caplog.records
    assert record.getMessage() == "pipe closed by peer or os.write(pipe, data) raised exception."


def test_writes_to_a_closed_pipe_are_counted_from_the_first(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        writer.transport.close()
        for _ in range(5):
            writer.transport.write(b"x")
        assert not caplog.records
        writer.transport.write(b"x")
        await writer.lost
        assert out.read() == b""
        out.close()

    caplog.set_level(logging.WARNING, "asyncio")
    run(main())
    assert len(caplog.records) == 1


def test_a_device_that_is_full_is_an_error(run: Run) -> None:
    async def main() -> None:
        writer = await writing(open("/dev/full", "wb", 0))
        writer.transport.write(b"x")
        await writer.lost
        assert writer.error.errno == errno.ENOSPC

    run(main())


def test_a_device_that_takes_everything(run: Run) -> None:
    async def main() -> None:
        writer = await writing(open("/dev/null", "wb", 0))
        for _ in range(10):
            writer.transport.write(MUCH)
        assert writer.transport.get_write_buffer_size() == 0
        writer.transport.close()
        await writer.lost
        assert writer.error is None

    run(main())


def test_a_terminal_that_nobody_reads_takes_the_rest_later(run: Run) -> None:
    async def main() -> None:
        out, into = terminal()
        writer = await writing(into)
        text = b"0123456789" * 20_000
        writer.transport.write(text)
        assert writer.transport.get_write_buffer_size() > 0
        reader = await reading(out)
        assert await reader.received(len(text)) == text
        writer.transport.close()
        reader.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


def test_an_abort_drops_what_is_left(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        writer.transport.write(MUCH)
        writer.transport.close()
        writer.transport.abort()
        assert writer.transport.get_write_buffer_size() == 0
        await writer.lost
        assert writer.error is None
        assert writer.events == ["made", "pause", "lost"]
        out.close()

    run(main())
