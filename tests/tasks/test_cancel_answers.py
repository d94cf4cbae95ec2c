"""What coroutines answer to their cancellation, and where it comes from."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading

import pytest

from support import making
from support.coroutines import cancelled_with, wait_for_ever
from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize


# What the coroutine makes of it.


def test_a_coroutine_may_ignore_any_number_of_cancellations(loop: Loop, spawn: Spawn) -> None:
    async def main() -> int:
        ignored = 0
        while ignored < 5:
            try:
                await wait_for_ever()
            except asyncio.CancelledError:
                ignored += 1
        return ignored

    task = spawn(main(), loop=loop)
    turn(loop)
    for _ in range(5):
        assert not task.done()
        assert task.cancel()
        turn(loop)
    assert task.result() == 5
    assert not task.cancelled()
    assert task.cancelling() == 5


def test_a_coroutine_may_raise_something_else_instead(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            raise ValueError("instead")  # noqa: B904

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("why")
    turn(loop)
    error = task.exception()
    assert isinstance(error, ValueError)
    assert isinstance(error.__context__, asyncio.CancelledError)
    assert error.__context__.args == ("why",)


def test_a_coroutine_that_raises_the_error_by_itself_is_cancelled(loop: Loop, spawn: Spawn) -> None:
    class OfMyOwn(asyncio.CancelledError):
        pass

    async def main() -> None:
        raise OfMyOwn("unasked")

    task = spawn(main(), loop=loop)
    turn(loop)
    assert task.cancelled()
    assert task.cancelling() == 0
    with pytest.raises(OfMyOwn, match=r"^unasked$"):
        task.result()


def test_cancelling_what_a_task_awaits_cancels_the_task(loop: Loop, spawn: Spawn) -> None:
    async def follow(other: asyncio.Task[None]) -> None:
        await other

    inner = spawn(wait_for_ever(), loop=loop)
    outer = spawn(follow(inner), loop=loop)
    turn(loop)
    inner.cancel("inner")
    turn(loop, 2)
    assert cancelled_with(outer) == ("inner",)
    assert outer.cancelling() == 0


def test_a_task_may_survive_the_cancellation_of_what_it_awaits(loop: Loop, spawn: Spawn) -> None:
    async def main(other: asyncio.Task[None]) -> str:
        try:
            await other
        except asyncio.CancelledError:
            return "survived"
        return ""

    inner = spawn(wait_for_ever(), loop=loop)
    outer = spawn(main(inner), loop=loop)
    turn(loop)
    inner.cancel()
    assert loop.run_until_complete(outer) == "survived"


def test_a_task_waits_until_the_one_it_cancels_is_done(loop: Loop, spawn: Spawn) -> None:
    order = list[str]()

    async def slow_to_end() -> None:
        try:
            await wait_for_ever()
        finally:
            for step in range(3):
                order.append(f"step {step}")
                await asyncio.sleep(0)

    async def follow(other: asyncio.Task[None]) -> None:
        try:
            await other
        finally:
            order.append("outer")

    inner = spawn(slow_to_end(), loop=loop)
    outer = spawn(follow(inner), loop=loop)
    turn(loop)
    outer.cancel()
    turn(loop, 6)
    assert order == ["step 0", "step 1", "step 2", "outer"]
    assert inner.cancelled() and outer.cancelled()


def test_a_task_awaiting_one_that_refuses_gets_its_result(loop: Loop, spawn: Spawn) -> None:
    async def refuse() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await wait_for_ever()
        return "refused"

    async def follow(other: asyncio.Task[str]) -> str:
        return await other

    inner = spawn(refuse(), loop=loop)
    outer = spawn(follow(inner), loop=loop)
    turn(loop)
    outer.cancel()
    assert loop.run_until_complete(outer) == "refused"
    assert outer.cancelling() == inner.cancelling() == 1


def test_cancelled_tasks_call_their_callbacks(loop: Loop, spawn: Spawn) -> None:
    task, seen = spawn(wait_for_ever(), loop=loop), list[object]()
    task.add_done_callback(seen.append)
    task.cancel()
    turn(loop, 2)
    assert seen == [task]


# From where.


@pytest.mark.parametrize("place", ["callback", "task", "done callback", "thread"])
def test_a_task_is_cancelled_from(loop: Loop, spawn: Spawn, make_future: MakeFuture, place: str) -> None:
    async def cancel() -> None:
        task.cancel(place)

    task = spawn(wait_for_ever(), loop=loop)
    turn(loop)
    if place == "callback":
        loop.call_soon(task.cancel, place)
    elif place == "task":
        spawn(cancel(), loop=loop)
    elif place == "done callback":
        future = make_future(loop)
        future.add_done_callback(lambda _: task.cancel(place))
        future.set_result(None)
    else:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(task.cancel, place))
        thread.start()
        thread.join()
    with pytest.raises(asyncio.CancelledError, match=f"^{place}$"):
        loop.run_until_complete(task)


@pytest.mark.parametrize("first", ["the callback", "the task"])
def test_a_callback_of_its_own_future_cancels_the_task_only_if_it_comes_first(
    loop: Loop, spawn: Spawn, make_future: MakeFuture, first: str
) -> None:
    future = make_future(loop)

    async def main() -> None:
        await future

    task = spawn(main(), loop=loop)
    if first == "the task":
        turn(loop)
    future.add_done_callback(lambda _: task.cancel("by the callback"))
    turn(loop)
    future.set_result(None)
    turn(loop)
    assert task.done()
    assert task.cancelled() == (first == "the callback")


def test_two_waiting_tasks_and_one_cancelled_leave_the_other_cancelled_by_the_future(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future = make_future(loop)

    async def main() -> None:
        await future

    one, other = spawn(main(), loop=loop), spawn(main(), loop=loop)
    turn(loop)
    one.cancel("the shared future")
    turn(loop)
    assert cancelled_with(one) == cancelled_with(other) == ("the shared future",)
    assert (one.cancelling(), other.cancelling()) == (1, 0)


def test_run_until_complete_of_a_cancelled_task_raises_its_message(loop: Loop, spawn: Spawn) -> None:
    task = spawn(wait_for_ever(), loop=loop)
    loop.call_soon(task.cancel, "said so")
    with pytest.raises(asyncio.CancelledError, match=r"^said so$"):
        loop.run_until_complete(task)


def test_cancelling_a_thousand_tasks_in_one_callback(loop: Loop, spawn: Spawn) -> None:
    tasks = [spawn(wait_for_ever(), loop=loop) for _ in range(1000)]
    turn(loop)
    for task in tasks:
        task.cancel()
    turn(loop)
    assert all(task.cancelled() for task in tasks)


def test_what_a_coroutine_does_while_it_is_cancelled_may_cancel_it_again(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            me.cancel("again")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            return str(error)
        return ""

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("once")
    assert loop.run_until_complete(task) == "again"


def test_cancelling_a_ring_of_tasks_is_a_recursion_error_and_no_crash(
    loop_factory: LoopFactory, spawn: Spawn, handled: list[Context]
) -> None:
    async def follow(number: int) -> None:
        await ring[number]

    loop, ring = loop_factory(), list[asyncio.Task[None]]()
    ring += [spawn(follow((number + 1) % 3), loop=loop) for number in range(3)]
    turn(loop)
    with pytest.raises(RecursionError):
        ring[0].cancel()
    turn(loop)
    loop.close()  # nothing can end them: they are destroyed while they are pending
    del loop
    ring.clear()
    gc.collect()
    handled.clear()
    gc.collect()
