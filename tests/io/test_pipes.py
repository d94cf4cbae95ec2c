"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets and terminals."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import tty
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.protocols import Recorder

MEGABYTE = os.urandom(2**20)


async def reading(end: Any) -> Recorder:
    """The protocol that reads from that end."""
    _, protocol = await asyncio.get_running_loop().connect_read_pipe(Recorder, end)
    return protocol


async def writing(end: Any) -> Recorder:
    """The protocol that writes to that end."""
    _, protocol = await asyncio.get_running_loop().connect_write_pipe(Recorder, end)
    return protocol


def opened(ends: tuple[int, int]) -> tuple[Any, Any]:
    return open(ends[0], "rb", 0), open(ends[1], "wb", 0)


def test_what_one_end_writes_the_other_reads(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader, writer = await reading(out), await writing(into)
        writer.transport.write(b"hello")
        assert await reader.received(5) == b"hello"
        writer.transport.write(b" again")
        assert await reader.received(11) == b"hello again"
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])
        assert reader.events == ["made", "eof", "lost"]
        assert writer.events == ["made", "lost"]
        assert out.closed
        assert into.closed

    run(main())


def test_megabytes_go_through_a_pipe(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader, writer = await reading(out), await writing(into)
        writer.transport.write(MEGABYTE)
        assert writer.transport.get_write_buffer_size() > 0
        writer.transport.write(MEGABYTE)
        writer.transport.write_eof()
        await reader.lost
        assert reader.data == MEGABYTE * 2
        await writer.lost

    run(main())


def test_writing_is_paused_while_nobody_reads(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        writer = await writing(into)
        writer.transport.write(MEGABYTE)
        assert writer.events == ["made", "pause"]
        reader = await reading(out)
        assert await reader.received(len(MEGABYTE)) == MEGABYTE
        await writer.until(lambda: "resume" in writer.events)
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


def test_a_writer_without_readers_loses_its_connection(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        writer = await writing(into)
        out.close()
        await writer.lost
        assert isinstance(writer.error, BrokenPipeError | None)

    run(main())


def test_a_writer_whose_reader_goes_in_the_middle_loses_its_connection(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        writer = await writing(into)
        writer.transport.write(MEGABYTE)
        out.close()
        await writer.lost
        assert isinstance(writer.error, BrokenPipeError)

    run(main())


def test_paused_reading_holds_data_back(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader = await reading(out)
        reader.transport.pause_reading()
        into.write(b"data")
        await asyncio.sleep(0.005)
        assert reader.data == b""
        reader.transport.resume_reading()
        assert await reader.received(4) == b"data"
        into.close()
        await reader.lost

    run(main())


def test_a_reader_may_be_closed_first(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader = await reading(out)
        reader.transport.close()
        assert reader.transport.is_closing()
        await reader.lost
        assert reader.events == ["made", "lost"]
        with into, pytest.raises(BrokenPipeError):
            into.write(b"x")

    run(main())


def test_an_aborted_writer_drops_what_is_buffered(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        writer = await writing(into)
        writer.transport.write(MEGABYTE)
        writer.transport.abort()
        await writer.lost
        assert len(out.read(2**21)) < len(MEGABYTE)
        out.close()

    run(main())


def test_a_fifo_is_a_pipe(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def main() -> None:
        out = open(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        into = open(os.open(tmp_path / "fifo", os.O_WRONLY), "wb", 0)
        reader, writer = await reading(out), await writing(into)
        writer.transport.write(b"through the fifo")
        assert await reader.received(16) == b"through the fifo"
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


def test_a_socket_is_a_pipe(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await reading(ours), await writing(theirs)
        writer.transport.write(b"through the socket")
        assert await reader.received(18) == b"through the socket"
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


def test_a_terminal_is_a_pipe(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        writer = await writing(open(ours, "wb", 0))
        reader = await reading(open(theirs, "rb", 0))
        writer.transport.write(b"keys")
        assert await reader.received(4) == b"keys"
        reader.transport.close()
        await reader.lost
        writer.transport.close()
        await writer.lost

    run(main())


def test_a_regular_file_is_no_pipe(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_read_pipe(Recorder, file)
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_write_pipe(Recorder, file)

    run(main())


def test_transports_of_pipes_are_asyncios(run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader, writer = await reading(out), await writing(into)
        assert isinstance(reader.transport, asyncio.ReadTransport)
        assert isinstance(writer.transport, asyncio.WriteTransport)
        assert reader.transport.get_extra_info("pipe") is out
        assert writer.transport.get_extra_info("pipe") is into
        assert reader.transport.get_protocol() is reader
        assert writer.transport.can_write_eof()
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("kind", ["connect_read_pipe", "connect_write_pipe"])
def test_connecting_a_pipe_may_be_cancelled_at_each_of_its_turns(
    loop: Loop, run: Run, turns: int, kind: str
) -> None:
    """A descriptor is closed once: by the transport, or by the file that the caller still has."""

    async def main() -> None:
        out, into = opened(os.pipe())
        end, other = (out, into) if kind == "connect_read_pipe" else (into, out)
        task = asyncio.ensure_future(getattr(loop, kind)(Recorder, end))
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
        for _ in range(3):
            await asyncio.sleep(0)
        end.close()
        other.close()

    run(main())


def test_a_stream_reader_reads_lines_from_a_pipe(loop: Loop, run: Run) -> None:
    async def main() -> None:
        out, into = opened(os.pipe())
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), out)
        into.write(b"one\ntwo\nrest")
        into.close()
        assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]
        transport.close()
        await asyncio.sleep(0)

    run(main())
