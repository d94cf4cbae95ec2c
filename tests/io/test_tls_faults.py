"""TLS and peers that send garbage, say nothing, take nothing or begin anew, and protocols that raise."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import socket_pair
from support.protocols import Echo, Recorder
from support.tls import PEM, TlsPeer, client_context, server_context
from support.transports import MEGABYTES

GARBAGE = {
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(1000),
    "much": b"\xa5" * 300_000,
    "no hello": b"\x16\x03\x01\x00\x05hello",
    "too long a record": b"\x16\x03\x01\xff\xff" + bytes(100),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing": b"",
}


class Connections:
    """Makes echoing protocols, and counts those that a connection was made of."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> Echo:
        counter = self

        class Counted(Echo):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                counter.made += 1

        return Counted()


@asynccontextmanager
async def served(
    loop: Loop, context: ssl.SSLContext, make: Any, **more: Any
) -> AsyncIterator[tuple[str, int]]:
    """The address of a server."""
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context, **more)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


async def left(loop: Loop, sock: socket.socket) -> None:
    """Returns when the server has closed the connection."""
    with suppress(ConnectionResetError):  # it had not read everything
        while await loop.sock_recv(sock, 2**16):
            pass


async def a_client(loop: Loop, address: tuple[str, int]) -> Any:
    return await loop.create_connection(Recorder, *address, ssl=client_context(), server_hostname="localhost")


def test_peers_that_send_garbage_are_left_and_harm_no_other(
    loop: Loop, run: Run, handled: list[dict[str, Any]]
) -> None:
    async def send(address: tuple[str, int], garbage: bytes) -> None:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, address)
            with suppress(ConnectionError):  # it has been left in the middle
                await loop.sock_sendall(peer, garbage)
                peer.shutdown(socket.SHUT_WR)
            await left(loop, peer)

    async def main() -> None:
        make = Connections()
        async with served(loop, server_context(), make) as address:
            transport, protocol = await a_client(loop, address)
            await asyncio.gather(*(send(address, garbage) for garbage in GARBAGE.values()))
            transport.write(b"still there")
            assert await protocol.received(11) == b"still there"
            assert make.made == 1
            transport.close()
            await protocol.lost

    run(main())
    # Servers say so in debug mode.
    assert {each["message"] for each in handled} <= {"Error on transport creation for incoming connection"}


def test_a_peer_that_stalls_in_the_handshake_is_left(
    loop: Loop, run: Run, handled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        make = Connections()
        async with served(loop, server_context(), make, ssl_handshake_timeout=0.02) as address:
            with socket_pair() as (ours, theirs):
                hello = TlsPeer(loop, ours, client_context())
                with pytest.raises(ssl.SSLWantReadError):
                    hello.tls.do_handshake()
                await hello.flush()
                begun = await loop.sock_recv(theirs, 2**16)
            with socket.socket() as silent, socket.socket() as stalls:
                for peer, said in ((silent, b""), (stalls, begun)):
                    peer.setblocking(False)
                    await loop.sock_connect(peer, address)
                    await loop.sock_sendall(peer, said)
                await asyncio.gather(left(loop, silent), left(loop, stalls))
            assert make.made == 0

    run(main())
    assert {each["message"] for each in handled} <= {"Error on transport creation for incoming connection"}


def test_a_peer_that_takes_nothing_is_left_after_the_close(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair() as (ours, theirs):
            peer = TlsPeer(loop, theirs, client_context())
            greeting = asyncio.ensure_future(peer.handshake())
            transport, protocol = await loop.connect_accepted_socket(
                Recorder, ours, ssl=server_context(), ssl_shutdown_timeout=0.01
            )
            await greeting
            transport.write(MEGABYTES)
            transport.close()
            await protocol.lost
            assert isinstance(protocol.error, TimeoutError)
            assert protocol.events[-1] == "lost"

    run(main())


def raising(name: str) -> type[Recorder]:
    """A protocol whose method of that name does what it is for, and raises."""
    usual = getattr(Recorder, name)

    def method(self: Recorder, *args: Any) -> None:
        usual(self, *args)
        raise ZeroDivisionError(name)

    return type("Raising", (Recorder,), {name: method})


# What the exception handler is told.
TOLD = {
    "eof_received": "Error calling eof_received()",
    "pause_writing": "protocol.pause_writing() failed",
    "resume_writing": "protocol.resume_writing() failed",
    "connection_lost": "Exception in callback ",
}


@pytest.mark.parametrize("name", TOLD)
def test_a_protocol_that_raises_is_reported_and_its_connection_goes_its_way(
    loop: Loop, run: Run, handled: list[dict[str, Any]], name: str
) -> None:
    async def main() -> None:
        with socket_pair() as (ours, theirs):
            peer = TlsPeer(loop, theirs, client_context())
            greeting = asyncio.ensure_future(peer.handshake())
            transport, protocol = await loop.connect_accepted_socket(
                raising(name), ours, ssl=server_context()
            )
            await greeting
            transport.set_write_buffer_limits(high=0)
            transport.write(bytes(300_000))
            assert await peer.receive(300_000) == bytes(300_000)
            await protocol.until(lambda: "resume" in protocol.events)
            peer.close_notify()
            await peer.flush()
            await protocol.lost
            assert protocol.events[-1] == "lost"
            failed = isinstance(protocol.error, ZeroDivisionError)
            assert failed == (name == "eof_received")
            await asyncio.sleep(0)

    run(main())
    assert handled and all(each["message"].startswith(TOLD[name]) for each in handled)
    assert {str(each["exception"]) for each in handled} == {name}


def test_what_connection_made_raises_is_who_connects_to_hear(
    loop: Loop, run: Run, handled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with served(loop, server_context(), Echo) as address:
            with pytest.raises(ZeroDivisionError, match="connection_made"):
                await loop.create_connection(
                    raising("connection_made"), *address, ssl=client_context(), server_hostname="localhost"
                )

    run(main())
    # In debug mode the server says what it thinks of it.
    assert sum(isinstance(each["exception"], ZeroDivisionError) for each in handled) == 1


async def openssl(*arguments: str) -> Process:
    """OpenSSL's own client or server, which renegotiates when it is told to; Python's `ssl` cannot."""
    return await asyncio.create_subprocess_exec(
        "openssl", *arguments, "-tls1_2", stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def said(process: Process, text: bytes) -> bytes:
    """The first line with that text."""
    assert process.stdout
    while line := await process.stdout.readline():
        if text in line:
            return line
    raise AssertionError(f"{text!r} was not said")


async def ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


@pytest.mark.skipif(not shutil.which("openssl"), reason="no command openssl")
def test_a_server_that_wants_to_renegotiate_is_refused_and_the_connection_goes_on(
    loop: Loop, run: Run
) -> None:
    async def main() -> None:
        server = await openssl("s_server", "-accept", "127.0.0.1:0", "-cert", str(PEM), "-key", str(PEM))
        assert server.stdin
        try:
            port = int((await said(server, b"ACCEPT")).rsplit(b":", 1)[1])
            transport, protocol = await a_client(loop, ("127.0.0.1", port))
            transport.write(b"before\n")
            await said(server, b"before")
            server.stdin.write(b"r\n")
            await said(server, b"SSL_do_handshake -> ")
            server.stdin.write(b"after\n")
            assert await protocol.received(6) == b"after\n"
            transport.write(b"and back\n")
            await said(server, b"and back")
            transport.abort()
            await protocol.lost
            assert protocol.events == ["made", "lost"] and protocol.error is None
        finally:
            await ended(server)

    run(main())


@pytest.mark.skipif(not shutil.which("openssl"), reason="no command openssl")
def test_a_client_that_renegotiates_is_refused(loop: Loop, run: Run) -> None:
    """It gives up itself."""
    made: list[Recorder] = []

    class Echoes(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)

    def make() -> Recorder:
        made.append(Echoes())
        return made[0]

    async def main() -> None:
        context = server_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with served(loop, context, make) as address:
            client = await openssl("s_client", "-connect", f"127.0.0.1:{address[1]}")
            assert client.stdin
            try:
                client.stdin.write(b"before\n")
                await said(client, b"before")
                client.stdin.write(b"R\n")
                await said(client, b"no renegotiation")
                await made[0].lost
            finally:
                await ended(client)
        assert isinstance(made[0].error, ssl.SSLError)
        assert made[0].data == b"before\n" and made[0].events == ["made", "lost"]

    run(main())
