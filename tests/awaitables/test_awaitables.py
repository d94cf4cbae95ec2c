"""Rust futures awaited from Python: each kind, in every combination, on asyncio's loop, uvloop and ours."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from support import making
from support.loops import Loop, LoopFactory, turn
from support.rust import ENDING, none_left, pyloop, rust, start_background

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")

Kind = Callable[[Any], Any]

each_kind = pytest.mark.parametrize("kind", [make for make, _ in ENDING.values()], ids=list(ENDING))


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    with none_left():
        yield


# Every kind, in every combination.


@each_kind
def test_await_gives_the_value(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        return await kind("value")

    assert loop.run_until_complete(main()) == "value"


@each_kind
@pytest.mark.parametrize("value", [None, (1, 2), StopIteration(3), ValueError("as a value")], ids=repr)
def test_any_object_is_a_value(loop: Loop, kind: Kind, value: Any) -> None:
    async def main() -> Any:
        return await kind(value)

    assert loop.run_until_complete(main()) is value


@each_kind
def test_one_after_the_other_and_in_nested_coroutines(loop: Loop, kind: Kind) -> None:
    async def deep(levels: int) -> Any:
        return await deep(levels - 1) if levels else [await kind(number) for number in range(3)]

    async def main() -> Any:
        return await deep(10)

    assert loop.run_until_complete(main()) == [0, 1, 2]


@each_kind
def test_it_becomes_a_task_itself(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        task = asyncio.create_task(kind("of a task"), name="rusty")
        assert isinstance(task, asyncio.Task)
        assert not task.done()
        assert repr(task).startswith("<Task pending name='rusty' coro=<")
        assert [frame.f_code.co_filename for frame in task.get_stack()] == ["<Rust>"]
        return await task

    assert loop.run_until_complete(main()) == "of a task"


@each_kind
def test_the_loop_runs_it_directly(loop: Loop, kind: Kind) -> None:
    assert loop.run_until_complete(kind("direct")) == "direct"


@each_kind
def test_asyncio_run_runs_it(loop_factory: LoopFactory, kind: Kind) -> None:
    assert asyncio.run(kind("run"), loop_factory=loop_factory) == "run"


@each_kind
def test_in_gather(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        return await asyncio.gather(kind(1), asyncio.sleep(0, 2), kind(3), asyncio.create_task(kind(4)))

    assert loop.run_until_complete(main()) == [1, 2, 3, 4]


@each_kind
@pytest.mark.parametrize("timeout", [None, 3600])
def test_in_wait_for(loop: Loop, kind: Kind, timeout: float | None) -> None:
    async def main() -> Any:
        return await asyncio.wait_for(kind("in time"), timeout)

    assert loop.run_until_complete(main()) == "in time"


@each_kind
def test_in_shield(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        return await asyncio.shield(kind("shielded"))

    assert loop.run_until_complete(main()) == "shielded"


@each_kind
def test_in_a_task_group(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kind(number)) for number in range(3)]
        return [task.result() for task in tasks]

    assert loop.run_until_complete(main()) == [0, 1, 2]


@each_kind
def test_in_a_timeout(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        async with asyncio.timeout(3600):
            return await kind("in time")

    assert loop.run_until_complete(main()) == "in time"


@each_kind
def test_in_wait_and_as_completed(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        done, pending = await asyncio.wait([asyncio.create_task(kind(1)), asyncio.ensure_future(kind(1))])
        assert not pending
        assert [task.result() for task in done] == [1, 1]
        return sorted([await ended for ended in asyncio.as_completed([kind(2), kind(3)])])

    assert loop.run_until_complete(main()) == [2, 3]


@each_kind
def test_in_an_async_generator(loop: Loop, kind: Kind) -> None:
    async def generate() -> AsyncIterator[Any]:
        for number in range(3):
            yield await kind(number)

    async def main() -> Any:
        return [number async for number in generate()]

    assert loop.run_until_complete(main()) == [0, 1, 2]


@each_kind
def test_between_other_awaits(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        future = loop.create_future()
        loop.call_soon(future.set_result, 2)
        values = [await kind(1), await future]
        await asyncio.sleep(0)
        values.append(await kind(3))
        task = asyncio.create_task(asyncio.sleep(0.001, 4))
        return [*values, await task, await kind(5)]

    assert loop.run_until_complete(main()) == [1, 2, 3, 4, 5]


@each_kind
def test_from_another_thread(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        def ask() -> Any:
            async def remote() -> Any:
                return await kind("remote")

            return asyncio.run_coroutine_threadsafe(remote(), loop).result()

        return await asyncio.to_thread(ask)

    assert loop.run_until_complete(main()) == "remote"


@each_kind
def test_in_a_stock_task(loop: Loop, kind: Kind) -> None:
    async def work() -> Any:
        return [await kind(1), await asyncio.sleep(0, 2), await kind(3)]

    async def main() -> Any:
        stock: asyncio.Task[Any] = asyncio.Task(work(), loop=loop)
        directly: asyncio.Task[Any] = asyncio.Task(kind(4), loop=loop)
        return [await stock, await directly, await loop.create_task(kind(5))]

    assert loop.run_until_complete(main()) == [[1, 2, 3], 4, 5]


@each_kind
def test_in_a_task_of_ours_on_any_loop(loop: Loop, kind: Kind) -> None:
    async def work() -> Any:
        return [await kind(1), await asyncio.sleep(0, 2), await kind(3)]

    async def main() -> Any:
        return [await pyloop.Task(work()), await pyloop.Task(kind(4))]

    assert loop.run_until_complete(main()) == [[1, 2, 3], 4]


@each_kind
def test_in_tasks_that_a_factory_makes(loop: Loop, kind: Kind) -> None:
    async def main() -> Any:
        loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))
        first = asyncio.create_task(kind(1))
        assert type(first) is asyncio.Task
        # Not asyncio.eager_task_factory itself: uvloop hands it an `eager_start` that it does not take.
        loop.set_task_factory(lambda loop, coro, **_: asyncio.Task(coro, loop=loop, eager_start=True))
        second = asyncio.create_task(kind(2))
        loop.set_task_factory(None)
        return [await first, await second]

    assert loop.run_until_complete(main()) == [1, 2]


@each_kind
@pytest.mark.parametrize("ours", [False, True])
def test_in_an_eager_task(loop: Loop, kind: Kind, ours: bool) -> None:
    async def child() -> Any:
        return await kind("eager")

    async def main() -> Any:
        task: Any = pyloop.Task if ours else asyncio.Task
        children = [
            task(child(), loop=loop, eager_start=True),
            task(kind("eager"), loop=loop, eager_start=True),
        ]
        return [await child for child in children]

    assert loop.run_until_complete(main()) == ["eager", "eager"]


def test_all_kinds_together(loop: Loop) -> None:
    async def work(number: int) -> list[Any]:
        kinds = list(ENDING.values())
        return [await kinds[(number + step) % len(kinds)][0]((number, step)) for step in range(12)]

    async def main() -> Any:
        return await asyncio.gather(*(work(number) for number in range(12)))

    assert loop.run_until_complete(main()) == [[(number, step) for step in range(12)] for number in range(12)]


# Turns.


def test_what_is_ready_takes_no_turn(loop: Loop) -> None:
    async def main() -> Any:
        return [await rust.ready(number) for number in range(100)]

    task = loop.create_task(main())
    turn(loop)
    assert task.result() == list(range(100))


@pytest.mark.parametrize("kind", ["yield_once", "yield_n", "local"])
def test_others_run_while_it_is_not_ready(loop: Loop, kind: str) -> None:
    order = list[str]()

    async def other() -> None:
        order.append("other")

    async def main() -> None:
        asyncio.create_task(other())
        loop.call_soon(order.append, "callback")
        await ENDING[kind][0](None)
        order.append("main")

    loop.run_until_complete(main())
    assert order == ["other", "callback", "main"]


def test_a_thousand_at_once(loop: Loop) -> None:
    async def main() -> Any:
        return await asyncio.gather(*(rust.yield_n(number % 7, number) for number in range(1000)))

    assert loop.run_until_complete(main()) == list(range(1000))


def test_many_threads_wake_many_tasks(loop: Loop) -> None:
    async def main() -> Any:
        return await asyncio.gather(
            *(rust.woken_from_thread(number % 5 / 1000, number) for number in range(50))
        )

    assert loop.run_until_complete(main()) == list(range(50))


def test_a_long_run_of_yields(loop: Loop) -> None:
    assert loop.run_until_complete(rust.yield_n(5000, "far")) == "far"


def test_no_yields_at_all(loop: Loop) -> None:
    async def main() -> Any:
        return await rust.yield_n(0, "at once")

    task = loop.create_task(main())
    turn(loop)
    assert task.result() == "at once"


# Errors and panics.


def test_the_very_exception_is_raised(loop: Loop) -> None:
    error = ValueError("from Rust")
    error.add_note("a note")

    async def inner() -> None:
        await rust.error(error)

    async def main() -> None:
        with pytest.raises(ValueError, match=r"^from Rust") as caught:
            await inner()
        assert caught.value is error
        assert caught.value.__notes__ == ["a note"]
        assert [entry.name for entry in caught.traceback] == ["main", "inner"]

    loop.run_until_complete(main())


def test_an_exception_keeps_the_context_it_was_raised_in(loop: Loop) -> None:
    async def main() -> None:
        handling = KeyError("being handled")
        with pytest.raises(ValueError) as caught:
            try:
                raise handling
            except KeyError:
                await rust.error(ValueError())
        assert caught.value.__context__ is handling

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError("of its own"), GeneratorExit(), StopAsyncIteration()]
)
def test_any_exception_may_come_out(loop: Loop, error: BaseException) -> None:
    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await rust.error(error)
        assert caught.value is error

    loop.run_until_complete(main())


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_run(loop: Loop, leave: type[BaseException]) -> None:
    async def main() -> None:
        await rust.error(leave())

    task = loop.create_task(main())
    with pytest.raises(leave):
        loop.run_until_complete(task)
    assert isinstance(task.exception(), leave)
    assert loop.run_until_complete(rust.yield_once("still running")) == "still running"


def test_stop_iteration_is_a_runtime_error_as_in_any_coroutine(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match=r"raised StopIteration"):
        loop.run_until_complete(rust.error(StopIteration(1)))


def test_errors_in_gather_and_groups(loop: Loop) -> None:
    async def main() -> None:
        error = ValueError("one")
        results: Any = await asyncio.gather(rust.yield_once(1), rust.error(error), return_exceptions=True)
        assert results == [1, error]
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(rust.never())
                group.create_task(rust.error(KeyError("in a group")))
                await rust.never()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]

    loop.run_until_complete(main())


def is_panic(error: BaseException | None, message: str) -> bool:
    return (
        type(error).__name__ == "PanicException"
        and not isinstance(error, Exception)
        and str(error) == message
    )


def test_a_panic_arrives_as_an_exception_and_the_loop_goes_on(loop: Loop) -> None:
    async def main() -> str:
        try:
            await rust.panic("at the disco")
        except BaseException as error:
            assert is_panic(error, "at the disco")
            return str(await rust.yield_once("went on"))
        return "no panic"

    assert loop.run_until_complete(main()) == "went on"
    assert loop.run_until_complete(rust.yield_once(1)) == 1


def test_a_panic_ends_its_task_alone(loop: Loop) -> None:
    async def main() -> None:
        panicking, fine = (
            asyncio.create_task(rust.panic("alone")),
            asyncio.create_task(rust.yield_n(3, "fine")),
        )
        await asyncio.wait([panicking, fine])
        assert is_panic(panicking.exception(), "alone")
        assert fine.result() == "fine"

    loop.run_until_complete(main())


def test_panics_in_gather_shield_wait_for_and_groups(loop: Loop) -> None:
    async def main() -> None:
        gathered: Any = await asyncio.gather(rust.panic("gathered"), return_exceptions=True)
        assert is_panic(gathered[0], "gathered")
        for around in (asyncio.shield, lambda inner: asyncio.wait_for(inner, 3600)):
            with pytest.raises(BaseException, match=r"^panicked$") as caught:
                await around(rust.panic("panicked"))
            assert is_panic(caught.value, "panicked")
        with pytest.raises(BaseExceptionGroup) as group_caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(rust.never())
                group.create_task(rust.panic("in a group"))
        [error] = group_caught.value.exceptions
        assert is_panic(error, "in a group")

    loop.run_until_complete(main())


# Contexts and the current task.


@each_kind
def test_the_tasks_context_and_the_task_are_the_same_afterwards(loop: Loop, kind: Kind) -> None:
    async def work(name: str) -> None:
        me = asyncio.current_task()
        VAR.set(name)
        for _ in range(3):
            await kind(None)
            assert VAR.get() == name
            assert asyncio.current_task() is me

    async def main() -> None:
        await asyncio.gather(*(work(f"task {number}") for number in range(5)))
        assert VAR.get() == "none"

    loop.run_until_complete(main())


def test_a_task_woken_from_a_thread_goes_on_in_its_own(loop: Loop) -> None:
    async def main() -> None:
        thread = threading.get_ident()
        await rust.woken_from_thread(0.001)
        assert threading.get_ident() == thread

    loop.run_until_complete(main())
