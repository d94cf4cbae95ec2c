"""An HTTP server of hyper's in an extension, whose requests Python functions answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[int]:
    server = await ext.Server.bind("127.0.0.1", 0, handler)
    task = asyncio.create_task(server.serve())
    try:
        yield server.port
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def request(writer: asyncio.StreamWriter, path: str, body: bytes = b"") -> None:
    writer.write(b"POST %s HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)))
    writer.write(body)
    await writer.drain()


async def response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def fetch(port: int, path: str, body: bytes = b"") -> tuple[int, bytes]:
    async with connected(port) as (reader, writer):
        await request(writer, path, body)
        return await response(reader)


async def echo(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    await asyncio.sleep(0)
    return 200, b" ".join([method.encode(), path.encode(), body])


def refuse(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    return 404, path.encode()


async def fail(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    raise LookupError(path)


def test_handlers_answer(loop: Loop) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            async with connected(port) as (reader, writer):
                for body in (b"", b"one", b"2" * 100_000):
                    await request(writer, "/path", body)
                    assert await response(reader) == (200, b"POST /path " + body)
            answers = await asyncio.gather(*(fetch(port, f"/{i}") for i in range(8)))
            assert answers == [(200, b"POST /%d " % i) for i in range(8)]
        async with serving(refuse) as port:
            assert await fetch(port, "/gone") == (404, b"/gone")
        async with serving(fail) as port:
            assert await fetch(port, "/lost") == (500, b"LookupError: /lost")

    loop.run_until_complete(main())


def test_a_handler_is_cancelled_with_its_connection_and_with_its_server(loop: Loop) -> None:
    events = list[str]()

    async def wait(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        events.append(f"begun {path}")
        try:
            await asyncio.Event().wait()
        finally:
            events.append(f"cancelled {path}")
        raise AssertionError

    async def main() -> None:
        async with serving(wait) as port:
            async with connected(port) as (_, writer):
                await request(writer, "/client")
                await until(lambda: events == ["begun /client"])
            await until(lambda: events[1:] == ["cancelled /client"])
            events.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await request(writer, "/server")
            await until(lambda: events == ["begun /server"])
        await until(lambda: events[1:] == ["cancelled /server"])
        assert not await reader.read()
        writer.close()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    loop.run_until_complete(main())
