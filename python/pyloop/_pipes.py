"""Transports of pipes: native, and of asyncio's classes."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import warnings
from typing import TYPE_CHECKING, Any

from pyloop import _compat, _native

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
    from pyloop._loop import EventLoop
else:
    LoopPart = object


class _PipeTransport:
    """What both directions have in common."""

    _stream: _native._Stream
    _fileno: int
    _extra: dict[str, Any]

    def __repr__(self) -> str:
        stream, loop = self._stream, self._stream.event_loop
        info = [type(self).__name__]
        if not stream.open:
            info.append("closed")
        elif stream.closing:
            info.append("closing")
        info.append(f"fd={self._fileno}")
        if not stream.open:
            info.append("closed")
        elif loop is None or loop.is_closed():
            info.append("open")
        else:
            info += self._about()
        return f"<{' '.join(info)}>"

    def _about(self) -> list[str]:
        """What the loop knows of an open pipe, in words."""
        return ["polling" if self._stream.polls_read else "idle"]

    def __del__(self, _warn: Any = warnings.warn) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and stream.open:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            stream.release(self)

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """The protocol; None when the pipe is closed."""
        return self._stream.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what happens from now on to another protocol."""
        self._stream.set_protocol(protocol, False)

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._stream.closing

    def close(self) -> None:
        """Close the pipe when what waits has been written."""
        self._stream.close(self)

    # What asyncio's own code, and libraries, find in its transports under private names.

    def _close(self, exc: BaseException | None = None) -> None:
        self._stream.force_close(self, exc)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on pipe transport") -> None:
        self._stream.fail(self, exc, message)

    if not TYPE_CHECKING:
        _loop = property(lambda self: self._stream.event_loop)
        _protocol = property(lambda self: self._stream.protocol)
        _closing = property(lambda self: self._stream.closing)

        @property
        def _pipe(self) -> Any:
            return self._stream.sock

        @_pipe.setter
        def _pipe(self, pipe: None) -> None:
            # None: whoever has the pipe closes it. CPython's own tests do that.
            if pipe is not None:
                raise AttributeError("a transport keeps its pipe")
            self._stream.disown(self)


class ReadPipeTransport(_PipeTransport, asyncio.ReadTransport):  # type: ignore[misc]
    """The transport of a pipe, a terminal or a socket that is read: `asyncio.ReadTransport`, natively."""

    max_size = 256 * 1024

    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        asyncio.ReadTransport.__init__(self, extra)
        self._extra["pipe"] = pipe
        fd = self._fileno = pipe.fileno()
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError("Pipe transport is for pipes/sockets only.")
        os.set_blocking(fd, False)
        self._stream = _native.new_pipe(loop, pipe, fd, protocol, waiter, True, True)
        self._stream.begin(self, False)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""
        if self._stream.pause(self):
            _compat.log_debug_of(self._stream.event_loop, "%r pauses reading", self)

    def resume_reading(self) -> None:
        """Receive again."""
        if self._stream.resume(self):
            _compat.log_debug_of(self._stream.event_loop, "%r resumes reading", self)

    def is_reading(self) -> bool:
        """Whether what arrives is received."""
        return not self._stream.closing and not self._stream.paused

    if not TYPE_CHECKING:
        _paused = property(lambda self: self._stream.paused)


class WritePipeTransport(_PipeTransport, _compat.FlowControl, asyncio.WriteTransport):  # type: ignore[misc]
    """The transport of a pipe, a terminal or a socket that is written: `asyncio.WriteTransport`, natively."""

    _high_water: float = 64 * 1024
    _low_water: float = 16 * 1024

    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        asyncio.WriteTransport.__init__(self, extra)
        self._extra["pipe"] = pipe
        fd = self._fileno = pipe.fileno()
        known = os.fstat(fd)
        is_fifo, is_socket = stat.S_ISFIFO(known.st_mode), stat.S_ISSOCK(known.st_mode)
        if not (is_fifo or is_socket or stat.S_ISCHR(known.st_mode)):
            raise ValueError("Pipe transport is only for pipes, sockets and character devices")
        os.set_blocking(fd, False)
        watches = is_socket or (is_fifo and _tells_of_its_reader(known))
        self._stream = _native.new_pipe(loop, pipe, fd, protocol, waiter, False, watches)
        self._stream.begin(self, False)

    def _about(self) -> list[str]:
        size = self._stream.size
        return ["polling" if size else "idle", f"bufsize={size}"]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, or keep them until they can be written; those of a mutable buffer are copied.

        Raises AssertionError for what is no bytes.
        """
        self._stream.write_to_pipe(self, data)

    def write_eof(self) -> None:
        """Close the pipe when what waits has been written: its reader comes to the end."""
        self._stream.close(self)

    def can_write_eof(self) -> bool:
        """True."""
        return True

    def abort(self) -> None:
        """Close the pipe now: what waits is lost."""
        self._stream.force_close(self, None)

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be written."""
        return self._stream.size

    def _maybe_pause_protocol(self) -> None:
        # Of the class above: `set_write_buffer_limits` calls it.
        self._stream.set_limits(self, *_compat.limits_of(self))

    if not TYPE_CHECKING:
        _conn_lost = property(lambda self: self._stream.refused)
        _protocol_paused = property(lambda self: self._stream.writing_paused)


def _tells_of_its_reader(known: os.stat_result) -> bool:
    """Whether the end of a FIFO that is written tells when the other one is closed.

    A FIFO with a name says on macOS that it can be read whenever something is in it (gh-145030).
    """
    is_named = sys.platform == "darwin" and known.st_nlink > 0
    return not sys.platform.startswith("aix") and not is_named


_native.install_pipe_methods(WritePipeTransport)


class Pipes(LoopPart):
    """The transports of pipes, for asyncio's own code that connects them."""

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.ReadTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)  # type: ignore[arg-type]

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.WriteTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)  # type: ignore[arg-type]
