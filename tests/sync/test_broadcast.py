"""Broadcasts and watches of `pyloop.sync`, on each kind of loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.rust import start_background, sync

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


class Thing:
    """What can be watched as it dies."""


# Broadcasts.


def test_every_receiver_gets_every_item(loop: Loop) -> None:
    async def main() -> list[list[int]]:
        sender, first = sync.broadcast(16)
        receivers = [first, sender.subscribe(), first.resubscribe()]

        async def collect(receiver: Any) -> list[int]:
            return [number async for number in receiver]

        tasks = [asyncio.create_task(collect(receiver)) for receiver in receivers]
        assert sender.receiver_count == 3
        for number in range(10):
            assert sender.send(number) == 3
            await asyncio.sleep(0)
        sender.close()
        return await asyncio.gather(*tasks)

    assert loop.run_until_complete(main()) == [list(range(10))] * 3


def test_who_subscribes_late_gets_what_comes_later(loop: Loop) -> None:
    sender, first = sync.broadcast(4)
    sender.send("early")
    late = sender.subscribe()
    sender.send("late")
    assert [first.try_recv(), first.try_recv()] == ["early", "late"]
    assert late.try_recv() == "late"
    with pytest.raises(sync.Empty):
        late.try_recv()


def test_who_is_too_slow_is_told_how_many_are_missing(loop: Loop) -> None:
    sender, receiver = sync.broadcast(4)
    for number in range(10):
        sender.send(number)
    with pytest.raises(sync.Lagged) as caught:
        loop.run_until_complete(receiver.recv())
    assert caught.value.count == 6
    assert "6" in str(caught.value)
    assert [receiver.try_recv() for _ in range(4)] == [6, 7, 8, 9]
    for number in range(5):
        sender.send(number)
    with pytest.raises(sync.Lagged, match=r"^1 item was"):
        receiver.try_recv()

    async def iterate() -> None:
        async for _ in receiver:
            sender.send("filling it again")

    with pytest.raises(sync.Lagged):
        for number in range(50):
            sender.send(number)
        loop.run_until_complete(iterate())


def test_without_receivers_an_item_goes_nowhere(loop: Loop) -> None:
    sender, receiver = sync.broadcast(1)
    del receiver
    thing = Thing()
    watched = weakref.ref(thing)
    assert sender.send(thing) == 0
    del thing
    assert watched() is None
    assert sender.receiver_count == 0


def test_the_end_comes_after_the_last_sender(loop: Loop) -> None:
    sender, receiver = sync.broadcast(4)
    other = sender.clone()
    with sender:
        sender.send(1)
    with pytest.raises(sync.Closed):
        sender.send(2)
    other.send(3)
    del other
    assert loop.run_until_complete(receiver.recv()) == 1
    assert receiver.try_recv() == 3
    with pytest.raises(sync.Closed):
        receiver.try_recv()
    with pytest.raises(sync.Closed):
        loop.run_until_complete(receiver.recv())
    with pytest.raises(StopAsyncIteration):
        loop.run_until_complete(anext(receiver))


def test_two_tasks_share_a_receiver(loop: Loop) -> None:
    sender, receiver = sync.broadcast(4)
    tasks = [loop.create_task(receiver.recv()) for _ in range(2)]
    turn(loop, 2)
    with pytest.raises(RuntimeError, match="subscribe"):
        receiver.resubscribe()
    sender.send("a")
    sender.send("b")
    assert loop.run_until_complete(asyncio.gather(*tasks)) == ["a", "b"]


def test_an_item_may_use_the_channel_as_it_dies(loop: Loop) -> None:
    """tokio drops overwritten items under its lock, where this would wait for ever."""
    sender, receiver = sync.broadcast(2)
    died = list[int]()

    class Last:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            died.append(self.number)
            sender.send(f"of {self.number}")

    for number in range(3):
        sender.send(Last(number))
    assert died[:1] == [0]
    with pytest.raises(sync.Lagged):
        receiver.try_recv()
    sender, last = sync.broadcast(2)
    sender.send(Last(7))
    del last  # a receiver drops what it has not received, under the lock as well
    assert died.count(7) == 1
    sender, receiver = sync.broadcast(1)  # the rest dies here
    gc.collect()
    assert sorted(died) == [0, 1, 2, 7]


@pytest.mark.parametrize("capacity", [0, -1, 2**20 + 1])
def test_a_capacity_is_checked(loop: Loop, capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        sync.broadcast(capacity)


def test_received_items_die_when_all_have_them(loop: Loop) -> None:
    sender, receiver = sync.broadcast(4)
    other = sender.subscribe()
    watched = list[weakref.ref[Thing]]()
    for _ in range(3):
        thing = Thing()
        watched.append(weakref.ref(thing))
        sender.send(thing)
        del thing
    for _ in range(3):
        receiver.try_recv()
    assert all(ref() is not None for ref in watched)
    del other
    assert [ref() for ref in watched] == [None] * 3


# Watches.


def test_a_receiver_sees_the_newest_value(loop: Loop) -> None:
    sender, receiver = sync.watch("first")
    assert (sender.value, receiver.value) == ("first", "first")
    assert not receiver.has_changed()
    for number in range(5):
        sender.send(number)
    assert receiver.has_changed()
    assert receiver.value == 4
    assert receiver.has_changed()  # reading does not mark it
    assert loop.run_until_complete(receiver.changed()) == 4
    assert not receiver.has_changed()


def test_changed_waits_for_the_next(loop: Loop) -> None:
    sender, receiver = sync.watch(0)
    task = loop.create_task(receiver.changed())
    turn(loop, 2)
    assert not task.done()
    assert receiver.value == 0  # readable meanwhile
    sender.send(1)
    assert loop.run_until_complete(task) == 1


def test_changes_are_iterated_to_the_end(loop: Loop) -> None:
    sender, receiver = sync.watch(0)

    async def main() -> list[int]:
        async def change() -> None:
            with sender:
                for number in range(1, 5):
                    sender.send(number)
                    await asyncio.sleep(0)
                sender.send(9)

        task = asyncio.create_task(change())
        seen = [number async for number in receiver]
        await task
        return seen

    seen = loop.run_until_complete(main())
    assert seen == sorted(seen)
    assert seen[-1] == 9
    assert 0 not in seen
    with pytest.raises(sync.Closed):
        loop.run_until_complete(receiver.changed())
    assert receiver.value == 9


def test_two_tasks_wait_with_one_receiver_and_one_sees_the_change(loop: Loop) -> None:
    sender, receiver = sync.watch(0)
    tasks = [loop.create_task(receiver.changed()) for _ in range(2)]
    turn(loop, 2)
    sender.send(1)
    turn(loop, 3)
    assert sorted(task.done() for task in tasks) == [False, True]
    sender.send(2)
    assert sorted(loop.run_until_complete(asyncio.gather(*tasks))) == [1, 2]


def test_a_clone_sees_changes_for_itself(loop: Loop) -> None:
    sender, receiver = sync.watch(0)
    other, late = receiver.clone(), sender.subscribe()
    sender.send(1)
    tasks = [loop.create_task(one.changed()) for one in (receiver, other, late)]
    assert loop.run_until_complete(asyncio.gather(*tasks)) == [1] * 3
    assert sender.receiver_count == 3


def test_the_sender_hears_when_nobody_is_left(loop: Loop) -> None:
    sender, receiver = sync.watch(0)
    closed = loop.create_task(sender.closed())
    turn(loop, 2)
    assert not closed.done()
    assert not sender.is_closed()
    del receiver
    loop.run_until_complete(closed)
    assert sender.is_closed()
    sender.send(5)  # kept all the same
    assert sender.subscribe().value == 5
    sender.close()
    with pytest.raises(sync.Closed):
        sender.send(6)
    with pytest.raises(sync.Closed):
        _ = sender.value


def test_an_old_value_may_set_a_new_one_as_it_dies(loop: Loop) -> None:
    class Last:
        def __del__(self) -> None:
            sender.send("of the dead")

    sender, receiver = sync.watch(Last())
    sender.send("new")
    assert receiver.value == "of the dead"


def test_values_die_when_they_are_replaced(loop: Loop) -> None:
    thing = Thing()
    watched = weakref.ref(thing)
    sender, receiver = sync.watch(thing)
    del thing
    assert receiver.value is watched()
    sender.send(None)
    assert watched() is None
    assert receiver.value is None
