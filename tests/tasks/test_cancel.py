"""Cancelling tasks: at each point of their lives, how often, with which message, and whom it reaches."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from support import making
from support.coroutines import cancelled_with, give, pause, wait_for_ever
from support.loops import Loop, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize


# Each point of a task's life.


def test_a_task_cancelled_before_it_starts_never_runs(loop: Loop, spawn: Spawn) -> None:
    seen = list[str]()

    async def main() -> None:
        seen.append("ran")

    task = spawn(main(), loop=loop)
    assert task.cancel("not at all") is True
    assert not task.done()
    assert not task.cancelled()
    turn(loop)
    assert cancelled_with(task) == ("not at all",)
    assert not seen


def test_a_waiting_task_cancels_what_it_waits_for(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future = make_future(loop)

    async def main() -> None:
        await future

    task = spawn(main(), loop=loop)
    turn(loop)
    assert task.cancel("enough") is True
    assert future.cancelled()
    assert not task.done()
    turn(loop)
    assert cancelled_with(task) == ("enough",)
    assert cancelled_with(future) == ("enough",)


def test_a_task_between_two_turns_gets_the_error_at_its_next_step(loop: Loop, spawn: Spawn) -> None:
    caught = list[tuple[Any, ...]]()

    async def main() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            caught.append(error.args)
            raise

    task: Any = spawn(main(), loop=loop)
    turn(loop)
    assert task.cancel("next") is True
    assert task._must_cancel
    assert not caught
    turn(loop)
    assert caught == [("next",)]
    assert cancelled_with(task) == ("next",)


def test_a_task_that_cancels_itself_goes_on_to_its_next_await(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    seen, future = list[str](), make_future(loop)

    async def main() -> None:
        me: Any = asyncio.current_task()
        assert me.cancel("self") is True
        assert me._must_cancel
        seen.append("after the call")
        await future
        seen.append("after the await")

    task = spawn(main(), loop=loop)
    turn(loop)
    assert future.cancelled()
    turn(loop)
    assert seen == ["after the call"]
    assert cancelled_with(task) == ("self",)


def test_a_task_that_cancels_itself_and_returns_is_cancelled(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None
        me.cancel("at the last moment")
        return "lost"

    task = spawn(main(), loop=loop)
    turn(loop)
    assert cancelled_with(task) == ("at the last moment",)


def test_a_task_that_cancels_itself_and_fails_has_failed(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        raise ValueError("first")

    task = spawn(main(), loop=loop)
    turn(loop)
    assert not task.cancelled()
    assert isinstance(task.exception(), ValueError)


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_is_done_cannot_be_cancelled(loop: Loop, spawn: Spawn, fails: bool) -> None:
    async def main() -> int:
        if fails:
            raise ValueError
        return 3

    task = spawn(main(), loop=loop)
    turn(loop)
    assert task.cancel() is False
    assert not task.cancelled()
    assert task.cancelling() == 0
    assert isinstance(task.exception(), ValueError) if fails else task.result() == 3


def test_a_task_whose_future_is_done_but_which_has_not_gone_on_loses_the_result(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future, seen = make_future(loop), list[str]()

    async def main() -> None:
        try:
            await future
            seen.append("result")
        except asyncio.CancelledError as error:
            seen.append(f"cancelled {error}")
            raise

    task: Any = spawn(main(), loop=loop)
    turn(loop)
    future.set_result("ready")
    assert task.cancel("too late for the future") is True
    assert task._must_cancel
    assert future.result() == "ready"
    turn(loop)
    assert seen == ["cancelled too late for the future"]
    assert task.cancelled()


def test_a_task_whose_future_failed_but_which_has_not_gone_on_is_cancelled(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future = make_future(loop)

    async def main() -> None:
        await future

    task = spawn(main(), loop=loop)
    turn(loop)
    future.set_exception(ValueError())
    task.cancel()
    turn(loop)
    assert task.cancelled()
    assert isinstance(future.exception(), ValueError)


def test_a_task_in_its_cleanup_can_be_cancelled_again(loop: Loop, spawn: Spawn) -> None:
    seen = list[str]()

    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            seen.append("cleaning")
            try:
                await wait_for_ever()
            finally:
                seen.append("given up")

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("first")
    turn(loop)
    assert seen == ["cleaning"]
    assert not task.done()
    task.cancel("second")
    turn(loop)
    assert seen == ["cleaning", "given up"]
    assert cancelled_with(task) == ("second",)
    assert task.cancelling() == 2


@pytest.mark.parametrize("turns", range(7))
def test_whenever_it_comes_the_cancellation_runs_every_finally(
    loop: Loop, spawn: Spawn, make_future: MakeFuture, turns: int
) -> None:
    future, entered, left = make_future(loop), 0, 0

    async def main() -> None:
        nonlocal entered, left
        for wait in (pause, give, pause, nested, wait_for_ever):
            entered += 1
            try:
                await wait()
            finally:
                left += 1

    async def nested() -> None:
        loop.call_soon(future.set_result, None)
        await asyncio.create_task(give())
        await future
        await asyncio.sleep(0)

    task = spawn(main(), loop=loop)
    turn(loop, turns)
    assert task.cancel(turns)
    turn(loop, 2)  # one more where a task that is awaited has to end first
    assert cancelled_with(task) == (turns,)
    assert entered == left
    assert (entered == 0) == (turns == 0)


# Messages and counts.


def test_the_last_message_before_the_step_wins(loop: Loop, spawn: Spawn) -> None:
    task = spawn(wait_for_ever(), loop=loop)
    task.cancel("first")
    task.cancel("second")
    turn(loop)
    assert cancelled_with(task) == ("second",)


def test_the_message_to_the_future_wins_over_later_ones(loop: Loop, spawn: Spawn) -> None:
    task = spawn(wait_for_ever(), loop=loop)
    turn(loop)
    assert task.cancel("first")
    assert task.cancel("second")
    turn(loop)
    assert cancelled_with(task) == ("first",)


@pytest.mark.parametrize("message", ["text", None, 0, ("a", "pair"), {"a": "dict"}])
def test_a_message_is_any_object(loop: Loop, spawn: Spawn, message: Any) -> None:
    task = spawn(wait_for_ever(), loop=loop)
    turn(loop)
    task.cancel(msg=message)
    turn(loop)
    assert cancelled_with(task) == (() if message is None else (message,))


def test_the_message_goes_down_and_comes_up_a_chain_of_tasks(loop: Loop, spawn: Spawn) -> None:
    async def follow(task: asyncio.Task[None]) -> None:
        await task

    chain = [spawn(wait_for_ever(), loop=loop)]
    for _ in range(5):
        chain.append(spawn(follow(chain[-1]), loop=loop))
    turn(loop, 2)
    chain[-1].cancel("down")
    turn(loop, 7)
    assert all(task.cancelled() for task in chain)
    assert cancelled_with(chain[-1]) == ("down",)


def test_the_error_of_a_cancelled_task_remembers_where_it_was_raised(loop: Loop, spawn: Spawn) -> None:
    async def outer() -> None:
        await inner()

    async def inner() -> None:
        await asyncio.sleep(0)

    task = spawn(outer(), loop=loop)
    turn(loop)
    task.cancel()
    turn(loop)
    with pytest.raises(asyncio.CancelledError) as caught:
        task.result()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert [name for name in names if name in ("outer", "inner")] == ["outer", "inner"]


def test_requests_are_counted_and_taken_back(loop: Loop, spawn: Spawn) -> None:
    task = spawn(wait_for_ever(), loop=loop)
    assert task.cancelling() == 0
    assert task.uncancel() == 0
    for count in (1, 2, 3):
        assert task.cancel()
        assert task.cancelling() == count
    assert [task.uncancel() for _ in range(4)] == [2, 1, 0, 0]
    assert task.cancelling() == 0
    task.cancel()
    turn(loop)
    assert task.cancelled()
    assert task.cancelling() == 1
    assert task.uncancel() == 0
    assert task.cancelled()


def test_a_task_that_took_its_cancellation_back_goes_on(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            assert me.cancelling() == 1
            assert me.uncancel() == 0
        await asyncio.sleep(0)
        return "went on"

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel()
    assert loop.run_until_complete(task) == "went on"
    assert task.cancelling() == 0


@pytest.mark.since(3, 13)
def test_taking_back_the_last_request_takes_back_the_error(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        me: Any = asyncio.current_task()
        me.cancel()
        me.cancel()
        me.uncancel()
        assert me._must_cancel
        me.uncancel()
        assert not me._must_cancel
        await asyncio.sleep(0)
        return "never thrown"

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "never thrown"


@pytest.mark.before(3, 13)
def test_taking_back_the_last_request_leaves_the_error(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        me: Any = asyncio.current_task()
        me.cancel()
        me.uncancel()
        assert me._must_cancel
        await asyncio.sleep(0)

    task = spawn(main(), loop=loop)
    turn(loop, 2)
    assert task.cancelled()
