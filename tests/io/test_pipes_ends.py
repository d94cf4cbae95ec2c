"""How transports of pipes read, and end: by asyncio's own rules, which are not those of sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import socket
import tty
from typing import Any

import pytest

from support.loops import Loop, Run, turn
from support.pipes import fill, pipe, reading, writing
from support.protocols import Recorder

Contexts = list[dict[str, Any]]

# The end of what is read.


def test_the_end_and_the_loss_come_in_the_turn_after_the_read(loop: Loop, run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        reader = await reading(out)
        into.write(b"last")
        into.close()
        await reader.until(lambda: reader.transport.is_closing())
        assert reader.data == b"last"
        assert not reader.transport.is_reading()
        await reader.lost
        assert reader.events == ["made", "eof", "lost"]
        assert reader.error is None
        assert out.closed
        assert reader.transport.get_protocol() is None

    run(main())


@pytest.mark.parametrize("answer", [True, False, None])
def test_eof_received_cannot_keep_a_pipe_open(run: Run, answer: Any) -> None:
    class Keeps(Recorder):
        def eof_received(self) -> Any:
            super().eof_received()
            return answer

    async def main() -> None:
        out, into = pipe()
        reader = await reading(out, Keeps)
        into.close()
        await reader.lost
        assert reader.events == ["made", "eof", "lost"]

    run(main())


def test_what_data_received_raises_does_not_close_a_pipe(run: Run, handled: Contexts) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    async def main() -> None:
        out, into = pipe()
        reader = await reading(out, Fails)
        into.write(b"bad")
        await reader.received(3)
        into.write(b"good")
        assert await reader.received(7) == b"badgood"
        into.close()
        await reader.lost
        assert reader.error is None

    run(main())
    assert [type(context["exception"]) for context in handled] == [ZeroDivisionError]
    assert handled[0]["message"].startswith("Exception in callback ")


def test_what_eof_received_raises_does_not_keep_connection_lost_back(run: Run, handled: Contexts) -> None:
    class Fails(Recorder):
        def eof_received(self) -> Any:
            super().eof_received()
            raise ZeroDivisionError

    async def main() -> None:
        out, into = pipe()
        reader = await reading(out, Fails)
        into.close()
        await reader.lost
        assert reader.events == ["made", "eof", "lost"]

    run(main())
    assert [type(context["exception"]) for context in handled] == [ZeroDivisionError]


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_what_the_other_methods_raise_is_reported(run: Run, handled: Contexts, method: str) -> None:
    class Fails(Recorder):
        pass

    def failing(self: Any, *args: Any) -> None:
        getattr(Recorder, method)(self, *args)
        raise ZeroDivisionError

    setattr(Fails, method, failing)

    async def main() -> None:
        out, into = pipe()
        reader, writer = await reading(out, Fails), await writing(into, Fails)
        writer.transport.write(b"x")
        await reader.received(1)
        writer.transport.close()
        await asyncio.wait([reader.lost, writer.lost])
        assert out.closed
        assert into.closed

    run(main())
    assert [type(context["exception"]) for context in handled] == [ZeroDivisionError] * 2


def test_keyboardinterrupt_in_eof_received_leaves_the_run_and_the_rest_for_the_next(
    loop: Loop, run: Run
) -> None:
    class Stops(Recorder):
        def eof_received(self) -> Any:
            super().eof_received()
            raise KeyboardInterrupt

    async def main() -> Any:
        out, into = pipe()
        return await reading(out, Stops), into

    reader, into = run(main())
    into.close()
    with pytest.raises(KeyboardInterrupt):
        turn(loop, 5)
    assert reader.events == ["made", "eof"]
    turn(loop, 2)
    assert reader.events == ["made", "eof", "lost"]


def test_a_terminal_that_hangs_up_is_no_error_of_the_program(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pty.openpty()
        reader = await reading(open(ours, "rb", 0))
        os.write(theirs, b"bye")
        os.close(theirs)
        await reader.lost
        assert reader.data == b"bye"
        assert reader.error.errno == errno.EIO
        assert reader.events == ["made", "lost"]

    run(main())


def test_other_errors_of_reading_are_reported(run: Run, handled: Contexts) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_connection(listener.getsockname()) as peer:
            accepted, _ = listener.accept()
            reader = await reading(accepted)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await reader.lost
        assert isinstance(reader.error, ConnectionResetError)
        for sock in (ours, theirs, listener):
            sock.close()

    run(main())
    (context,) = handled
    assert context["message"] == "Fatal read error on pipe transport"
    assert isinstance(context["exception"], ConnectionResetError)
    assert set(context) == {"message", "exception", "transport", "protocol"}


@pytest.mark.parametrize("connect", [reading, writing])
def test_a_descriptor_that_somebody_else_has_closed_is_reported(
    run: Run, handled: Contexts, unraisable: list[str], connect: Any
) -> None:
    async def main() -> None:
        out, into = pipe()
        end, other = (out, into) if connect is reading else (into, out)
        protocol = await connect(end)
        os.close(end.fileno())
        protocol.transport.close()
        await protocol.lost
        other.close()
        await asyncio.sleep(0)

    run(main())
    (context,) = handled
    assert context["exception"].errno == errno.EBADF


# Reading.


def test_a_terminal_gives_its_lines_and_goes_on(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pty.openpty()  # which gives one line a read, however much there is
        mode = tty.tcgetattr(theirs)  # type: ignore[attr-defined]
        mode[3] &= ~tty.ECHO  # type: ignore[attr-defined]
        tty.tcsetattr(theirs, tty.TCSANOW, mode)  # type: ignore[attr-defined]
        reader = await reading(open(theirs, "rb", 0))
        os.write(ours, b"one\ntwo\nthree\n")
        assert await reader.received(14) == b"one\ntwo\nthree\n"
        os.write(ours, b"four\n")
        assert await reader.received(19) == b"one\ntwo\nthree\nfour\n"
        os.close(ours)
        await reader.lost

    run(main())


def test_both_directions_of_one_terminal(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        file = open(ours, "r+b", 0)
        reader, writer = await reading(file), await writing(file)
        for count in range(1, 4):
            writer.transport.write(b"in")
            assert os.read(theirs, 100) == b"in"
            os.write(theirs, b"out")
            assert await reader.received(3 * count) == b"out" * count
        writer.transport.close()
        reader.transport.close()
        await asyncio.wait([reader.lost, writer.lost])
        os.close(theirs)

    run(main())


def test_packets_of_a_pipe_all_arrive(run: Run) -> None:
    if not hasattr(os, "O_DIRECT"):
        pytest.skip("only Linux has pipes of packets")

    async def main() -> None:
        out, into = os.pipe2(os.O_DIRECT)
        reader = await reading(open(out, "rb", 0))
        for count in range(5):
            os.write(into, b"%d" % count)
        assert await reader.received(5) == b"01234"
        os.close(into)
        await reader.lost

    run(main())


def test_datagrams_of_a_socket_all_arrive(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader = await reading(ours)
        for count in range(5):
            theirs.send(b"%d" % count)
        assert await reader.received(5) == b"01234"
        theirs.close()
        await reader.lost

    run(main())


def test_what_cannot_be_watched_is_reported_and_never_read(run: Run, handled: Contexts) -> None:
    async def main() -> None:
        reader = await reading(open("/dev/null", "rb", 0))
        for _ in range(3):
            await asyncio.sleep(0)
        assert reader.events == ["made"]
        reader.transport.close()
        await reader.lost

    run(main())
    assert [type(context["exception"]) for context in handled] == [PermissionError]


def test_a_protocol_with_buffers_is_asked_for_data_received_all_the_same(run: Run, handled: Contexts) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            raise AssertionError("pipes have no buffers")

    async def main() -> None:
        out, into = pipe()
        reader = await reading(out, Buffered)
        into.write(b"data")
        while not seen:
            await asyncio.sleep(0)
        reader.transport.close()
        into.close()
        await asyncio.sleep(0)

    seen = handled
    run(main())
    assert {type(context["exception"]) for context in handled} == {AttributeError}


def test_a_protocol_may_be_changed_and_reading_paused_in_the_middle(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        first, second = await reading(out), Recorder()
        transport = first.transport
        into.write(b"one")
        await first.received(3)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        into.write(b"two")
        into.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert second.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await second.lost
        assert second.data == b"two"
        assert second.events == ["eof", "lost"]
        assert first.events == ["made"]
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        assert not transport.is_reading()

    run(main())


def test_a_stream_reader_holds_a_pipe_back(run: Run) -> None:
    async def main() -> None:
        out, into = pipe()
        reader = asyncio.StreamReader(limit=1000)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), out
        )
        put = fill(into.fileno())
        while transport.is_reading():
            await asyncio.sleep(0)
        into.close()
        assert len(await reader.read()) == put
        await asyncio.sleep(0)

    run(main())
