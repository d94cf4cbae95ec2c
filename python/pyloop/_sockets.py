"""The `sock_*` methods: Rust futures, which inspect and asyncio take for coroutines."""

from __future__ import annotations

import socket
from inspect import markcoroutinefunction
from typing import TYPE_CHECKING

from pyloop import _compat

if TYPE_CHECKING:
    from socket import _Address, _RetAddress

    from _typeshed import ReadableBuffer, WriteableBuffer

    from pyloop._compat import LoopPart
    from pyloop._native import RustFuture
else:
    LoopPart = object


class SocketCalls(LoopPart):
    """The calls on non-blocking sockets of one loop.

    Each is tried at once when it is awaited, and again when the socket is ready; cancelled, it leaves the
    socket as it was. Each raises what the socket's method raises, TypeError for an `ssl.SSLSocket`,
    RuntimeError for a socket that a transport uses, and in debug mode ValueError for one that blocks.
    """

    @markcoroutinefunction
    def sock_recv(self, sock: socket.socket, n: int) -> RustFuture[bytes]:
        """Receive up to `n` bytes; empty at the end of the stream."""
        return self._sock_recv(sock, n)

    @markcoroutinefunction
    def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> RustFuture[int]:
        """Receive into a buffer; how many bytes."""
        return self._sock_recv_into(sock, buf)

    @markcoroutinefunction
    def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> RustFuture[tuple[bytes, _RetAddress]]:
        """Receive a datagram: `(data, address)`."""
        return self._sock_recvfrom(sock, bufsize)

    @markcoroutinefunction
    def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> RustFuture[tuple[int, _RetAddress]]:
        """Receive a datagram into a buffer: `(count, address)`."""
        return self._sock_recvfrom_into(sock, buf, nbytes)

    @markcoroutinefunction
    def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> RustFuture[None]:
        """Send all of a buffer, which must not be resized meanwhile."""
        return self._sock_sendall(sock, data)

    @markcoroutinefunction
    def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: _Address) -> RustFuture[int]:
        """Send a datagram; how many bytes."""
        return self._sock_sendto(sock, data, address)

    @markcoroutinefunction
    def sock_accept(self, sock: socket.socket) -> RustFuture[tuple[socket.socket, _RetAddress]]:
        """Accept a connection, which does not block: `(conn, address)`."""
        return self._sock_accept(sock)

    async def sock_connect(self, sock: socket.socket, address: _Address) -> None:
        """Connect to an address of the socket's family, resolved first if it is a name."""
        _compat.check_socket(sock, self._debug)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            *_, address = resolved[0]
        await self._sock_connect(sock, address)
