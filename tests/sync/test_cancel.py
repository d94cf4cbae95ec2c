"""What a cancelled task would have received is still there: cancelled at each point, in each way of waiting.

A stock task polls a Rust future in its step, then adds its callback: what comes in between is kept, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from support import making
from support.loops import Loop, turn
from support.rust import pyloop, start_background, sync

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


class Case(NamedTuple):
    """Something to wait for."""

    give: Callable[[], object]  # lets one waiter through
    take: Callable[[], Coroutine[Any, Any, Any]]  # what waits
    left: Callable[[], bool]  # whether what was given is still to be had; takes it


def from_queue(make: Callable[[], Any], take: str) -> Case:
    sender, receiver = make()
    return Case(
        lambda: sender.try_send("value"), getattr(receiver, take), lambda: receiver.try_recv() == "value"
    )


def from_oneshot() -> Case:
    sender, receiver = sync.oneshot()
    return Case(lambda: sender.send("value"), receiver.recv, lambda: receiver.try_recv() == "value")


def from_broadcast() -> Case:
    sender, receiver = sync.broadcast(4)
    return Case(lambda: sender.send("value"), receiver.recv, lambda: receiver.try_recv() == "value")


def from_watch() -> Case:
    sender, receiver = sync.watch("initial")
    return Case(
        lambda: sender.send("value"),
        receiver.changed,
        lambda: receiver.has_changed() and receiver.value == "value",
    )


def from_semaphore() -> Case:
    semaphore = sync.Semaphore(0)

    async def acquire() -> Any:
        return await semaphore.acquire()

    return Case(lambda: semaphore.add_permits(1), acquire, lambda: bool(semaphore.try_acquire().permits == 1))


def from_block() -> Case:
    semaphore = sync.Semaphore(0)

    async def hold() -> None:
        async with semaphore.acquire():
            pass

    return Case(lambda: semaphore.add_permits(1), hold, lambda: bool(semaphore.try_acquire().permits == 1))


def from_notify() -> Case:
    notify = sync.Notify()

    def left() -> bool:
        with pytest.raises(StopIteration):
            notify.notified().send(None)
        return True

    return Case(notify.notify_one, notify.notified, left)


CASES: dict[str, Callable[[], Case]] = {
    "mpsc": lambda: from_queue(lambda: sync.mpsc(1), "recv"),
    "mpsc_next": lambda: from_queue(lambda: sync.mpsc(1), "__anext__"),
    "unbounded": lambda: from_queue(lambda: sync.unbounded(), "recv"),
    "oneshot": from_oneshot,
    "broadcast": from_broadcast,
    "watch": from_watch,
    "semaphore": from_semaphore,
    "semaphore_block": from_block,
    "notify": from_notify,
}

each_case = pytest.mark.parametrize("make", list(CASES.values()), ids=list(CASES))


def itself(loop: Loop, take: Any) -> asyncio.Task[Any]:
    return loop.create_task(take())


def nested(loop: Loop, take: Any) -> asyncio.Task[Any]:
    async def inner() -> Any:
        return await take()

    async def outer() -> Any:
        return await inner()

    return loop.create_task(outer())


def stock(loop: Loop, take: Any) -> asyncio.Task[Any]:
    async def inner() -> Any:
        return await take()

    return asyncio.Task(inner(), loop=loop)


def ours(loop: Loop, take: Any) -> asyncio.Task[Any]:
    async def inner() -> Any:
        return await take()

    task: asyncio.Task[Any] = pyloop.Task(inner(), loop=loop)
    return task


each_way = pytest.mark.parametrize(
    "spawn_waiter", [itself, nested, stock, ours], ids=lambda way: way.__name__
)
Way = Callable[[Loop, Any], asyncio.Task[Any]]


@each_case
@each_way
def test_cancelled_before_the_first_poll(loop: Loop, make: Callable[[], Case], spawn_waiter: Way) -> None:
    case = make()
    case.give()
    task = spawn_waiter(loop, case.take)
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    assert case.left()


@each_case
@each_way
def test_cancelled_while_it_waits(loop: Loop, make: Callable[[], Case], spawn_waiter: Way) -> None:
    case = make()
    task = spawn_waiter(loop, case.take)
    turn(loop, 2)
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    case.give()
    assert case.left()


@each_case
@each_way
@pytest.mark.parametrize("first", ["give", "cancel"])
def test_cancelled_in_the_turn_in_which_it_is_given(
    loop: Loop, make: Callable[[], Case], spawn_waiter: Way, first: str
) -> None:
    """The task is woken and has not been stepped."""
    case = make()
    task = spawn_waiter(loop, case.take)
    turn(loop, 2)
    acts = [case.give, task.cancel]
    for act in acts if first == "give" else acts[::-1]:
        loop.call_soon(act)
    turn(loop, 4)
    if task.cancelled():
        assert case.left()
    else:  # a wake by `call_soon` had its turn between the two
        assert task.done() and not task.exception()
        assert first == "give"


@each_case
@each_way
def test_cancelled_right_after_it_is_given(loop: Loop, make: Callable[[], Case], spawn_waiter: Way) -> None:
    case = make()
    task = spawn_waiter(loop, case.take)
    turn(loop, 2)
    case.give()
    task.cancel()
    turn(loop, 4)
    assert task.cancelled()
    assert case.left()


@each_case
def test_given_between_the_step_and_the_callback_of_a_foreign_task(
    loop: Loop, make: Callable[[], Case]
) -> None:
    """A stock task polls in its step and then adds its callback; a Rust thread may send in between."""
    case = make()

    async def main() -> None:
        awaitable: Any = case.take()
        yielded = awaitable.send(None)
        assert yielded._asyncio_future_blocking
        yielded._asyncio_future_blocking = False
        case.give()
        called = loop.create_future()
        yielded.add_done_callback(called.set_result)
        await called  # it was woken all the same
        yielded.cancel()
        awaitable.close()

    task = asyncio.Task(main(), loop=loop)
    loop.run_until_complete(task)
    assert case.left()


@each_case
def test_given_between_the_step_and_the_callback_it_is_received(loop: Loop, make: Callable[[], Case]) -> None:
    case = make()

    async def main() -> None:
        awaitable: Any = case.take()
        yielded = awaitable.send(None)
        yielded._asyncio_future_blocking = False
        case.give()
        called = loop.create_future()
        yielded.add_done_callback(called.set_result)
        await called
        yielded.result()
        with pytest.raises(StopIteration):
            awaitable.send(None)

    loop.run_until_complete(asyncio.Task(main(), loop=loop))


@each_case
def test_wait_for_leaves_what_comes_too_late(loop: Loop, make: Callable[[], Case]) -> None:
    case = make()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(case.take(), 0.001)
        case.give()
        assert case.left()

    loop.run_until_complete(main())


@each_case
def test_a_waiter_behind_a_cancelled_one_gets_it(loop: Loop, make: Callable[[], Case]) -> None:
    case = make()
    first, second = loop.create_task(case.take()), loop.create_task(case.take())
    turn(loop, 2)
    case.give()
    first.cancel()
    loop.run_until_complete(asyncio.wait([first, second], return_when=asyncio.ALL_COMPLETED))
    assert first.cancelled()
    assert not second.exception()


@each_case
def test_wait_for_races_with_a_thread(loop: Loop, make: Callable[[], Case]) -> None:
    """Received or left, whichever comes first."""

    async def main() -> None:
        for attempt in range(30):
            case = make()
            thread = threading.Thread(target=case.give)
            task = asyncio.ensure_future(case.take())
            for _ in range(attempt % 3):
                await asyncio.sleep(0)
            thread.start()
            await asyncio.sleep(0)
            task.cancel()
            thread.join()
            await asyncio.wait([task])
            if task.cancelled():
                assert case.left()
            else:
                assert task.exception() is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("seed", range(3))
def test_each_item_arrives_once_whoever_is_cancelled(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    count = 300
    sender, receiver = sync.mpsc(3)
    received = list[int]()

    def produce() -> None:
        with sender:
            for number in range(count):
                sender.blocking_send(number, timeout=5)

    async def take() -> None:
        with contextlib.suppress(sync.Closed):
            received.append(await receiver.recv())

    async def main() -> None:
        thread = threading.Thread(target=produce)
        thread.start()
        while len(received) < count:
            tasks = [asyncio.create_task(take()) for _ in range(chance.randrange(1, 5))]
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            for task in tasks:
                if chance.random() < 0.5:
                    task.cancel()
            await asyncio.wait(tasks, timeout=0.001)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        thread.join()

    loop.run_until_complete(main())
    assert sorted(received) == list(range(count))


def test_a_cancelled_send_sends_nothing(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)
    sender.try_send("first")
    task = loop.create_task(sender.send("second"))
    turn(loop, 2)
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    assert receiver.try_recv() == "first"
    sender.try_send("third")
    assert receiver.try_recv() == "third"
