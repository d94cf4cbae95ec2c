"""gather, wait, as_completed and shield, over tasks and futures of either kind in any order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import making
from support.coroutines import fail, give, wait_for_ever
from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize


async def waiting_for(future: asyncio.Future[Any]) -> Any:
    return await future


# gather


def test_gather_keeps_the_order_of_its_arguments(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    first, second = make_future(loop), make_future(loop)

    async def main() -> Any:
        loop.call_soon(second.set_result, "second")
        loop.call_later(0, first.set_result, "first")
        return await asyncio.gather(
            first, spawn(waiting_for(second), loop=loop), give("third"), second, asyncio.sleep(0, "fifth")
        )

    assert loop.run_until_complete(spawn(main(), loop=loop)) == [
        "first",
        "second",
        "third",
        "second",
        "fifth",
    ]


def test_gather_of_one_thing_twice_waits_for_it_once(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future, coro = make_future(loop), give("coro")

    async def main() -> Any:
        loop.call_soon(future.set_result, "future")
        return await asyncio.gather(future, coro, future, coro)

    assert loop.run_until_complete(spawn(main(), loop=loop)) == ["future", "coro"] * 2


def test_gather_of_nothing_is_an_empty_list(loop: Loop, spawn: Spawn) -> None:
    async def main() -> Any:
        return await asyncio.gather()

    assert loop.run_until_complete(spawn(main(), loop=loop)) == []


def test_gather_raises_the_first_error_and_lets_the_others_run(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future, error = make_future(loop), ValueError("first")

    async def main() -> None:
        other = spawn(waiting_for(future), loop=loop)
        with pytest.raises(ValueError, match=r"^first$") as caught:
            await asyncio.gather(other, fail(error))
        assert caught.value is error
        assert not other.done()
        future.set_result("went on")
        assert await other == "went on"

    loop.run_until_complete(spawn(main(), loop=loop))


def test_gather_returns_errors_when_asked_to(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future, cancelled, error = make_future(loop), make_future(loop), ValueError()
        future.set_exception(error)
        cancelled.cancel("gone")
        results: Any = await asyncio.gather(
            spawn(give(1), loop=loop), future, cancelled, fail(error), return_exceptions=True
        )
        assert results[:2] == [1, error]
        assert isinstance(results[2], asyncio.CancelledError)
        assert results[2].args == ("gone",)
        assert results[3] is error

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_who_gathers_cancels_each_part(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future = make_future(loop)
    part = spawn(wait_for_ever(), loop=loop)

    async def main() -> None:
        await asyncio.gather(future, part)

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("all of you")
    with pytest.raises(asyncio.CancelledError, match=r"^all of you$"):
        loop.run_until_complete(task)
    assert future.cancelled()
    assert part.cancelled()
    assert task.cancelled()


def test_cancelling_one_part_ends_the_gathering(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future, part = make_future(loop), spawn(wait_for_ever(), loop=loop)

    async def main() -> None:
        loop.call_soon(part.cancel, "one of them")
        with pytest.raises(asyncio.CancelledError, match=r"^one of them$"):
            await asyncio.gather(future, part)
        assert not future.done()
        me = asyncio.current_task()
        assert me is not None
        assert me.cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))
    future.cancel()


def test_a_gathering_is_a_future_that_can_be_cancelled(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future = make_future(loop)
        gathering = asyncio.gather(future, spawn(wait_for_ever(), loop=loop))
        assert isinstance(gathering, asyncio.Future)
        await asyncio.sleep(0)
        assert gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert future.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_gatherings_nest(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> Any:
        future = make_future(loop)
        loop.call_soon(future.set_result, 3)
        inner = asyncio.gather(spawn(give(2), loop=loop), future)
        return await asyncio.gather(give(1), inner, asyncio.gather(give(4)))

    assert loop.run_until_complete(spawn(main(), loop=loop)) == [1, [2, 3], [4]]


def test_gather_of_two_loops_is_refused(
    loop: Loop, loop_factory: LoopFactory, make_future: MakeFuture
) -> None:
    other = loop_factory()
    here, there = make_future(loop), make_future(other)
    with pytest.raises(ValueError, match=r"^The future belongs to a different loop than the one specified"):
        asyncio.gather(here, there)
    here.cancel()
    there.cancel()
    other.close()


def test_gather_works_outside_of_a_running_loop_on_futures(loop: Loop, make_future: MakeFuture) -> None:
    first, second = make_future(loop), make_future(loop)
    gathering: asyncio.Future[Any] = asyncio.gather(first, second)
    assert gathering.get_loop() is loop
    first.set_result(1)
    second.set_result(2)
    assert loop.run_until_complete(gathering) == [1, 2]


def test_a_second_error_in_a_gathering_is_not_reported(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"^first$"):
            await asyncio.gather(fail(ValueError("first")), fail(ValueError("second")))
        await asyncio.sleep(0)

    loop.run_until_complete(spawn(main(), loop=loop))
    assert not handled


def test_a_large_gathering(loop: Loop, spawn: Spawn) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.sleep(0, number) for number in range(2000)))

    assert loop.run_until_complete(spawn(main(), loop=loop)) == list(range(2000))


# wait


def test_wait_gives_the_same_objects_back(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(give(1), loop=loop)
        loop.call_soon(future.set_result, 2)
        done, pending = await asyncio.wait([future, task])
        assert done == {future, task}
        assert pending == set()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_wait_for_the_first_to_complete(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future, task, quick = make_future(loop), spawn(wait_for_ever(), loop=loop), spawn(give(), loop=loop)
        done, pending = await asyncio.wait([future, task, quick], return_when=asyncio.FIRST_COMPLETED)
        assert done == {quick}
        assert pending == {future, task}
        future.set_exception(ValueError())
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        assert done == {future}
        assert isinstance(future.exception(), ValueError)
        task.cancel()
        done, pending = await asyncio.wait(pending)
        assert done == {task}
        assert task.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_wait_for_the_first_exception(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        fine, never = spawn(give(), loop=loop), make_future(loop)
        failing = spawn(fail(ValueError()), loop=loop)
        done, pending = await asyncio.wait([never, fine, failing], return_when=asyncio.FIRST_EXCEPTION)
        assert done == {fine, failing}
        assert pending == {never}
        assert isinstance(failing.exception(), ValueError)
        never.cancel()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_wait_with_a_timeout_leaves_the_rest_pending(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(give(), loop=loop)
        done, pending = await asyncio.wait([future, task], timeout=0.001)
        assert done == {task}
        assert pending == {future}
        assert not future.done()
        future.cancel()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_who_waits_leaves_what_it_waits_for_alone(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future, part = make_future(loop), spawn(wait_for_ever(), loop=loop)

    async def main() -> None:
        await asyncio.wait([future, part])

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel()
    turn(loop)
    assert task.cancelled()
    assert not future.done()
    assert not part.done()
    assert not future._callbacks
    future.cancel()
    part.cancel()
    turn(loop)


def test_wait_refuses_coroutines_and_nothing(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        coro: Any = give()
        with pytest.raises(TypeError, match=r"^Passing coroutines is forbidden, use tasks explicitly\.$"):
            await asyncio.wait([coro])
        coro.close()
        with pytest.raises(ValueError, match=r"^Set of Tasks/Futures is empty\.$"):
            await asyncio.wait([])

    loop.run_until_complete(spawn(main(), loop=loop))


# as_completed


def test_as_completed_gives_results_in_the_order_of_their_ends(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> Any:
        futures = [make_future(loop) for _ in range(3)]
        tasks = [spawn(waiting_for(future), loop=loop) for future in futures]
        for number in (2, 0, 1):
            loop.call_soon(futures[number].set_result, number)
        return [await ended for ended in asyncio.as_completed([*tasks, give("coroutine")])]

    assert loop.run_until_complete(spawn(main(), loop=loop)) == ["coroutine", 2, 0, 1]


@pytest.mark.since(3, 13)
def test_as_completed_iterated_asynchronously_gives_the_objects_back(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(give(1), loop=loop)
        loop.call_later(0, future.set_result, 2)
        completed: Any = asyncio.as_completed([future, task])  # no async iterator in 3.12's typeshed
        assert [ended async for ended in completed] == [task, future]

    loop.run_until_complete(spawn(main(), loop=loop))


def test_as_completed_with_a_timeout(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(give(1), loop=loop)
        await task
        values = list[Any]()
        with pytest.raises(TimeoutError):
            for ended in asyncio.as_completed([future, task], timeout=0.05):
                values.append(await ended)
        assert values == [1]
        future.cancel()

    loop.run_until_complete(spawn(main(), loop=loop))


# shield


def test_shield_gives_the_result(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future = make_future(loop)
        loop.call_soon(future.set_result, 1)
        assert await asyncio.shield(future) == 1
        assert await asyncio.shield(spawn(give(2), loop=loop)) == 2
        assert await asyncio.shield(give(3)) == 3

    loop.run_until_complete(spawn(main(), loop=loop))


def test_shield_keeps_the_cancellation_out(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future = make_future(loop)
    inside = spawn(waiting_for(future), loop=loop)

    async def main() -> Any:
        return await asyncio.shield(inside)

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("only the outside")
    with pytest.raises(asyncio.CancelledError, match=r"^only the outside$"):
        loop.run_until_complete(task)
    assert not inside.done()
    future.set_result("inside")
    assert loop.run_until_complete(inside) == "inside"


def test_shield_lets_the_cancellation_of_the_inside_out(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future = make_future(loop)
        loop.call_soon(future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.shield(future)
        me = asyncio.current_task()
        assert me is not None
        assert me.cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_error_behind_a_cancelled_shield_is_reported(
    loop: Loop, spawn: Spawn, make_future: MakeFuture, handled: list[Context]
) -> None:
    future = make_future(loop)

    async def main() -> None:
        await asyncio.shield(waiting_for(future))

    task = spawn(main(), loop=loop)
    turn(loop, 2)
    task.cancel()
    turn(loop, 2)
    future.set_exception(ValueError("unseen"))
    turn(loop, 3)
    assert [str(context["exception"]) for context in handled] == ["unseen"]


# Other ways to a task.


def test_ensure_future_wraps_what_can_only_be_awaited(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future = make_future(loop)

    class Awaitable:
        def __await__(self) -> Any:
            return future.__await__()

    async def main() -> None:
        task = asyncio.ensure_future(Awaitable())
        assert isinstance(task, asyncio.Task)
        loop.call_soon(future.set_result, "wrapped")
        assert await task == "wrapped"
        with pytest.raises(TypeError, match=r"^An asyncio.Future, a coroutine or an awaitable is required$"):
            wrong: Any = 42
            asyncio.ensure_future(wrong)

    loop.run_until_complete(spawn(main(), loop=loop))


def test_ensure_future_refuses_a_loop_that_is_not_the_futures(
    loop: Loop, loop_factory: LoopFactory, make_future: MakeFuture
) -> None:
    other, future = loop_factory(), make_future(loop)
    with pytest.raises(ValueError, match=r"^The future belongs to a different loop than the one specified"):
        asyncio.ensure_future(future, loop=other)
    future.cancel()
    other.close()


def test_asyncio_sleep_gives_its_result(loop: Loop, spawn: Spawn) -> None:
    async def main() -> Any:
        return [await asyncio.sleep(delay, delay) for delay in (0, 0.001, -1)]

    assert loop.run_until_complete(spawn(main(), loop=loop)) == [0, 0.001, -1]


def test_a_value_passes_through_everything_at_once(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    future = make_future(loop)

    async def main() -> Any:
        loop.call_soon(future.set_result, "through")
        task = spawn(waiting_for(future), loop=loop)
        async with asyncio.timeout(3600):
            [value] = await asyncio.gather(asyncio.wait_for(asyncio.shield(task), 3600))
        return value

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "through"
