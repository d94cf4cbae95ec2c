"""What Rust futures and channels hold is seen by the cycle collector: what nobody has any more goes.

The other half is as important: what somebody will yet receive stays, whatever else is garbage.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.extension import ext, start_extension
from support.loops import Loop, LoopFactory, turn
from support.process import output
from support.rust import pyloop, rust, start_background, sync

pytestmark = pytest.mark.usefixtures("pyloop_factory", "background", "quiet_collector")


@pytest.fixture(scope="module")
def background() -> None:
    start_background()
    start_extension()


@pytest.fixture
def quiet_collector() -> Iterator[None]:
    """It comes when a test calls it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Thing:
    """Something that can hold anything."""

    held: Any
    also: Any


def is_collected(make: Callable[[Thing], object]) -> bool:
    """Whether a thing that `make` has put into a cycle goes."""
    thing = Thing()
    make(thing)
    gone = weakref.ref(thing)
    del thing
    assert gone() is not None, "that is no cycle"
    gc.collect()
    return gone() is None


# Channels.


def queue(thing: Thing) -> None:
    thing.held, thing.also = sync.mpsc(4)
    thing.held.try_send(thing)


def unbounded(thing: Thing) -> None:
    thing.held, thing.also = sync.unbounded()
    thing.held.try_send([thing])


def oneshot(thing: Thing) -> None:
    thing.also, thing.held = sync.oneshot()
    thing.also.send(thing)


def watch(thing: Thing) -> None:
    thing.held, thing.also = sync.watch(thing)


def watch_receiver(thing: Thing) -> None:
    sender, thing.held = sync.watch(None)
    sender.send(thing)


def watch_sender(thing: Thing) -> None:
    thing.held, _ = sync.watch(None)
    thing.held.send(thing)


def broadcast(thing: Thing) -> None:
    sender, thing.held = sync.broadcast(4)
    sender.send(thing)


def broadcast_of_two(thing: Thing) -> None:
    sender, thing.held = sync.broadcast(4)
    thing.also = sender.subscribe()
    sender.send(thing)


CHANNELS = [queue, unbounded, oneshot, watch, watch_receiver, watch_sender, broadcast, broadcast_of_two]


@pytest.mark.parametrize("make", CHANNELS)
def test_a_channel_in_its_own_item_goes(make: Callable[[Thing], None]) -> None:
    assert is_collected(make)


def test_a_receiver_that_is_in_its_own_queue_goes() -> None:
    sender, receiver = sync.unbounded()
    gone = weakref.ref(receiver)
    sender.try_send(receiver)
    del receiver
    gc.collect()
    assert gone() is None
    # And the sender hears of it.
    with pytest.raises(sync.Closed):
        sender.try_send(1)


def test_a_sender_that_somebody_has_does_not_keep_what_nobody_can_receive() -> None:
    senders = []

    def make(thing: Thing) -> None:
        sender, thing.held = sync.unbounded()
        sender.try_send(thing)
        senders.append(sender)

    assert is_collected(make)
    assert senders[0].is_closed()


@pytest.mark.parametrize("channel", ["mpsc", "unbounded", "broadcast", "watch", "oneshot"])
def test_what_somebody_can_receive_stays(loop: Loop, channel: str) -> None:
    class Item:
        pass

    make: dict[str, Callable[[], tuple[Any, Any]]] = {
        "mpsc": lambda: sync.mpsc(4),
        "unbounded": lambda: sync.unbounded(),
        "broadcast": lambda: sync.broadcast(4),
        "watch": lambda: sync.watch(None),
        "oneshot": lambda: sync.oneshot(),
    }
    sender, receiver = make[channel]()
    item: Any = Item()
    item.itself, item.sender = item, sender  # garbage, were it not for the receiver
    gone = weakref.ref(item)
    (sender.try_send if hasattr(sender, "try_send") else sender.send)(item)
    del item, sender
    gc.collect()
    receive = receiver.changed if channel == "watch" else receiver.recv
    waiting = receive()
    del receiver, receive
    gc.collect()
    got: Any = loop.run_until_complete(waiting)
    assert got is gone()
    assert got is not None
    assert got.itself is got
    got.__dict__.clear()


def test_what_a_pending_receive_of_a_task_will_get_stays(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)

    async def main(receiver: Any) -> Any:
        return await receiver.recv()

    task = loop.create_task(main(receiver))
    del receiver
    turn(loop)
    thing = Thing()
    thing.held = thing
    sender.try_send(thing)
    del thing
    gc.collect()
    got = loop.run_until_complete(task)
    assert got.held is got
    got.__dict__.clear()


def test_what_rust_code_has_a_half_of_is_not_taken_for_garbage() -> None:
    """Rust's half may receive it: the collector does not look into the channel any more."""
    sender, receiver = sync.unbounded()
    assert rust.sends_without_the_gil(sender, [])
    thing = Thing()
    thing.held = receiver
    gone = weakref.ref(thing)
    sender.try_send(thing)
    del thing, receiver
    gc.collect()
    assert gone() is not None
    del sender
    gc.collect()
    left = gone()
    assert left is not None
    left.__dict__.clear()  # or it would stay for ever
    del left
    gc.collect()
    assert gone() is None


def test_items_come_and_go_while_the_collector_looks(loop: Loop) -> None:
    """With a collection at nearly every allocation, in another thread, too."""
    count = 300

    async def main() -> None:
        (there, here), (back, again) = sync.mpsc(3), sync.unbounded()
        value, watching = sync.watch([0])

        async def echo() -> None:
            async for item in here:
                back.try_send([item])
                value.send([item])

        def fill() -> None:
            for number in range(count):
                there.blocking_send([number, there])

        thread, echoing = threading.Thread(target=fill), asyncio.create_task(echo())
        thread.start()
        for number in range(count):
            [[got, _]] = await again.recv()
            assert got == number
            assert watching.value
        thread.join()
        echoing.cancel()

    before = gc.get_threshold()
    gc.set_threshold(1)
    gc.enable()
    try:
        loop.run_until_complete(main())
    finally:
        gc.disable()
        gc.set_threshold(*before)


# Rust futures.


def test_a_pending_send_shows_its_item() -> None:
    def make(thing: Thing) -> None:
        sender, _ = sync.mpsc(1)
        thing.held = sender.send(thing)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert is_collected(make)


FUTURES: dict[str, Callable[[Thing], Any]] = {
    "sleep": lambda thing: pyloop.sleep(3600, thing),
    "yield_once": lambda thing: rust.yield_once(thing),
    "woken_from_thread": lambda thing: rust.woken_from_thread(0.001, thing),
    "an extension's": lambda thing: ext.holds(thing, 3600.0),
}


@pytest.mark.parametrize("make", FUTURES.values(), ids=FUTURES.keys())
def test_a_future_in_its_own_result_goes(make: Callable[[Thing], Any]) -> None:
    def hold(thing: Thing) -> None:
        thing.held = make(thing)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert is_collected(hold)


@pytest.mark.parametrize("make", FUTURES.values(), ids=FUTURES.keys())
def test_a_future_in_its_own_result_that_was_begun_goes(loop: Loop, make: Callable[[Thing], Any]) -> None:
    def hold(thing: Thing) -> None:
        thing.held = make(thing)
        loop.call_soon(next, thing.held.__await__())
        turn(loop)

    assert is_collected(hold)


def test_a_future_that_holds_gives_what_it_held(loop: Loop) -> None:
    thing = Thing()
    waiting = ext.holds(thing, 0.001)
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert loop.run_until_complete(waiting) is gone()
    waiting = ext.holds([], 3600.0)
    assert [len(each) for each in gc.get_referents(waiting) if isinstance(each, list)] == [0]
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del waiting


def test_a_receive_that_its_receivers_item_holds_goes() -> None:
    def make(thing: Thing) -> None:
        _, receiver = sync.unbounded()
        thing.held = receiver.recv()
        sender, thing.also = sync.unbounded()
        sender.try_send(thing)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert is_collected(make)


SOCKET_CALLS: dict[str, Callable[[Loop, socket.socket, Thing], Any]] = {
    "sock_recv": lambda loop, sock, thing: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock, thing: loop.sock_recv_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock, thing: loop.sock_sendall(sock, b"x"),
    "sock_accept": lambda loop, sock, thing: loop.sock_accept(sock),
}


@pytest.mark.parametrize("call", SOCKET_CALLS.values(), ids=SOCKET_CALLS.keys())
def test_a_socket_call_that_its_socket_holds_goes(
    loop: Loop, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sock(socket.socket):
        held: Any
        thing: Any

    def make(thing: Thing) -> None:
        sock = Sock()
        sock.setblocking(False)
        sock.thing, thing.also = thing, sock
        sock.held = call(loop, sock, thing)
        sock.close()  # the ResourceWarning would hold it

    said = list[str]()
    # A warning that is recorded holds the coroutine.
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: said.append(str(message)))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert is_collected(make)
    assert any("never awaited" in text for text in said)


# Loops that nobody has any more.


def test_an_abandoned_loop_whose_task_awaits_a_rust_future_goes(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import gc, warnings, weakref
import pyloop, pyloop.sync
from pyloop._native import _testing as rust
warnings.simplefilter("ignore")
kept = []
async def main(loop):
    channel = pyloop.sync.unbounded()
    await {"sleep": lambda: pyloop.sleep(3600), "never": rust.never, "recv": channel[1].recv}[WHICH]()

for WHICH in ("sleep", "never", "recv"):
    for make in (asyncio.Task, pyloop.Task):
        loop = new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        task = make(main(loop), loop=loop)
        loop.call_later(3600, task.cancel)
        loop.run_until_complete(asyncio.sleep(0))
        gone = weakref.ref(loop)
        del loop, task
        gc.collect()
        gc.collect()
        print(WHICH, gone() is None)
""",
        ["-W", "ignore"],
    )
    assert "False" not in printed
    assert printed.count("True") == 6


def test_a_loop_is_not_kept_by_rust_that_awaits_one_of_its_coroutines(loop_factory: LoopFactory) -> None:
    async def inner() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        await ext.awaits(inner())

    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)
    tasks = [loop.create_task(main())]
    turn(loop)
    turn(loop)
    gone = weakref.ref(loop)
    tasks.clear()
    del loop
    with pytest.warns((ResourceWarning, RuntimeWarning)):
        collect_twice()
    assert gone() is None


def collect_twice() -> None:
    """What the first collection has let go of may have been in the way of more."""
    gc.collect()
    gc.collect()
