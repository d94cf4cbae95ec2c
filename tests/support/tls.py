"""TLS contexts for a server at localhost and for clients that trust it.

`localhost.pem` is a key and a certificate made for these tests alone: self-signed, for localhost and
127.0.0.1, good from 2020 to 2120 (`openssl req -new`, then `openssl ca -selfsign` with these dates).
`localhost_encrypted.pem` has the same, the key encrypted (`openssl pkey -aes256`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

PEM = Path(__file__).with_name("localhost.pem")
ENCRYPTED_PEM = PEM.with_name("localhost_encrypted.pem")
PASSWORD = "open sesame"


def server_context() -> ssl.SSLContext:
    """For the server named localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def client_context() -> ssl.SSLContext:
    """For a client that trusts that server alone."""
    return ssl.create_default_context(cafile=PEM)


def distrustful_context() -> ssl.SSLContext:
    """For a client that trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class TlsPeer:
    """A client over a plain socket whose records are made and sent by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.loop, self.sock = loop, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def flush(self) -> None:
        """Send the records that there are."""
        await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def _more(self) -> None:
        await self.flush()
        self.incoming.write(await self.loop.sock_recv(self.sock, 2**18))

    async def handshake(self) -> None:
        """Shake hands; what the server sends after it is left."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._more()
            else:
                return await self.flush()

    def write_all(self, data: bytes) -> None:
        """Make records of it, without sending them."""
        while data:
            data = data[self.tls.write(data) :]

    async def send(self, data: bytes) -> None:
        """Make records of it and send them."""
        self.write_all(data)
        await self.flush()

    async def receive(self, length: int) -> bytes:
        """So many bytes."""
        got = bytearray()
        while len(got) < length:
            try:
                got += self.tls.read(length - len(got))
            except ssl.SSLWantReadError:
                await self._more()
        return bytes(got)

    def close_notify(self) -> None:
        """Make the record that says that no more will come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
