"""Semaphores, notifications and barriers of `pyloop.sync`, on each kind of loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.rust import start_background, sync

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


async def get(awaitable: Any) -> Any:
    return await awaitable


# Semaphores.


def test_a_permit_is_held_for_the_length_of_a_block(loop: Loop) -> None:
    semaphore = sync.Semaphore(2)
    most = list[int]()
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with semaphore.acquire() as permit:
            assert permit.permits == 1
            inside += 1
            most.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        await asyncio.gather(*[work() for _ in range(10)])

    loop.run_until_complete(main())
    assert max(most) == 2
    assert semaphore.available_permits == 2


def test_a_block_that_raises_gives_its_permit_back(loop: Loop) -> None:
    semaphore = sync.Semaphore(1)

    async def main() -> None:
        async with semaphore.acquire():
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        loop.run_until_complete(main())
    assert semaphore.available_permits == 1


def test_a_permit_released_within_its_block_is_released_once(loop: Loop) -> None:
    semaphore = sync.Semaphore(2)

    async def main() -> None:
        async with semaphore.acquire() as permit, semaphore.acquire():
            permit.release()
            permit.release()
            assert semaphore.available_permits == 1
            assert permit.permits == 0

    loop.run_until_complete(main())
    assert semaphore.available_permits == 2


def test_several_permits_come_at_once(loop: Loop) -> None:
    semaphore = sync.Semaphore(3)
    held = semaphore.try_acquire()
    task = loop.create_task(get(semaphore.acquire(3)))
    late = loop.create_task(get(semaphore.acquire()))
    turn(loop, 2)
    assert not task.done() and not late.done()  # in the order of asking, though there are two free
    held.release()
    assert loop.run_until_complete(task).permits == 3
    assert not late.done()
    del task
    assert loop.run_until_complete(late).permits == 1


@pytest.mark.parametrize("how", ["release", "with", "collected"])
def test_a_permit_comes_back(loop: Loop, how: str) -> None:
    semaphore = sync.Semaphore(1)
    permit = semaphore.try_acquire()
    with pytest.raises(sync.NoPermits):
        semaphore.try_acquire()
    if how == "release":
        permit.release()
    elif how == "with":
        with permit:
            assert semaphore.available_permits == 0
    else:
        del permit
    assert semaphore.available_permits == 1


def test_permits_are_added_and_forgotten(loop: Loop) -> None:
    semaphore = sync.Semaphore(0)
    task = loop.create_task(get(semaphore.acquire()))
    turn(loop, 2)
    assert not task.done()
    semaphore.add_permits(2)
    permit = loop.run_until_complete(task)
    permit.forget()
    permit.release()
    assert semaphore.available_permits == 1


def test_a_closed_semaphore_gives_no_permits(loop: Loop) -> None:
    semaphore = sync.Semaphore(1)
    permit = semaphore.try_acquire()
    task = loop.create_task(get(semaphore.acquire()))
    turn(loop, 2)
    assert not semaphore.is_closed()
    semaphore.close()
    assert semaphore.is_closed()
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)
    with pytest.raises(sync.Closed):
        semaphore.try_acquire()
    permit.release()


def test_numbers_are_checked(loop: Loop) -> None:
    with pytest.raises(ValueError, match="permits"):
        sync.Semaphore(-1)
    with pytest.raises(ValueError, match="permits"):
        sync.Semaphore(2**60)
    with pytest.raises(ValueError, match="permits"):
        sync.Semaphore(1).acquire(-1)
    with pytest.raises(ValueError, match="permits"):
        sync.Semaphore(1).add_permits(2**60 - 1)
    for parties in (0, -1):
        with pytest.raises(ValueError, match="parties"):
            sync.Barrier(parties)


# Notifications.


def test_one_waiter_is_notified_at_a_time(loop: Loop) -> None:
    notify = sync.Notify()
    tasks = [loop.create_task(notify.notified()) for _ in range(3)]
    turn(loop, 2)
    for count in range(1, 4):
        notify.notify_one()
        turn(loop, 3)
        assert [task.done() for task in tasks] == [True] * count + [False] * (3 - count)


def test_a_notification_is_kept_for_the_next(loop: Loop) -> None:
    notify = sync.Notify()
    notify.notify_one()
    notify.notify_one()
    loop.run_until_complete(notify.notified())
    task = loop.create_task(notify.notified())
    turn(loop, 2)
    assert not task.done()  # two are one
    notify.notify_one()
    loop.run_until_complete(task)


def test_all_that_asked_before_are_notified(loop: Loop) -> None:
    notify = sync.Notify()
    waiting = loop.create_task(notify.notified())
    turn(loop, 2)
    asked = notify.notified()  # not awaited yet
    notify.notify_waiters()
    late = loop.create_task(notify.notified())
    loop.run_until_complete(waiting)
    loop.run_until_complete(asked)
    turn(loop, 2)
    assert not late.done()
    notify.notify_waiters()
    loop.run_until_complete(late)


# Barriers.


def test_a_barrier_lets_its_tasks_pass_together(loop: Loop) -> None:
    barrier = sync.Barrier(3)
    assert barrier.parties == 3

    async def main() -> None:
        for _ in range(4):
            first, second = asyncio.create_task(barrier.wait()), asyncio.create_task(barrier.wait())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert barrier.n_waiting == 2
            assert not first.done() and not second.done()
            assert await barrier.wait() is True  # the last to come leads
            assert [await first, await second] == [False, False]
            assert barrier.n_waiting == 0

    loop.run_until_complete(main())


def test_a_cancelled_wait_has_not_come(loop: Loop) -> None:
    barrier = sync.Barrier(2)
    gone = loop.create_task(barrier.wait())
    turn(loop, 2)
    gone.cancel()
    turn(loop, 2)
    assert barrier.n_waiting == 0
    tasks = [loop.create_task(barrier.wait())]
    turn(loop, 2)
    assert not tasks[0].done()
    tasks.append(loop.create_task(barrier.wait()))
    assert sorted(loop.run_until_complete(asyncio.gather(*tasks))) == [False, True]


def test_a_wait_that_is_cancelled_after_it_passed_counts_for_no_other(loop: Loop) -> None:
    barrier = sync.Barrier(2)
    first = loop.create_task(barrier.wait())
    turn(loop, 2)
    assert loop.run_until_complete(get(second_of(barrier, first)))
    assert barrier.n_waiting == 0
    turn(loop, 2)
    assert first.cancelled()
    third = loop.create_task(barrier.wait())
    turn(loop, 2)
    assert not third.done()
    assert barrier.n_waiting == 1
    loop.run_until_complete(barrier.wait())
    assert third.done() or loop.run_until_complete(third) is False


async def second_of(barrier: Any, first: asyncio.Task[Any]) -> bool:
    leads: bool = await barrier.wait()
    first.cancel()  # woken, and not yet stepped
    return leads


def test_a_barrier_for_one(loop: Loop) -> None:
    assert loop.run_until_complete(sync.Barrier(1).wait()) is True
