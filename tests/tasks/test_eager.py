"""Eager tasks: the first step is made inside the constructor, in a task or a callback of any kind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from support import making, process
from support.coroutines import give
from support.guard import Context
from support.loops import Loop, turn
from support.making import Spawn, TaskClass

pytest_generate_tests = making.parametrize

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")

Start = Callable[..., asyncio.Task[Any]]


def eagerly(task_class: TaskClass) -> Start:
    """Starts a task of that class in the running loop, as `eager_start` does."""
    untyped: Any = task_class

    def start(coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = untyped(coro, loop=asyncio.get_running_loop(), eager_start=True, **kwargs)
        return task

    return start


def run_with_factory(loop: Loop, task_class: TaskClass, main: Coroutine[Any, Any, Any]) -> Any:
    task = loop.create_task(main)
    factory: Any = asyncio.create_eager_task_factory(task_class)
    loop.set_task_factory(factory)
    try:
        return loop.run_until_complete(task)
    finally:
        loop.set_task_factory(None)


def test_an_eager_task_that_does_not_wait_is_done_at_once(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def main() -> None:
        task = eagerly(task_class)(give("at once"))
        assert task.done()
        assert task.result() == "at once"
        assert await task == "at once"

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_that_waits_goes_on_as_any_other(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    steps = list[str]()

    async def child(future: asyncio.Future[str]) -> str:
        steps.append("started")
        await asyncio.sleep(0)
        steps.append("went on")
        return await future

    async def main() -> None:
        future = loop.create_future()
        task = eagerly(task_class)(child(future))
        assert steps == ["started"]
        assert not task.done()
        await asyncio.sleep(0)
        assert steps == ["started", "went on"]
        future.set_result("end")
        assert await task == "end"

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_that_fails_keeps_its_exception(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def fail() -> None:
        raise ValueError("early")

    async def main() -> None:
        task = eagerly(task_class)(fail())
        assert task.done()
        with pytest.raises(ValueError, match=r"^early$"):
            await task

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_exception_of_an_eager_task_that_nobody_retrieved_is_reported(
    loop: Loop, spawn: Spawn, task_class: TaskClass, handled: list[Context]
) -> None:
    async def fail() -> None:
        raise ValueError("early")

    async def main() -> None:
        eagerly(task_class)(fail())

    loop.run_until_complete(spawn(main(), loop=loop))
    gc.collect()  # the traceback's frame knows the frame that started the task, which knows the task
    [context] = handled
    assert context["message"] == "Task exception was never retrieved"
    assert str(context["exception"]) == "early"


def test_an_eager_task_is_current_while_it_starts_and_its_parent_afterwards(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    seen = list[asyncio.Task[Any] | None]()

    async def child() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def main() -> None:
        me = asyncio.current_task()
        task = eagerly(task_class)(child())
        assert asyncio.current_task() is me
        await task
        assert asyncio.current_task() is me
        assert seen == [task, task]

    loop.run_until_complete(spawn(main(), loop=loop))


def test_the_parent_is_current_again_after_an_eager_task_failed(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        me = asyncio.current_task()
        task = eagerly(task_class)(fail())
        assert asyncio.current_task() is me
        task.exception()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_may_start_from_a_callback(loop: Loop, task_class: TaskClass) -> None:
    seen = list[Any]()

    async def child() -> str:
        seen.append(asyncio.current_task())
        return "from a callback"

    def callback() -> None:
        task = eagerly(task_class)(child())
        assert seen == [task]
        assert asyncio.current_task() is None
        seen.append(task.result())

    loop.call_soon(callback)
    turn(loop)
    assert seen[1:] == ["from a callback"]


def test_without_a_running_loop_an_eager_task_waits_for_the_first_turn(
    loop: Loop, task_class: TaskClass
) -> None:
    seen = list[str]()

    async def child() -> None:
        seen.append("ran")

    untyped: Any = task_class
    task = untyped(child(), loop=loop, eager_start=True)
    assert not seen
    assert not task.done()
    loop.run_until_complete(task)
    assert seen == ["ran"]


def test_eager_tasks_start_inside_each_other(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    start = eagerly(task_class)

    async def child(depth: int) -> int:
        me = asyncio.current_task()
        below = await start(child(depth - 1)) if depth else 0
        assert asyncio.current_task() is me
        return below + 1

    async def main() -> Any:
        task = start(child(20))
        assert task.done()
        return task.result()

    assert loop.run_until_complete(spawn(main(), loop=loop)) == 21


def test_all_tasks_shows_eager_tasks_while_they_run_and_while_they_wait(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def child() -> None:
        assert asyncio.current_task() in asyncio.all_tasks()
        await asyncio.sleep(0)

    async def main() -> None:
        me = asyncio.current_task()
        task = eagerly(task_class)(child())
        assert asyncio.all_tasks() == {me, task}
        await task
        assert asyncio.all_tasks() == {me}

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_has_a_context_of_its_own(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    async def child() -> list[str]:
        before = VAR.get()
        VAR.set("child")
        await asyncio.sleep(0)
        return [before, VAR.get()]

    async def main() -> None:
        VAR.set("parent")
        task = eagerly(task_class)(child())
        assert VAR.get() == "parent"
        assert await task == ["parent", "child"]
        assert VAR.get() == "parent"

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_starts_in_the_context_given(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    context = contextvars.copy_context()

    async def child() -> None:
        VAR.set("first step")
        await asyncio.sleep(0)
        assert VAR.get() == "first step"

    async def main() -> None:
        task = eagerly(task_class)(child(), context=context)
        assert task.get_context() is context
        assert context[VAR] == "first step"
        await task

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_cancels_itself(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    async def child() -> None:
        me = asyncio.current_task()
        assert me is not None
        me.cancel("myself")
        await asyncio.sleep(0)

    async def main() -> None:
        task = eagerly(task_class)(child())
        assert not task.done()
        with pytest.raises(asyncio.CancelledError, match=r"^myself$"):
            await task
        assert task.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_eager_task_is_cancelled_while_it_waits(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    async def main() -> None:
        future = loop.create_future()

        async def child() -> None:
            await future

        task = eagerly(task_class)(child())
        task.cancel("later")
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError, match=r"^later$"):
            await task

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_comes_out_of_the_constructor(
    loop: Loop, spawn: Spawn, task_class: TaskClass, leave: type[BaseException], handled: list[Context]
) -> None:
    async def child() -> None:
        raise leave

    async def main() -> str:
        me = asyncio.current_task()
        with pytest.raises(leave):
            eagerly(task_class)(child())
        assert asyncio.current_task() is me
        return "caught"

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "caught"
    gc.collect()
    assert [context["message"] for context in handled] == ["Task exception was never retrieved"]


def test_an_eager_task_has_a_name(loop: Loop, spawn: Spawn, task_class: TaskClass) -> None:
    async def child() -> str:
        me = asyncio.current_task()
        assert me is not None
        return me.get_name()

    async def main() -> None:
        start = eagerly(task_class)
        assert start(child(), name="eager").result() == "eager"
        assert start(child()).result().startswith("Task-")

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.since(3, 13)  # 3.12.1 dies of the question
def test_a_finished_eager_task_has_let_its_coroutine_go(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def main() -> None:
        task = eagerly(task_class)(give(1), name="gone")
        assert task.get_coro() is None
        assert "coro=" not in repr(task)
        assert task.get_stack() == []

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_done_callback_added_to_a_finished_eager_task_runs(
    loop: Loop, spawn: Spawn, task_class: TaskClass
) -> None:
    async def main() -> None:
        task, seen = eagerly(task_class)(give(1)), list[object]()
        task.add_done_callback(seen.append)
        assert not seen
        await asyncio.sleep(0)
        assert seen == [task]

    loop.run_until_complete(spawn(main(), loop=loop))


# The factory.


def test_the_eager_factory_starts_tasks_of_its_class(loop: Loop, task_class: TaskClass) -> None:
    async def main() -> None:
        task = asyncio.create_task(give(2), name="named")
        assert type(task) is task_class
        assert task.done()
        assert task.get_name() == "named"
        assert await task == 2

    run_with_factory(loop, task_class, main())


def test_the_stock_eager_factory_serves_any_loop(loop: Loop) -> None:
    async def main() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(give(2))
        assert type(task) is asyncio.Task
        assert task.done()
        loop.set_task_factory(None)
        later = asyncio.create_task(give(3))
        assert not later.done()
        assert await later == 3

    loop.run_until_complete(main())


def test_gather_of_eager_tasks_that_do_not_wait_takes_no_turn(loop: Loop, task_class: TaskClass) -> None:
    async def main() -> None:
        turns = list[str]()
        loop.call_soon(turns.append, "turn")
        assert await asyncio.gather(*(give(number) for number in range(10))) == list(range(10))
        await asyncio.sleep(0)
        assert turns == ["turn"]

    run_with_factory(loop, task_class, main())


def test_a_group_of_eager_tasks(loop: Loop, task_class: TaskClass) -> None:
    async def wait(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            done = [group.create_task(give(number)) for number in range(3)]
            assert all(task.done() for task in done)
            waiting = [group.create_task(wait(number)) for number in range(3)]
            assert not any(task.done() for task in waiting)
        assert [task.result() for task in done + waiting] == [0, 1, 2] * 2

    run_with_factory(loop, task_class, main())


def test_a_group_with_an_eager_task_that_fails_cancels_the_others(loop: Loop, task_class: TaskClass) -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        tasks = list[asyncio.Task[Any]]()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                tasks.append(group.create_task(asyncio.sleep(3600)))
                tasks.append(group.create_task(fail()))
                await asyncio.sleep(3600)
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert tasks[0].cancelled()

    run_with_factory(loop, task_class, main())


def test_wait_for_and_shield_with_an_eager_factory(loop: Loop, task_class: TaskClass) -> None:
    async def main() -> None:
        assert await asyncio.wait_for(give(1), 3600) == 1
        assert await asyncio.shield(give(2)) == 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0)

    run_with_factory(loop, task_class, main())


# Without it the recursion ends in asyncio's register, which is Python code: CPython then fails to warn of the
# coroutine that never gets its task.
@pytest.mark.acceleration("task_register")
def test_eager_tasks_in_eager_tasks_end_with_a_recursion_error(loop_kind: str) -> None:
    # From CPython 3.14 on the stack's room is what ends it.
    words = "Stack overflow (used " if sys.version_info >= (3, 14) else "maximum recursion depth exceeded"
    script = """
import sys, warnings
warnings.simplefilter("ignore")  # the coroutine that never gets its task

async def nested(make, loop, depth):
    return 0 if depth == 0 else await make(nested(make, loop, depth - 1), loop=loop, eager_start=True) + 1

async def main():
    loop, make = asyncio.get_running_loop(), type(asyncio.current_task())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        print("ended", await nested(make, loop, 100_000))
    except RecursionError as error:
        print("RecursionError", str(error).startswith(WORDS))
    sys.setrecursionlimit(limit)
    print(await nested(make, loop, 10), len(asyncio.all_tasks()))

loop = new_event_loop()
print(loop.run_until_complete(main()))
loop.close()
"""
    script = script.replace("WORDS", repr(words))
    assert process.output(loop_kind, script) == "RecursionError True\n10 1\nNone\n"
