"""Life cycles: each makes one kind of connection, uses it and closes it, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.net import receive_all, socket_pair
from support.protocols import Echo, Recorder
from support.tls import client_context, server_context

DATA = os.urandom(10_000)
TLS = client_context()


@dataclass
class Place:
    """Where servers listen that send back what they receive."""

    tcp: tuple[str, int]
    tls: tuple[str, int]
    unix: str
    udp: tuple[str, int]


LifeCycle = Callable[[Place], Awaitable[None]]


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.received.set_result(data)


@asynccontextmanager
async def place(directory: Path) -> AsyncIterator[Place]:
    """Servers on the running loop."""
    loop = asyncio.get_running_loop()
    tcp = await loop.create_server(Echo, "127.0.0.1", 0)
    tls = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
    unix = await loop.create_unix_server(Echo, directory / "life_cycles")
    udp, _ = await loop.create_datagram_endpoint(EchoDatagrams, ("127.0.0.1", 0))
    try:
        path, name = str(directory / "life_cycles"), udp.get_extra_info("sockname")
        yield Place(tcp.sockets[0].getsockname(), tls.sockets[0].getsockname(), path, name)
    finally:
        udp.close()
        for server in (tcp, tls, unix):
            server.close()
            await server.wait_closed()


async def _echoed(transport: Any, protocol: Recorder) -> None:
    with closing(transport):
        transport.write(DATA)
        assert await protocol.received(len(DATA)) == DATA
    await asyncio.shield(protocol.lost)


async def tcp(where: Place) -> None:
    await _echoed(*await asyncio.get_running_loop().create_connection(Recorder, *where.tcp))


async def by_name(where: Place) -> None:
    loop = asyncio.get_running_loop()
    port = where.tcp[1]
    made = await loop.create_connection(Recorder, "localhost", port)
    await _echoed(*made)


async def unix(where: Place) -> None:
    await _echoed(*await asyncio.get_running_loop().create_unix_connection(Recorder, where.unix))


async def tls(where: Place) -> None:
    loop = asyncio.get_running_loop()
    made = await loop.create_connection(Recorder, *where.tls, ssl=TLS, server_hostname="localhost")
    await _echoed(*made)


async def start_tls(where: Place) -> None:
    loop = asyncio.get_running_loop()
    plain, protocol = await loop.create_connection(Recorder, *where.tls)
    try:
        encrypted = await loop.start_tls(plain, protocol, TLS, server_hostname="localhost")
        assert encrypted is not None
        await _echoed(encrypted, protocol)
    finally:
        plain.abort()


async def streams(where: Place) -> None:
    reader, writer = await asyncio.open_connection(*where.tcp)
    try:
        writer.write(DATA)
        await writer.drain()
        assert await reader.readexactly(len(DATA)) == DATA
        writer.write_eof()
        assert await reader.read() == b""
    finally:
        writer.close()
    await writer.wait_closed()


async def accepted(where: Place) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair(socket.AF_INET) as (ours, peer):
        transport, _ = await loop.connect_accepted_socket(Echo, ours)
        with closing(transport):
            await loop.sock_sendall(peer, DATA)
            assert await receive_all(loop, peer, len(DATA)) == DATA


async def server(where: Place) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            writer.write(await reader.readexactly(len(DATA)))

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, start_serving=False)
    try:
        await listening.start_serving()
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        with closing(writer):
            writer.write(DATA)
            assert await reader.read() == DATA
    finally:
        listening.close()
    await listening.wait_closed()


async def datagrams(where: Place) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=where.udp)
    with closing(transport):
        transport.sendto(DATA)
        assert await asyncio.shield(protocol.received) == DATA


async def pipes(where: Place) -> None:
    loop = asyncio.get_running_loop()
    out, into = os.pipe()
    with open(out, "rb", 0) as source, open(into, "wb", 0) as sink:
        reading, protocol = await loop.connect_read_pipe(Recorder, source)
        with closing(reading):
            writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sink)
            with closing(writing):
                writing.write(DATA)
                assert await protocol.received(len(DATA)) == DATA
            await asyncio.shield(protocol.lost)


async def plain_sockets(where: Place) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, where.tcp)
        await loop.sock_sendall(sock, DATA)
        assert await receive_all(loop, sock, len(DATA)) == DATA


async def file_sent(where: Place) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, *where.tcp)
    with closing(transport), open(__file__, "rb") as file:
        content = file.read()
        assert await loop.sendfile(transport, file) == len(content)
        assert await protocol.received(len(content)) == content


async def subprocess(where: Place) -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read())"
    child = await asyncio.create_subprocess_exec(sys.executable, "-SIc", code, stdin=-1, stdout=-1)
    try:
        output, _ = await child.communicate(b"to and fro")
        assert output == b"to and fro"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


#: All that are quick: one takes a millisecond or a few.
QUICK: dict[str, LifeCycle] = {
    "tcp": tcp,
    "by name": by_name,
    "unix": unix,
    "tls": tls,
    "start_tls": start_tls,
    "streams": streams,
    "accepted": accepted,
    "server": server,
    "datagrams": datagrams,
    "pipes": pipes,
    "plain sockets": plain_sockets,
    "file": file_sent,
}
ALL: dict[str, LifeCycle] = {**QUICK, "subprocess": subprocess}
