"""TLS through the loop: both ends, upgrades, errors and closing."""

from __future__ import annotations

import asyncio
import os
import ssl
from asyncio import trsock
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.loops import Loop, Run
from support.protocols import Recorder
from support.tls import client_context, distrustful_context, server_context

MEGABYTE = os.urandom(2**20)


@asynccontextmanager
async def tls_server(**more: Any) -> AsyncIterator[int]:
    """The port of a server that echoes over TLS. In the end its clients must be gone."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context(), **more)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def test_data_goes_both_ways_encrypted(run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context())
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_megabytes_go_both_ways_encrypted(run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context())
            writer.write(MEGABYTE * 2)
            assert await reader.readexactly(2**21) == MEGABYTE * 2
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    run(main())


def test_many_encrypted_connections_at_once(run: Run) -> None:
    async def client(port: int, context: ssl.SSLContext, i: int) -> None:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"%d\n" % i)
        assert await reader.readline() == b"%d\n" % i
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with tls_server() as port:
            context = client_context()
            await asyncio.gather(*(client(port, context, i) for i in range(20)))

    run(main())


def test_a_transport_tells_about_its_encryption(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            context = client_context()
            transport, protocol = await loop.create_connection(Recorder, "localhost", port, ssl=context)
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_extra_info("sslcontext") is context
            assert transport.get_extra_info("cipher")[0]
            certificate = transport.get_extra_info("peercert")
            assert ("DNS", "localhost") in certificate["subjectAltName"]
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
            assert transport.get_extra_info("socket").fileno() >= 0
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            assert not transport.can_write_eof()
            transport.close()
            await protocol.lost

    run(main())


def test_a_certificate_that_nobody_vouches_for_is_refused(
    loop: Loop, run: Run, handled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with tls_server() as port:
            with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
                await loop.create_connection(Recorder, "localhost", port, ssl=distrustful_context())

    run(main())


def test_a_certificate_of_another_name_is_refused(
    loop: Loop, run: Run, handled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with tls_server() as port:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await loop.create_connection(
                    Recorder, "127.0.0.1", port, ssl=client_context(), server_hostname="elsewhere"
                )

    run(main())


def test_a_context_that_checks_nothing_is_obeyed(loop: Loop, run: Run) -> None:
    async def main() -> None:
        context = distrustful_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        async with tls_server() as port:
            transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port, ssl=context)
            transport.write(b"x")
            assert await protocol.received(1) == b"x"
            transport.close()
            await protocol.lost

    run(main())


def test_a_handshake_with_a_server_that_does_not_answer_times_out(loop: Loop, run: Run) -> None:
    async def main() -> None:
        silent = await loop.create_server(Recorder, "127.0.0.1", 0)
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
            await loop.create_connection(
                Recorder,
                *silent.sockets[0].getsockname(),
                ssl=client_context(),
                server_hostname="localhost",
                ssl_handshake_timeout=0.01,
            )
        silent.close()
        await silent.wait_closed()

    run(main())


def test_a_handshake_with_a_server_that_speaks_no_tls_fails(loop: Loop, run: Run) -> None:
    class Plain(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"220 welcome\r\n" * 10)

    async def main() -> None:
        plain = await loop.create_server(Plain, "127.0.0.1", 0)
        with pytest.raises(ssl.SSLError):
            await loop.create_connection(
                Recorder, *plain.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
            )
        plain.close()
        await plain.wait_closed()

    run(main())


def test_a_handshake_that_is_cancelled_leaves_nothing(loop: Loop, run: Run) -> None:
    async def main() -> None:
        silent = await loop.create_server(Recorder, "127.0.0.1", 0)
        where = silent.sockets[0].getsockname()
        for turns in 0, 1, 3, 8, 20:
            task = asyncio.ensure_future(
                loop.create_connection(Recorder, *where, ssl=client_context(), server_hostname="localhost")
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        silent.close()
        await silent.wait_closed()

    run(main())


def test_a_plain_connection_is_upgraded_by_both_ends(loop: Loop, run: Run) -> None:
    upgraded: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"GO\n")
        await writer.start_tls(server_context())
        upgraded.append(writer)
        writer.write(b"secret " + await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"GO\n"
            assert writer.get_extra_info("sslcontext") is None
            await writer.start_tls(client_context(), server_hostname="localhost")
            assert writer.get_extra_info("sslcontext") is not None
            sock = writer.get_extra_info("socket")
            assert type(sock) is trsock.TransportSocket and sock.fileno() >= 0
            assert writer.get_extra_info("peername") == sock.getpeername() == server.sockets[0].getsockname()
            writer.write(b"word\n")
            assert await reader.readline() == b"secret word\n"
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())
    assert len(upgraded) == 1


def test_start_tls_of_the_loop_gives_a_transport(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            plain, _ = await loop.create_connection(Recorder, "127.0.0.1", port)
            protocol = Recorder()
            transport = await loop.start_tls(plain, protocol, client_context(), server_hostname="localhost")
            assert transport is not None
            protocol.transport = transport
            transport.write(b"x")
            assert await protocol.received(1) == b"x"
            transport.close()
            await protocol.lost

    run(main())


def test_close_ends_both_ends_and_loses_nothing(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            for _ in range(5):
                transport, protocol = await loop.create_connection(
                    Recorder, "localhost", port, ssl=client_context()
                )
                transport.write(MEGABYTE)
                assert await protocol.received(len(MEGABYTE)) == MEGABYTE
                transport.close()
                transport.close()
                await protocol.lost
                assert protocol.error is None
                assert protocol.events[-1] == "lost"

    run(main())


def test_abort_ends_at_once(loop: Loop, run: Run, handled: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with tls_server() as port:
            transport, protocol = await loop.create_connection(
                Recorder, "localhost", port, ssl=client_context()
            )
            transport.write(MEGABYTE * 4)
            transport.abort()
            await protocol.lost

    run(main())


def test_arguments_of_tls_without_tls_are_refused(loop: Loop, run: Run) -> None:
    async def main() -> None:
        for more in {"ssl_handshake_timeout": 1}, {"ssl_shutdown_timeout": 1}:
            with pytest.raises(ValueError, match="is only meaningful with ssl"):
                await loop.create_connection(Recorder, "127.0.0.1", 1, **more)  # type: ignore[call-overload]

    run(main())


def test_paused_reading_holds_decrypted_data_back(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            transport, protocol = await loop.create_connection(
                Recorder, "localhost", port, ssl=client_context()
            )
            transport.pause_reading()
            assert not transport.is_reading()
            transport.write(b"data")
            await asyncio.sleep(0.01)
            assert protocol.data == b""
            transport.resume_reading()
            assert await protocol.received(4) == b"data"
            transport.close()
            await protocol.lost

    run(main())


def test_what_programs_read_though_it_is_private_is_there(loop: Loop, run: Run) -> None:
    async def main() -> None:
        context = server_context()
        server: Any = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=context)
        assert server._ssl_context is context
        own = client_context()
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=own, server_hostname="localhost"
        )
        private: Any = transport
        assert private._ssl_protocol._sslcontext is own
        assert private._ssl_protocol._app_protocol is protocol
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())


def test_what_is_written_while_a_connection_closes_is_dropped(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_server() as port:
            transport, protocol = await loop.create_connection(
                Recorder, "localhost", port, ssl=client_context()
            )
            transport.write(b"sent")
            assert await protocol.received(4) == b"sent"
            transport.close()
            for _ in range(7):
                transport.write(b"dropped")
                transport.writelines([b"this", b"too"])
            await protocol.lost
            transport.write(b"dropped")
            assert protocol.data == b"sent" and protocol.error is None

    run(main())


def test_a_peer_that_floods_does_not_keep_a_closed_connection_open(loop: Loop, run: Run) -> None:
    """Whoever has closed it does not receive the rest of a download."""

    class Floods(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(bytes(2**24))

    async def main() -> None:
        made: list[Floods] = []

        def make() -> Floods:
            made.append(Floods())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0, ssl=server_context())
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        await protocol.received(2**18)
        received = len(protocol.data)
        transport.close()
        for _ in range(200):
            if protocol.lost.done():
                break
            await asyncio.sleep(0)
        assert protocol.lost.done()
        assert len(protocol.data) == received
        made[0].transport.abort()
        await made[0].lost
        server.close()
        await server.wait_closed()

    run(main())
