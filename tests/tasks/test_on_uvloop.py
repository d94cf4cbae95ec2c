"""Our classes on a loop that is neither asyncio's nor ours: everything goes by `call_soon` there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support import making
from support.coroutines import give
from support.guard import Context, Guard
from support.loops import Loop, turn
from support.rust import pyloop, start_background

pytestmark = pytest.mark.usefixtures("pyloop_factory")

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


@pytest.fixture
def uvloop_loop(background: None, guard: Guard) -> Iterator[Loop]:
    loop = making.HOSTS["uvloop"]()
    loop.set_exception_handler(guard.on_context)
    yield loop
    turn(loop, 3)
    assert not asyncio.all_tasks(loop)
    loop.close()


def test_a_task_runs_step_by_step(uvloop_loop: Loop) -> None:
    order = list[tuple[str, int]]()

    async def count(name: str) -> str:
        for step in range(3):
            order.append((name, step))
            await asyncio.sleep(0)
        return name

    async def main() -> list[str]:
        return list(await asyncio.gather(pyloop.Task(count("ours")), asyncio.Task(count("theirs"))))

    assert uvloop_loop.run_until_complete(main()) == ["ours", "theirs"]
    assert order == [(name, step) for step in range(3) for name in ("ours", "theirs")]


def test_a_task_is_current_in_its_context(uvloop_loop: Loop) -> None:
    async def main() -> None:
        assert asyncio.current_task() is task
        assert asyncio.all_tasks() == {task}
        VAR.set("inside")
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        assert VAR.get() == "inside"

    task = pyloop.Task(main(), loop=uvloop_loop)
    uvloop_loop.run_until_complete(task)
    assert VAR.get() == "none"


def test_a_future_is_awaited_by_both_kinds_of_tasks(uvloop_loop: Loop) -> None:
    async def wait(future: asyncio.Future[Any]) -> Any:
        return await future

    async def main() -> list[Any]:
        ours, theirs = pyloop.Future(), asyncio.Future[Any]()
        waiting = [task(wait(future)) for task in (pyloop.Task, asyncio.Task) for future in (ours, theirs)]
        await asyncio.sleep(0)
        ours.set_result("ours")
        theirs.set_result("theirs")
        return await asyncio.gather(*waiting)

    assert uvloop_loop.run_until_complete(main()) == ["ours", "theirs"] * 2


def test_a_task_is_cancelled(uvloop_loop: Loop) -> None:
    async def main() -> None:
        future = pyloop.Future()

        async def wait() -> None:
            await future

        task = pyloop.Task(wait())
        await asyncio.sleep(0)
        task.cancel("on uvloop")
        with pytest.raises(asyncio.CancelledError, match=r"^on uvloop$"):
            await task
        assert future.cancelled()

    uvloop_loop.run_until_complete(main())


def test_an_eager_task_starts_at_once(uvloop_loop: Loop) -> None:
    async def main() -> None:
        task: Any = pyloop.Task(give(1), loop=uvloop_loop, eager_start=True)
        assert task.done()
        assert task.result() == 1

    uvloop_loop.run_until_complete(main())


def test_a_future_is_resolved_from_another_thread(uvloop_loop: Loop) -> None:
    future = pyloop.Future(loop=uvloop_loop)
    thread = threading.Thread(target=uvloop_loop.call_soon_threadsafe, args=(future.set_result, "from afar"))
    thread.start()
    assert uvloop_loop.run_until_complete(future) == "from afar"
    thread.join()


def test_an_exception_that_nobody_retrieved_is_reported(uvloop_loop: Loop, handled: list[Context]) -> None:
    async def fail() -> None:
        raise ValueError

    pyloop.Task(fail(), loop=uvloop_loop)
    turn(uvloop_loop, 3)
    assert [context["message"] for context in handled] == ["Task exception was never retrieved"]


def test_our_tasks_by_a_factory(uvloop_loop: Loop) -> None:
    uvloop_loop.set_task_factory(lambda loop, coro, **kwargs: pyloop.Task(coro, loop=loop, **kwargs))

    async def main() -> None:
        assert type(asyncio.current_task()) is pyloop.Task
        async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
            tasks = [group.create_task(give(number)) for number in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]

    uvloop_loop.run_until_complete(main())
