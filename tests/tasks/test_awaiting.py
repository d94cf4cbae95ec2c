"""What a coroutine yields to its task: what is waited for, what is an error, and in which words."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any

import pytest

from support import making
from support.coroutines import give
from support.loops import Loop, LoopFactory, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize


@types.coroutine
def yielding(value: Any) -> Generator[Any, Any, Any]:
    """Hands `value` to the task as it is."""
    return (yield value)


async def told_by(awaitable: Awaitable[Any]) -> str:
    """The message of the RuntimeError that awaiting raises."""
    try:
        await awaitable
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


@pytest.mark.parametrize("garbage", [0, 42, "", "text", False, (), {}, object(), ..., int, give], ids=repr)
def test_a_bad_yield_is_thrown_back(loop: Loop, spawn: Spawn, garbage: Any) -> None:
    told = loop.run_until_complete(spawn(told_by(yielding(garbage)), loop=loop))
    assert told == f"Task got bad yield: {garbage!r}"


def test_a_bad_yield_is_thrown_back_one_turn_later(loop: Loop, spawn: Spawn) -> None:
    task = spawn(told_by(yielding(42)), loop=loop)
    turn(loop)
    assert not task.done()
    turn(loop)
    assert task.done()


def test_a_bad_yield_that_is_not_caught_ends_the_task(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        await yielding(42)

    task = spawn(main(), loop=loop)
    turn(loop, 2)
    assert isinstance(task.exception(), RuntimeError)


def test_a_task_goes_on_after_a_bad_yield(loop: Loop, spawn: Spawn) -> None:
    async def main() -> list[str]:
        told = [await told_by(yielding(number)) for number in range(3)]
        await asyncio.sleep(0)
        return told

    told = loop.run_until_complete(spawn(main(), loop=loop))
    assert told == [f"Task got bad yield: {number}" for number in range(3)]


def test_a_yielded_generator_is_an_error_of_its_own(loop: Loop, spawn: Spawn) -> None:
    def generate() -> Generator[None, None, None]:
        yield

    generator = generate()
    task = spawn(told_by(yielding(generator)), loop=loop)
    told = loop.run_until_complete(task)
    assert re.fullmatch(
        r"yield was used instead of yield from for generator in task <Task .*> with "
        + re.escape(repr(generator)),
        told,
    )


def test_a_future_that_is_yielded_and_not_awaited_is_an_error(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    loop.set_debug(False)
    task = spawn(told_by(yielding(make_future(loop))), loop=loop)
    told = loop.run_until_complete(task)
    assert re.fullmatch(
        r"yield was used instead of yield from in task <Task pending .*> with <Future pending>", told
    )


def test_a_task_cannot_await_itself(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None
        return await told_by(me)

    told = loop.run_until_complete(spawn(main(), loop=loop, name="narcissus"))
    assert told.startswith("Task cannot await on itself: <Task pending name='narcissus' coro=<")


def test_a_future_of_another_loop_is_an_error(
    loop: Loop, loop_factory: LoopFactory, spawn: Spawn, make_future: MakeFuture
) -> None:
    other = loop_factory()
    foreign = make_future(other)
    told = loop.run_until_complete(spawn(told_by(foreign), loop=loop))
    assert re.fullmatch(
        r"Task <Task pending .*> got Future <Future pending.*> attached to a different loop", told
    )
    foreign.cancel()
    other.close()


def test_a_task_of_another_loop_is_an_error(loop: Loop, loop_factory: LoopFactory, spawn: Spawn) -> None:
    other = loop_factory()
    foreign = spawn(give(), loop=other)
    told = loop.run_until_complete(spawn(told_by(foreign), loop=loop))
    assert re.fullmatch(
        r"Task <Task pending .*> got Future <Task pending .*> attached to a different loop", told
    )
    other.run_until_complete(foreign)
    other.close()


def test_a_future_of_another_loop_that_is_done_gives_its_result(
    loop: Loop, loop_factory: LoopFactory, spawn: Spawn, make_future: MakeFuture
) -> None:
    other = loop_factory()
    foreign = make_future(other)
    foreign.set_result("from another loop")
    other.close()

    async def main() -> Any:
        return await foreign

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "from another loop"


@pytest.mark.parametrize("turns", [1, 2, 7])
def test_each_bare_yield_is_one_turn(loop: Loop, spawn: Spawn, turns: int) -> None:
    async def main() -> set[Any]:
        return {await yielding(None) for _ in range(turns)}

    task = spawn(main(), loop=loop)
    turn(loop, turns)
    assert not task.done()
    turn(loop)
    assert task.result() == {None}


def test_a_future_marked_by_hand_is_waited_for(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)

    async def main() -> Any:
        future._asyncio_future_blocking = True
        sent = await yielding(future)
        return sent, future.result()

    task = spawn(main(), loop=loop)
    turn(loop)
    assert future._asyncio_future_blocking is False
    loop.call_soon(future.set_result, 9)
    assert loop.run_until_complete(task) == (None, 9)


def test_an_object_awaits_through_its_own_await(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    class Wrapped:
        def __init__(self, future: asyncio.Future[Any]) -> None:
            self.future = future

        def __await__(self) -> Generator[Any, Any, str]:
            value = yield from self.future.__await__()
            return f"wrapped {value}"

    future = make_future(loop)

    async def main() -> str:
        return await Wrapped(future)

    task = spawn(main(), loop=loop)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(task) == "wrapped 1"


def test_async_generators_and_contexts_wait_in_a_task(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    order = list[str]()

    @contextlib.asynccontextmanager
    async def managed() -> AsyncIterator[str]:
        await asyncio.sleep(0)
        order.append("entered")
        try:
            yield "managed"
        finally:
            await asyncio.sleep(0)
            order.append("left")

    async def generate() -> AsyncIterator[int]:
        for number in range(3):
            future = make_future(loop)
            loop.call_soon(future.set_result, number)
            yield await future

    async def main() -> list[int]:
        async with managed() as name:
            order.append(name)
            return [number async for number in generate()]

    assert loop.run_until_complete(spawn(main(), loop=loop)) == [0, 1, 2]
    assert order == ["entered", "managed", "left"]


# One coroutine, more than one owner.


def test_one_coroutine_cannot_be_run_by_two_tasks(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        return "mine"

    coro = main()
    first, second = spawn(coro, loop=loop), spawn(told_by(coro), loop=loop)
    assert loop.run_until_complete(first) == "mine"
    assert loop.run_until_complete(second) == "coroutine is being awaited already"


def test_a_finished_coroutine_cannot_be_run_again(loop: Loop, spawn: Spawn) -> None:
    coro = give("once")
    assert loop.run_until_complete(spawn(coro, loop=loop)) == "once"
    again = spawn(coro, loop=loop)
    with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited coroutine$"):
        loop.run_until_complete(again)


# What comes out.


def test_stop_iteration_from_a_coroutine_is_a_runtime_error(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        raise StopIteration(1)

    with pytest.raises(RuntimeError, match=r"^coroutine raised StopIteration$"):
        loop.run_until_complete(spawn(main(), loop=loop))


class Odd(BaseException):
    """Neither an Exception nor one of those that end the program."""


@pytest.mark.parametrize("odd", [Odd, GeneratorExit, StopAsyncIteration])
def test_other_base_exceptions_stay_in_the_task(loop: Loop, spawn: Spawn, odd: type[BaseException]) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise odd("odd")

    task = spawn(main(), loop=loop)
    turn(loop, 3)
    assert type(task.exception()) is odd


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_the_tasks_exception_and_leaves_the_run(
    loop: Loop, spawn: Spawn, leave: type[BaseException]
) -> None:
    after, error = list[int](), leave("ends")

    async def main() -> None:
        await asyncio.sleep(0)
        loop.call_soon(after.append, 1)
        raise error

    task = spawn(main(), loop=loop)
    with pytest.raises(leave) as caught:
        loop.run_forever()
    assert caught.value is error
    assert not loop.is_running()
    assert asyncio.current_task(loop) is None
    assert task.exception() is error
    turn(loop)
    assert after == [1]


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_run_until_complete_of_that_very_task(
    loop: Loop, spawn: Spawn, leave: type[BaseException]
) -> None:
    async def main() -> None:
        raise leave

    task = spawn(main(), loop=loop)
    with pytest.raises(leave):
        loop.run_until_complete(task)
    assert isinstance(task.exception(), leave)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_who_awaits_a_task_that_ends_the_program_gets_the_exception_too(
    loop: Loop, spawn: Spawn, leave: type[BaseException]
) -> None:
    async def inner() -> None:
        raise leave

    async def outer() -> str:
        try:
            await task
        except leave:
            return "caught"
        return ""

    task = spawn(inner(), loop=loop)
    waiting = spawn(outer(), loop=loop)
    with pytest.raises(leave):
        loop.run_forever()
    assert loop.run_until_complete(waiting) == "caught"


def test_an_exception_keeps_its_notes_cause_context_and_traceback(loop: Loop, spawn: Spawn) -> None:
    cause = KeyError("cause")

    async def fail() -> None:
        await asyncio.sleep(0)
        try:
            raise OSError("context")
        except OSError:
            error = ValueError("error")
            error.add_note("a note")
            raise error from cause

    async def outer() -> None:
        await task

    task = spawn(fail(), loop=loop)
    with pytest.raises(ValueError, match=r"^error") as caught:
        loop.run_until_complete(spawn(outer(), loop=loop))
    error = caught.value
    assert error is task.exception()
    assert error.__notes__ == ["a note"]
    assert error.__cause__ is cause
    assert isinstance(error.__context__, OSError)
    assert {"outer", "fail"} <= {entry.name for entry in caught.traceback}


def test_an_exception_raised_while_handling_another_keeps_it_as_context(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future, error = make_future(loop), ValueError("awaited")

    async def main() -> None:
        try:
            raise KeyError("being handled")
        except KeyError:
            await future

    task = spawn(main(), loop=loop)
    turn(loop)
    future.set_exception(error)
    turn(loop)
    assert task.exception() is error
    assert isinstance(error.__context__, KeyError)


def test_the_exception_being_handled_is_a_tasks_own(loop: Loop, spawn: Spawn) -> None:
    seen = list[BaseException | None]()

    async def handling() -> None:
        mine = ValueError("mine")
        try:
            raise mine
        except ValueError:
            await asyncio.sleep(0)
            assert sys.exception() is mine
            await asyncio.sleep(0)
            assert sys.exception() is mine
        assert sys.exception() is None

    async def other() -> None:
        for _ in range(3):
            seen.append(sys.exception())
            await asyncio.sleep(0)

    tasks = [spawn(handling(), loop=loop), spawn(other(), loop=loop)]
    for task in tasks:
        loop.run_until_complete(task)
    assert seen == [None] * 3


# Deep.


def test_too_deep_an_await_is_a_recursion_error_and_the_loop_goes_on(loop: Loop, spawn: Spawn) -> None:
    async def deeper() -> None:
        await deeper()

    task = spawn(deeper(), loop=loop)
    with pytest.raises(RecursionError):
        loop.run_until_complete(task)
    assert loop.run_until_complete(spawn(give("fine"), loop=loop)) == "fine"


def test_a_deep_await_suspends_and_goes_on(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future = make_future(loop)

    async def deep(levels: int) -> Any:
        return await (deep(levels - 1) if levels else future)

    task = spawn(deep(300), loop=loop)
    turn(loop)
    loop.call_soon(future.set_result, "up")
    assert loop.run_until_complete(task) == "up"


def test_a_long_chain_of_tasks_ends_without_recursion(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def follow(what: asyncio.Future[Any]) -> Any:
        return await what

    future = make_future(loop)
    chain: asyncio.Future[Any] = future
    for _ in range(5000):
        chain = spawn(follow(chain), loop=loop)
    turn(loop)
    future.set_result("passed on")
    assert loop.run_until_complete(chain) == "passed on"


def test_a_chain_of_tasks_is_cancelled_from_its_end(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def follow(what: asyncio.Future[Any]) -> Any:
        return await what

    future = make_future(loop)
    chain: list[asyncio.Future[Any]] = [future]
    for _ in range(200):
        chain.append(spawn(follow(chain[-1]), loop=loop))
    turn(loop)
    chain[-1].cancel()
    assert future.cancelled()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(chain[-1])
    assert all(task.cancelled() for task in chain)


def test_many_tasks_hand_a_value_round(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    futures = [make_future(loop) for _ in range(1000)]

    async def relay(source: asyncio.Future[int], to: asyncio.Future[int]) -> None:
        to.set_result(await source + 1)

    for source, to in itertools.pairwise(futures):
        spawn(relay(source, to), loop=loop)
    futures[0].set_result(0)
    assert loop.run_until_complete(futures[-1]) == 999
