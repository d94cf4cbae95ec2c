"""Lock, Event, Condition, Semaphore, Queue and Barrier, among tasks of either kind that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.making import Spawn

pytest_generate_tests = making.parametrize


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Lock


def test_a_lock_is_handed_on_in_the_order_of_asking(loop: Loop, spawn: Spawn) -> None:
    order = list[int]()

    async def work(lock: asyncio.Lock, number: int) -> None:
        async with lock:
            await turns(2)
            order.append(number)

    async def main() -> None:
        lock = asyncio.Lock()
        await asyncio.gather(*(spawn(work(lock, number), loop=loop) for number in range(5)))
        assert not lock.locked()

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == list(range(5))


@pytest.mark.parametrize("moment", ["waiting", "handed over"])
def test_cancelling_who_waits_for_a_lock_leaves_it_to_the_next(loop: Loop, spawn: Spawn, moment: str) -> None:
    got = list[str]()

    async def take(lock: asyncio.Lock, name: str) -> None:
        async with lock:
            got.append(name)

    async def main() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        first, second = spawn(take(lock, "first"), loop=loop), spawn(take(lock, "second"), loop=loop)
        await turns()
        if moment == "waiting":
            first.cancel()
            await turns(2)
            lock.release()
        else:
            lock.release()  # the first has been woken and has not gone on
            first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert got == ["second"]
        assert not lock.locked()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_lock_is_released_by_a_cancelled_holder(loop: Loop, spawn: Spawn) -> None:
    async def hold(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.sleep(3600)

    async def main() -> None:
        lock = asyncio.Lock()
        holder = spawn(hold(lock), loop=loop)
        await turns()
        waiting = spawn(lock.acquire(), loop=loop)
        await turns()
        holder.cancel()
        assert await waiting is True
        assert holder.cancelled()
        lock.release()

    loop.run_until_complete(spawn(main(), loop=loop))


# Event


def test_an_event_wakes_everybody_but_the_cancelled(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        event = asyncio.Event()
        tasks = [spawn(event.wait(), loop=loop) for _ in range(5)]
        await turns()
        tasks[2].cancel()
        event.set()
        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result is True for result in results] == [True, True, False, True, True]
        assert tasks[2].cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_event_set_and_cleared_at_once_still_wakes(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        event = asyncio.Event()
        waiting = spawn(event.wait(), loop=loop)
        await turns()
        event.set()
        event.clear()
        assert await waiting is True

    loop.run_until_complete(spawn(main(), loop=loop))


# Condition


def test_a_condition_notifies_in_order_and_as_many_as_asked(loop: Loop, spawn: Spawn) -> None:
    order = list[int]()

    async def wait(condition: asyncio.Condition, number: int) -> None:
        async with condition:
            await condition.wait()
            order.append(number)

    async def main() -> None:
        condition = asyncio.Condition()
        tasks = [spawn(wait(condition, number), loop=loop) for number in range(4)]
        await turns(2)
        async with condition:
            condition.notify(2)
        await turns(5)
        assert order == [0, 1]
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == [0, 1, 2, 3]


def test_a_cancelled_waiter_of_a_condition_takes_its_lock_again_first(loop: Loop, spawn: Spawn) -> None:
    async def wait(condition: asyncio.Condition) -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                assert condition.locked()

    async def main() -> None:
        condition = asyncio.Condition()
        task = spawn(wait(condition), loop=loop)
        await turns(2)
        async with condition:
            task.cancel("leave")
            await turns(3)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError, match=r"^leave$"):
            await task
        assert not condition.locked()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_condition_waits_for_what_it_is_told(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        condition, values = asyncio.Condition(), list[int]()

        async def wait() -> list[int]:
            async with condition:
                await condition.wait_for(lambda: len(values) == 3)
                return list(values)

        task = spawn(wait(), loop=loop)
        for number in range(3):
            await turns()
            async with condition:
                values.append(number)
                condition.notify()
        assert await task == [0, 1, 2]

    loop.run_until_complete(spawn(main(), loop=loop))


# Semaphore


def test_a_semaphore_lets_so_many_in(loop: Loop, spawn: Spawn) -> None:
    inside, most = 0, 0

    async def work(semaphore: asyncio.Semaphore) -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await turns(2)
            inside -= 1

    async def main() -> None:
        semaphore = asyncio.BoundedSemaphore(3)
        await asyncio.gather(*(spawn(work(semaphore), loop=loop) for _ in range(20)))

    loop.run_until_complete(spawn(main(), loop=loop))
    assert (inside, most) == (0, 3)


@pytest.mark.parametrize("moment", ["waiting", "handed over"])
def test_cancelling_who_waits_for_a_semaphore_loses_no_permit(loop: Loop, spawn: Spawn, moment: str) -> None:
    async def main() -> None:
        semaphore = asyncio.BoundedSemaphore(1)
        await semaphore.acquire()
        first, second = (spawn(semaphore.acquire(), loop=loop) for _ in range(2))
        await turns()
        if moment == "waiting":
            first.cancel()
            await turns(2)
            semaphore.release()
        else:
            semaphore.release()
            first.cancel()
        assert await second is True
        assert first.cancelled()
        semaphore.release()
        assert not semaphore.locked()

    loop.run_until_complete(spawn(main(), loop=loop))


# Queue


def test_a_queue_of_one_alternates(loop: Loop, spawn: Spawn) -> None:
    order = list[str]()

    async def produce(queue: asyncio.Queue[int]) -> None:
        for number in range(4):
            await queue.put(number)
            order.append(f"put {number}")

    async def consume(queue: asyncio.Queue[int]) -> None:
        for _ in range(4):
            number = await queue.get()
            order.append(f"got {number}")
            queue.task_done()

    async def main() -> None:
        queue = asyncio.Queue[int](1)
        tasks = [spawn(produce(queue), loop=loop), spawn(consume(queue), loop=loop)]
        await queue.join()
        await asyncio.gather(*tasks)

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == ["put 0", "got 0", "put 1", "got 1", "put 2", "got 2", "put 3", "got 3"]


@pytest.mark.parametrize("moment", ["waiting", "woken"])
def test_cancelling_a_getter_loses_no_item(loop: Loop, spawn: Spawn, moment: str) -> None:
    async def main() -> None:
        queue = asyncio.Queue[str]()
        first, second = (spawn(queue.get(), loop=loop) for _ in range(2))
        await turns()
        if moment == "waiting":
            first.cancel()
            await turns()
            queue.put_nowait("item")
        else:
            queue.put_nowait("item")
            first.cancel()
        assert await second == "item"
        assert first.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_a_putter_loses_no_place(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        queue = asyncio.Queue[int](1)
        queue.put_nowait(0)
        first, second = (spawn(queue.put(number), loop=loop) for number in (1, 2))
        await turns()
        assert queue.get_nowait() == 0
        first.cancel()
        await second
        assert first.cancelled()
        assert queue.get_nowait() == 2

    loop.run_until_complete(spawn(main(), loop=loop))


@pytest.mark.since(3, 13)
def test_a_queue_that_is_shut_down_wakes_everybody(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        queue: Any = asyncio.Queue[int]()  # 3.12's has no `shutdown` in typeshed
        tasks = [spawn(queue.get(), loop=loop) for _ in range(3)]
        await turns()
        queue.shutdown()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["QueueShutDown"] * 3

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_priority_queue_and_a_stack_hand_out_in_their_order(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        for queue, expected in (
            (asyncio.PriorityQueue[int](), [1, 2, 3]),
            (asyncio.LifoQueue[int](), [2, 1, 3]),
        ):
            for number in (3, 1, 2):
                await queue.put(number)
            assert [await queue.get() for _ in range(3)] == expected

    loop.run_until_complete(spawn(main(), loop=loop))


# Barrier


def test_a_barrier_lets_all_go_together(loop: Loop, spawn: Spawn) -> None:
    order = list[str]()

    async def reach(barrier: asyncio.Barrier, number: int) -> int:
        await turns(number)
        order.append("reached")
        position = await barrier.wait()
        order.append("left")
        return position

    async def main() -> None:
        barrier = asyncio.Barrier(3)
        positions = await asyncio.gather(*(spawn(reach(barrier, number), loop=loop) for number in range(3)))
        assert sorted(positions) == [0, 1, 2]

    loop.run_until_complete(spawn(main(), loop=loop))
    assert order == ["reached"] * 3 + ["left"] * 3


def test_cancelling_who_waits_at_a_barrier_leaves_the_place_free(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(2)
        gone = spawn(barrier.wait(), loop=loop)
        await turns()
        assert barrier.n_waiting == 1
        gone.cancel()
        await turns(2)
        assert gone.cancelled()
        assert barrier.n_waiting == 0
        await asyncio.gather(*(spawn(barrier.wait(), loop=loop) for _ in range(2)))

    loop.run_until_complete(spawn(main(), loop=loop))


def test_an_aborted_barrier_breaks_for_who_waits(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(2)
        waiting = spawn(barrier.wait(), loop=loop)
        await turns()
        await barrier.abort()
        with pytest.raises(asyncio.BrokenBarrierError):
            await waiting

    loop.run_until_complete(spawn(main(), loop=loop))


# All of them.

Wait = Callable[[], Awaitable[Any]]


async def _held_lock() -> Wait:
    lock = asyncio.Lock()
    await lock.acquire()
    return lock.acquire


async def _unset_event() -> Wait:
    return asyncio.Event().wait


async def _silent_condition() -> Wait:
    condition = asyncio.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    return wait


async def _used_up_semaphore() -> Wait:
    return asyncio.Semaphore(0).acquire


async def _empty_queue() -> Wait:
    return asyncio.Queue[int]().get


async def _full_queue() -> Wait:
    queue = asyncio.Queue[int](1)
    queue.put_nowait(1)
    return lambda: queue.put(2)


async def _unfinished_queue() -> Wait:
    queue = asyncio.Queue[int]()
    queue.put_nowait(1)
    return queue.join


async def _lonely_barrier() -> Wait:
    return asyncio.Barrier(2).wait


@pytest.mark.parametrize(
    "waiting",
    [
        _held_lock,
        _unset_event,
        _silent_condition,
        _used_up_semaphore,
        _empty_queue,
        _full_queue,
        _unfinished_queue,
        _lonely_barrier,
    ],
)
@pytest.mark.parametrize("before", range(3))
def test_whoever_waits_can_be_cancelled_with_a_message(
    loop: Loop, spawn: Spawn, waiting: Callable[[], Awaitable[Wait]], before: int
) -> None:
    async def wait(on: Wait) -> None:
        await on()

    async def main() -> asyncio.Task[None]:
        task = spawn(wait(await waiting()), loop=loop)
        await turns(before)
        task.cancel("stop waiting")
        await asyncio.wait([task])
        return task

    task = loop.run_until_complete(spawn(main(), loop=loop))
    turn(loop)
    with pytest.raises(asyncio.CancelledError, match=r"^stop waiting$"):
        task.result()
