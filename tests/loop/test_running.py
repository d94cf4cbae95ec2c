"""run_forever() and run_until_complete(): what they take, what they refuse and what they leave as it was."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest

from support.loops import Loop, LoopFactory, turn

CLOSED = "Event loop is closed"
RUNNING = "This event loop is already running"
ANOTHER = "Cannot run the event loop while another loop is running"
STOPPED = "Event loop stopped before Future completed."


async def value(result: object = 42) -> object:
    await asyncio.sleep(0)
    return result


async def failure(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


class Awaitable:
    def __init__(self, result: object) -> None:
        self.result = result

    def __await__(self) -> Generator[Any, None, object]:
        return value(self.result).__await__()


def test_run_until_complete_returns_what_the_coroutine_returns(loop: Loop) -> None:
    marker = object()
    assert loop.run_until_complete(value(marker)) is marker


def test_run_until_complete_runs_a_coroutine_that_never_waits(loop: Loop) -> None:
    async def main() -> int:
        return 7

    assert loop.run_until_complete(main()) == 7


def test_run_until_complete_runs_a_coroutine_that_sleeps(loop: Loop) -> None:
    assert loop.run_until_complete(asyncio.sleep(0.001, "slept")) == "slept"


def test_run_until_complete_raises_what_the_coroutine_raises(loop: Loop) -> None:
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        loop.run_until_complete(failure(error))
    assert caught.value is error


def test_an_exception_keeps_the_traceback_of_the_coroutine(loop: Loop) -> None:
    with pytest.raises(LookupError) as caught:
        loop.run_until_complete(failure(LookupError()))
    assert "failure" in [entry.name for entry in caught.traceback]


def test_run_until_complete_takes_a_task(loop: Loop) -> None:
    assert loop.run_until_complete(loop.create_task(value(1))) == 1


def test_run_until_complete_takes_a_task_made_by_hand(loop: Loop) -> None:
    assert loop.run_until_complete(asyncio.Task(value(1), loop=loop)) == 1


def test_run_until_complete_takes_a_future_of_the_loop(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, 2)
    assert loop.run_until_complete(future) == 2


def test_run_until_complete_takes_a_future_made_by_hand(loop: Loop) -> None:
    future: asyncio.Future[int] = asyncio.Future(loop=loop)
    loop.call_soon(future.set_result, 3)
    assert loop.run_until_complete(future) == 3


def test_run_until_complete_takes_a_future_that_is_done(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(4)
    assert loop.run_until_complete(future) == 4
    assert loop.run_until_complete(future) == 4


def test_run_until_complete_takes_any_awaitable(loop: Loop) -> None:
    assert loop.run_until_complete(Awaitable(5)) == 5


@pytest.mark.parametrize(
    "thing", [None, 1, "text", ..., value, ()], ids=["None", "1", "text", "...", "function", "()"]
)
def test_run_until_complete_refuses_what_cannot_be_awaited(loop: Loop, thing: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(thing)
    assert loop.run_until_complete(value()) == 42


def test_run_until_complete_refuses_a_future_of_another_loop(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        loop.run_until_complete(other.create_future())
    other.close()


def test_run_until_complete_of_a_cancelled_future_raises_cancelled(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.cancel, "why")
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)


def test_run_until_complete_of_a_task_that_cancels_itself_raises_cancelled(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main())


def test_a_loop_runs_any_number_of_times(loop: Loop) -> None:
    assert [loop.run_until_complete(value(i)) for i in range(50)] == list(range(50))


@pytest.mark.parametrize("run", ["run_forever", "run_until_complete"])
def test_a_closed_loop_does_not_run(loop: Loop, run: str) -> None:
    loop.close()
    coro = value()
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.run_forever() if run == "run_forever" else loop.run_until_complete(coro)
    coro.close()


@pytest.mark.parametrize("run", ["run_forever", "run_until_complete"])
def test_a_running_loop_does_not_run_again(loop: Loop, run: str) -> None:
    coro = value()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=RUNNING):
            loop.run_forever() if run == "run_forever" else loop.run_until_complete(coro)

    loop.run_until_complete(main())
    coro.close()
    assert loop.run_until_complete(value()) == 42


@pytest.mark.parametrize("run", ["run_forever", "run_until_complete"])
def test_a_loop_does_not_run_inside_another(
    loop: Loop, loop_factory: LoopFactory, loop_kind: str, run: str
) -> None:
    other, coro = loop_factory(), value()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=ANOTHER):
            other.run_forever() if run == "run_forever" else other.run_until_complete(coro)
        if (loop_kind, run) == ("asyncio", "run_forever"):
            asyncio._set_running_loop(loop)  # 3.13.0 forgets it here
        assert asyncio.get_running_loop() is loop
        assert not other.is_running()

    loop.run_until_complete(main())
    coro.close()
    assert other.run_until_complete(value(1)) == 1
    other.close()


def test_run_until_complete_says_so_when_stopped_too_early(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=STOPPED):
        loop.run_until_complete(future)
    future.cancel()


def test_a_task_that_a_stop_interrupted_goes_on_in_the_next_run(loop: Loop) -> None:
    async def main() -> str:
        loop.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "whole"

    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match=STOPPED):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) == "whole"


def test_the_loop_is_the_running_loop_only_while_it_runs(loop: Loop) -> None:
    async def main() -> Loop:
        return asyncio.get_running_loop()

    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert loop.run_until_complete(main()) is loop
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_get_event_loop_inside_is_the_loop(loop: Loop) -> None:
    async def main() -> Loop:
        return asyncio.get_event_loop()

    assert loop.run_until_complete(main()) is loop


def test_is_running_tells_whether_it_runs(loop: Loop) -> None:
    seen: list[bool] = []
    loop.call_soon(lambda: seen.append(loop.is_running()))
    assert not loop.is_running()
    turn(loop)
    assert seen == [True]
    assert not loop.is_running()


def test_is_running_is_false_again_after_an_error(loop: Loop) -> None:
    loop.call_soon(sys.exit)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


def test_run_forever_processes_many_callbacks(loop: Loop) -> None:
    seen: list[int] = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(1000))


def test_run_forever_runs_callbacks_scheduled_meanwhile(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        loop.call_soon(second, "soon")

    def second(word: str) -> None:
        seen.append(word)
        loop.call_later(0.001, third, "later")

    def third(word: str) -> None:
        seen.append(word)
        loop.stop()

    loop.call_soon(first)
    loop.run_forever()
    assert seen == ["soon", "later"]


def test_run_forever_returns_none(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    returned: Any = loop.run_forever  # mypy knows that it returns nothing
    assert returned() is None


def test_the_loop_knows_its_thread_while_it_runs(loop: Loop) -> None:
    import threading

    inside: list[Any] = []
    loop.call_soon(lambda: inside.append(loop._thread_id))  # type: ignore[attr-defined]
    turn(loop)
    assert inside == [threading.get_ident()]
    assert loop._thread_id is None  # type: ignore[attr-defined]


def test_a_run_restores_the_async_generator_hooks(loop: Loop) -> None:
    def firstiter(generator: object) -> None: ...
    def finalizer(generator: object) -> None: ...

    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=firstiter, finalizer=finalizer)
    try:
        inside: list[Any] = []
        loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
        loop.call_soon(sys.exit)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert inside[0].firstiter not in (None, firstiter)
        assert inside[0].finalizer not in (None, finalizer)
        assert sys.get_asyncgen_hooks() == (firstiter, finalizer)
    finally:
        sys.set_asyncgen_hooks(*old)


def test_two_loops_run_in_turn(loop_factory: LoopFactory) -> None:
    loops = [loop_factory() for _ in range(3)]
    seen: list[object] = [loop.run_until_complete(value(i)) for _ in range(3) for i, loop in enumerate(loops)]
    assert seen == [0, 1, 2] * 3
    for loop in loops:
        loop.close()


def test_run_until_complete_leaves_no_callback_on_the_future(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=STOPPED):
        loop.run_until_complete(future)
    future.set_result(None)
    ran: list[int] = []
    loop.call_later(0.001, ran.append, 1)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()  # a callback left on the future would stop this run at once
    assert ran == [1]


@pytest.mark.parametrize("how", ["coroutine", "task", "future"])
def test_a_result_that_is_an_exception_object_is_only_a_result(loop: Loop, how: str) -> None:
    make: dict[str, Callable[[], Any]] = {
        "coroutine": lambda: value(ValueError()),
        "task": lambda: loop.create_task(value(ValueError())),
        "future": lambda: asyncio.ensure_future(value(ValueError()), loop=loop),
    }
    assert isinstance(loop.run_until_complete(make[how]()), ValueError)
