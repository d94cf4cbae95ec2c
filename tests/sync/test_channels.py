"""Queues and oneshots of `pyloop.sync`, on each kind of loop."""

from __future__ import annotations

import asyncio
import gc
import pickle
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


# Queues.

each_queue = pytest.mark.parametrize(
    "make", [lambda: sync.mpsc(4), lambda: sync.unbounded()], ids=["mpsc", "unbounded"]
)


@each_queue
def test_what_is_sent_is_received_in_order(loop: Loop, make: Any) -> None:
    async def main() -> list[int]:
        sender, receiver = make()

        async def produce() -> None:
            with sender:
                for number in range(20):
                    await sender.send(number)

        task = asyncio.create_task(produce())
        received = [number async for number in receiver]
        await task
        return received

    assert loop.run_until_complete(main()) == list(range(20))


@each_queue
def test_any_object_is_an_item(loop: Loop, make: Any) -> None:
    values = [None, (1, 2), StopIteration(3), ValueError("as a value"), Thing()]

    async def main() -> None:
        sender, receiver = make()
        for value in values:
            await sender.send(value)
            assert await receiver.recv() is value
            sender.try_send(value)
            assert receiver.try_recv() is value

    loop.run_until_complete(main())


def test_send_waits_while_the_queue_is_full(loop: Loop) -> None:
    sender, receiver = sync.mpsc(2)
    order = list[str]()

    async def produce() -> None:
        for number in range(4):
            await sender.send(number)
            order.append(f"sent {number}")

    task = loop.create_task(produce())
    turn(loop, 2)
    assert order == ["sent 0", "sent 1"]
    assert (sender.capacity, sender.max_capacity) == (0, 2)
    with pytest.raises(sync.Full):
        sender.try_send(9)
    assert receiver.try_recv() == 0
    turn(loop, 2)
    assert order[2:] == ["sent 2"]
    assert [receiver.try_recv(), receiver.try_recv()] == [1, 2]
    loop.run_until_complete(task)
    assert receiver.try_recv() == 3
    with pytest.raises(sync.Empty):
        receiver.try_recv()


def test_an_unbounded_queue_has_no_capacity(loop: Loop) -> None:
    sender, _receiver = sync.unbounded()
    assert sender.capacity is None
    assert sender.max_capacity is None


@each_queue
def test_the_receiver_ends_when_the_last_sender_is_given_up(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    others = [sender.clone() for _ in range(3)]
    task = loop.create_task(receiver.recv())
    for one in (sender, *others[:2]):
        one.close()
        turn(loop, 2)
        assert not task.done()
    others.clear()  # the last is collected, not closed
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)
    with pytest.raises(sync.Closed):
        receiver.try_recv()
    with pytest.raises(StopAsyncIteration):
        loop.run_until_complete(anext(receiver))


@each_queue
def test_what_was_sent_before_the_end_is_received(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    sender.try_send(1)
    sender.try_send(2)
    sender.close()

    async def main() -> list[int]:
        return [number async for number in receiver]

    assert loop.run_until_complete(main()) == [1, 2]


@each_queue
def test_a_given_up_sender_refuses(loop: Loop, make: Any) -> None:
    sender, _receiver = make()
    assert not sender.is_closed()
    sender.close()
    sender.close()
    assert sender.is_closed()
    for use in (lambda: sender.try_send(1), lambda: sender.send(1), sender.clone, sender.closed):
        with pytest.raises(sync.Closed):
            use()


@each_queue
def test_without_a_receiver_nothing_is_sent(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    closed = loop.create_task(sender.closed())
    turn(loop, 2)
    assert not closed.done()
    del receiver
    assert sender.is_closed()
    loop.run_until_complete(closed)
    with pytest.raises(sync.Closed):
        sender.try_send(1)
    with pytest.raises(sync.Closed):
        loop.run_until_complete(sender.send(1))


@each_queue
def test_a_closed_receiver_gives_what_it_has(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    sender.try_send(1)
    receiver.close()
    with pytest.raises(sync.Closed):
        sender.try_send(2)
    assert receiver.try_recv() == 1
    with pytest.raises(sync.Closed):
        receiver.try_recv()


@each_queue
def test_a_receiver_is_closed_while_a_task_waits_on_it(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    task = loop.create_task(receiver.recv())
    turn(loop, 2)
    receiver.close()
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)
    assert sender.is_closed()


def test_a_send_that_waits_is_refused_when_the_receiver_closes(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)
    sender.try_send(1)
    task = loop.create_task(sender.send(2))
    turn(loop, 2)
    receiver.close()
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)
    assert receiver.try_recv() == 1


@each_queue
def test_several_tasks_receive_in_the_order_of_asking(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    got = list[tuple[str, int]]()

    async def take(name: str) -> None:
        got.append((name, await receiver.recv()))

    tasks = [loop.create_task(take(name)) for name in "abc"]
    turn(loop, 2)
    with pytest.raises(sync.Empty):
        receiver.try_recv()  # what comes is theirs
    for number in range(3):
        sender.try_send(number)
    loop.run_until_complete(asyncio.wait(tasks))
    assert got == [("a", 0), ("b", 1), ("c", 2)]


def test_items_that_are_there_come_without_a_turn(loop: Loop) -> None:
    """An iteration over what is there gives no other task a turn (tokio's budget does, after 128 items)."""
    sender, receiver = sync.unbounded()
    for number in range(100):
        sender.try_send(number)
    sender.close()
    turns = list[int]()

    async def main() -> int:
        loop.call_soon(turns.append, 1)
        return len([number async for number in receiver])

    async def outer() -> tuple[int, int]:
        count = await main()
        return count, len(turns)

    assert loop.run_until_complete(outer()) == (100, 0)


@pytest.mark.parametrize("capacity", [0, -1, 2**62])
def test_a_capacity_is_checked(loop: Loop, capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        sync.mpsc(capacity)


@each_queue
def test_items_die_with_the_receiver(loop: Loop, make: Any) -> None:
    sender, receiver = make()
    thing = Thing()
    watched = weakref.ref(thing)
    sender.try_send(thing)
    del thing
    gc.collect()
    assert watched() is not None
    del receiver
    assert watched() is None
    thing = Thing()
    watched = weakref.ref(thing)
    with pytest.raises(sync.Closed):
        sender.try_send(thing)
    del thing
    assert watched() is None


def test_the_ends_are_collected(loop: Loop) -> None:
    async def main() -> None:
        sender, receiver = sync.mpsc(1)
        task = asyncio.create_task(receiver.recv())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        watched.extend([weakref.ref(sender), weakref.ref(receiver)])

    watched = list[weakref.ref[Any]]()
    loop.run_until_complete(main())
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


def test_a_queue_in_a_queue(loop: Loop) -> None:
    sender, receiver = sync.unbounded()
    inner = sync.oneshot()
    sender.try_send(inner)
    inner[0].send("deep")

    async def main() -> Any:
        _, answer = await receiver.recv()
        return await answer

    assert loop.run_until_complete(main()) == "deep"


# Oneshots.


def test_a_value_is_received_once(loop: Loop) -> None:
    sender, receiver = sync.oneshot()
    with pytest.raises(sync.Empty):
        receiver.try_recv()
    task = loop.create_task(receiver.recv())
    turn(loop, 2)
    assert not sender.is_closed()
    sender.send("value")
    assert sender.is_closed()
    assert loop.run_until_complete(task) == "value"
    for again in (receiver.try_recv, lambda: loop.run_until_complete(receiver.recv())):
        with pytest.raises(sync.Closed):
            again()
    with pytest.raises(sync.Closed):
        sender.send("again")


def test_a_receiver_is_awaited_itself(loop: Loop) -> None:
    async def main() -> Any:
        sender, receiver = sync.oneshot()
        loop.call_soon(sender.send, (1, 2))
        return await receiver

    assert loop.run_until_complete(main()) == (1, 2)


@pytest.mark.parametrize("how", ["close", "collected"])
def test_a_sender_without_a_value(loop: Loop, how: str) -> None:
    sender, receiver = sync.oneshot()
    task = loop.create_task(receiver.recv())
    turn(loop, 2)
    if how == "close":
        sender.close()
    else:
        del sender
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)


@pytest.mark.parametrize("pending", [True, False])
def test_a_closed_receiver_refuses_the_value(loop: Loop, pending: bool) -> None:
    sender, receiver = sync.oneshot()
    task = loop.create_task(receiver.recv())
    if pending:
        turn(loop, 2)
    receiver.close()
    with pytest.raises(sync.Closed):
        loop.run_until_complete(task)
    assert sender.is_closed()
    with pytest.raises(sync.Closed):
        sender.send(1)


def test_a_value_that_was_sent_outlives_close(loop: Loop) -> None:
    sender, receiver = sync.oneshot()
    sender.send("value")
    receiver.close()
    assert loop.run_until_complete(receiver.recv()) == "value"


# Looks.


def test_generic_classes_take_parameters(loop: Loop) -> None:
    for name in ("Sender", "Receiver", "OneshotSender", "BroadcastReceiver", "WatchSender"):
        cls = getattr(sync, name)
        assert str(cls[int]) == f"pyloop.sync.{name}[int]"
        with pytest.raises(TypeError):
            cls()


def test_exceptions_are_of_the_module_and_can_be_pickled(loop: Loop) -> None:
    for name in ("Closed", "Full", "Empty", "NoPermits", "Lagged"):
        cls = getattr(sync, name)
        assert issubclass(cls, Exception)
        assert cls.__module__ == "pyloop.sync"
        assert cls.__doc__
        error = cls(3) if name == "Lagged" else cls("text")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is cls and copy.args == error.args and str(copy) == str(error)
    assert pickle.loads(pickle.dumps(sync.Lagged(3))).count == 3


def test_everything_public_is_documented(loop: Loop) -> None:
    import pyloop.sync

    for name in pyloop.sync.__all__:
        thing = getattr(pyloop.sync, name)
        assert thing.__doc__, name
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_"):
                assert member.__doc__ or attribute == "is_closed", f"{name}.{attribute}"
