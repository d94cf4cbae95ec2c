"""TLS over the native transports: asyncio's own classes, of which what runs for each packet is native."""

from __future__ import annotations

import _ssl
import asyncio
import contextvars
import socket
import ssl
import types
from asyncio import base_events
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyloop import _accel, _compat, _native
from pyloop._transports import StreamTransport

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
else:
    LoopPart = object


class _InOneContext(_compat.SSLProtocol):  # type: ignore[misc]
    """asyncio's `SSLProtocol`, which calls the protocol in one context whoever resumes reading."""

    _context: contextvars.Context

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        self._context = contextvars.copy_context()
        super()._on_handshake_complete(handshake_exc)

    def _resume_reading(self) -> None:
        # asyncio has a callback read what is there already, in the context of who calls this.
        self._context.run(super()._resume_reading)


class SSLProtocol(_InOneContext):
    """asyncio's `SSLProtocol`. What the native half asks for each packet is in slots.

    Once the handshake is done, records are read and written natively; everything else, from the handshake to
    the last alert, is CPython's code.
    """

    __slots__ = _native._TLS_SLOTS

    if TYPE_CHECKING:
        _app_transport: Any
        _app_transport_created: bool

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is None and _is_plain(self._sslobj):
            self._session = _native._tls_session(self._sslobj)
        super()._on_handshake_complete(handshake_exc)

    def _get_app_transport(self) -> Any:
        if self._app_transport is None and not self._app_transport_created:
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return super()._get_app_transport()


class SSLTransport(_compat.SSLProtocolTransport):  # type: ignore[misc]
    """asyncio's transport of an encrypted connection, whose writes are native."""

    __slots__ = ("_ssl_protocol",)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt bytes and send them, or keep them until they can be sent.

        Raises TypeError for what is no bytes.
        """
        super().write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt several pieces and send them together."""
        super().writelines(list_of_data)


_read: Any = ssl.SSLObject.read
_write: Any = ssl.SSLObject.write


def _is_plain(ssl_object: Any) -> bool:
    """Whether its `read` and `write` are CPython's, and nobody is told of what goes through them."""
    cls = type(ssl_object)
    has_own = getattr(cls, "read", None) is not _read or getattr(cls, "write", None) is not _write
    return not has_own and ssl_object.context._msg_callback is None


def _tls() -> str | None:
    """Find out where the connections and the slots are; why it cannot be relied on."""
    others = _native._accelerations()
    if others["direct_calls"] != "on" or others["methods"] != "on":
        return "it needs methods and direct_calls"
    if not _compat.tls_is_asyncios():
        return "asyncio's SSLProtocol is somebody else's"
    path = getattr(_ssl, "__file__", None)
    if path is None:
        return "the ssl module is not loaded from a file"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a name would need the codec `idna`: one more import
    client = context.wrap_bio(incoming, outgoing)
    _native._probe_tls(path, client, incoming, outgoing)
    protocol, transport = SSLProtocol.__new__(SSLProtocol), SSLTransport.__new__(SSLTransport)
    transport._closed = True
    wrapped = _compat.SSLProtocolState.WRAPPED
    _native._know_tls(protocol, transport, StreamTransport, wrapped, _compat.tls_is_asyncios)
    _native.install_tls_methods(SSLTransport)
    return None


#: Whether records are read and written natively. None: nobody has asked.
_on: bool | None = None


def is_native() -> bool:
    """Whether records are read and written natively, which is tried at the first call.

    OpenSSL takes 3 ms for the first context of a process, and few programs have encrypted connections.
    """
    global _on
    if _on is None:
        # Another thread that asks meanwhile takes the plain path for its connection: nobody waits for a lock.
        _on = False
        _on = _accel._settle("tls", _tls)
    return _on


def _start_tls() -> Any:
    """`BaseEventLoop.start_tls`, with the protocol that our loop makes."""
    theirs: Any = base_events.BaseEventLoop.start_tls

    def make(loop: Any, *args: Any, **kwargs: Any) -> Any:
        return loop._make_tls_protocol(*args, **kwargs)

    names = {**vars(base_events), "sslproto": types.SimpleNamespace(SSLProtocol=make)}
    ours = types.FunctionType(theirs.__code__, names, theirs.__name__)
    ours.__defaults__, ours.__kwdefaults__ = theirs.__defaults__, theirs.__kwdefaults__
    ours.__doc__ = theirs.__doc__
    return ours


class TlsConnections(LoopPart):
    """Encrypted connections, for asyncio's own code that makes them."""

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.Server | None = None,
        ssl_handshake_timeout: float | None = _compat.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = _compat.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = self._make_tls_protocol(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        StreamTransport(self, rawsock, ssl_protocol, None, extra, server, context)  # type: ignore[arg-type]
        transport: asyncio.Transport = ssl_protocol._app_transport
        return transport

    def _make_tls_protocol(self, *args: Any, **kwargs: Any) -> Any:
        """asyncio's `SSLProtocol` between a transport and a protocol, or what stands in its place."""
        current = _compat.current_ssl_protocol()
        ours = SSLProtocol if is_native() else _InOneContext
        cls = ours if current is _compat.SSLProtocol else current
        return cls(self, *args, **kwargs)

    if not TYPE_CHECKING:
        start_tls = _start_tls()
