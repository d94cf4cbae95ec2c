"""`asyncio.capture_call_graph` of our tasks and futures (Python 3.14 and later)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.loops import Loop, Run

pytestmark = pytest.mark.since(3, 14)

graphs: Any = asyncio  # typeshed has these names for the Pythons that have them


def names(graph: Any) -> list[str]:
    return [entry.frame.f_code.co_name for entry in graph.call_stack]


async def waiting(future: Any) -> Any:
    return await future


async def outer(future: Any) -> Any:
    return await waiting(future)


def test_a_graph_goes_from_a_future_to_the_tasks_that_await_it(loop: Loop, run: Run) -> None:
    async def main() -> None:
        future = loop.create_future()
        first = loop.create_task(outer(future))
        second = loop.create_task(waiting(future))
        await asyncio.sleep(0)
        graph = graphs.capture_call_graph(future)
        assert graph.future is future
        assert graph.call_stack == ()
        found = {parent.future: names(parent) for parent in graph.awaited_by}
        assert found == {first: ["waiting", "outer"], second: ["waiting"]}
        future.set_result(1)
        assert await first == await second == 1
        assert not future._asyncio_awaited_by

    run(main())


def test_a_graph_goes_through_tasks_that_await_tasks(loop: Loop, run: Run) -> None:
    async def main() -> None:
        future = loop.create_future()
        inner = loop.create_task(waiting(future))
        middle = loop.create_task(outer(inner))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        graph = graphs.capture_call_graph(future)
        [by_inner] = graph.awaited_by
        assert by_inner.future is inner
        [by_middle] = by_inner.awaited_by
        assert by_middle.future is middle
        assert names(by_middle) == ["waiting", "outer"]
        assert by_middle.awaited_by == ()
        text = graphs.format_call_graph(inner)
        assert "Awaited by" in text
        assert "outer()" in text
        future.set_result(2)
        assert await middle == 2

    run(main())


def test_the_current_task_shows_where_it_is_and_who_waits_for_it(loop: Loop, run: Run) -> None:
    async def look() -> Any:
        await asyncio.sleep(0)
        return graphs.capture_call_graph()

    async def work() -> Any:
        return await look()

    async def main() -> None:
        task = loop.create_task(work())
        graph = await task
        assert graph.future is task
        assert names(graph) == ["look", "work"]
        assert [parent.future for parent in graph.awaited_by] == [asyncio.current_task()]

    run(main())


def test_a_stock_task_that_awaits_is_shown_as_well(loop: Loop, run: Run) -> None:
    async def main() -> None:
        future: Any = loop.create_future()
        task = asyncio.Task(waiting(future), loop=loop)
        await asyncio.sleep(0)
        assert future._asyncio_awaited_by == {task}
        future.cancel()
        await asyncio.wait([task])

    run(main())


def test_callbacks_that_wake_no_task_are_not_shown(loop: Loop, run: Run) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        future: Any = loop.create_future()
        future.add_done_callback(task.cancel)
        assert future._asyncio_awaited_by is None
        future.remove_done_callback(task.cancel)

    run(main())
