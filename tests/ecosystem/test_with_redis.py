"""redis-py's asyncio client against a real Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from redis.asyncio import Redis

from support import servers
from support.loops import Run


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    with servers.redis() as url:
        yield url.removeprefix("redis+unix://")


def store(path: str, **more: Any) -> AbstractAsyncContextManager[Any]:
    redis: Any = Redis
    client: AbstractAsyncContextManager[Any] = redis(unix_socket_path=path, **more)
    return client


def test_many_tasks_ask_at_once(run: Run, path: str) -> None:
    async def one(redis: Any, name: int) -> None:
        for number in range(20):
            await redis.set(f"{name}.{number}", number)
            assert await redis.get(f"{name}.{number}") == b"%d" % number

    async def main() -> None:
        async with store(path) as redis:
            await asyncio.gather(*(one(redis, name) for name in range(20)))

    run(main())


def test_a_pipeline_of_many_commands(run: Run, path: str) -> None:
    async def main() -> None:
        async with store(path) as redis, redis.pipeline() as pipeline:
            await redis.delete("count")
            for _ in range(1000):
                pipeline.incr("count")
            assert await pipeline.execute() == list(range(1, 1001))

    run(main())


def test_a_large_value_arrives_whole(run: Run, path: str) -> None:
    async def main() -> None:
        data = os.urandom(1000) * 3000
        async with store(path) as redis:
            await redis.set("large", data)
            assert await redis.get("large") == data

    run(main())


def test_messages_reach_who_listens(run: Run, path: str) -> None:
    async def main() -> None:
        async with store(path) as redis, redis.pubsub() as listener:
            await listener.subscribe("news")
            heard = []
            async for message in listener.listen():
                if message["type"] == "subscribe":
                    for number in range(50):
                        await redis.publish("news", number)
                else:
                    heard.append(int(message["data"]))
                if len(heard) == 50:
                    break
            assert heard == list(range(50))

    run(main())


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_wait_that_is_given_up_leaves_the_client_usable(run: Run, path: str, how: str) -> None:
    async def main() -> None:
        async with store(path) as redis:
            waiting = asyncio.create_task(redis.blpop("nothing", 0.1 if how == "timeout" else 9))
            if how == "cancel":
                await redis.ping()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                assert await waiting is None
            assert await redis.ping()

    run(main())
