"""Among very many tasks, what they await is hidden from the cycle collector until their second step.

Nothing of that may be seen but in the collector's own books; coroutines and generators that were freed while
they are hidden would crash the interpreter.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory

#: More than the loop's own bound.
CROWD = 11_000

Work = Callable[[asyncio.Future[Any]], Coroutine[Any, Any, Any]]


class Thing:
    """Something whose end can be seen, and that may hold others."""

    def __init__(self, *held: Any) -> None:
        self.held = held


@types.coroutine
def by_generator(future: asyncio.Future[Any]) -> Generator[Any, Any, Any]:
    return (yield from future)


async def directly(future: asyncio.Future[Any]) -> Any:
    return await future


async def deeply(future: asyncio.Future[Any], depth: int = 8) -> Any:
    return await (deeply(future, depth - 1) if depth else future)


async def through_a_generator(future: asyncio.Future[Any]) -> Any:
    return await by_generator(future)


async def through_an_object(future: asyncio.Future[Any]) -> Any:
    class Awaitable:
        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield from future)

    return await Awaitable()


async def through_an_async_generator(future: asyncio.Future[Any]) -> Any:
    async def generate() -> Any:
        yield await directly(future)

    return await anext(generate())


async def after_a_pause(future: asyncio.Future[Any]) -> Any:
    await asyncio.sleep(0)
    return await directly(future)


@pytest.fixture(autouse=True)
def _short_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's debug mode keeps one line of where each of the many was made, not ten."""
    monkeypatch.setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 1)


@pytest.fixture
def loop(pyloop_loop: Loop) -> Loop:
    """asyncio has nothing to do with this."""
    return pyloop_loop


WORKS = [directly, deeply, through_a_generator, through_an_object, through_an_async_generator, after_a_pause]


def crowd(loop: Loop, work: Work, future: asyncio.Future[Any]) -> list[asyncio.Task[Any]]:
    """Very many tasks, of which the later ones find themselves in a crowd."""
    return [loop.create_task(work(future)) for _ in range(CROWD)]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_it_ends_as_any_other(loop: Loop, work: Work) -> None:
    async def main() -> None:
        futures = [loop.create_future() for _ in range(3)]
        tasks = [loop.create_task(work(futures[i % 3])) for i in range(CROWD)]
        await asyncio.sleep(0)
        gc.collect()
        futures[0].set_result(7)
        futures[1].set_exception(ValueError("no"))
        for task in tasks[2::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert set(results[0::3]) == {7}
        assert {type(raised) for raised in results[1::3]} == {ValueError}
        assert {type(raised) for raised in results[2::3]} == {asyncio.CancelledError}

    loop.run_until_complete(main())


@pytest.mark.acceleration("collector", "task_register")
def test_the_collector_has_nothing_to_do_with_those_that_wait(loop: Loop) -> None:
    loop.set_debug(False)  # it keeps where each was made

    async def main() -> None:
        few, many = [loop.create_future() for _ in range(2)]
        first = crowd(loop, deeply, few)
        await asyncio.sleep(0)
        gc.collect()
        before = len(gc.get_objects())
        tasks = [loop.create_task(through_a_generator(many)) for _ in range(CROWD)]
        await asyncio.sleep(0)
        assert len(gc.get_objects()) - before < CROWD // 100
        for future in (few, many):
            future.set_result(None)
        await asyncio.wait([*first, *tasks])

    loop.run_until_complete(main())


@pytest.mark.acceleration("collector", "task_register")
def test_what_is_awaited_is_tracked_again_with_the_next_step(loop: Loop) -> None:
    inner = list[Coroutine[Any, Any, Any]]()

    async def twice(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            await future

    async def work(futures: list[asyncio.Future[None]]) -> None:
        coroutine = twice(futures)
        inner.append(coroutine)
        await coroutine

    async def main() -> None:
        futures = [loop.create_future() for _ in range(2)]
        tasks = [loop.create_task(work(futures)) for _ in range(CROWD)]
        await asyncio.sleep(0)
        assert not gc.is_tracked(inner[-1])
        futures[0].set_result(None)
        await asyncio.sleep(0)
        assert gc.is_tracked(inner[-1])
        futures[1].set_result(None)
        await asyncio.wait(tasks)

    loop.run_until_complete(main())


def test_it_is_freed_in_time(loop: Loop) -> None:
    references = list[weakref.ref[Any]]()

    async def inner(future: asyncio.Future[Any], thing: Thing) -> None:
        await future

    async def work(future: asyncio.Future[Any]) -> None:
        thing = Thing()
        coroutine = inner(future, thing)
        references.extend(weakref.ref(each) for each in (thing, coroutine))
        await coroutine

    async def main() -> None:
        future = loop.create_future()
        tasks = crowd(loop, work, future)
        await asyncio.sleep(0)
        assert None not in [reference() for reference in references]
        future.set_result(None)
        await asyncio.wait(tasks)
        assert {reference() for reference in references} == {None}

    gc.disable()
    try:
        loop.run_until_complete(main())
    finally:
        gc.enable()


def test_a_coroutine_that_is_closed_by_hand(loop: Loop, handled: list[Context]) -> None:
    """Its task is told so in its next step."""
    coroutines = list[Coroutine[Any, Any, Any]]()

    async def main() -> None:
        future = loop.create_future()
        tasks = []
        for _ in range(CROWD):
            coroutines.append(coroutine := deeply(future))
            tasks.append(loop.create_task(coroutine))
        await asyncio.sleep(0)
        for coroutine in coroutines:
            coroutine.close()
        coroutines.clear()
        del coroutine
        gc.collect()
        future.set_result(None)
        for given in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(given, RuntimeError), given

    loop.run_until_complete(main())


def test_frames_that_are_cleared_by_hand(loop: Loop) -> None:
    """CPython 3.12 closes the coroutine then, later ones refuse."""
    frames = list[types.FrameType]()

    async def inner(future: asyncio.Future[Any]) -> None:
        frames.append(sys._getframe())
        await future

    async def work(future: asyncio.Future[Any]) -> None:
        frames.append(sys._getframe())
        await inner(future)

    async def main() -> None:
        future = loop.create_future()
        tasks = crowd(loop, work, future)
        await asyncio.sleep(0)
        for frame in frames:
            try:
                frame.clear()
            except RuntimeError:
                assert sys.version_info >= (3, 13)
        frames.clear()
        gc.collect()
        future.set_result(None)
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(main())


def test_an_awaitable_that_gives_the_same_generator_to_all(loop: Loop) -> None:
    async def main() -> None:
        future = loop.create_future()

        def generate() -> Generator[Any, Any, None]:
            while True:
                yield from asyncio.sleep(0).__await__()
                if future.done():
                    return

        class Shared:
            iterator = generate()

            def __await__(self) -> Generator[Any, Any, None]:
                return self.iterator

        async def work(_: asyncio.Future[Any]) -> None:
            await Shared()

        tasks = crowd(loop, work, future)
        await asyncio.sleep(0)
        gc.collect()
        del Shared.iterator
        future.set_result(None)
        assert await asyncio.gather(*tasks) == [None] * CROWD

    loop.run_until_complete(main())


def test_a_crowd_that_outlives_the_run_goes_with_its_loop(
    pyloop_factory: LoopFactory, handled: list[Context]
) -> None:
    """Each of them is in a cycle with what it awaits."""
    loop = pyloop_factory()
    held: contextvars.ContextVar[Any] = contextvars.ContextVar("held")
    things = list[weakref.ref[Thing]]()

    async def inner(thing: Thing) -> None:
        held.set(thing)
        await asyncio.Event().wait()

    async def work(thing: Thing) -> None:
        coroutine = inner(thing)
        thing.held += (coroutine,)
        await coroutine

    def spawn() -> None:
        thing = Thing(asyncio.get_running_loop())
        thing.held += (asyncio.create_task(work(thing)),)
        things.append(weakref.ref(thing))

    async def main() -> None:
        for _ in range(CROWD):
            spawn()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    gc.collect()
    assert None not in [thing() for thing in things]
    loop.close()
    del loop, main
    gc.collect()
    assert {context["message"] for context in handled} == {"Task was destroyed but it is pending!"}
    handled.clear()  # a report holds its task
    gc.collect()
    assert {thing() for thing in things} == {None}
