"""Tasks that come from elsewhere: factories, classes derived in Python, asyncio's own tasks beside ours."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from support import making
from support.coroutines import give
from support.loops import Loop, turn
from support.making import FutureClass, MakeFuture, Spawn, TaskClass

pytest_generate_tests = making.parametrize

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


# Factories.


def test_a_loop_has_no_factory_until_it_is_given_one(loop: Loop, task_class: TaskClass) -> None:
    def factory(loop: Loop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return task_class(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@pytest.mark.parametrize("wrong", [42, "factory", object()])
def test_a_factory_must_be_callable(loop: Loop, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^task factory must be a callable or None$"):
        loop.set_task_factory(wrong)
    assert loop.get_task_factory() is None


def test_the_factory_makes_what_create_task_returns(loop: Loop, task_class: TaskClass) -> None:
    made = list[asyncio.Task[Any]]()

    def factory(of: Loop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        assert of is loop
        made.append(task_class(coro, loop=of, **kwargs))
        return made[-1]

    async def main() -> list[Any]:
        loop.set_task_factory(factory)
        direct = loop.create_task(give(1))
        module = asyncio.create_task(give(2))
        ensured = asyncio.ensure_future(give(3))
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(give(4))
        assert made == [direct, module, ensured, grouped]
        assert all(type(task) is task_class for task in made)
        return await asyncio.gather(direct, module, ensured, give(5), *[grouped])

    assert loop.run_until_complete(main()) == [1, 2, 3, 5, 4]
    assert len(made) == 5


def test_the_name_reaches_the_task_of_a_factory(loop: Loop, task_class: TaskClass) -> None:
    def factory(loop: Loop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return task_class(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    task = loop.create_task(give(), name="by the factory")
    assert task.get_name() == "by the factory"
    loop.run_until_complete(task)


def test_the_context_reaches_the_factory(loop: Loop, task_class: TaskClass) -> None:
    seen, context = list[Any](), contextvars.copy_context()

    def factory(loop: Loop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        seen.append(kwargs.get("context"))
        return task_class(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(give(), context=context))
    loop.run_until_complete(loop.create_task(give()))
    assert seen == [context, None]


@pytest.mark.before(3, 14)
def test_a_factory_without_keywords_is_good_enough_until_a_context_is_given(
    loop: Loop, task_class: TaskClass
) -> None:
    def factory(loop: Loop, coro: Any) -> asyncio.Task[Any]:
        return task_class(coro, loop=loop)

    loop.set_task_factory(factory)
    assert loop.run_until_complete(loop.create_task(give(1))) == 1
    coro = give(2)
    with pytest.raises(TypeError):
        loop.create_task(coro, context=contextvars.copy_context())
    coro.close()


def test_an_error_of_the_factory_is_the_callers(loop: Loop) -> None:
    def factory(loop: Loop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        coro.close()
        raise ZeroDivisionError("no task today")

    loop.set_task_factory(factory)
    with pytest.raises(ZeroDivisionError, match=r"^no task today$"):
        loop.create_task(give())
    loop.set_task_factory(None)
    assert loop.run_until_complete(give(1)) == 1


def test_a_factory_may_return_what_is_no_task(loop: Loop, future_class: FutureClass) -> None:
    class Named(future_class):  # type: ignore[misc, valid-type]
        def set_name(self, name: str) -> None:
            self.name = name

    future: Any = Named(loop=loop)

    def factory(loop: Loop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        coro.close()
        if "name" in kwargs:  # since 3.14; before, the loop calls `set_name`
            future.set_name(kwargs["name"])
        return future

    loop.set_task_factory(factory)
    made: Any = loop.create_task(give(), name="named")
    assert made is future
    assert made.name == "named"
    loop.set_task_factory(None)


def test_run_until_complete_uses_the_factory(loop: Loop, task_class: TaskClass) -> None:
    class Job(task_class):  # type: ignore[misc, valid-type]
        pass

    async def main() -> Any:
        return type(asyncio.current_task())

    loop.set_task_factory(lambda loop, coro, **kwargs: Job(coro, loop=loop, **kwargs))
    assert loop.run_until_complete(main()) is Job
    loop.set_task_factory(None)


def test_create_task_on_a_closed_loop_is_an_error(loop: Loop) -> None:
    loop.close()
    coro = give()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.create_task(coro)
    coro.close()


def test_create_task_refuses_an_unknown_keyword(loop: Loop) -> None:
    untyped: Any = loop
    coro = give()
    with pytest.raises(TypeError):
        untyped.create_task(coro, colour="red")
    with pytest.raises(TypeError):
        untyped.create_task(coro, "a name by position")
    coro.close()


# Derived in Python.


def test_a_derived_task_has_attributes_of_its_own(loop: Loop, task_class: TaskClass) -> None:
    class Job(task_class):  # type: ignore[misc, valid-type]
        def __init__(self, coro: Any, *, loop: Loop, owner: str) -> None:
            self.owner = owner
            super().__init__(coro, loop=loop, name=f"of {owner}")

    async def main() -> Any:
        me: Any = asyncio.current_task()
        await asyncio.sleep(0)
        return me.owner

    job = Job(main(), loop=loop, owner="somebody")
    # One of ours shows asyncio's class for itself, not for what is derived from it (docs/compatibility.md).
    assert isinstance(job, asyncio.Task) == (task_class is asyncio.Task)
    assert job.get_name() == "of somebody"
    assert repr(job).startswith("<Job pending name='of somebody' coro=<")
    assert asyncio.all_tasks(loop) == {job}
    assert loop.run_until_complete(job) == "somebody"


def test_a_derived_task_may_change_how_it_is_cancelled(loop: Loop, task_class: TaskClass) -> None:
    asked = list[Any]()

    class Job(task_class):  # type: ignore[misc, valid-type]
        def cancel(self, msg: Any = None) -> bool:
            asked.append(msg)
            return bool(super().cancel(msg=f"job: {msg}"))

    async def follow(job: asyncio.Task[Any]) -> None:
        await job

    job = Job(asyncio.sleep(3600), loop=loop)
    outer = loop.create_task(follow(job))
    turn(loop)
    outer.cancel("please")
    with pytest.raises(asyncio.CancelledError, match=r"^job: please$"):
        loop.run_until_complete(outer)
    assert asked == ["please"]
    assert job.cancelled()


def test_a_derived_task_may_look_at_its_callbacks(loop: Loop, task_class: TaskClass) -> None:
    added = list[Any]()

    class Job(task_class):  # type: ignore[misc, valid-type]
        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            added.append(fn)
            super().add_done_callback(fn, context=context)

    async def follow(job: asyncio.Task[Any]) -> Any:
        return await job

    job = Job(asyncio.sleep(0, 1), loop=loop)
    assert loop.run_until_complete(follow(job)) == 1
    assert len(added) == 1


def test_a_derived_task_that_was_not_initialised_is_an_error_and_no_crash(task_class: TaskClass) -> None:
    class Hollow(task_class):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            pass

    hollow: Any = Hollow()
    for use in (hollow.result, hollow.exception, hollow.get_loop, lambda: hollow.add_done_callback(print)):
        with pytest.raises((RuntimeError, asyncio.InvalidStateError)):
            use()
    assert hollow.cancelled() is False


def test_a_class_derived_from_both_kinds_of_mixins_works(loop: Loop, task_class: TaskClass) -> None:
    class Counted:
        count = 0

        def __init_subclass__(cls) -> None:
            Counted.count += 1

    class Job(Counted, task_class):  # type: ignore[misc, valid-type]
        pass

    assert loop.run_until_complete(Job(give(1), loop=loop)) == 1
    assert Counted.count == 1


# Asyncio's own, beside ours. Its pure Python classes stand for anybody's: they keep the documented contract
# (`_register_task`, `_enter_task`, `_leave_task`, …) and nothing else.


def test_stock_tasks_and_the_loops_own_take_turns(loop: Loop, task_class: TaskClass) -> None:
    order = list[str]()

    async def count(name: str) -> None:
        for step in range(3):
            order.append(f"{name}{step}")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(loop.create_task(count("a")), task_class(count("b"), loop=loop), count("c"))

    loop.run_until_complete(main())
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


@pytest.mark.before(3, 14)  # from there on the two halves of asyncio share no state
def test_a_task_written_in_python_runs_beside_the_others(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    written: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    future = make_future(loop)

    async def inner() -> Any:
        assert asyncio.current_task() is second
        return await future

    async def outer() -> Any:
        assert asyncio.current_task() is first
        assert asyncio.all_tasks() == {first, second}
        value = await second
        assert asyncio.current_task() is first
        return value

    for makes_first, makes_second in ((spawn, written), (written, spawn)):
        future = make_future(loop)
        first = makes_first(outer(), loop=loop)
        second = makes_second(inner(), loop=loop)
        turn(loop)
        future.set_result("through both")
        assert loop.run_until_complete(first) == "through both"


def test_a_future_written_in_python_is_awaited(loop: Loop, spawn: Spawn) -> None:
    written: Any = asyncio.futures._PyFuture  # type: ignore[attr-defined]
    future = written(loop=loop)

    async def main() -> Any:
        return await future

    task = spawn(main(), loop=loop)
    turn(loop)
    loop.call_soon(future.set_result, 3)
    assert loop.run_until_complete(task) == 3
    cancelled = written(loop=loop)
    future = cancelled
    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("down to it")
    assert cancelled.cancelled()
    with pytest.raises(asyncio.CancelledError, match=r"^down to it$"):
        loop.run_until_complete(task)


@pytest.mark.before(3, 14)
def test_a_task_written_in_python_awaits_any_future(loop: Loop, make_future: MakeFuture) -> None:
    written: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    future = make_future(loop)

    async def main() -> Any:
        return await future

    task = written(main(), loop=loop)
    turn(loop)
    assert task._fut_waiter is future
    loop.call_soon(future.set_result, 4)
    assert loop.run_until_complete(task) == 4


@pytest.mark.before(3, 14)
def test_nobody_enters_a_task_while_another_runs(loop: Loop, spawn: Spawn) -> None:
    tasks: Any = asyncio.tasks

    async def main() -> None:
        me = asyncio.current_task()
        with pytest.raises(
            RuntimeError, match=r"^Cannot enter into task .* while another task .* is being executed"
        ):
            tasks._enter_task(loop, other)
        with pytest.raises(RuntimeError, match=r"^Leaving task .* does not match the current task "):
            tasks._leave_task(loop, other)
        assert asyncio.current_task() is me

    other = spawn(give(), loop=loop)
    loop.run_until_complete(spawn(main(), loop=loop))
    loop.run_until_complete(other)


def test_a_task_may_be_swapped_out_and_in_again(loop: Loop, spawn: Spawn) -> None:
    tasks: Any = asyncio.tasks

    async def main() -> None:
        me = asyncio.current_task()
        assert tasks._swap_current_task(loop, None) is me
        assert asyncio.current_task() is None
        assert tasks._swap_current_task(loop, me) is None
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        assert asyncio.current_task() is me

    loop.run_until_complete(spawn(main(), loop=loop))


class Sleeper:
    """Waits as a library's own primitive does: a future of its own, resolved by a timer."""

    def __init__(self, loop: Loop, future_class: FutureClass) -> None:
        self.loop, self.future_class = loop, future_class

    def __await__(self) -> Generator[Any, Any, str]:
        future = self.future_class(loop=self.loop)
        handle = self.loop.call_later(0, future.set_result, "slept")
        try:
            yield from future.__await__()
            return str(future.result())
        finally:
            handle.cancel()


def test_an_awaitable_of_a_library_waits_on_any_future(
    loop: Loop, spawn: Spawn, future_class: FutureClass
) -> None:
    async def main() -> str:
        return await Sleeper(loop, future_class)

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "slept"


def test_tasks_and_futures_are_told_apart_by_their_classes(
    loop: Loop, task_class: TaskClass, future_class: FutureClass
) -> None:
    task, future = task_class(give(), loop=loop), future_class(loop=loop)
    assert isinstance(task, task_class)
    assert isinstance(future, future_class)
    assert not isinstance(future, asyncio.Task)
    assert not isinstance(42, task_class)
    assert not isinstance(future, task_class)
    loop.run_until_complete(task)
    future.cancel()


@pytest.mark.since(3, 14)
def test_a_factory_gets_the_keywords_that_were_given_and_no_others(loop: Loop, task_class: TaskClass) -> None:
    given: list[dict[str, Any]] = []

    def factory(loop: Loop, coro: Coroutine[Any, Any, Any], *, mark: object = None, **kwargs: Any) -> Any:
        given.append(kwargs | ({"mark": mark} if mark else {}))
        return task_class(coro, loop=loop, **kwargs)

    async def main() -> None:
        context = contextvars.copy_context()
        any_loop: Any = loop
        async with asyncio.TaskGroup() as group:
            any_loop.create_task(give(1))
            any_loop.create_task(give(2), name=None, context=None)
            any_loop.create_task(give(3), name="third", context=context, eager_start=True, mark="x")
            asyncio.create_task(give(4), eager_start=False)  # type: ignore[call-arg, unused-ignore]
            group.create_task(give(5), eager_start=True)  # type: ignore[call-arg, unused-ignore]
        assert given == [
            {},
            {"name": None, "context": None},
            {"name": "third", "context": context, "eager_start": True, "mark": "x"},
            {"eager_start": False},
            {"eager_start": True},
        ]

    task = loop.create_task(main())
    loop.set_task_factory(factory)
    loop.run_until_complete(task)
    loop.set_task_factory(None)
