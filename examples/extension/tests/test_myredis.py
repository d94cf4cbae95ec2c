"""myredis beside a server that knows a few of Redis' commands, on each loop that is installed."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import myredis
import pytest

values: dict[bytes, bytes] = {}
listeners: list[asyncio.StreamWriter] = []


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def answer(words: list[bytes], writer: asyncio.StreamWriter) -> bytes:
    match words:
        case [b"PING"]:
            return b"+PONG\r\n"
        case [b"SET", key, value]:
            values[key] = value
            return b"+OK\r\n"
        case [b"GET", key]:
            return bulk(values[key]) if key in values else b"$-1\r\n"
        case [b"MGET", *keys]:
            return b"*%d\r\n" % len(keys) + b"".join(bulk(values[key]) for key in keys)
        case [b"SUBSCRIBE", channel]:
            listeners.append(writer)
            return b"*3\r\n" + bulk(b"subscribe") + bulk(channel) + b":1\r\n"
        case [b"PUBLISH", channel, data]:
            for each in listeners:
                each.write(b"*3\r\n" + bulk(b"message") + bulk(channel) + bulk(data))
            return b":%d\r\n" % len(listeners)
        case [b"NEVER"]:
            return b""
    return b"-ERR unknown command\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.readline():
        words = []
        for _ in range(int(head[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:size])
        writer.write(answer(words, writer))
    writer.close()


type Test = Callable[[str, int], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop", "pyloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Run a test on the loop, with the address of a server."""
    try:
        loop: Any = importlib.import_module(request.param)
    except ImportError:
        pytest.skip(f"{request.param} is not installed")

    async def main(test: Test) -> None:
        values.clear()
        listeners.clear()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            await test(*server.sockets[0].getsockname())

    return lambda test: asyncio.run(main(test), loop_factory=loop.new_event_loop)


def test_commands_and_replies(run: Callable[[Test], None]) -> None:
    async def test(host: str, port: int) -> None:
        async with await myredis.Client.connect(host, port) as client:
            assert await client.execute(b"PING") == "PONG"
            assert await client.execute(b"GET", b"key") is None
            assert await client.execute(b"SET", b"key", bytes(100_000)) == "OK"
            many = [client.execute(b"GET", b"key") for _ in range(10)]
            assert await asyncio.gather(*many) == [bytes(100_000)] * 10
            await client.execute(b"SET", b"other", b"1")
            assert await client.execute(b"MGET", b"other", b"other") == [b"1", b"1"]

    run(test)


def test_what_redis_refuses_is_an_error_of_its_own(run: Callable[[Test], None]) -> None:
    async def test(host: str, port: int) -> None:
        async with await myredis.Client.connect(host, port) as client:
            with pytest.raises(myredis.RedisError, match="unknown command"):
                await client.execute(b"WHAT")
            assert await client.execute(b"PING") == "PONG"

    run(test)


def test_messages_of_a_channel(run: Callable[[Test], None]) -> None:
    async def test(host: str, port: int) -> None:
        async with await myredis.Client.connect(host, port) as client:
            messages = await client.subscribe("news")
            for number in range(3):
                assert await client.execute(b"PUBLISH", b"news", b"%d" % number) == 1
            assert [await anext(messages) for _ in range(3)] == [b"0", b"1", b"2"]

    run(test)


def test_a_command_that_is_cancelled_ends_its_connection(run: Callable[[Test], None]) -> None:
    async def test(host: str, port: int) -> None:
        async with await myredis.Client.connect(host, port) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.execute(b"NEVER"), 0.01)
            with pytest.raises(ConnectionError, match="cancelled"):
                await client.execute(b"PING")

    run(test)


def test_nobody_is_there(run: Callable[[Test], None]) -> None:
    async def test(host: str, port: int) -> None:
        with pytest.raises(ConnectionRefusedError) as raised:
            await myredis.Client.connect(host, 1)
        assert raised.value.errno

    run(test)
