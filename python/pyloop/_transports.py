"""Transports of sockets: native, and of asyncio's classes."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import warnings
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from pyloop import _accel, _compat, _native
from pyloop._datagrams import DatagramTransport

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
    from pyloop._loop import EventLoop
else:
    LoopPart = object


#: Where `asyncio.BaseTransport` has it.
_extra: Any = vars(asyncio.BaseTransport)["_extra"]
#: What it has of an accepted connection.
_OF_ACCEPTED = frozenset(("peername", "socket", "sockname"))


class StreamTransport(_compat.FlowControl, asyncio.Transport):
    """The transport of a TCP or Unix connection: `asyncio.Transport`, natively.

    What arrives is received and given to the protocol by the loop itself, and what is written is sent at
    once, as far as the kernel takes it. Each method of the protocol is called in one context: the one that
    is given, as by CPython 3.15, or a copy of the one that the connection was made in.
    """

    __slots__ = ("__dict__", "__weakref__", "_stream")
    _start_tls_compatible = True
    _sendfile_compatible = _compat.SENDFILE_TRY_NATIVE
    max_size = 256 * 1024
    _stream: _native._Stream
    _high_water: float = 64 * 1024
    _low_water: float = 16 * 1024
    if TYPE_CHECKING:
        _extra: dict[str, Any]

        @property
        def _loop(self) -> EventLoop | None: ...

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.Server | None = None,
        context: contextvars.Context | None = None,
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
        self._stream = _native.new_stream(loop, sock, protocol, waiter, server, context)
        if server is not None:
            _compat.attach_to_server(server, self)
        self._stream.begin(self, isinstance(protocol, asyncio.BufferedProtocol))

    def __repr__(self) -> str:
        stream = self._stream
        info = [type(self).__name__]
        if not stream.open:
            info.append("closed")
        elif stream.closing:
            info.append("closing")
        info.append(f"fd={stream.fd}")
        loop = self._loop
        if loop is not None and not loop.is_closed():
            info.append(f"read={'polling' if stream.polls_read else 'idle'}")
            info.append(f"write=<{'polling' if stream.size else 'idle'}, bufsize={stream.size}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and stream.open:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            stream.release(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection under this name: "socket", "sockname", "peername"; or `default`."""
        try:
            known = _extra.__get__(self)
        except AttributeError:
            if name not in _OF_ACCEPTED:
                return default
            known = self._extra
        return known.get(name, default)

    # What is written.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or keep them until they can be sent; those of a mutable buffer are copied.

        Raises TypeError for what is no bytes, RuntimeError after `write_eof` and while a file is sent.
        """
        self._stream.write(self, data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces, in one system call where the kernel takes them."""
        self._stream.writelines(self, list_of_data)

    def write_eof(self) -> None:
        """Send the end of the stream when everything else has been sent; reading goes on."""
        self._stream.write_eof(self)

    def can_write_eof(self) -> bool:
        """True."""
        return True

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        stream = self._stream
        stream.uncork(self)
        return stream.size

    def _maybe_pause_protocol(self) -> None:
        # Of the class above: `set_write_buffer_limits` calls it.
        self._stream.set_limits(self, *_compat.limits_of(self))

    # What arrives.

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""
        if self._stream.pause(self):
            _compat.log_debug_of(self._loop, "%r pauses reading", self)

    def resume_reading(self) -> None:
        """Receive again."""
        if self._stream.resume(self):
            _compat.log_debug_of(self._loop, "%r resumes reading", self)

    def is_reading(self) -> bool:
        """Whether what arrives is received."""
        return not self._stream.closing and not self._stream.paused

    # The connection.

    def close(self) -> None:
        """Close the connection when what waits has been sent."""
        self._stream.close(self)

    def abort(self) -> None:
        """Close the connection now: what waits is lost."""
        self._stream.force_close(self, None)

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._stream.closing

    def get_protocol(self) -> asyncio.BaseProtocol | None:  # type: ignore[override]
        """The protocol; None when the connection is over."""
        return self._stream.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what arrives from now on to another protocol."""
        self._stream.set_protocol(protocol, isinstance(protocol, asyncio.BufferedProtocol))

    # What asyncio's own code, and libraries, find in its transports under private names.

    def _force_close(self, exc: BaseException | None) -> None:
        self._stream.force_close(self, exc)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        self._stream.fail(self, exc, message)

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        loop = self._stream.event_loop
        if loop is None:
            raise ConnectionError("Connection is closed by peer")
        waiter: asyncio.Future[None] = loop.create_future()
        if self._stream.set_empty_waiter(self, waiter):
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self) -> None:
        self._stream.set_empty_waiter(self, None)

    if not TYPE_CHECKING:

        @property
        def _extra(self) -> dict[str, Any]:
            """What `get_extra_info` knows: of an accepted connection made when somebody asks."""
            try:
                return _extra.__get__(self)
            except AttributeError:
                known = self._stream.known()
            sock, kind, sockname, peername = known
            sock = _compat.closed_socket(kind) if sock is None else sock
            extra = {"peername": peername, "socket": TransportSocket(sock), "sockname": sockname}
            _extra.__set__(self, extra)
            return extra

        @_extra.setter
        def _extra(self, extra: dict[str, Any]) -> None:
            _extra.__set__(self, extra)

        _loop = property(lambda self: self._stream.event_loop)
        _sock = property(lambda self: self._stream.sock)
        _sock_fd = property(lambda self: self._stream.fd)
        _protocol = property(lambda self: self._stream.protocol)
        _server = property(lambda self: self._stream.server)
        _closing = property(lambda self: self._stream.closing)
        _conn_lost = property(lambda self: self._stream.lost)
        _paused = property(lambda self: self._stream.paused)
        _eof = property(lambda self: self._stream.eof_written)
        _empty_waiter = property(lambda self: self._stream.empty_waiter)
        _protocol_paused = property(lambda self: self._stream.writing_paused)


_native.install_transport_methods(StreamTransport)


class _AcceptConnection:
    """`loop._accept_connection`: native, with a state of its own for each listening socket."""

    def __get__(self, loop: EventLoop | None, owner: type | None = None) -> Any:
        accept: Any = _compat.AsyncioTransports._accept_connection
        if loop is None:
            return accept
        return _native.new_listener(loop, StreamTransport, accept.__get__(loop))


class _ByDescriptor(MutableMapping[int, Any]):
    """`loop._transports`: the transports of sockets, by their descriptors."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._others = loop._other_transports

    def __getitem__(self, fd: int) -> Any:
        transport = self._loop._transport_of(fd)
        return transport if _is_of_socket(transport) else self._others[fd]

    def __setitem__(self, fd: int, transport: Any) -> None:
        self._others[fd] = transport

    def __delitem__(self, fd: int) -> None:
        del self._others[fd]

    def __iter__(self) -> Iterator[int]:
        native = {fd for fd, transport in self._loop._transports_by_descriptor() if _is_of_socket(transport)}
        return iter(native.union(self._others))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_of_socket(transport: object) -> bool:
    # asyncio's has none of pipes.
    return isinstance(transport, (StreamTransport, DatagramTransport))


def _native_parts() -> None:
    """Find out where the transports have their native parts."""
    new = object.__new__
    _native._know_native_parts(new(StreamTransport), new(DatagramTransport))


_accel._settle("native_parts", _native_parts)


class Transports(LoopPart):
    """The transports of sockets, for asyncio's own code that makes connections and servers."""

    _accept_connection: Any = _AcceptConnection()
    #: Those of asyncio's classes, which add themselves to `_transports`.
    _other_transports: weakref.WeakValueDictionary[int, Any]

    @property
    def _transports(self) -> _ByDescriptor:
        return _ByDescriptor(self)  # type: ignore[arg-type]

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.Server | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        return StreamTransport(self, sock, protocol, waiter, extra, server, context)  # type: ignore[arg-type]

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, StreamTransport):
            sent: int = await _compat.AsyncioTransports._sendfile_native(self, transp, file, offset, count)
            return sent
        was_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        stream, sock = transp._stream, transp._stream.sock
        if sock is None:
            raise ConnectionError("Connection is closed by peer")
        stream.lend(transp)
        transp._reset_empty_waiter()
        ended: asyncio.Future[None] = self.create_future()
        stream.set_empty_waiter(transp, ended)
        sending = self.create_task(self.sock_sendfile(sock, file, offset, count, fallback=False))
        try:
            await asyncio.wait((sending, ended), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                ended.result()
            return sending.result()
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait((sending,))
            if not ended.cancel() and not ended.cancelled():
                ended.exception()  # it is told by the sending, too
            stream.take_back(transp)
            transp._reset_empty_waiter()
            if was_reading:
                transp.resume_reading()
