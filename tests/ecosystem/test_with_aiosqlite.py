"""aiosqlite: a thread for each connection, which answers by `call_soon_threadsafe`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiosqlite
import pytest

from support.loops import Run


def test_many_tasks_share_a_connection(run: Run) -> None:
    async def main() -> None:
        async with aiosqlite.connect(":memory:") as database:
            await database.execute("CREATE TABLE numbers (number INTEGER)")

            async def insert(number: int) -> None:
                await database.execute("INSERT INTO numbers VALUES (?)", (number,))

            await asyncio.gather(*(insert(number) for number in range(300)))
            await database.commit()
            async with database.execute("SELECT number FROM numbers ORDER BY number") as rows:
                assert [row[0] async for row in rows] == list(range(300))

    run(main())


def test_connections_wait_for_each_other(run: Run, tmp_path: Path) -> None:
    async def add(path: Path) -> None:
        async with aiosqlite.connect(path) as database:
            for _ in range(5):
                await database.execute("UPDATE total SET value = value + 1")
                await database.commit()

    async def main() -> None:
        path = tmp_path / "database"
        async with aiosqlite.connect(path) as database:
            await database.execute("CREATE TABLE total (value INTEGER)")
            await database.execute("INSERT INTO total VALUES (0)")
            await database.commit()
            await asyncio.gather(*(add(path) for _ in range(5)))
            async with database.execute("SELECT value FROM total") as rows:
                assert await rows.fetchone() == (25,)

    run(main())


def test_a_query_that_is_given_up_leaves_the_connection_usable(run: Run) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as database:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await database.execute(endless)
            await database.interrupt()
            async with database.execute("SELECT 1") as rows:
                assert await rows.fetchone() == (1,)

    run(main())
