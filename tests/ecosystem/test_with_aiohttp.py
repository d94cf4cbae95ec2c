"""An aiohttp server and its client on one loop, over real sockets of this machine."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.loops import Loop

routes = web.RouteTableDef()


@routes.get("/hello/{name}")
async def hello(request: web.Request) -> web.Response:
    return web.json_response({"hello": request.match_info["name"]})


@routes.post("/echo")
async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@routes.get("/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(20):
        await response.write(b"%d\n" % number)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


@routes.get("/slow")
async def slow(request: web.Request) -> web.Response:
    try:
        await asyncio.sleep(3600)
    finally:
        request.app[ENDED].append("slow")
    return web.Response()


@routes.get("/broken")
async def broken(request: web.Request) -> web.Response:
    raise web.HTTPGone(text="no more")


@routes.get("/ws")
async def talk(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


ENDED = web.AppKey("ENDED", list[str])


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, aiohttp.ClientSession, web.Application]]:
    """A running server: its address, a client and the application."""
    app = web.Application(handler_args={"handler_cancellation": True})
    app[ENDED] = []
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            yield f"http://{host}:{port}", session, app
    finally:
        await runner.cleanup()


def test_a_request_is_answered(loop: Loop) -> None:
    async def main() -> Any:
        async with served() as (url, session, _), session.get(f"{url}/hello/world") as response:
            assert response.status == 200
            return await response.json()

    assert loop.run_until_complete(main()) == {"hello": "world"}


def test_fifty_requests_at_once(loop: Loop) -> None:
    async def main() -> list[Any]:
        async with served() as (url, session, _):

            async def ask(number: int) -> Any:
                async with session.get(f"{url}/hello/{number}") as response:
                    return (await response.json())["hello"]

            return await asyncio.gather(*(ask(number) for number in range(50)))

    assert loop.run_until_complete(main()) == [str(number) for number in range(50)]


def test_a_large_body_goes_both_ways(loop: Loop) -> None:
    body = bytes(range(256)) * 3000

    async def main() -> bytes:
        async with (
            served() as (url, session, _),
            session.post(f"{url}/echo", data=io.BytesIO(body)) as response,
        ):
            return await response.read()

    assert loop.run_until_complete(main()) == body


def test_a_streamed_response_arrives_line_by_line(loop: Loop) -> None:
    async def main() -> list[bytes]:
        async with served() as (url, session, _), session.get(f"{url}/stream") as response:
            return [line async for line in response.content]

    assert loop.run_until_complete(main()) == [b"%d\n" % number for number in range(20)]


def test_a_web_socket_talks(loop: Loop) -> None:
    async def main() -> list[str]:
        async with served() as (url, session, _), session.ws_connect(f"{url}/ws") as socket:
            answers = []
            for word in ("one", "two", "three"):
                await socket.send_str(word)
                answers.append(await socket.receive_str())
            return answers

    assert loop.run_until_complete(main()) == ["ONE", "TWO", "THREE"]


def test_a_request_that_takes_too_long_times_out_and_ends_its_handler(loop: Loop) -> None:
    async def main() -> None:
        async with served() as (url, session, app):
            with pytest.raises(TimeoutError):
                await session.get(f"{url}/slow", timeout=aiohttp.ClientTimeout(total=0.05))
            while not app[ENDED]:
                await asyncio.sleep(0)
            assert app[ENDED] == ["slow"]

    loop.run_until_complete(main())


def test_an_error_of_the_handler_is_a_status(loop: Loop) -> None:
    async def main() -> tuple[int, str]:
        async with served() as (url, session, _), session.get(f"{url}/broken") as response:
            return response.status, await response.text()

    assert loop.run_until_complete(main()) == (410, "no more")


def test_a_refused_connection_is_an_error_of_the_client(loop: Loop) -> None:
    async def main() -> None:
        async with served() as (url, _, _):
            pass
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{url}/hello/nobody")

    loop.run_until_complete(main())


def test_cancelled_requests_leave_the_session_usable(loop: Loop) -> None:
    async def main() -> Any:
        async with served() as (url, session, _):
            tasks = [asyncio.create_task(ask_slowly(session, url)) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            async with session.get(f"{url}/hello/again") as response:
                return await response.json()

    async def ask_slowly(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/slow"):
            pass

    assert loop.run_until_complete(main()) == {"hello": "again"}
