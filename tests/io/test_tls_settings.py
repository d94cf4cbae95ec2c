"""TLS beside asyncio: what a context can be set to, upgrades, ends, and what programs replace."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from asyncio import sslproto
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import socket_pair
from support.protocols import Echo, Recorder
from support.tls import ENCRYPTED_PEM, PASSWORD, PEM, TlsPeer, client_context, server_context
from support.transports import Buffered


async def connected(
    loop: Loop, server: ssl.SSLContext, client: ssl.SSLContext, make: Any = Recorder, **more: Any
) -> tuple[Any, Any, asyncio.Server]:
    """A client's transport and protocol, and the echo server."""
    echo = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server)
    address = echo.sockets[0].getsockname()
    more = {"server_hostname": "localhost"} | more
    transport, protocol = await loop.create_connection(make, *address, ssl=client, **more)
    return transport, protocol, echo


async def echoed(transport: Any, protocol: Any, data: bytes = b"data") -> None:
    """Something goes there and back."""
    protocol.data.clear()
    transport.write(data)
    assert await protocol.received(len(data)) == data


async def closed(transport: Any, protocol: Any, server: asyncio.Server) -> None:
    """Close both, in good order."""
    transport.close()
    await protocol.lost
    assert protocol.error is None
    server.close()
    await server.wait_closed()


def test_the_protocols_that_both_ends_know_are_agreed_upon(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server, client = server_context(), client_context()
        server.set_alpn_protocols(["h2", "http/1.1"])
        client.set_alpn_protocols(["http/1.1"])
        all_of_it = await connected(loop, server, client)
        assert all_of_it[0].get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await echoed(*all_of_it[:2])
        await closed(*all_of_it)

    run(main())


def test_the_name_that_the_client_asks_for_is_told(loop: Loop, run: Run) -> None:
    names: list[str | None] = []
    server = server_context()
    other = server_context()

    def choose(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        names.append(name)
        tls.context = other

    server.sni_callback = choose

    async def main() -> None:
        all_of_it = await connected(loop, server, client_context())
        await echoed(*all_of_it[:2])
        await closed(*all_of_it)

    run(main())
    assert names == ["localhost"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_client_shows_its_certificate(loop: Loop, run: Run, version: ssl.TLSVersion) -> None:
    seen: list[Any] = []

    class Asking(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            seen.append(transport.get_extra_info("peercert"))

    async def main() -> None:
        server, client = server_context(), client_context()
        server.maximum_version = version
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(PEM)
        client.load_cert_chain(PEM)
        listening = await loop.create_server(Asking, "127.0.0.1", 0, ssl=server)
        address = listening.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=client, server_hostname="localhost"
        )
        await echoed(transport, protocol)
        await closed(transport, protocol, listening)

    run(main())
    assert ("DNS", "localhost") in seen[0]["subjectAltName"]


def test_a_key_may_be_encrypted(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(ENCRYPTED_PEM, password=PASSWORD)
        all_of_it = await connected(loop, server, client_context())
        await echoed(*all_of_it[:2])
        await closed(*all_of_it)

    run(main())


def test_a_certificate_that_is_asked_for_later_is_shown(loop: Loop, run: Run) -> None:
    """The handshake goes on inside of reads and writes."""
    seen: list[Any] = []

    class Asking(Echo):
        def data_received(self, data: bytes) -> None:
            tls = self.transport.get_extra_info("ssl_object")
            seen.append(tls.getpeercert())
            if data == b"ask":
                tls.verify_client_post_handshake()
            super().data_received(data)

    async def main() -> None:
        server, client = server_context(), client_context()
        server.verify_mode = ssl.CERT_REQUIRED
        server.post_handshake_auth = client.post_handshake_auth = True
        server.load_verify_locations(PEM)
        client.load_cert_chain(PEM)
        listening = await loop.create_server(Asking, "127.0.0.1", 0, ssl=server)
        address = listening.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=client, server_hostname="localhost"
        )
        for data in b"first", b"ask", b"second", b"third":
            await echoed(transport, protocol, data)
        await closed(transport, protocol, listening)

    run(main())
    assert not any(seen[:2]) and all(seen[3:])


class Remembers(ssl.SSLContext):
    """Asks for the session of an earlier connection."""

    session: ssl.SSLSession | None = None

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**more, "session": self.session})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_session_is_taken_up_again(loop: Loop, run: Run, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = Remembers(ssl.PROTOCOL_TLS_CLIENT), server_context()
        client.load_verify_locations(PEM)
        client.maximum_version = version
        for again in False, True, True:
            all_of_it = await connected(loop, server, client)
            await echoed(*all_of_it[:2])  # the ticket of TLS 1.3 comes behind the handshake
            tls = all_of_it[0].get_extra_info("ssl_object")
            assert tls.session_reused is again
            client.session = tls.session
            await closed(*all_of_it)

    run(main())


@pytest.mark.since(3, 13)
def test_a_secret_of_both_takes_the_place_of_certificates(loop: Loop, run: Run) -> None:
    asked: list[str | None] = []

    def secret_of(name: str | None) -> bytes:
        asked.append(name)
        return b"secret"

    async def main() -> None:
        server: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        for context in server, client:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("PSK")
        server.set_psk_server_callback(secret_of, "who are you?")
        client.set_psk_client_callback(lambda hint: ("somebody", b"secret"))
        all_of_it = await connected(loop, server, client)
        assert "PSK" in all_of_it[0].get_extra_info("cipher")[0]
        await echoed(*all_of_it[:2])
        await closed(*all_of_it)

    run(main())
    assert asked == ["somebody"]


def test_secrets_are_logged_for_those_who_want_to_read_along(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        client = client_context()
        client.keylog_filename = str(tmp_path / "secrets")
        all_of_it = await connected(loop, server_context(), client)
        await echoed(*all_of_it[:2])
        await closed(*all_of_it)

    run(main())
    assert "TRAFFIC_SECRET" in (tmp_path / "secrets").read_text()


def test_who_listens_to_tls_messages_hears_each(loop: Loop, run: Run) -> None:
    heard: list[Any] = []

    async def main() -> None:
        client: Any = client_context()

        def hear(tls: Any, direction: str, version: Any, content: Any, *rest: Any) -> None:
            heard.append((direction, content.name))

        client._msg_callback = hear
        all_of_it = await connected(loop, server_context(), client)
        heard.clear()
        await echoed(*all_of_it[:2])
        assert ("write", "HEADER") in heard and ("read", "HEADER") in heard
        await closed(*all_of_it)

    run(main())


def test_a_class_of_tls_objects_of_the_programs_own_is_used(loop: Loop, run: Run) -> None:
    calls: list[str] = []

    class Own(ssl.SSLObject):
        def read(self, *args: Any) -> Any:
            calls.append("read")
            return super().read(*args)

        def write(self, data: Any) -> int:
            calls.append("write")
            return super().write(data)

    async def main() -> None:
        client = client_context()
        client.sslobject_class = Own
        all_of_it = await connected(loop, server_context(), client)
        calls.clear()
        await echoed(*all_of_it[:2])
        assert "read" in calls and "write" in calls
        await closed(*all_of_it)

    run(main())


@pytest.mark.parametrize("name", ["_do_read", "_write_appdata", "buffer_updated", "_process_outgoing"])
def test_a_method_that_is_replaced_in_the_middle_is_called(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[str] = []
    usual: Any = getattr(sslproto.SSLProtocol, name)

    def replaced(self: Any, *args: Any) -> Any:
        calls.append(name)
        return usual(self, *args)

    async def main() -> None:
        all_of_it = await connected(loop, server_context(), client_context())
        await echoed(*all_of_it[:2])
        with monkeypatch.context() as patch:
            patch.setattr(sslproto.SSLProtocol, name, replaced)
            await echoed(*all_of_it[:2])
        assert calls
        calls.clear()
        await echoed(*all_of_it[:2])
        assert not calls
        await closed(*all_of_it)

    run(main())


def test_a_protocol_class_in_the_place_of_asyncios_is_used(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(sslproto.SSLProtocol):
        made = 0

        def connection_made(self, transport: Any) -> None:
            Own.made += 1
            super().connection_made(transport)

    async def main() -> None:
        monkeypatch.setattr(sslproto, "SSLProtocol", Own)
        all_of_it = await connected(loop, server_context(), client_context())
        await echoed(*all_of_it[:2])
        assert Own.made == 2
        await closed(*all_of_it)

    run(main())


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
def test_a_connection_is_upgraded_with_bytes_on_their_way(
    loop: Loop, run: Run, server_side: bool, paused: bool
) -> None:
    async def main() -> None:
        with socket_pair() as (ours, theirs):
            plain, _ = await loop.create_connection(Recorder, sock=ours)
            their_plain, _ = await loop.create_connection(Recorder, sock=theirs)
            if paused:
                plain.pause_reading()
            protocol, peer = Recorder(), Recorder()
            contexts = client_context(), server_context()
            names = "localhost", None
            other = asyncio.ensure_future(
                loop.start_tls(
                    their_plain,
                    peer,
                    contexts[not server_side],
                    server_side=not server_side,
                    server_hostname=names[not server_side],
                )
            )
            if paused:
                # The peer's greeting, if it is the client, is here before anybody reads it.
                await asyncio.sleep(0.005)
            transport: Any = await loop.start_tls(
                plain,
                protocol,
                contexts[server_side],
                server_side=server_side,
                server_hostname=names[server_side],
            )
            their_transport: Any = await other
            protocol.transport, peer.transport = transport, their_transport
            transport.write(b"there")
            their_transport.write(b"back" * 10_000)
            assert await peer.received(5) == b"there"
            assert await protocol.received(40_000) == b"back" * 10_000
            transport.close()
            await protocol.lost
            await peer.lost

    run(main())


def test_a_tunnel_goes_through_a_tunnel(loop: Loop, run: Run) -> None:
    upgraded: list[Any] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"again\n"
        await writer.start_tls(server_context())
        upgraded.append(writer)
        writer.write(await reader.readexactly(50_000))
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        writer.write(b"again\n")
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"x" * 50_000)
        assert await reader.readexactly(50_000) == b"x" * 50_000
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    run(main())
    assert len(upgraded) == 1


def test_a_peer_that_never_answers_the_goodbye_is_left(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair() as (ours, theirs):
            peer = TlsPeer(loop, theirs, client_context())
            greeting = asyncio.ensure_future(peer.handshake())
            transport, protocol = await loop.connect_accepted_socket(
                Recorder, ours, ssl=server_context(), ssl_shutdown_timeout=0.01
            )
            await greeting
            await peer.send(b"data")
            await protocol.received(4)
            transport.close()
            await protocol.lost
            assert isinstance(protocol.error, TimeoutError)
            assert "SSL shutdown timed out" in str(protocol.error)

    run(main())


def test_a_peer_that_goes_in_the_handshake_is_an_error(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair() as (ours, theirs):
            task = asyncio.ensure_future(
                loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="localhost")
            )
            assert await loop.sock_recv(theirs, 3) == b"\x16\x03\x01"
            theirs.close()
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await task

    run(main())


@pytest.mark.parametrize("make", [Recorder, Buffered])
def test_what_was_encrypted_is_let_go_of(loop: Loop, run: Run, make: Any) -> None:
    gone: list[weakref.ref[Any]] = []

    async def main() -> None:
        all_of_it = await connected(loop, server_context(), client_context(), make)
        await echoed(*all_of_it[:2])
        gone.extend([weakref.ref(all_of_it[0]._ssl_protocol), weakref.ref(all_of_it[1])])
        await closed(*all_of_it)

    run(main())
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_an_abort_in_the_middle_of_a_callback_is_the_end(loop: Loop, run: Run) -> None:
    class Aborting(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"x")
            self.transport.abort()
            self.transport.write(b"y")

    async def main() -> None:
        transport, protocol, server = await connected(loop, server_context(), client_context(), Aborting)
        transport.write(b"data")
        await protocol.lost
        assert protocol.data == b"data" and protocol.events == ["made", "lost"] and protocol.error is None
        server.close()
        await server.wait_closed()

    run(main())


def test_writes_to_a_closed_connection_are_forgotten(
    loop: Loop, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        all_of_it = await connected(loop, server_context(), client_context())
        protocol = all_of_it[0]._ssl_protocol
        await closed(*all_of_it)
        for _ in range(6):
            protocol._write_appdata((b"x",))

    run(main())
    assert {record.getMessage() for record in caplog.records} == {"SSL connection is closed"}
    caplog.clear()


@pytest.mark.acceleration("tls")
@pytest.mark.acceleration("methods")
@pytest.mark.acceleration("direct_calls")
def test_a_plain_connection_is_pumped_natively(pyloop_loop: Loop) -> None:
    async def main() -> None:
        all_of_it = await connected(pyloop_loop, server_context(), client_context())
        await echoed(*all_of_it[:2])
        private: Any = all_of_it[0]
        assert private._ssl_protocol._session is not None
        assert type(private).__name__ == "SSLTransport" and isinstance(
            private, sslproto._SSLProtocolTransport
        )
        await closed(*all_of_it)

    pyloop_loop.run_until_complete(main())
