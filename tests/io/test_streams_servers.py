"""Servers: where they listen, how they end, and what becomes of their clients."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import pending
from support.protocols import Echo, Recorder

BYTES = os.urandom(500_000)


def connect(server: asyncio.Server) -> socket.socket:
    return socket.create_connection(server.sockets[0].getsockname()[:2])


def test_a_server_serves_many_at_once(loop: Loop, run: Run) -> None:
    async def client(port: int, i: int) -> None:
        transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
        transport.write(b"%d" % i)
        assert await protocol.received(len(str(i))) == b"%d" % i
        transport.close()
        await protocol.lost

    async def main() -> None:
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*(client(port, i) for i in range(100)))

    run(main())


@pytest.mark.parametrize("host", [None, "", "127.0.0.1", "localhost", ["127.0.0.1", "127.0.0.2"]])
def test_a_server_listens_where_it_was_told_to(loop: Loop, run: Run, host: Any) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, host, 0)
        names = {sock.getsockname()[0] for sock in server.sockets}
        if host in (None, ""):
            assert {"0.0.0.0", "::"} & names
        elif host == "localhost":
            assert names <= {"127.0.0.1", "::1"}
        else:
            assert names == {host} if isinstance(host, str) else set(host)
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("host", [None, "", ["127.0.0.1", "::1"]], ids=["none", "empty", "both"])
def test_a_server_is_reached_by_both_families(loop: Loop, run: Run, host: Any) -> None:
    async def main() -> None:
        async with await loop.create_server(Echo, host, 0) as server:
            families = {sock.family: sock.getsockname()[1] for sock in server.sockets}
            assert set(families) == {socket.AF_INET, socket.AF_INET6}
            for family, port in families.items():
                address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
                transport, protocol = await loop.create_connection(Recorder, address, port)
                assert transport.get_extra_info("peername")[:2] == (address, port)
                transport.write(b"x")
                assert await protocol.received(1) == b"x"
                transport.close()
                await protocol.lost
            # The other's port may be somebody else's.
            sock = next(each for each in server.sockets if each.family == socket.AF_INET6)
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    run(main())


def test_a_server_takes_a_socket(loop: Loop, run: Run) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        server = await loop.create_server(Echo, sock=sock)
        assert server.sockets[0].getsockname() == address
        server.close()
        await server.wait_closed()
        assert sock.fileno() == -1

    run(main())


def test_a_port_in_use_is_an_os_error(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            with pytest.raises(OSError, match="address already in use") as caught:
                await loop.create_server(Echo, *sock.getsockname())
            assert caught.value.errno == 98

    run(main())


def test_a_port_is_shared_when_all_ask_for_it(loop: Loop, run: Run) -> None:
    async def main() -> None:
        first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        port = first.sockets[0].getsockname()[1]
        second = await loop.create_server(Echo, "127.0.0.1", port, reuse_port=True)
        for server in first, second:
            server.close()
            await server.wait_closed()

    run(main())


def test_create_server_checks_its_arguments(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            create: Any = loop.create_server
            wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
                ((), {}),
                (("127.0.0.1", 0), {"sock": sock}),
                ((), {"sock": datagrams}),
                (("127.0.0.1", 0), {"ssl_handshake_timeout": 1}),
            ]
            for arguments, more in wrong:
                with pytest.raises(ValueError):
                    await create(Echo, *arguments, **more)
            with pytest.raises(TypeError, match="ssl argument must be an SSLContext"):
                await create(Echo, "127.0.0.1", 0, ssl=True)

    run(main())


def test_a_server_tells_its_state(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is loop
        assert not server.is_serving()
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        server.close()
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        await server.wait_closed()
        await server.wait_closed()

    run(main())


def test_a_server_that_does_not_serve_yet_accepts_nobody(loop: Loop, run: Run) -> None:
    async def main() -> None:
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        server = await loop.create_server(accept, "127.0.0.1", 0, start_serving=False)
        await asyncio.sleep(0.002)
        assert accepted == []
        await server.start_serving()
        with connect(server):
            while not accepted:
                await asyncio.sleep(0)
        await accepted[0].lost
        server.close()
        await server.wait_closed()

    run(main())


def test_a_closed_server_keeps_its_clients(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"1")
        await protocol.received(1)
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        waiting = await pending(server.wait_closed())
        transport.write(b"2")
        assert await protocol.received(2) == b"12"
        transport.close()
        await protocol.lost
        await waiting

    run(main())


@pytest.mark.since(3, 13)
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_closes_its_clients_when_asked(loop: Loop, run: Run, how: str) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        protocols = []
        for _ in range(5):
            transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
            transport.write(b"x")
            await protocol.received(1)
            protocols.append(protocol)
        server.close()
        getattr(server, how)()
        await server.wait_closed()
        for protocol in protocols:
            await protocol.lost

    run(main())


def test_serve_forever_serves_until_it_is_cancelled(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        task = await pending(server.serve_forever())
        with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
            await server.serve_forever()
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"x")
        assert await protocol.received(1) == b"x"
        transport.close()
        await protocol.lost
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.sockets == ()

    run(main())


def test_close_ends_serve_forever(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        task = await pending(server.serve_forever())
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


# gh-123720: later versions close the clients, 3.12 and 3.13.0 wait for them.
CLOSES_CLIENTS = "close_clients" in asyncio.Server.serve_forever.__code__.co_names


def test_a_cancelled_serve_forever_closes_clients_or_waits_for_them(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        task = await pending(server.serve_forever())
        transport.write(b"1")
        await protocol.received(1)
        task.cancel()
        if CLOSES_CLIENTS:
            await protocol.lost
        else:
            await asyncio.sleep(0.001)
            transport.write(b"2")
            assert await protocol.received(2) == b"12"
            transport.close()
        await asyncio.wait([task])
        assert task.cancelled()

    run(main())


def test_an_accepted_socket_is_connected(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as client:
                accepted, _ = listener.accept()
                transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
                client.send(b"data")
                assert await protocol.received(4) == b"data"
                transport.close()
                await protocol.lost

    run(main())


@pytest.mark.parametrize("source", ["file", "memory"])
def test_sendfile_sends_through_a_transport(loop: Loop, run: Run, tmp_path: Path, source: str) -> None:
    (tmp_path / "file").write_bytes(BYTES)
    make: dict[str, Callable[[], Any]] = {
        "file": lambda: (tmp_path / "file").open("rb"),
        "memory": lambda: io.BytesIO(BYTES),
    }

    async def main() -> None:
        accepted: asyncio.Future[Recorder] = loop.create_future()

        def accept() -> Recorder:
            accepted.set_result(Recorder())
            return accepted.result()

        server = await loop.create_server(accept, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"header")
        with make[source]() as file:
            assert await loop.sendfile(transport, file, 1000, 300_000) == 300_000
        transport.write(b"trailer")
        transport.close()
        there = await accepted
        await there.lost
        await protocol.lost
        assert there.data == b"header" + BYTES[1000:301_000] + b"trailer"
        server.close()
        await server.wait_closed()

    run(main())


def test_sendfile_through_a_closed_transport_fails(loop: Loop, run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, io.BytesIO(b"x"))
        await protocol.lost
        theirs.close()

    run(main())


def test_servers_come_and_go_without_a_trace(loop: Loop, run: Run) -> None:
    async def main() -> None:
        for _ in range(20):
            async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
                transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
                transport.write(b"x")
                await protocol.received(1)
                transport.abort()
                await protocol.lost

    run(main())
