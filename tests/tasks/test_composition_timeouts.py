"""wait_for, timeout and TaskGroup, over tasks and futures of either kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import making
from support.coroutines import fail, give, wait_for_ever
from support.loops import Loop, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize


def cancelling() -> int:
    me = asyncio.current_task()
    assert me is not None
    return me.cancelling()


# wait_for


@pytest.mark.parametrize("timeout", [None, 0, 3600])
def test_wait_for_gives_what_is_done_in_time(
    loop: Loop, spawn: Spawn, make_future: MakeFuture, timeout: float | None
) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(give("task"), loop=loop)
        future.set_result("future")
        await task
        assert await asyncio.wait_for(future, timeout) == "future"
        assert await asyncio.wait_for(task, timeout) == "task"

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.parametrize("timeout", [None, 3600])
def test_wait_for_waits(loop: Loop, spawn: Spawn, make_future: MakeFuture, timeout: float | None) -> None:
    async def main() -> None:
        future = make_future(loop)
        loop.call_soon(future.set_result, "future")
        assert await asyncio.wait_for(future, timeout) == "future"
        assert await asyncio.wait_for(give("coroutine"), timeout) == "coroutine"
        with pytest.raises(ValueError):
            await asyncio.wait_for(fail(ValueError()), timeout)

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_wait_for_cancels_what_is_too_late(
    loop: Loop, spawn: Spawn, make_future: MakeFuture, timeout: float
) -> None:
    async def main() -> None:
        future, task = make_future(loop), spawn(wait_for_ever(), loop=loop)
        for late in (future, task):
            with pytest.raises(TimeoutError) as caught:
                await asyncio.wait_for(late, timeout)
            assert late.cancelled()
            assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))


def test_wait_for_waits_until_what_it_cancelled_is_done(loop: Loop, spawn: Spawn) -> None:
    order = list[str]()

    async def slow_to_end() -> None:
        try:
            await wait_for_ever()
        finally:
            await asyncio.sleep(0)
            order.append("cleaned")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spawn(slow_to_end(), loop=loop), 0.001)
        order.append("timed out")

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == ["cleaned", "timed out"]


def test_cancelling_wait_for_cancels_what_it_waits_for(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    future = make_future(loop)

    async def main() -> None:
        await asyncio.wait_for(future, 3600)

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("by hand")
    with pytest.raises(asyncio.CancelledError, match=r"^by hand$"):
        loop.run_until_complete(task)
    assert future.cancelled()


def test_wait_for_passes_a_cancellation_of_the_inside_on(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future = make_future(loop)
        loop.call_soon(future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(future, 3600)

    loop.run_until_complete(spawn(main(), loop=loop))


# timeout


def test_a_timeout_in_time_does_nothing(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        future = make_future(loop)
        loop.call_soon(future.set_result, 1)
        async with asyncio.timeout(3600) as scope:
            assert await future == 1
        assert not scope.expired()
        assert cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_timeout_cancels_what_is_awaited_and_is_a_timeout_error(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> None:
        future = make_future(loop)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as scope:
                await future
        assert scope.expired()
        assert future.cancelled()
        assert cancelling() == 0
        await asyncio.sleep(0)

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_timeout_that_is_over_already_ends_the_first_await(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> list[str]:
        reached = list[str]()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(-1):
                reached.append("the block")
                await asyncio.sleep(0)
                reached.append("beyond the await")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(loop.time() - 1):
                await make_future(loop)
        return reached

    assert loop.run_until_complete(spawn(main(), loop=loop)) == ["the block"]


def test_the_inner_of_two_timeouts_does_not_end_the_outer(loop: Loop, spawn: Spawn) -> None:
    async def main() -> str:
        async with asyncio.timeout(3600) as outer:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await wait_for_ever()
            await asyncio.sleep(0)
        assert not outer.expired()
        return "after both"

    assert loop.run_until_complete(spawn(main(), loop=loop)) == "after both"


def test_the_outer_of_two_timeouts_goes_through_the_inner(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as outer:
                async with asyncio.timeout(3600) as inner:
                    await wait_for_ever()
        assert outer.expired()
        assert not inner.expired()
        assert cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_cancellation_in_a_timeout_is_no_timeout(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        async with asyncio.timeout(3600):
            await wait_for_ever()

    task = spawn(main(), loop=loop)
    turn(loop)
    task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError, match=r"^from outside$"):
        loop.run_until_complete(task)
    assert task.cancelling() == 1


def test_a_cancellation_and_a_timeout_together_are_a_cancellation(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        async with asyncio.timeout(3600) as scope:
            loop.call_soon(scope.reschedule, loop.time() - 1)
            loop.call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
            await wait_for_ever()

    task = spawn(main(), loop=loop)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert task.cancelled()


def test_a_timeout_is_moved_while_it_runs(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        async with asyncio.timeout(None) as scope:
            assert scope.when() is None
            scope.reschedule(loop.time() + 3600)
            scope.reschedule(None)
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600) as scope:
                scope.reschedule(loop.time())
                await wait_for_ever()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_timeout_needs_a_task(loop: Loop) -> None:
    seen = list[str]()

    def callback() -> None:
        entering: Any = asyncio.timeout(1).__aenter__()
        try:
            entering.send(None)
        except RuntimeError as error:
            seen.append(str(error))

    loop.call_soon(callback)
    turn(loop)
    assert seen == ["Timeout should be used inside a task"]


# TaskGroup


def test_a_group_waits_for_its_tasks(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def wait(future: asyncio.Future[Any]) -> Any:
        return await future

    async def main() -> list[Any]:
        futures = [make_future(loop) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(future), name="member") for future in futures]
            for number, future in enumerate(futures):
                loop.call_soon(future.set_result, number)
        assert {task.get_name() for task in tasks} == {"member"}
        return [task.result() for task in tasks]

    assert loop.run_until_complete(spawn(main(), loop=loop)) == [0, 1, 2]


def test_the_first_error_in_a_group_cancels_the_others_and_the_body(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        tasks = list[asyncio.Task[Any]]()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                tasks.append(group.create_task(wait_for_ever()))
                tasks.append(group.create_task(fail(ValueError("first"))))
                await wait_for_ever()
        assert [str(error) for error in caught.value.exceptions] == ["first"]
        assert tasks[0].cancelled()
        assert cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))


def test_errors_of_a_group_are_collected(loop: Loop, spawn: Spawn) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            raise KeyError("second") from None

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_when_cancelled())
                group.create_task(fail(ValueError("first")))
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_error_of_the_body_cancels_the_group(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(wait_for_ever())
                await asyncio.sleep(0)
                raise ValueError("body")
        assert [str(error) for error in caught.value.exceptions] == ["body"]
        assert task.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_the_owner_cancels_the_group(loop: Loop, spawn: Spawn) -> None:
    tasks = list[asyncio.Task[Any]]()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            tasks.extend(group.create_task(wait_for_ever()) for _ in range(3))

    owner = spawn(main(), loop=loop)
    turn(loop, 2)
    owner.cancel("whole group")
    with pytest.raises(asyncio.CancelledError, match=r"^whole group$"):
        loop.run_until_complete(owner)
    assert all(task.cancelled() for task in tasks)


def test_a_cancelled_member_does_not_end_the_group(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            cancelled, fine = group.create_task(wait_for_ever()), group.create_task(give(1))
            cancelled.cancel()
        assert cancelled.cancelled()
        assert fine.result() == 1

    loop.run_until_complete(spawn(main(), loop=loop))


def test_groups_nest(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as outer:
                outer.create_task(wait_for_ever())
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(fail(ValueError("inner")))
                    inner.create_task(wait_for_ever())
        [error] = caught.value.exceptions
        assert isinstance(error, ExceptionGroup)
        assert [str(inside) for inside in error.exceptions] == ["inner"]

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_goes_through_a_group_as_it_is(
    loop: Loop, spawn: Spawn, leave: type[BaseException]
) -> None:
    async def main() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_for_ever())
                group.create_task(fail(leave()))
        except leave:
            return "as it is"
        return ""

    task = spawn(main(), loop=loop)
    with pytest.raises(leave):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) == "as it is"


def test_a_group_in_a_timeout(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def wait(future: asyncio.Future[Any]) -> None:
        await future

    async def main() -> None:
        futures = [make_future(loop) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), asyncio.TaskGroup() as group:
                for future in futures:
                    group.create_task(wait(future))
        assert all(future.cancelled() for future in futures)
        assert cancelling() == 0

    loop.run_until_complete(spawn(main(), loop=loop))
