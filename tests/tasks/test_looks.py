"""What a task tells about itself, and what asyncio knows about it: current, all, stacks, repr."""

from __future__ import annotations

import asyncio
import contextvars
import io
import re
import sys
import traceback
import types
import weakref
from typing import Any

import pytest

from support import making
from support.coroutines import end, give, wait_for_ever
from support.loops import Loop, turn
from support.making import Spawn, TaskClass

pytest_generate_tests = making.parametrize


def test_the_current_task_is_the_one_whose_code_runs(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        assert asyncio.current_task() is asyncio.current_task(loop) is tasks[0]
        await asyncio.sleep(0)
        assert asyncio.current_task() is tasks[0]
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        tasks.append(spawn(other(), loop=loop))
        await tasks[1]
        assert asyncio.current_task() is tasks[0]

    async def other() -> None:
        assert asyncio.current_task() is tasks[1]

    seen, tasks = list[object](), list[asyncio.Task[None]]()
    tasks.append(spawn(main(), loop=loop))
    loop.run_until_complete(tasks[0])
    assert seen == [None]
    assert asyncio.current_task(loop) is None


def test_no_task_is_current_while_a_done_callback_runs(loop: Loop, spawn: Spawn) -> None:
    seen = list[object]()
    task = spawn(give(), loop=loop)
    task.add_done_callback(lambda _: seen.append(asyncio.current_task()))
    turn(loop, 2)
    assert seen == [None]


def test_no_task_is_current_after_a_step_that_failed(loop: Loop, spawn: Spawn) -> None:
    async def fail() -> None:
        raise ValueError

    task = spawn(fail(), loop=loop)
    turn(loop)
    assert asyncio.current_task(loop) is None
    assert isinstance(task.exception(), ValueError)


def test_all_tasks_are_those_that_are_not_done(loop: Loop, spawn: Spawn) -> None:
    async def look() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks()

    waiting, looking, done = (
        spawn(wait_for_ever(), loop=loop),
        spawn(look(), loop=loop),
        spawn(give(), loop=loop),
    )
    assert asyncio.all_tasks(loop) == {waiting, looking, done}
    assert loop.run_until_complete(looking) == {waiting, looking, done}
    turn(loop)
    assert asyncio.all_tasks(loop) == {waiting}
    end(loop, waiting)
    assert not asyncio.all_tasks(loop)


def test_all_tasks_tells_loops_apart(loop: Loop, loop_factory: Any, spawn: Spawn) -> None:
    other = loop_factory()
    here, there = spawn(give(), loop=loop), spawn(give(), loop=other)
    assert asyncio.all_tasks(loop) == {here}
    assert asyncio.all_tasks(other) == {there}
    other.run_until_complete(there)
    other.close()
    end(loop, here)


def test_the_private_state_that_libraries_read_is_there(loop: Loop, spawn: Spawn) -> None:
    future = loop.create_future()

    async def main() -> None:
        assert task._fut_waiter is None
        await future

    coro = main()
    task: Any = spawn(coro, loop=loop)
    assert not task._must_cancel
    assert not task._fut_waiter
    assert task._log_destroy_pending is True
    assert task._coro is coro
    assert task._state == "PENDING"
    turn(loop)
    waiters = [task._fut_waiter]
    task.cancel()
    assert not task._must_cancel  # the future took it
    turn(loop)
    waiters.append(task._fut_waiter)
    assert waiters == [future, None]
    assert task._state == "CANCELLED"


# What they tell.


def test_the_coroutine_and_the_context_can_be_asked_for(loop: Loop, spawn: Spawn) -> None:
    coro = give(1)
    task = spawn(coro, loop=loop)
    assert task.get_coro() is coro
    assert isinstance(task.get_context(), contextvars.Context)
    loop.run_until_complete(task)
    assert task.get_coro() is coro


def without_places(text: str) -> str:
    return re.sub(r" at \S+:\d+", " at PLACE", re.sub(r"(running|created) at [^>\s]+", r"\1 at PLACE", text))


def test_repr_tells_name_state_coroutine_and_what_it_waits_for(loop: Loop, spawn: Spawn) -> None:
    loop.set_debug(False)
    future = loop.create_future()

    async def main() -> int:
        await future
        return 3

    where = f"{main.__qualname__}() running at PLACE"
    task = spawn(main(), loop=loop, name="job")
    assert without_places(repr(task)) == f"<Task pending name='job' coro=<{where}>>"
    turn(loop)
    waiting = repr(task)
    assert waiting.startswith("<Task pending name='job' coro=<")
    assert "> wait_for=<Future pending cb=[" in waiting
    future.set_result(None)
    turn(loop)
    done = f"{main.__qualname__}() done, defined at PLACE"
    finished = re.sub(r"defined at [^>\s]+", "defined at PLACE", repr(task))
    assert finished == f"<Task finished name='job' coro=<{done}> result=3>"


def test_repr_of_a_task_that_ended_badly(loop: Loop, spawn: Spawn) -> None:
    loop.set_debug(False)

    async def fail() -> None:
        raise ValueError("bad")

    failed, cancelled = spawn(fail(), loop=loop, name="f"), spawn(wait_for_ever(), loop=loop, name="c")
    turn(loop)
    cancelled.cancel()
    assert repr(cancelled).startswith("<Task cancelling name='c' coro=<wait_for_ever() running at ")
    turn(loop)
    assert repr(cancelled).startswith("<Task cancelled name='c' coro=<wait_for_ever() done, defined at ")
    assert repr(failed).startswith("<Task finished name='f' coro=<")
    assert repr(failed).endswith("> exception=ValueError('bad')>")
    assert isinstance(failed.exception(), ValueError)


def test_the_stack_of_a_waiting_task_is_its_coroutine(loop: Loop, spawn: Spawn) -> None:
    async def outer() -> None:
        await wait_for_ever()

    task = spawn(outer(), loop=loop)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    turn(loop)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    assert task.get_stack(limit=0) == []
    end(loop, task)
    assert task.get_stack() == []


def test_the_stack_of_a_failed_task_is_its_traceback(loop: Loop, spawn: Spawn) -> None:
    async def outer() -> None:
        await inner()

    async def inner() -> None:
        raise ValueError("inside")

    task = spawn(outer(), loop=loop)
    turn(loop)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer", "inner"]
    assert [frame.f_code.co_name for frame in task.get_stack(limit=1)] == ["outer"]
    out = io.StringIO()
    task.print_stack(file=out)
    assert out.getvalue().startswith(f"Traceback for {task!r} (most recent call last):\n")
    assert out.getvalue().endswith("ValueError: inside\n")
    assert "in inner" in out.getvalue()
    assert isinstance(task.exception(), ValueError)


def test_print_stack_of_a_waiting_and_of_a_finished_task(
    loop: Loop, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = spawn(wait_for_ever(), loop=loop), io.StringIO()
    turn(loop)
    task.print_stack(limit=5, file=out)
    assert out.getvalue().startswith(f"Stack for {task!r} (most recent call last):\n")
    assert "in wait_for_ever\n" in out.getvalue()
    end(loop, task)
    task.print_stack()
    assert capsys.readouterr().out == f"No stack for {task!r}\n"


def test_the_traceback_of_an_exception_names_the_coroutines_alone(loop: Loop, spawn: Spawn) -> None:
    async def outer() -> None:
        await asyncio.sleep(0)
        await inner()

    async def inner() -> None:
        raise ValueError

    task = spawn(outer(), loop=loop)
    turn(loop, 2)
    error = task.exception()
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["outer", "inner"]


def test_the_class_takes_type_arguments(task_class: TaskClass) -> None:
    generic: Any = task_class
    alias = generic[int]
    assert isinstance(alias, types.GenericAlias)
    assert (alias.__origin__, alias.__args__) == (task_class, (int,))


def test_tasks_can_be_referred_to_weakly_and_are_let_go_when_done(loop: Loop, spawn: Spawn) -> None:
    task = spawn(give(), loop=loop)
    reference = weakref.ref(task)
    loop.run_until_complete(task)
    assert reference() is task
    turn(loop)
    del task
    assert reference() is None


def test_the_coroutine_is_let_go_with_its_locals_when_the_task_is_done(loop: Loop, spawn: Spawn) -> None:
    class Local: ...

    references = list[weakref.ref[Local]]()

    async def main() -> None:
        local = Local()
        references.append(weakref.ref(local))
        await asyncio.sleep(0)
        assert sys.getrefcount(local) > 0

    task = spawn(main(), loop=loop)
    loop.run_until_complete(task)
    assert references[0]() is None
