"""`pyloop.sync` between threads, between loops of each kind, and with Rust threads that take no GIL."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from support import making
from support.guard import kernel_threads
from support.loops import Loop, LoopFactory, turn
from support.process import output
from support.rust import rust, start_background, sync
from support.threads import in_thread, until_asleep

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


class Thing:
    """What can be watched as it dies."""


# Plain threads.


def test_threads_send_and_a_task_receives(loop: Loop) -> None:
    sender, receiver = sync.mpsc(3)

    def produce(mine: Any, base: int) -> None:
        with mine:
            for number in range(200):
                mine.blocking_send(base + number, timeout=5)

    async def main() -> list[int]:
        return [number async for number in receiver]

    threads = [threading.Thread(target=produce, args=(sender.clone(), base)) for base in (0, 1000, 2000)]
    sender.close()
    for thread in threads:
        thread.start()
    received = loop.run_until_complete(main())
    for thread in threads:
        thread.join()
    assert sorted(received) == [base + number for base in (0, 1000, 2000) for number in range(200)]
    for base in (0, 1000, 2000):
        assert [number for number in received if base <= number < base + 1000] == list(
            range(base, base + 200)
        )


def test_a_task_sends_and_a_thread_receives(loop: Loop) -> None:
    sender, receiver = sync.mpsc(2)
    received = list[int]()

    def consume() -> None:
        try:
            while True:
                received.append(receiver.blocking_recv(timeout=5))
        except sync.Closed:
            pass

    async def main() -> None:
        with sender:
            for number in range(300):
                await sender.send(number)

    thread = threading.Thread(target=consume)
    thread.start()
    loop.run_until_complete(main())
    thread.join()
    assert received == list(range(300))


def test_a_sleeping_loop_is_woken_by_a_thread(loop: Loop) -> None:
    cases: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (sync.oneshot, lambda end: end.send("value")),
        (sync.unbounded, lambda end: end.try_send("value")),
        (lambda: sync.broadcast(1), lambda end: end.send("value")),
    ]
    for make, give in cases:
        sender, receiver = make()

        def later(loops: int, sender: Any, give: Callable[[Any], object]) -> None:
            until_asleep(loops)
            give(sender)

        thread = threading.Thread(target=later, args=(threading.get_native_id(), sender, give))
        thread.start()
        assert loop.run_until_complete(asyncio.wait_for(receiver.recv(), 5)) == "value"
        thread.join()


def test_a_thread_waits_without_the_gil(loop: Loop) -> None:
    cases: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (sync.oneshot, lambda end: end.send("value")),
        (sync.unbounded, lambda end: end.try_send("value")),
        (lambda: sync.broadcast(1), lambda end: end.send("value")),
    ]
    for make, give in cases:
        sender, receiver = make()
        got, ids = list[Any](), list[int]()

        def wait(receiver: Any = receiver, got: list[Any] = got, ids: list[int] = ids) -> None:
            ids.append(threading.get_native_id())
            got.append(receiver.blocking_recv())

        thread = threading.Thread(target=wait)
        thread.start()
        while not ids:
            pass
        until_asleep(ids[0])
        give(sender)
        thread.join()
        assert got == ["value"]


def test_a_blocking_call_has_a_timeout(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)
    for wait in (receiver.blocking_recv, sync.oneshot()[1].blocking_recv, sync.broadcast(1)[1].blocking_recv):
        with pytest.raises((TimeoutError, sync.Closed)):
            wait(timeout=0.001)
    sender.try_send("first")
    with pytest.raises(TimeoutError):
        sender.blocking_send("second", timeout=0.001)
    with pytest.raises(TimeoutError):
        sender.blocking_send("second", timeout=-1)
    assert receiver.blocking_recv(timeout=0) == "first"
    with pytest.raises(TimeoutError):
        receiver.blocking_recv(0.001)
    with pytest.raises(ValueError, match="NaN"):
        receiver.blocking_recv(float("nan"))
    sender.blocking_send("third", timeout=1e300)
    assert receiver.blocking_recv() == "third"


def test_a_blocking_call_on_a_loops_thread_says_what_to_do(loop: Loop) -> None:
    sender, receiver = sync.mpsc(1)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"`await recv\(\)`.*another thread"):
            receiver.blocking_recv()
        with pytest.raises(RuntimeError, match=r"`await send\(\)`"):
            sender.blocking_send(1)
        with pytest.raises(RuntimeError, match=r"`await recv\(\)`"):
            sync.oneshot()[1].blocking_recv()
        with pytest.raises(RuntimeError, match=r"`await recv\(\)`"):
            sync.broadcast(1)[1].blocking_recv()
        waiting = asyncio.create_task(asyncio.to_thread(receiver.blocking_recv))
        await sender.send("by a thread")
        assert await waiting == "by a thread"

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_signal_interrupts_a_blocking_call(loop: Loop) -> None:
    class Rung(Exception):
        pass

    def ring(*_: object) -> None:
        raise Rung

    _sender, receiver = sync.mpsc(1)
    native_id = threading.get_native_id()
    before = signal.signal(signal.SIGUSR1, ring)

    def later() -> None:
        until_asleep(native_id)
        signal.raise_signal(signal.SIGUSR1)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        with pytest.raises(Rung):
            receiver.blocking_recv()
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()


# Two loops.


@pytest.mark.parametrize("kind", list(making.HOSTS))
def test_two_loops_in_two_threads(loop: Loop, kind: str) -> None:
    """Requests go to one loop, each with a oneshot for the answer, which comes back to the other."""
    requests, incoming = sync.mpsc(4)
    semaphore, ended = sync.Semaphore(2), sync.Notify()

    async def serve() -> int:
        served = 0
        async for number, answer in incoming:
            async with semaphore.acquire():
                await asyncio.sleep(0)
                answer.send(number * 2)
            served += 1
        ended.notify_one()
        return served

    async def ask(number: int) -> int:
        answer, answered = sync.oneshot()
        async with semaphore.acquire():
            await asyncio.sleep(0)
        await requests.send((number, answer))
        result: int = await answered
        return result

    async def main() -> list[int]:
        with requests:
            answers = await asyncio.gather(*[ask(number) for number in range(100)])
        await ended.notified()
        return answers

    def run_serve() -> Any:
        other = making.HOSTS[kind]()
        try:
            return other.run_until_complete(asyncio.wait_for(serve(), 5))
        finally:
            other.close()

    served = list[Any]()
    thread = threading.Thread(target=lambda: served.append(run_serve()))
    thread.start()
    assert loop.run_until_complete(main()) == [number * 2 for number in range(100)]
    thread.join()
    assert served == [100]
    assert semaphore.available_permits == 2


def test_a_barrier_of_loops(loop: Loop) -> None:
    barrier, rounds = sync.Barrier(3), 20
    passed = list[int]()

    async def meet() -> list[bool]:
        led = list[bool]()
        for number in range(rounds):
            led.append(await barrier.wait())
            passed.append(number)
        return led

    def elsewhere(make: LoopFactory) -> list[bool]:
        other = make()
        try:
            return other.run_until_complete(asyncio.wait_for(meet(), 5))
        finally:
            other.close()

    led = list[list[bool]]()
    threads = [
        threading.Thread(target=lambda make=make: led.append(elsewhere(make)))
        for make in (making.HOSTS["asyncio"], making.HOSTS["pyloop"])
    ]
    for thread in threads:
        thread.start()
    led.append(loop.run_until_complete(asyncio.wait_for(meet(), 5)))
    for thread in threads:
        thread.join()
    assert [sum(column) for column in zip(*led, strict=True)] == [1] * rounds
    # Nobody is in a round before all have left the one before it.
    assert all(later - earlier >= -1 for earlier, later in itertools.pairwise(passed))


# Rust threads.


def test_a_rust_thread_fills_a_queue(loop: Loop) -> None:
    threads = kernel_threads()

    async def main() -> int:
        total = 0
        async for number in rust.counting(2000, 4):
            total += number
        return total

    assert loop.run_until_complete(main()) == sum(range(2000))
    while kernel_threads() > threads:
        turn(loop)


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize(
    "make",
    [lambda: sync.mpsc(4), lambda: sync.unbounded(), lambda: sync.broadcast(4)],
    ids=["mpsc", "unbounded", "broadcast"],
)
def test_a_rust_thread_sends_without_the_gil(loop: Loop, make: Callable[[], Any], waiting: bool) -> None:
    sender, receiver = make()
    things = [Thing() for _ in range(3)]
    task = loop.create_task(receiver.recv())
    if waiting:
        turn(loop, 2)
    assert rust.sends_without_the_gil(sender, list(things)) is True
    assert loop.run_until_complete(asyncio.wait_for(task, 5)) is things[0]
    assert [receiver.try_recv(), receiver.try_recv()] == things[1:]


@pytest.mark.parametrize("waiting", [False, True])
def test_a_rust_thread_sets_a_watch_without_the_gil(loop: Loop, waiting: bool) -> None:
    sender, receiver = sync.watch(Thing())
    task = loop.create_task(receiver.changed())
    if waiting:
        turn(loop, 2)
    things = [Thing() for _ in range(3)]
    assert rust.sends_without_the_gil(sender, list(things)) is True
    assert loop.run_until_complete(asyncio.wait_for(task, 5)) is things[-1]


@pytest.mark.parametrize("kind", ["full", "nobody", "overwritten", "watch"])
def test_what_a_rust_thread_drops_dies_later(loop: Loop, kind: str) -> None:
    """The reference is given up by whoever takes the GIL next."""
    if kind == "full":
        sender, receiver = sync.mpsc(1)
    elif kind == "nobody":
        sender, receiver = sync.unbounded()
        del receiver
    elif kind == "overwritten":
        sender, receiver = sync.broadcast(1)
    else:
        sender, receiver = sync.watch(None)
    things = [Thing() for _ in range(4)]
    watched = [weakref.ref(thing) for thing in things]
    assert rust.sends_without_the_gil(sender, things) is True
    things.clear()
    in_thread(gc.collect)
    sync.Notify().notify_one()
    alive = sum(ref() is not None for ref in watched)
    assert alive == (0 if kind == "nobody" else 1)
    sender = receiver = None
    gc.collect()
    assert not any(ref() for ref in watched)


def test_a_busy_interpreter_does_not_hold_a_rust_thread_up(loop: Loop) -> None:
    """While this thread computes without letting the GIL go, the channel is filled to the brim."""
    threads = kernel_threads()
    receiver = rust.counting(1000, 1000)
    sum(range(3_000_000))
    end = time.monotonic() + 5
    received = 0
    while received < 1000 and time.monotonic() < end:
        try:
            assert receiver.try_recv() == received
            received += 1
        except sync.Empty:
            time.sleep(0)
    assert received == 1000
    while kernel_threads() > threads:
        turn(loop)


# The end.

PENDING = """
import threading
import pyloop.sync as sync

async def main():
    ends = []
    for make in (lambda: sync.mpsc(1), sync.unbounded, sync.oneshot, lambda: sync.broadcast(1)):
        sender, receiver = make()
        ends.append((sender, receiver))
        tasks.append(asyncio.ensure_future(receiver.recv()))
    sender, receiver = sync.watch(0)
    tasks.append(asyncio.ensure_future(receiver.changed()))
    for waits in (sync.Notify().notified, sync.Barrier(2).wait):
        tasks.append(asyncio.ensure_future(waits()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    kept.append((ends, sender))

tasks, kept = [], []
"""


def kind_of(loop: Loop) -> str:
    return "pyloop" if "pyloop" in type(loop).__module__ else "asyncio"


def test_a_program_ends_with_receivers_that_wait(loop: Loop) -> None:
    """`asyncio.run` cancels them; nothing is said."""
    script = (
        PENDING + "asyncio.run(main(), loop_factory=new_event_loop); print(all(t.cancelled() for t in tasks))"
    )
    assert output(kind_of(loop), script) == "True\n"


def test_a_program_ends_while_a_daemon_thread_waits(loop: Loop) -> None:
    script = """
import threading
import pyloop.sync as sync
sender, receiver = sync.unbounded()
begun = threading.Event()
def wait():
    begun.set()
    receiver.blocking_recv()
threading.Thread(target=wait, daemon=True).start()
begun.wait()
print("end")
"""
    assert output(kind_of(loop), script) == "end\n"


def test_a_program_ends_with_items_in_its_channels(loop: Loop) -> None:
    script = """
import pyloop.sync as sync
sender, receiver = sync.unbounded()
sender.try_send((sender, receiver))
watched, watcher = sync.watch(sender)
published, subscriber = sync.broadcast(2)
published.send(watcher)
print("end")
"""
    assert output(kind_of(loop), script) == "end\n"
