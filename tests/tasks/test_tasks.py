"""Tasks: how they are made, named and run."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import re
import types
from collections.abc import Generator
from typing import Any

import pytest

from support import making
from support.coroutines import end, give, wait_for_ever
from support.loops import Loop, turn
from support.making import Spawn, TaskClass

pytest_generate_tests = making.parametrize

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


# Made.


def test_a_task_is_what_asyncio_takes_for_one(loop: Loop, spawn: Spawn) -> None:
    task = spawn(give(), loop=loop)
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert asyncio.isfuture(task)
    assert not asyncio.iscoroutine(task)
    assert asyncio.ensure_future(task, loop=loop) is task
    assert type(task).__name__ == "Task"
    assert task.get_loop() is loop
    end(loop, task)


def test_a_task_starts_in_the_next_turn(loop: Loop, spawn: Spawn) -> None:
    seen = list[str]()

    async def main() -> None:
        seen.append("ran")

    task = spawn(main(), loop=loop)
    assert not seen
    assert not task.done()
    turn(loop)
    assert seen == ["ran"]
    assert task.done()


@pytest.mark.parametrize("value", [None, 1, (1, 2), ValueError("a value"), StopIteration])
def test_what_the_coroutine_returns_is_the_result(loop: Loop, spawn: Spawn, value: Any) -> None:
    task = spawn(give(value), loop=loop)
    assert loop.run_until_complete(task) is value
    assert task.result() is value
    assert task.exception() is None
    assert not task.cancelled()


def test_what_the_coroutine_raises_is_the_exception(loop: Loop, spawn: Spawn) -> None:
    error = ValueError("raised")

    async def fail() -> None:
        raise error

    task = spawn(fail(), loop=loop)
    with pytest.raises(ValueError, match=r"^raised$") as caught:
        loop.run_until_complete(task)
    assert caught.value is error
    assert task.exception() is error
    assert not task.cancelled()


def test_a_pending_task_has_neither_result_nor_exception(loop: Loop, spawn: Spawn) -> None:
    task = spawn(give(), loop=loop)
    with pytest.raises(asyncio.InvalidStateError, match=r"^Result is not set\.$"):
        task.result()
    with pytest.raises(asyncio.InvalidStateError, match=r"^Exception is not set\.$"):
        task.exception()
    end(loop, task)


@pytest.mark.parametrize("done", [False, True])
def test_nobody_else_may_end_a_task(loop: Loop, spawn: Spawn, done: bool) -> None:
    task = spawn(give(), loop=loop)
    if done:
        loop.run_until_complete(task)
    with pytest.raises(RuntimeError, match=r"^Task does not support set_result operation$"):
        task.set_result(None)
    with pytest.raises(RuntimeError, match=r"^Task does not support set_exception operation$"):
        task.set_exception(ValueError())
    end(loop, task)


@pytest.mark.parametrize("wrong", [None, 42, "coro", give, object(), [], asyncio])
def test_only_coroutines_become_tasks(loop: Loop, spawn: Spawn, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^a coroutine was expected, got " + re.escape(repr(wrong)) + "$"):
        spawn(wrong, loop=loop)


def test_a_future_or_a_task_or_a_generator_is_no_coroutine(loop: Loop, spawn: Spawn) -> None:
    def generate() -> Generator[None, None, None]:
        yield

    future, task, generator = loop.create_future(), spawn(give(), loop=loop), generate()
    for wrong in (future, task, generator):
        with pytest.raises(TypeError, match=r"^a coroutine was expected, got "):
            spawn(wrong, loop=loop)  # type: ignore[arg-type]
    end(loop, task)


def test_the_constructor_takes_all_but_the_coroutine_by_keyword(loop: Loop, task_class: TaskClass) -> None:
    untyped: Any = task_class
    coro = give()
    with pytest.raises(TypeError):
        untyped(coro, loop)
    with pytest.raises(TypeError):
        untyped(coro, loop=loop, colour="red")
    with pytest.raises(TypeError):
        untyped(loop=loop)
    coro.close()


def test_a_task_made_without_a_loop_belongs_to_the_running_one(loop: Loop, task_class: TaskClass) -> None:
    async def main() -> None:
        for task in (task_class(give(1)), task_class(give(1), loop=None)):
            assert task.get_loop() is loop
            assert await task == 1

    loop.run_until_complete(main())


def test_the_coroutine_may_come_by_keyword(loop: Loop, task_class: TaskClass) -> None:
    assert loop.run_until_complete(task_class(coro=give(3), loop=loop)) == 3


class HandMade(collections.abc.Coroutine[Any, Any, str]):
    """A coroutine that no compiler made."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.sent: list[Any] = []
        self.thrown: list[BaseException] = []
        self.closed = 0

    def send(self, value: Any) -> Any:
        self.sent.append(value)
        if self.steps:
            step = self.steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            return step
        raise StopIteration("made by hand")

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        self.thrown.append(error)
        raise error

    def close(self) -> None:
        self.closed += 1

    def __await__(self) -> Generator[Any, Any, str]:
        raise NotImplementedError


def test_any_coroutine_of_collections_abc_is_driven(loop: Loop, spawn: Spawn) -> None:
    coro = HandMade(None, None)
    assert loop.run_until_complete(spawn(coro, loop=loop)) == "made by hand"
    assert coro.sent == [None] * 3
    assert coro.thrown == []
    assert coro.closed == 0


def test_a_coroutine_made_by_hand_gets_the_cancellation_thrown(loop: Loop, spawn: Spawn) -> None:
    coro = HandMade(None, None)
    task = spawn(coro, loop=loop)
    turn(loop)
    task.cancel("stop")
    turn(loop)
    assert task.cancelled()
    [error] = coro.thrown
    assert type(error) is asyncio.CancelledError
    assert error.args == ("stop",)


def test_a_coroutine_made_by_hand_may_raise(loop: Loop, spawn: Spawn) -> None:
    task = spawn(HandMade(None, ValueError("from send")), loop=loop)
    with pytest.raises(ValueError, match=r"^from send$"):
        loop.run_until_complete(task)


def test_a_generator_based_coroutine_is_driven_inside_another(loop: Loop, spawn: Spawn) -> None:
    future = loop.create_future()

    @types.coroutine
    def old_style() -> Generator[Any, Any, Any]:
        yield  # one turn
        return (yield from future)

    async def main() -> Any:
        return await old_style()

    task = spawn(main(), loop=loop)
    turn(loop)
    loop.call_soon(future.set_result, "old")
    assert loop.run_until_complete(task) == "old"


# Named.


def test_names_are_given_and_changed(loop: Loop, spawn: Spawn) -> None:
    task = spawn(give(), loop=loop, name="first")
    assert task.get_name() == "first"
    task.set_name("second")
    assert task.get_name() == "second"
    end(loop, task)


def test_a_name_is_made_a_string(loop: Loop, spawn: Spawn) -> None:
    task = spawn(give(), loop=loop, name=["a", "list"])
    assert task.get_name() == "['a', 'list']"
    task.set_name(42)
    assert task.get_name() == "42"
    end(loop, task)


def test_a_task_without_a_name_gets_a_number_that_grows(loop: Loop, spawn: Spawn) -> None:
    tasks = [spawn(give(), loop=loop, name=None), spawn(give(), loop=loop), asyncio.Task(give(), loop=loop)]
    found = [re.fullmatch(r"Task-(\d+)", task.get_name()) for task in tasks]
    numbers = [int(match[1]) for match in found if match]
    assert len(set(numbers)) == 3
    assert numbers[0] < numbers[1]
    end(loop, *tasks)


# Run.


def test_tasks_and_callbacks_run_in_one_order(loop: Loop, spawn: Spawn) -> None:
    order = list[int]()

    async def note(number: int) -> None:
        order.append(number)

    for number in range(10):
        if number % 2:
            spawn(note(number), loop=loop)
        else:
            loop.call_soon(order.append, number)
    turn(loop)
    assert order == list(range(10))


def test_sleep_zero_takes_turns(loop: Loop, spawn: Spawn) -> None:
    order = list[tuple[int, int]]()

    async def count(number: int) -> None:
        for step in range(5):
            order.append((step, number))
            await asyncio.sleep(0)

    tasks = [spawn(count(number), loop=loop) for number in range(4)]
    for task in tasks:
        loop.run_until_complete(task)
    assert order == [(step, number) for step in range(5) for number in range(4)]


def test_sleep_zero_lets_a_callback_in_between(loop: Loop, spawn: Spawn) -> None:
    order = list[str]()

    async def main() -> None:
        for step in range(3):
            loop.call_soon(order.append, f"callback {step}")
            order.append(f"task {step}")
            await asyncio.sleep(0)

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == [f"{what} {step}" for step in range(3) for what in ("task", "callback")]


def test_one_turn_is_one_step(loop: Loop, spawn: Spawn) -> None:
    steps = list[int]()

    async def main() -> None:
        for step in range(3):
            steps.append(step)
            await asyncio.sleep(0)

    task = spawn(main(), loop=loop)
    for expected in ([0], [0, 1], [0, 1, 2]):
        turn(loop)
        assert steps == expected
    turn(loop)
    assert task.done()


def test_awaiting_a_coroutine_takes_no_turn(loop: Loop, spawn: Spawn) -> None:
    async def deep(levels: int) -> int:
        return 1 + await deep(levels - 1) if levels else 0

    task = spawn(deep(50), loop=loop)
    turn(loop)
    assert task.result() == 50


def test_awaiting_a_task_that_is_done_takes_no_turn(loop: Loop, spawn: Spawn) -> None:
    first = spawn(give("first"), loop=loop)
    loop.run_until_complete(first)

    async def second() -> list[Any]:
        return [await first for _ in range(10)]

    task = spawn(second(), loop=loop)
    turn(loop)
    assert task.result() == ["first"] * 10


def test_tasks_wait_for_tasks_that_wait_for_tasks(loop: Loop, spawn: Spawn) -> None:
    async def follow(task: asyncio.Task[int]) -> int:
        return await task + 1

    task: asyncio.Task[int] = spawn(give(0), loop=loop)
    for _ in range(100):
        task = spawn(follow(task), loop=loop)
    assert loop.run_until_complete(task) == 100


def test_a_done_callback_gets_the_task(loop: Loop, spawn: Spawn) -> None:
    seen = list[object]()
    task = spawn(give(), loop=loop)
    task.add_done_callback(seen.append)
    turn(loop)
    assert task.done() and not seen
    turn(loop)
    assert seen == [task]
    assert task.remove_done_callback(seen.append) == 0


def test_a_done_callback_of_a_task_is_taken_back(loop: Loop, spawn: Spawn) -> None:
    seen = list[object]()
    task = spawn(give(), loop=loop)
    task.add_done_callback(seen.append)
    assert task.remove_done_callback(seen.append) == 1
    turn(loop, 2)
    assert not seen


# Contexts.


def test_a_task_runs_in_a_copy_of_the_context_it_was_made_in(loop: Loop, spawn: Spawn) -> None:
    seen = list[str]()

    async def main() -> None:
        seen.append(VAR.get())
        VAR.set("inside")
        await asyncio.sleep(0)
        seen.append(VAR.get())

    token = VAR.set("outside")
    task = spawn(main(), loop=loop)
    VAR.set("later")
    loop.run_until_complete(task)
    assert seen == ["outside", "inside"]
    assert VAR.get() == "later"
    assert task.get_context()[VAR] == "inside"
    VAR.reset(token)


def test_a_task_runs_in_the_context_given(loop: Loop, spawn: Spawn) -> None:
    context = contextvars.copy_context()
    context.run(VAR.set, "given")
    future = loop.create_future()

    async def main() -> str:
        before = VAR.get()
        await future
        VAR.set("changed")
        return before

    task = spawn(main(), loop=loop, context=context)
    assert task.get_context() is context
    loop.call_soon(future.set_result, None)
    assert loop.run_until_complete(task) == "given"
    assert context[VAR] == "changed"
    assert VAR.get() == "none"


def test_two_tasks_may_share_a_context(loop: Loop, spawn: Spawn) -> None:
    context = contextvars.copy_context()

    async def put() -> None:
        VAR.set("put")

    async def get() -> str:
        return VAR.get()

    putting, getting = spawn(put(), loop=loop, context=context), spawn(get(), loop=loop, context=context)
    loop.run_until_complete(putting)
    assert loop.run_until_complete(getting) == "put"


def test_the_context_is_current_when_an_error_is_thrown_in(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        VAR.set("inside")
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            return VAR.get()
        return ""

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel()
    assert loop.run_until_complete(task) == "inside"
