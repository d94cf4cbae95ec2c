"""What programs and libraries see of transports of pipes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import warnings
from typing import Any

import pytest

from support.loops import Loop, Run
from support.pipes import MUCH, pipe, reading, writing
from support.protocols import Recorder


def test_what_libraries_look_at(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        reader, writer = await reading(out), await writing(into)
        seen: tuple[Any, Any] = reader.transport, writer.transport
        transport: Any
        for transport, protocol, end in zip(seen, (reader, writer), (out, into), strict=True):
            assert transport._pipe is end
            assert transport._fileno == end.fileno()
            assert transport._protocol is protocol
            assert transport._loop is protocol.loop
            assert transport._closing is False
            assert transport.get_extra_info("pipe") is end
            assert transport.get_extra_info("nothing", 7) == 7
            transport.note = "attributes may be set"
            assert isinstance(transport, asyncio.BaseTransport)
        assert isinstance(reader.transport, asyncio.ReadTransport)
        assert not isinstance(reader.transport, asyncio.WriteTransport)
        assert isinstance(writer.transport, asyncio.WriteTransport)
        assert not hasattr(reader.transport, "write")
        assert seen[0]._paused is False
        assert seen[1]._conn_lost == 0
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])
        for transport in seen:
            assert transport._pipe is transport._protocol is transport._loop is None
            assert transport.get_extra_info("pipe").closed

    run(main())


def test_how_they_are_printed(loop: Loop, run: Run) -> None:
    def said(transport: Any) -> str:
        return repr(transport).partition(" ")[2]

    async def main() -> None:
        out, into = pipe()
        reader, writer = await reading(out), await writing(into)
        here, there = f"fd={out.fileno()}", f"fd={into.fileno()}"
        assert said(reader.transport) == f"{here} polling>"
        assert said(writer.transport) == f"{there} idle bufsize=0>"
        reader.transport.pause_reading()
        assert said(reader.transport) == f"{here} idle>"
        writer.transport.write(MUCH)
        size = writer.transport.get_write_buffer_size()
        assert said(writer.transport) == f"{there} polling bufsize={size}>"
        reader.transport.resume_reading()
        writer.transport.close()
        assert said(writer.transport) == f"closing {there} polling bufsize={size}>"
        await asyncio.wait([reader.lost, writer.lost])
        assert said(reader.transport) == f"closed {here} closed>"
        assert said(writer.transport) == f"closed {there} closed>"

    run(main())


def test_one_that_is_forgotten_is_warned_of_and_closed(loop: Loop, run: Run) -> None:
    async def main() -> tuple[Any, Any]:
        out, into = pipe()
        reader, writer = await reading(out), await writing(into)
        reader.transport.pause_reading()
        return reader, writer

    reader, writer = run(main())
    loop.close()
    ends = [reader.transport.get_extra_info("pipe"), writer.transport.get_extra_info("pipe")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del reader, writer
        gc.collect()
    said = sorted(str(warning.message) for warning in caught if warning.category is ResourceWarning)
    assert [text.partition("<")[0] for text in said] == ["unclosed transport "] * 2
    assert all(" open>" in text for text in said)
    assert all(end.closed for end in ends)


def test_the_debug_mode_says_what_happens(loop: Loop, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        out, into = pipe()
        reader = await reading(out)
        reader.transport.pause_reading()
        reader.transport.resume_reading()
        into.close()
        await reader.lost
        out, into = pipe()
        writer = await writing(into)
        out.close()
        writer.transport.write(b"x")
        await writer.lost

    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    run(main())
    said = [record.getMessage() for record in caplog.records if "ipeTransport" in record.getMessage()]
    texts = "pauses reading", "resumes reading", "was closed by peer", "Fatal write error on pipe transport"
    assert [sum(text in line for line in said) for text in texts] == [1, 1, 1, 1]


def test_a_file_is_refused_and_stays_the_callers(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with open(__file__, "rb") as file:
            with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
                await loop.connect_read_pipe(Recorder, file)
            words = r"^Pipe transport is only for pipes, sockets and character devices$"
            with pytest.raises(ValueError, match=words):
                await loop.connect_write_pipe(Recorder, file)
            gc.collect()
            assert not file.closed
            assert os.get_blocking(file.fileno())

    run(main())


def test_a_pipe_that_is_connected_does_not_block(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        reader, writer = await reading(out), await writing(into)
        assert not os.get_blocking(out.fileno())
        assert not os.get_blocking(into.fileno())
        reader.transport.close()
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])

    run(main())


def test_a_callback_for_the_descriptor_of_a_pipe_is_not_refused(loop: Loop, run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        writer = await writing(into)
        called = asyncio.Event()
        loop.add_writer(into, called.set)
        await called.wait()
        loop.remove_writer(into)
        writer.transport.close()
        await writer.lost
        out.close()

    run(main())
