"""tornado: its server and its client, which know the loop by `add_reader` and `add_writer`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tornado import httpserver, netutil, web, websocket
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.ioloop import IOLoop

from support.loops import Loop, Run
from support.transports import until


class Hello(web.RequestHandler):
    async def get(self, name: str) -> None:
        await asyncio.sleep(0)
        self.write(f"hello {name}")


class Digest(web.RequestHandler):
    def post(self) -> None:
        self.write(hashlib.sha256(self.request.body).hexdigest())


class Talk(websocket.WebSocketHandler):
    closed = 0

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        Talk.closed += 1


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, AsyncHTTPClient]]:
    """The address of a running server, and a client."""
    routes: list[Any] = [("/hello/(.*)", Hello), ("/digest", Digest), ("/talk", Talk)]
    server = httpserver.HTTPServer(web.Application(routes), max_buffer_size=10**8)
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    client = AsyncHTTPClient(force_instance=True, max_clients=20)
    try:
        yield "{}:{}".format(*sockets[0].getsockname()), client
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()


def test_many_requests_at_once(run: Run) -> None:
    async def main() -> None:
        async with served() as (address, client):

            async def ask(number: int) -> str:
                answer = await client.fetch(f"http://{address}/hello/{number}")
                return answer.body.decode()

            answers = await asyncio.gather(*(ask(number) for number in range(60)))
            assert answers == [f"hello {number}" for number in range(60)]

    run(main())


def test_a_large_body_arrives_whole(run: Run) -> None:
    async def main() -> None:
        body = os.urandom(1000) * 3000
        async with served() as (address, client):
            headers = {"content-type": "application/octet-stream"}
            request = HTTPRequest(f"http://{address}/digest", method="POST", body=body, headers=headers)
            assert (await client.fetch(request)).body.decode() == hashlib.sha256(body).hexdigest()

    run(main())


def test_web_sockets_talk(run: Run) -> None:
    async def one(address: str, name: int) -> None:
        connection = await websocket.websocket_connect(f"ws://{address}/talk")
        for number in range(20):
            await connection.write_message(f"{name}.{number}")
            assert await connection.read_message() == f"{name}.{number}"
        data = os.urandom(200_000)
        await connection.write_message(data, binary=True)
        assert await connection.read_message() == data
        connection.close()

    async def main() -> None:
        Talk.closed = 0
        async with served() as (address, _):
            await asyncio.gather(*(one(address, name) for name in range(10)))
            await until(lambda: Talk.closed == 10)

    run(main())


def test_its_own_loop_is_ours(loop: Loop) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        ioloop: Any = IOLoop.current()
        assert ioloop.asyncio_loop is loop
        ioloop.add_callback(seen.append, "callback")
        ioloop.call_later(0.001, seen.append, "later")
        assert await ioloop.run_in_executor(None, sum, (1, 2)) == 3
        await until(lambda: len(seen) == 2)
        return seen

    assert loop.run_until_complete(main()) == ["callback", "later"]
