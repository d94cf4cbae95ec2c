"""The servers: what a program does with each of asyncio's ways, the same code for every loop."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from net.load import PEM

HOST = "127.0.0.1"
BACKLOG = 1024
MOST = 256 * 1024  # bytes that one read may bring
BODY = b"x" * 1024  # of an HTTP answer

Start = Callable[[Path], Awaitable[str]]
SERVERS: dict[str, Start] = {}


def server(name: str) -> Callable[[Start], Start]:
    """Enter a function that starts a server and says its address; it may use the folder for files."""

    def enter(start: Start) -> Start:
        SERVERS[name] = start
        return start

    return enter


async def serve(name: str, folder: Path) -> None:
    """Print the address, and serve until the process is killed."""
    print(await SERVERS[name](folder), flush=True)
    await asyncio.get_running_loop().create_future()


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def _address(listening: asyncio.Server) -> str:
    host, port = listening.sockets[0].getsockname()
    return f"{host}:{port}"


# ---- protocols ---------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's and rloop's are no subclasses of it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBuffered(asyncio.BufferedProtocol):
    """The same through a buffer of its own."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(MOST)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


class EchoDatagrams(asyncio.DatagramProtocol):
    """The same for datagrams."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


@server("protocol")
async def protocol(_folder: Path) -> str:
    return _address(await asyncio.get_running_loop().create_server(Echo, HOST, 0, backlog=BACKLOG))


@server("buffered")
async def buffered(_folder: Path) -> str:
    return _address(await asyncio.get_running_loop().create_server(EchoBuffered, HOST, 0, backlog=BACKLOG))


@server("tls")
async def tls(_folder: Path) -> str:
    loop = asyncio.get_running_loop()
    return _address(await loop.create_server(Echo, HOST, 0, backlog=BACKLOG, ssl=_tls()))


@server("unix")
async def unix(folder: Path) -> str:
    path = str(folder / "server.sock")
    await asyncio.get_running_loop().create_unix_server(Echo, path, backlog=BACKLOG)
    return path


@server("udp")
async def udp(_folder: Path) -> str:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, (HOST, 0))
    host, port = transport.get_extra_info("sockname")
    return f"{host}:{port}"


# ---- streams and sockets -----------------------------------------------------------------------------------


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the peer closes."""
    while data := await reader.read(MOST):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_exactly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Messages of 1 KiB, until the peer closes."""
    try:
        while True:
            writer.write(await reader.readexactly(1024))
    except asyncio.IncompleteReadError:
        writer.close()


@server("streams")
async def streams(_folder: Path) -> str:
    return _address(await asyncio.start_server(echo_stream, HOST, 0, limit=MOST, backlog=BACKLOG))


@server("readexactly")
async def readexactly(_folder: Path) -> str:
    return _address(await asyncio.start_server(echo_exactly, HOST, 0, limit=MOST, backlog=BACKLOG))


@server("tls-streams")
async def tls_streams(_folder: Path) -> str:
    return _address(await asyncio.start_server(echo_stream, HOST, 0, limit=MOST, backlog=BACKLOG, ssl=_tls()))


@server("sock")
async def sock(_folder: Path) -> str:
    loop = asyncio.get_running_loop()
    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    listener.setblocking(False)
    tasks = set[asyncio.Task[None]]()  # asyncio's loop holds none of them

    async def echo(connection: socket.socket) -> None:
        with connection:
            while data := await loop.sock_recv(connection, MOST):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.add(loop.create_task(echo(connection)))

    tasks.add(loop.create_task(accept()))
    host, port = listener.getsockname()
    return f"{host}:{port}"


# ---- HTTP: 1 KiB for each request --------------------------------------------------------------------------


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


_running = set[asyncio.Task[None]]()


@server("uvicorn")
async def uvicorn(_folder: Path) -> str:
    from uvicorn import Config, Server

    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    config = Config(_answer, http="httptools", ws="none", lifespan="off", log_level="error", access_log=False)
    started = Server(config)
    _running.add(asyncio.get_running_loop().create_task(started.serve([listener])))
    while not started.started:
        await asyncio.sleep(0.01)
    host, port = listener.getsockname()
    return f"{host}:{port}"


@server("websockets")
async def websockets(_folder: Path) -> str:
    """An echo of messages; compression is for other messages than these."""
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    started = await serve(echo, HOST, 0, backlog=BACKLOG, compression=None, ping_interval=None)
    return _address(started.server)


@server("aiohttp")
async def aiohttp(_folder: Path) -> str:
    from aiohttp import web

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG).start()
    host, port = runner.addresses[0][:2]
    return f"{host}:{port}"
