"""Stream transports of servers, and many, long and slow conversations."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.loops import Run
from support.net import receive_all, socket_pair
from support.protocols import Echo, Recorder
from support.transports import FAMILIES, MEGABYTES, transport_and_peer, until


@asynccontextmanager
async def served(make: Callable[[], Any], count: int) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
    """A server, the protocols that it made, and those of its clients."""
    loop = asyncio.get_running_loop()
    made: list[Any] = []

    def accept() -> Any:
        made.append(make())
        return made[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [(await loop.create_connection(Recorder, *address))[1] for _ in range(count)]
    await until(lambda: len(made) == count and all(each.transport for each in made))
    try:
        yield server, made, clients
    finally:
        for each in made + clients:
            if each.transport.get_protocol() is not None:
                each.transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("many", [1, 3])
def test_clients_that_reset_before_they_are_accepted_are_connections_all_the_same(
    run: Run, many: int
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []

        def make() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        names = []
        for _ in range(many):
            client = socket.create_connection(server.sockets[0].getsockname())
            names.append(client.getsockname())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await until(lambda: len(made) == many)
        await asyncio.wait([protocol.lost for protocol in made])
        for protocol, name in zip(made, names, strict=True):
            assert protocol.transport.get_extra_info("peername") == name
            assert protocol.transport.get_extra_info("sockname") == server.sockets[0].getsockname()
            assert isinstance(protocol.error, ConnectionResetError)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_flood_of_clients_is_accepted_and_harms_nobody(run: Run) -> None:
    """A third of them reset the connection at once; those who stay, and who was there before, are served."""
    many = 300

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gone: list[BaseException | None] = []

        class Counted(Echo):
            def connection_lost(self, exc: Exception | None) -> None:
                gone.append(exc)

        server = await loop.create_server(Counted, "127.0.0.1", 0, backlog=many)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        stay = []
        for i in range(many):
            client = socket.create_connection(address)
            if i % 3:
                client.setblocking(False)
                client.send(b"%d" % i)
                stay.append((client, b"%d" % i))
            else:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        transport.write(b"still there")
        assert await protocol.received(11) == b"still there"
        for client, text in stay:
            assert await receive_all(loop, client, len(text)) == text
            client.close()
        transport.close()
        await protocol.lost
        await until(lambda: len(gone) == many + 1)
        assert sum(isinstance(each, ConnectionResetError) for each in gone) == many - len(stay)
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.since(3, 13)
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_a_server_ends_its_clients(run: Run, method: str) -> None:
    async def main() -> None:
        async with served(Recorder, 5) as (server, made, clients):
            for each in clients:
                each.transport.pause_reading()
            for each in made:
                while not each.transport.get_write_buffer_size():
                    each.transport.write(MEGABYTES)
            getattr(server, method)()
            for each in clients:
                each.transport.resume_reading()
            assert all(each.transport.is_closing() for each in made)
            await asyncio.wait([each.lost for each in made + clients])
            assert all(each.error is None for each in made)
            whole = {len(each.data) % len(MEGABYTES) == 0 for each in clients}
            assert whole == {method == "close_clients"}

    run(main())


@pytest.mark.since(3, 12)
def test_a_server_waits_for_its_clients(run: Run) -> None:
    async def main() -> None:
        async with served(Recorder, 3) as (server, made, clients):
            server.close()
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0.001)
            for each in clients:
                assert not waiting.done()
                each.transport.close()
                await each.lost
            await asyncio.wait([each.lost for each in made])
            await waiting

    run(main())


@FAMILIES
def test_ten_thousand_messages_go_to_and_fro(run: Run, family: int) -> None:
    class Bounces(Recorder):
        left = 10_000
        is_done = False

        def data_received(self, data: bytes) -> None:
            if not self.data:
                self.digest = hashlib.sha256()
                self.data += b"x"
            self.digest.update(data)
            if self.left:
                self.left -= 1
                self.transport.write(data[1:] + bytes([data[0] ^ self.left & 255]))
            else:
                self.is_done = True

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket_pair(family) as pair:
            ends = [(await loop.create_connection(Bounces, sock=sock))[1] for sock in pair]
            ends[0].transport.write(b"0123456789")
            await until(lambda: ends[1].is_done)
            message, digests = b"0123456789", [hashlib.sha256(), hashlib.sha256()]
            for left in range(9_999, -1, -1):
                for digest in reversed(digests):
                    digest.update(message)
                    message = message[1:] + bytes([message[0] ^ left & 255])
            digests[1].update(message)
            assert [end.digest.digest() for end in ends] == [digest.digest() for digest in digests]
            for end in ends:
                end.transport.close()
            await asyncio.wait([end.lost for end in ends])

    run(main())


def test_many_connections_at_once_keep_their_bytes_apart(run: Run) -> None:
    async def client(address: Any, i: int) -> None:
        transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *address)
        expected = b"".join(b"%d:%d;" % (i, n) for n in range(200))
        for start in range(0, len(expected), 97):
            transport.write(expected[start : start + 97])
            if start % 5 == 0:
                await asyncio.sleep(0)
        assert await protocol.received(len(expected)) == expected
        transport.close()
        await protocol.lost

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()
        await asyncio.gather(*(client(address, i) for i in range(150)))
        server.close()
        await server.wait_closed()

    run(main())


def test_a_slow_reader_gets_everything(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.set_write_buffer_limits(high=1000, low=10)
            # How much the kernel takes depends on when it acknowledges, so what waits is what counts.
            sent = 0
            while transport.get_write_buffer_size() < 20_000:
                transport.write(MEGABYTES[sent : sent + 1000])
                sent += 1000
                assert sent < len(MEGABYTES)
            got = bytearray()
            transport.close()
            while data := await asyncio.get_running_loop().sock_recv(peer, 5000):
                got += data
                await asyncio.sleep(0)
            assert got == MEGABYTES[:sent]
            await protocol.lost
            assert protocol.events == ["made", "pause", "resume", "lost"]

    run(main())


def test_a_thread_at_the_other_end_gets_and_gives_megabytes(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
            peer.setblocking(True)

            def echo() -> None:
                while data := peer.recv(50_000):
                    peer.sendall(data)
                peer.close()

            thread = threading.Thread(target=echo)
            thread.start()
            for start in range(0, len(MEGABYTES), 40_000):
                transport.write(MEGABYTES[start : start + 40_000])
            transport.write_eof()
            assert await protocol.received(len(MEGABYTES)) == MEGABYTES
            await protocol.lost
            thread.join()

    run(main())
