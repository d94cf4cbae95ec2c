"""Transports of datagrams: native, and of asyncio's classes."""

from __future__ import annotations

import asyncio
import collections
import socket
import types
import warnings
from asyncio.trsock import TransportSocket
from typing import TYPE_CHECKING, Any

from pyloop import _compat, _native

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
    from pyloop._loop import EventLoop
else:
    LoopPart = object


class DatagramTransport(_compat.FlowControl, asyncio.Transport, asyncio.DatagramTransport):
    """The transport of a UDP socket, or of a Unix socket of datagrams: `asyncio.DatagramTransport`, natively.

    As asyncio's own it can also be paused, and is an `asyncio.Transport` by its classes. Each method of the
    protocol is called in one copy of the context that the endpoint was made in.
    """

    __slots__ = ("__dict__", "__weakref__", "_datagrams")
    max_size = 256 * 1024
    _datagrams: _native._Datagrams
    _high_water: float = 64 * 1024
    _low_water: float = 16 * 1024
    _server = None
    if TYPE_CHECKING:
        _extra: dict[str, Any]

        @property
        def _loop(self) -> EventLoop | None: ...

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        known = self._extra = {} if extra is None else extra
        known["socket"] = TransportSocket(sock)
        try:
            known["sockname"] = sock.getsockname()
        except OSError:
            known["sockname"] = None
        if "peername" not in known:
            try:
                known["peername"] = sock.getpeername()
            except OSError:
                known["peername"] = None
        self._address = address
        self._datagrams = _native.new_datagrams(
            loop,
            (sock, _native_family(sock)),
            protocol,
            (address or None, bool(known["peername"])),
            waiter,
            _RULES,
        )
        self._datagrams.begin(self)

    def __repr__(self) -> str:
        datagrams = self._datagrams
        info = [type(self).__name__]
        if not datagrams.open:
            info.append("closed")
        elif datagrams.closing:
            info.append("closing")
        info.append(f"fd={datagrams.fd}")
        loop = self._loop
        if loop is not None and not loop.is_closed():
            reads, writes = ("polling" if polls else "idle" for polls in datagrams.polls)
            info.append(f"read={reads}")
            info.append(f"write=<{writes}, bufsize={datagrams.size}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        datagrams = getattr(self, "_datagrams", None)
        if datagrams is not None and datagrams.open:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            datagrams.release(self)

    # What is sent.

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram, or keep it until it can be sent; a mutable buffer is copied then.

        Raises TypeError for what is no bytes, ValueError for another address than the endpoint's own.
        """
        self._datagrams.send_to(self, data, addr)

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent, headers included."""
        return self._datagrams.size

    def _maybe_pause_protocol(self) -> None:
        # Of the class above: `set_write_buffer_limits` calls it.
        self._datagrams.set_limits(self, *_compat.limits_of(self))

    # What arrives.

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""
        if self._datagrams.pause(self):
            _compat.log_debug_of(self._loop, "%r pauses reading", self)

    def resume_reading(self) -> None:
        """Receive again."""
        if self._datagrams.resume(self):
            _compat.log_debug_of(self._loop, "%r resumes reading", self)

    def is_reading(self) -> bool:
        """Whether what arrives is received."""
        return not self._datagrams.closing and not self._datagrams.paused

    # The endpoint.

    def close(self) -> None:
        """Close the endpoint when what waits has been sent."""
        self._datagrams.close(self)

    def abort(self) -> None:
        """Close the endpoint now: what waits is lost."""
        self._datagrams.force_close(self, None)

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._datagrams.closing

    def get_protocol(self) -> asyncio.BaseProtocol | None:  # type: ignore[override]
        """The protocol; None when the endpoint is over."""
        return self._datagrams.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what arrives from now on to another protocol."""
        self._datagrams.set_protocol(protocol)

    # What asyncio's own code, and libraries, find in its transports under private names.

    def _receive_from(self, sock: socket.socket) -> tuple[bytes, Any]:
        """By the socket's own method, which may be anybody's."""
        data, addr = sock.recvfrom(self.max_size)
        return data, addr

    def _read_ready(self) -> None:
        self._datagrams.read(self)

    def _sendto_ready(self) -> None:
        self._datagrams.flush(self)

    def _force_close(self, exc: BaseException | None) -> None:
        self._datagrams.force_close(self, exc)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        self._datagrams.fail(self, exc, message)

    if not TYPE_CHECKING:
        _loop = property(lambda self: self._datagrams.event_loop)
        _sock = property(lambda self: self._datagrams.sock)
        _sock_fd = property(lambda self: self._datagrams.fd)
        _protocol = property(lambda self: self._datagrams.protocol)
        _closing = property(lambda self: self._datagrams.closing)
        _conn_lost = property(lambda self: self._datagrams.lost)
        _paused = property(lambda self: self._datagrams.paused)
        _buffer = property(lambda self: collections.deque(self._datagrams.waiting()))
        _buffer_size = property(lambda self: self._datagrams.size)
        _protocol_paused = property(lambda self: self._datagrams.writing_paused)


_native.install_datagram_methods(DatagramTransport)


def _native_family(sock: Any) -> int | None:
    """The family of a socket whose datagrams the kernel is asked for; None for one with its own methods."""
    if type(sock) is not socket.socket:
        return None
    family, kind, _ = _compat.kind_of_socket(sock)
    known = kind == socket.SOCK_DGRAM and family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    return family if known else None


def _rules() -> tuple[int, bool]:
    """What a datagram that waits counts for beside its bytes, and whether empty ones are sent.

    It differs between releases of the same version, so asyncio's own transport is tried.
    """
    waiting: list[Any] = [None]
    theirs = types.SimpleNamespace(
        _address=None,
        _conn_lost=0,
        _buffer=waiting,
        _buffer_size=0,
        _header_size=8,
        _maybe_pause_protocol=_compat.do_nothing,
    )
    send = _compat.SelectorDatagramTransport.sendto
    try:
        send(theirs, b"x")
        header: int = theirs._buffer_size - 1
        send(theirs, b"")
    except AttributeError:  # a later CPython, which looks for more
        return 8, True
    return header, len(waiting) == 3


_RULES = _rules()


class Datagrams(LoopPart):
    """The transports of datagrams, for asyncio's own code that makes endpoints."""

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)  # type: ignore[arg-type]
