"""Clients that others wrote for tokio, as they are, against real servers, on every loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import making, servers
from support.extension import ext, until
from support.guard import descriptors
from support.loops import Loop

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with servers.postgres() as config:
        yield config


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with servers.redis() as url:
        yield url


def sockets() -> set[str]:
    return {what for what in descriptors().values() if what.startswith("socket:")}


async def settled(before: set[str]) -> None:
    """A connection that was let go of is closed by a thread of the runtime."""
    await until(lambda: sockets() <= before)


# HTTP: reqwest, and a server of asyncio's streams on the same loop.


class Server:
    """Answers a POST with its body turned round; a GET waits for all that were promised first."""

    def __init__(self, together: int = 0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        self.barrier = asyncio.Barrier(together) if together else None

    async def __aenter__(self) -> Server:
        self.server = await asyncio.start_server(self.serve, sock=self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        body = await reader.readexactly(int(length or 0))
        if self.barrier is not None:
            await self.barrier.wait()
        # The client may have gone.
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body[::-1])
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def test_reqwest_talks_to_a_server_on_the_same_loop(loop: Loop) -> None:
    async def main() -> None:
        before = sockets()
        async with Server() as server:
            status, body = await ext.http_post(server.url, b"hello")
            assert (status, bytes(body)) == (200, b"olleh")
            large = bytes(range(256)) * 10_000
            status, body = await ext.http_post(server.url, large)
            assert (status, bytes(body)) == (200, large[::-1])
        await settled(before)

    loop.run_until_complete(main())


def test_many_requests_are_on_their_way_at_once(loop: Loop) -> None:
    async def main() -> None:
        before = sockets()
        async with Server(together=20) as server:
            posts = [ext.http_post(server.url, b"%d" % number) for number in range(10)]
            gets = [ext.http_get_spawned(server.url) for _ in range(10)]
            answers = await asyncio.gather(*posts, *gets)
        assert [bytes(body) for _, body in answers[:10]] == [b"%d" % number for number in range(10)]
        assert answers[10:] == [""] * 10
        await settled(before)

    loop.run_until_complete(main())


def test_a_request_that_is_cancelled_closes_its_connection(loop: Loop) -> None:
    async def main() -> None:
        before = sockets()
        async with Server(together=2) as server:
            request = asyncio.create_task(ext.http_post(server.url, b"never answered"))
            assert server.barrier is not None
            barrier = server.barrier
            await until(lambda: barrier.n_waiting == 1)
            request.cancel()
            await asyncio.wait([request])
            assert request.cancelled()
            await asyncio.gather(barrier.wait())
        await settled(before)

    loop.run_until_complete(main())


def test_a_refused_connection_is_an_exception(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        with pytest.raises(ConnectionError, match="error sending request"):
            await ext.http_post(f"http://127.0.0.1:{port}/", b"")

    loop.run_until_complete(main())


# PostgreSQL: tokio-postgres.


def test_postgres_answers_queries(loop: Loop, postgres: str) -> None:
    async def main() -> None:
        before = sockets()
        database = await ext.Postgres.connect(postgres)
        assert await database.numbers("SELECT generate_series(1, 1000)") == list(range(1, 1001))
        await database.execute("CREATE TEMPORARY TABLE things (number INTEGER)")
        assert await database.execute("INSERT INTO things SELECT generate_series(1, 10)") == 10
        assert await database.numbers("SELECT number FROM things WHERE number > 7") == [8, 9, 10]
        with pytest.raises(ConnectionError, match="db error"):
            await database.execute("SELECT no_such_column")
        assert await database.numbers("SELECT 1") == [1]
        del database
        await settled(before)

    loop.run_until_complete(main())


def test_postgres_answers_many_tasks_by_one_connection(loop: Loop, postgres: str) -> None:
    async def main() -> None:
        before = sockets()
        database = await ext.Postgres.connect(postgres)
        queries = [f"SELECT {number}" for number in range(100)]
        assert await database.pipeline(queries) == list(range(100))
        one_by_one = await asyncio.gather(*(database.numbers(query) for query in queries))
        assert one_by_one == [[number] for number in range(100)]
        del database
        await settled(before)

    loop.run_until_complete(main())


def test_postgres_rows_are_a_stream(loop: Loop, postgres: str) -> None:
    async def main() -> None:
        before = sockets()
        database = await ext.Postgres.connect(postgres)
        rows = [row async for row in database.stream("SELECT generate_series(1, 1000)")]
        assert rows == list(range(1, 1001))
        batches = [batch async for batch in database.stream("SELECT generate_series(1, 1000)").batches(64)]
        assert [row for batch in batches for row in batch] == rows
        assert all(1 <= len(batch) <= 64 for batch in batches)
        async for row in database.stream("SELECT generate_series(1, 100000)"):
            if row == 10:
                break
        with pytest.raises(ConnectionError, match="db error"):
            await anext(database.stream("SELECT 1 / 0"))
        assert await database.numbers("SELECT 1") == [1]
        del database
        await settled(before)

    loop.run_until_complete(main())


def test_a_query_that_takes_too_long_is_given_up(loop: Loop, postgres: str) -> None:
    async def main() -> None:
        before = sockets()
        database = await ext.Postgres.connect(postgres)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(database.numbers("SELECT 1 FROM pg_sleep(0.1)"), 0.01)
        assert await database.numbers("SELECT 2") == [2]
        del database
        await settled(before)

    loop.run_until_complete(main())


# Redis: redis-rs.


def test_redis_sets_and_gets(loop: Loop, redis: str) -> None:
    async def main() -> None:
        before = sockets()
        store = await ext.Redis.connect(redis)
        await store.set("key", "value")
        assert await store.get("key") == "value"
        assert await store.get("no such key") is None
        counts = await asyncio.gather(*(store.increment(f"count {id(loop)}") for _ in range(200)))
        assert sorted(counts) == list(range(1, 201))
        del store
        await settled(before)

    loop.run_until_complete(main())


def test_redis_messages_are_a_stream(loop: Loop, redis: str) -> None:
    async def main() -> None:
        before = sockets()
        store = await ext.Redis.connect(redis)
        messages = await store.subscribe("channel")

        async def take(messages: Any, count: int) -> list[Any]:
            return [await anext(messages) for _ in range(count)]

        taking = asyncio.create_task(take(messages, 100))
        for number in range(100):
            assert await store.publish("channel", str(number)) == 1
        assert await taking == [str(number) for number in range(100)]
        await messages.aclose()
        del store, messages, taking
        await settled(before)

    loop.run_until_complete(main())


# Files.


def test_tokio_reads_and_writes_files(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        contents = [bytes([number]) * 10_000 for number in range(20)]
        trips = [
            ext.file_round_trip(str(tmp_path / str(number)), content)
            for number, content in enumerate(contents)
        ]
        assert [bytes(read) for read in await asyncio.gather(*trips)] == contents
        with pytest.raises(FileNotFoundError):
            await ext.file_round_trip(str(tmp_path / "no" / "such"), b"")

    loop.run_until_complete(main())
