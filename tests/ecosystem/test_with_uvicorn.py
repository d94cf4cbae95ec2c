"""uvicorn with httptools: keep-alive, pipelining, flow control, web sockets, several workers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from support import process
from support.asgi import PIECE, App, served
from support.loops import Run
from support.transports import until


def request(path: str, body: bytes = b"") -> bytes:
    method = "POST" if body else "GET"
    return f"{method} {path} HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def response(reader: asyncio.StreamReader) -> bytes:
    """The body of the next response."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    return await reader.readexactly(int(length.split()[1]))


def test_connections_are_kept_alive(run: Run) -> None:
    async def one(address: tuple[str, int], name: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for number in range(25):
            writer.write(request(f"/hello?{name}.{number}"))
            assert await response(reader) == b"hello %d.%d" % (name, number)
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        app = App()
        async with served(app) as address:
            await asyncio.gather(*(one(address, name) for name in range(20)))
        assert app.events == ["lifespan.startup", "lifespan.shutdown"]

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with served(App()) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"".join(request(f"/hello?{number}") for number in range(50)))
            for number in range(50):
                assert await response(reader) == b"hello %d" % number
            writer.close()
            await writer.wait_closed()

    run(main())


def test_large_bodies_arrive_whole(run: Run) -> None:
    async def one(address: tuple[str, int], seed: int) -> None:
        body = os.urandom(1000) * 1000 * seed
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("/digest", body))
        await writer.drain()
        assert await response(reader) == hashlib.sha256(body).hexdigest().encode()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with served(App()) as address:
            await asyncio.gather(*(one(address, seed) for seed in range(1, 6)))

    run(main())


def test_a_response_waits_for_a_slow_reader(run: Run) -> None:
    async def main() -> None:
        async with served(App()) as address:
            reader, writer = await asyncio.open_connection(*address, limit=2**12)
            writer.write(request("/stream?500").replace(b"host:", b"connection: close\r\nhost:"))
            got = bytearray()
            while data := await reader.read(2**20):
                got += data
                if len(got) % 7 == 0:
                    await asyncio.sleep(0)
            assert got.count(PIECE) == 500
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
def test_a_client_that_goes_is_noticed(run: Run, resets: bool) -> None:
    async def main() -> None:
        app = App()
        async with served(app) as address:
            _, writer = await asyncio.open_connection(*address)
            writer.write(request("/wait"))
            await until(lambda: "waits" in app.events)
            writer.transport.abort() if resets else writer.close()
            await until(lambda: "http.disconnect" in app.events)

    run(main())


def test_a_server_that_ends_answers_what_it_has_begun(run: Run) -> None:
    async def main() -> None:
        app = App()
        async with served(app) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request("/slow"))
            await until(lambda: "slow" in app.events)
        assert await response(reader) == b"slow"
        writer.close()
        await writer.wait_closed()

    run(main())


def test_web_sockets_talk(run: Run) -> None:
    async def one(address: tuple[str, int], name: int) -> None:
        async with connect("ws://{}:{}".format(*address), compression=None) as talk:
            for number in range(20):
                await talk.send(f"{name}.{number}")
                assert await talk.recv() == f"{name}.{number}"
            data = os.urandom(300_000)
            await talk.send(data)
            assert await talk.recv() == data

    async def main() -> None:
        app = App()
        async with served(app) as address:
            await asyncio.gather(*(one(address, name) for name in range(10)))
            await until(lambda: app.events.count("websocket.disconnect") == 10)

    run(main())


def test_several_workers_share_a_socket(loop_kind: str) -> None:
    app = """
import os
async def app(scope, receive, send):
    assert scope["type"] == "http"
    kind = type(__import__("asyncio").get_running_loop()).__module__.split(".")[0]
    body = f"{kind} {os.getpid()}".encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
    factory = "asyncio:SelectorEventLoop" if loop_kind == "asyncio" else "pyloop:new_event_loop"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "asgi_app.py").write_text(app)
        path = f"{folder}/socket"
        words = ["asgi_app:app", "--app-dir", folder, "--uds", path, "--workers", "2", "--lifespan", "off"]
        command = [sys.executable, "-m", "uvicorn", *words, "--loop", factory, "--log-level", "error"]
        with subprocess.Popen(command, env=process.environment()) as server:
            try:
                ends, seen = time.monotonic() + 9, set[str]()
                while len(seen) < 2 and time.monotonic() < ends:
                    with socket.socket(socket.AF_UNIX) as client:
                        if client.connect_ex(path) == 0:
                            client.sendall(request("/"))
                            answer = client.makefile("rb").read()
                            seen.add(answer.rpartition(b"\r\n\r\n")[2].decode())
            finally:
                server.send_signal(signal.SIGINT)
                code = server.wait(9)
    assert {each.split()[0] for each in seen} == {loop_kind}
    assert len(seen) == 2
    assert code in (0, -signal.SIGINT)
