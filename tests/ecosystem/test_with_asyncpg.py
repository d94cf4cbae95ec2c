"""asyncpg against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from support import servers
from support.loops import Run


@pytest.fixture(scope="module")
def where() -> Iterator[dict[str, str]]:
    with servers.postgres() as config:
        known = dict(word.split("=") for word in config.split())
        yield {"host": known["host"], "user": known["user"], "database": known["dbname"]}


def test_a_pool_answers_many_tasks(run: Run, where: dict[str, str]) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**where, min_size=2, max_size=5) as pool:

            async def ask(number: int) -> Any:
                return await pool.fetchval("SELECT $1::int * 2", number)

            assert await asyncio.gather(*(ask(number) for number in range(100))) == list(range(0, 200, 2))

    run(main())


def test_rows_go_in_and_out(run: Run, where: dict[str, str]) -> None:
    rows = [(number, os.urandom(500).hex()) for number in range(2000)]

    async def main() -> None:
        connection = await asyncpg.connect(**where)
        await connection.execute("CREATE TEMPORARY TABLE rows (number int, text text)")
        await connection.copy_records_to_table("rows", records=rows[:1000])
        await connection.executemany("INSERT INTO rows VALUES ($1, $2)", rows[1000:])
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM rows ORDER BY number")] == rows
        async with connection.transaction():
            cursor = connection.cursor("SELECT number FROM rows ORDER BY number", prefetch=70)
            assert [row[0] async for row in cursor] == list(range(2000))
        await connection.close()

    run(main())


def test_a_large_value_arrives_whole(run: Run, where: dict[str, str]) -> None:
    async def main() -> None:
        data = os.urandom(1000) * 3000
        connection = await asyncpg.connect(**where)
        assert await connection.fetchval("SELECT $1::bytea", data) == data
        await connection.close()

    run(main())


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_query_that_is_given_up_leaves_the_connection_usable(
    run: Run, where: dict[str, str], how: str
) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**where)
        asking = asyncio.create_task(
            connection.fetch("SELECT pg_sleep(9)", timeout=0.05 if how == "timeout" else None)
        )
        if how == "cancel":
            await asyncio.sleep(0.01)
            asking.cancel()
        with pytest.raises(TimeoutError if how == "timeout" else asyncio.CancelledError):
            await asking
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    run(main())


def test_a_notification_reaches_who_listens(run: Run, where: dict[str, str]) -> None:
    async def main() -> None:
        connection, other = [await asyncpg.connect(**where) for _ in range(2)]
        heard: asyncio.Queue[Any] = asyncio.Queue()
        await connection.add_listener("news", lambda *args: heard.put_nowait(args[-1]))
        for number in range(20):
            await other.execute(f"NOTIFY news, '{number}'")
        assert [await heard.get() for _ in range(20)] == [str(number) for number in range(20)]
        await connection.close()
        await other.close()

    run(main())


def test_a_server_that_ends_the_connection_is_noticed(run: Run, where: dict[str, str]) -> None:
    async def main() -> None:
        connection, other = [await asyncpg.connect(**where) for _ in range(2)]
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await ended.wait()
        assert connection.is_closed()
        await other.close()

    run(main())
