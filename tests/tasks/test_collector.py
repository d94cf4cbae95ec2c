"""A running loop's tasks and the cycle collector, which has to do with those done or outliving the run."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory, turn

held: contextvars.ContextVar[Any] = contextvars.ContextVar("held")


class Thing:
    """Something whose end can be seen, and that may hold others."""

    def __init__(self, *held: Any) -> None:
        self.held = held


async def for_a_future(thing: Thing) -> None:
    future = asyncio.get_running_loop().create_future()
    thing.held += (future,)
    await future


async def for_an_event(thing: Thing) -> None:
    await asyncio.Event().wait()


async def for_time(thing: Thing) -> None:
    await asyncio.sleep(3600)


async def for_a_task(thing: Thing) -> None:
    await asyncio.get_running_loop().create_task(for_a_future(thing))


async def for_nothing(thing: Thing) -> None:
    """Its next step is in the queue for ever."""
    while True:
        await asyncio.sleep(0)


async def for_its_own_context(thing: Thing) -> None:
    held.set(thing)
    await for_a_future(thing)


WAYS = [for_a_future, for_an_event, for_time, for_a_task, for_nothing, for_its_own_context]


@pytest.mark.parametrize("wait", WAYS, ids=lambda wait: wait.__name__)
def test_tasks_that_outlive_the_run_go_with_their_loop(
    pyloop_factory: LoopFactory,
    handled: list[Context],
    wait: Callable[[Thing], Coroutine[Any, Any, None]],
) -> None:
    """Each is in a cycle with its coroutine, what that waits for, its context and the loop.

    asyncio collects some of them before that: its documented trap.
    """
    loop = pyloop_factory()
    things = list[weakref.ref[Thing]]()

    def spawn() -> None:
        thing = Thing(asyncio.get_running_loop())
        thing.held += (asyncio.create_task(wait(thing)),)
        things.append(weakref.ref(thing))

    async def main() -> None:
        for _ in range(10):
            spawn()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert None not in [thing() for thing in things]

    for _ in range(2):
        loop.run_until_complete(main())
    gc.collect()
    assert None not in [thing() for thing in things]
    loop.close()
    del loop
    gc.collect()
    assert {context["message"] for context in handled} == {"Task was destroyed but it is pending!"}
    handled.clear()
    gc.collect()
    assert [thing() for thing in things] == [None] * 20


def test_a_task_that_is_done_is_collected_while_its_loop_runs(loop: Loop) -> None:
    async def set_context(thing: Thing) -> Thing:
        held.set(thing)
        return thing

    async def main() -> None:
        by_result, by_context, by_attribute = Thing(), Thing(), Thing()
        tasks: list[Any] = [
            loop.create_task(set_context(by_result)),
            loop.create_task(asyncio.sleep(0, by_attribute)),
            loop.create_task(asyncio.sleep(0), context=contextvars.copy_context()),
        ]
        tasks[2].get_context().run(held.set, by_context)
        by_result.held = (tasks[0],)
        by_context.held = (tasks[2],)
        tasks[1].thing = by_attribute
        by_attribute.held = (tasks[1],)
        references = [weakref.ref(thing) for thing in (by_result, by_context, by_attribute)]
        await asyncio.wait(tasks)
        tasks.clear()
        del by_result, by_context, by_attribute
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in references] == [None] * 3

    loop.run_until_complete(main())


def test_a_future_that_has_woken_its_task_is_collected_while_the_loop_runs(loop: Loop) -> None:
    async def wait(future: asyncio.Future[Any]) -> None:
        await future

    async def main() -> None:
        thing = Thing()
        future: Any = loop.create_future()
        task = loop.create_task(wait(future))
        await asyncio.sleep(0)
        future.thing = thing
        thing.held = (future,)
        future.set_result(thing)
        await task
        reference = weakref.ref(thing)
        del future, thing, task
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    loop.run_until_complete(main())


def test_what_is_over_is_tracked_again(loop: Loop) -> None:
    async def wait(future: asyncio.Future[None]) -> None:
        await future

    async def main() -> list[Any]:
        future = loop.create_future()
        coroutine = wait(future)
        context = contextvars.copy_context()
        task = loop.create_task(coroutine, context=context)
        await asyncio.sleep(0)
        future.set_result(None)
        await task
        return [task, future, context, coroutine]

    over = loop.run_until_complete(main())
    assert all(gc.is_tracked(each) for each in over[:3])
    coroutine = over[-1]
    over.clear()
    turn(loop)
    assert gc.is_tracked(coroutine)


def test_a_coroutine_and_a_context_outlive_their_task(loop: Loop) -> None:
    """CPython frees only coroutines and contexts that are tracked."""

    async def main() -> None:
        for _ in range(100):
            coroutine, context = asyncio.sleep(0), contextvars.copy_context()
            await loop.create_task(coroutine, context=context)
            del coroutine, context
            coroutine, context = asyncio.sleep(3600), contextvars.copy_context()
            task = loop.create_task(coroutine, context=context)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            gc.collect(0)

    loop.run_until_complete(main())


def test_a_context_may_be_shared_by_tasks_that_end_one_after_the_other(loop: Loop) -> None:
    async def main() -> None:
        shared = contextvars.copy_context()
        futures = [loop.create_future() for _ in range(3)]

        async def wait(future: asyncio.Future[None]) -> Any:
            await future
            return held.get()

        shared.run(held.set, thing := Thing(shared))
        tasks = [loop.create_task(wait(future), context=shared) for future in futures]
        for future, task in zip(futures, tasks, strict=True):
            await asyncio.sleep(0)
            gc.collect()
            future.set_result(None)
            assert await task is thing
        reference = weakref.ref(thing)
        del shared, thing, task
        tasks.clear()
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    loop.run_until_complete(main())


def test_tasks_rest_and_end_in_any_order(loop: Loop) -> None:
    """What a run leaves pending is waited for, or cancelled, by later ones."""
    futures = list[asyncio.Future[int]]()

    async def wait(future: asyncio.Future[int]) -> int:
        return await future

    async def spawn(count: int) -> list[asyncio.Task[int]]:
        made = [loop.create_future() for _ in range(count)]
        futures.extend(made)
        tasks = [loop.create_task(wait(future)) for future in made]
        await asyncio.sleep(0)
        return tasks

    async def end(order: list[int]) -> None:
        for number in order:
            futures[number].set_result(number)
        for number in order:
            assert await tasks[number] == number

    tasks = loop.run_until_complete(spawn(10)) + loop.run_until_complete(spawn(10))
    assert asyncio.all_tasks(loop) == set(tasks)
    loop.run_until_complete(end([0, 9, 10, 19, 5]))
    tasks += loop.run_until_complete(spawn(3))
    loop.run_until_complete(end([22, 1, 18, 2, 3, 4]))
    assert asyncio.all_tasks(loop) == {task for task in tasks if not task.done()}
    assert len(asyncio.all_tasks(loop)) == 12
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    assert asyncio.all_tasks(loop) == set()
