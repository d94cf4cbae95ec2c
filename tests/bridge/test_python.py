"""Python awaitables in Rust: every kind of awaitable on every thread; locals; synchronous callers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop, turn
from support.rust import pyloop
from support.threads import in_thread

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")

Through = Callable[[Any], Any]

THROUGH: dict[str, Through] = {
    "in place": lambda awaitable: ext.awaits(awaitable),
    "spawned": lambda awaitable: ext.awaits_spawned(awaitable),
    "in a thread": lambda awaitable: ext.awaits_in_thread(awaitable),
}
each_way = pytest.mark.parametrize("through", list(THROUGH.values()), ids=list(THROUGH))


async def ready(value: Any) -> Any:
    return value


async def pending(value: Any) -> Any:
    await asyncio.sleep(0)
    await ext.yield_once()
    return value


class Awaitable:
    """An object with `__await__`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.value


def resolved_soon(value: Any) -> Any:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, value)
    return future


def resolved(value: Any) -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


AWAITABLES: dict[str, Callable[[Any], Any]] = {
    "coroutine": ready,
    "pending coroutine": pending,
    "task": lambda value: asyncio.create_task(pending(value)),
    "stock task": lambda value: asyncio.Task(pending(value)),
    "our task": lambda value: pyloop.Task(pending(value)),
    "future": resolved_soon,
    "resolved future": resolved,
    "__await__": Awaitable,
    "gather": lambda value: asyncio.gather(pending(value)),
    "rust future": lambda value: ext.ready(value),
    "rust future twice": lambda value: ext.awaits(ext.ready(value)),
}


@each_way
@pytest.mark.parametrize("make", list(AWAITABLES.values()), ids=list(AWAITABLES))
def test_rust_awaits_it(loop: Loop, make: Callable[[Any], Any], through: Through) -> None:
    async def main() -> Any:
        return await through(make("value"))

    got = loop.run_until_complete(main())
    assert got in ("value", ["value"])
    turn(loop)


@each_way
def test_what_rust_awaits_is_a_task_of_the_loop(loop: Loop, through: Through) -> None:
    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        assert task in asyncio.all_tasks()
        assert asyncio.get_running_loop() is loop
        assert threading.get_ident() == home
        await asyncio.sleep(0)
        assert asyncio.current_task() is task

    home = threading.get_ident()

    async def main() -> None:
        me = asyncio.current_task()
        await through(look())
        assert asyncio.current_task() is me

    loop.run_until_complete(main())


@each_way
def test_it_runs_in_a_copy_of_the_callers_context(loop: Loop, through: Through) -> None:
    async def look() -> str:
        before = VAR.get()
        VAR.set("of the awaited")
        await asyncio.sleep(0)
        return before

    async def main() -> None:
        VAR.set("of the caller")
        assert await through(look()) == "of the caller"
        assert VAR.get() == "of the caller"

    loop.run_until_complete(main())


def test_many_at_once(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.joins([pending(number) for number in range(500)]) == list(range(500))
        spawned = [ext.awaits_spawned(pending(number)) for number in range(200)]
        assert await asyncio.gather(*spawned) == list(range(200))

    loop.run_until_complete(main())


def test_what_is_not_awaitable_is_refused(loop: Loop) -> None:
    async def main() -> None:
        for wrong in (1, None, "text"):
            with pytest.raises(TypeError):
                await ext.awaits(wrong)

    loop.run_until_complete(main())


def test_without_a_loop_there_is_no_future(loop: Loop) -> None:
    coroutine = ready(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        ext.awaits(coroutine)
    coroutine.close()


# Dropped and cancelled.


def test_dropping_the_rust_future_cancels_the_python_task(loop: Loop) -> None:
    log = list[str]()

    async def wait() -> None:
        log.append("started")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main() -> None:
        delay = 0.001
        while not log:  # it may be given up before its first step
            assert await ext.gives_up(wait(), delay) is None
            delay *= 2
        await until(lambda: log == ["started", "cancelled"])
        await until(lambda: len(asyncio.all_tasks()) == 1)

    loop.run_until_complete(main())


@pytest.mark.parametrize("through", [THROUGH["in place"], THROUGH["spawned"]], ids=["in place", "spawned"])
def test_cancelling_the_awaiting_task_cancels_the_awaited(loop: Loop, through: Through) -> None:
    log = list[str]()

    async def wait() -> None:
        log.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            log.append("ended")

    async def main() -> None:
        task = asyncio.create_task(through(wait()))
        await until(lambda: log == ["started"])
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: log == ["started", "ended"])
        await until(lambda: len(asyncio.all_tasks()) == 1)

    loop.run_until_complete(main())


def test_what_a_thread_awaits_is_its_own_to_drop(loop: Loop) -> None:
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(ext.awaits_in_thread(wait()))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        (other,) = asyncio.all_tasks() - {asyncio.current_task()}
        other.cancel()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    loop.run_until_complete(main())


def test_a_future_that_is_never_polled_starts_nothing(loop: Loop) -> None:
    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            ext.drops_unpolled(ready(1))
        future = resolved_soon(1)
        ext.drops_unpolled(future)
        assert await future == 1

    loop.run_until_complete(main())


def test_a_cancelled_awaitable_is_cancelled_to_rust(loop: Loop) -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        assert await ext.ends(cancels_itself()) == "cancelled"
        future = loop.create_future()
        loop.call_soon(future.cancel)
        assert await ext.ends(future) == "cancelled"
        task = asyncio.create_task(asyncio.sleep(3600))
        loop.call_soon(task.cancel)
        assert await ext.ends(task) == "cancelled"
        assert await ext.ends(ready("fine")) == "returned 'fine'"

    loop.run_until_complete(main())


def test_the_awaiting_task_is_cancelled_by_the_error_that_rust_passes_on(loop: Loop) -> None:
    async def main() -> None:
        future = loop.create_future()
        task = asyncio.create_task(ext.awaits(future))
        await asyncio.sleep(0)
        future.cancel("told why")
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(asyncio.CancelledError):
            task.result()

    loop.run_until_complete(main())


@each_way
@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("turns", [0, 1], ids=["at once", "later"])
def test_what_ends_the_program_passes_rust(
    loop: Loop, through: Through, leave: type[BaseException], turns: int
) -> None:
    async def ends() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise leave("now")

    async def main() -> None:
        await through(ends())

    task = loop.create_task(main())
    with pytest.raises(leave, match="now"):
        loop.run_until_complete(task)
    # It has left the run; the task that awaits the one that raised it hears of it in the next.
    for _ in range(100_000):
        if task.done():
            break
        try:
            turn(loop)
        except leave:
            continue
    assert isinstance(task.exception(), leave)
    turn(loop, 2)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("turns", [0, 1], ids=["at once", "later"])
@pytest.mark.parametrize("eager", [False, True])
def test_what_ends_the_program_is_not_rusts_to_swallow(
    loop: Loop, handled: list[dict[str, Any]], leave: type[BaseException], turns: int, eager: bool
) -> None:
    seen = list[str]()

    async def ends() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise leave("now")

    async def main() -> None:
        if eager:
            loop.set_task_factory(lambda loop, coro, **_: asyncio.Task(coro, loop=loop, eager_start=True))
        assert not await ext.ignores(ends())
        seen.append("goes on")

    task = loop.create_task(main())
    with pytest.raises(leave, match="now"):
        loop.run_until_complete(task)
    assert seen == []
    loop.set_task_factory(None)
    # Who awaits is told of it in the next run.
    loop.run_until_complete(task)
    assert seen == ["goes on"]
    # Of an eager task that a factory makes nobody but asyncio knows.
    unknown = eager and not turns
    assert [context["message"] for context in handled] == ["Task exception was never retrieved"] * unknown


# Locals.


def test_what_was_spawned_knows_its_loop_and_context(loop: Loop) -> None:
    async def main() -> None:
        VAR.set("of the caller")
        event_loop, context = await ext.locals()
        assert event_loop is loop
        assert context[VAR] == "of the caller"
        assert await ext.current_loop() is loop

    loop.run_until_complete(main())


def test_rust_calls_async_functions_from_a_thread_of_the_runtime(loop: Loop) -> None:
    async def look() -> tuple[Any, str, bool]:
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), VAR.get(), threading.get_ident() == home

    home = threading.get_ident()

    async def main() -> None:
        VAR.set("of the caller")
        assert await ext.calls_async(look) == (loop, "of the caller", True)
        assert await ext.calls_async_deeper(look, True) == (loop, "of the caller", True)
        assert await ext.moved_spawns(look) == (loop, "of the caller", True)

    loop.run_until_complete(main())


def test_a_task_that_was_spawned_without_locals_says_so(loop: Loop) -> None:
    made = list[Any]()

    def function() -> Any:
        made.append(ready(1))
        return made[0]

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            await ext.calls_async_deeper(function, False)
        made[0].close()

    loop.run_until_complete(main())


# Synchronous callers.


def test_block_on_waits_where_no_loop_runs(loop: Loop) -> None:
    assert ext.block_on() == 5
    assert in_thread(ext.block_on) == 5

    async def main() -> Any:
        return await asyncio.to_thread(ext.block_on)

    assert loop.run_until_complete(main()) == 5
    loop.run_until_complete(loop.shutdown_default_executor())


def test_block_on_lets_other_threads_run_python(loop: Loop) -> None:
    seen = list[int]()
    thread = threading.Thread(target=lambda: seen.append(ext.block_on()))
    thread.start()
    assert ext.block_on() == 5
    thread.join()
    assert seen == [5]


def test_block_on_is_refused_where_a_loop_runs(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="would stop the event loop"):
            ext.block_on()
        with pytest.raises(RuntimeError, match="would stop the event loop"):
            await ext.calls(lambda _: ext.block_on(), 1)

    loop.run_until_complete(main())
    assert ext.block_on() == 5


def test_block_on_is_refused_in_the_runtime(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="would stop the tokio runtime"):
        loop.run_until_complete(ext.blocks_in_the_runtime())


def test_rust_runs_a_loop_for_a_future(loop: Loop) -> None:
    assert ext.runs(pending("value")) == "value"
    assert ext.runs_on(loop, pending("value")) == "value"

    async def fails() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        ext.runs(fails())

    async def main() -> None:
        coroutine = ready(1)
        with pytest.raises(RuntimeError, match="running event loop"):
            ext.runs(coroutine)
        coroutine.close()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        loop.run_until_complete(main())


def test_programs_of_pyo3_async_runtimes_run_as_they_are(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.moved_sleep(0.001) == 0.001
        assert await ext.moved_local() == 7

    loop.run_until_complete(main())
