"""The order of things: FIFO, batches, I/O before timers, nobody starved."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, turn


@pytest.fixture
def readable() -> Iterator[socket.socket]:
    """A socket with a byte to read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        yield ours


def test_callbacks_run_in_the_order_of_their_calls(loop: Loop) -> None:
    seen: list[int] = []
    for i in range(100):
        (loop.call_soon, loop.call_soon_threadsafe)[i % 2](seen.append, i)
    turn(loop)
    assert seen == list(range(100))


def test_a_batch_is_what_was_queued_when_it_began(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "third")
        loop.call_soon_threadsafe(seen.append, "fourth")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    turn(loop)
    assert seen == ["first", "second"]
    turn(loop)
    assert seen == ["first", "second", "third", "fourth"]


def test_a_callback_that_queues_itself_runs_once_a_turn(loop: Loop) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count < 100:
            loop.call_soon(again)

    loop.call_soon(again)
    for expected in range(1, 11):
        turn(loop)
        assert count == expected
    turn(loop, 90)
    assert count == 100


def test_tasks_and_callbacks_share_one_queue(loop: Loop) -> None:
    seen: list[str] = []

    async def task(name: str) -> None:
        seen.append(f"{name} 1")
        await asyncio.sleep(0)
        seen.append(f"{name} 2")

    tasks = [loop.create_task(task("a"))]
    loop.call_soon(seen.append, "callback 1")
    tasks.append(loop.create_task(task("b")))
    loop.call_soon(seen.append, "callback 2")
    turn(loop)
    assert seen == ["a 1", "callback 1", "b 1", "callback 2"]
    loop.call_soon(seen.append, "callback 3")
    turn(loop)
    assert seen[4:] == ["a 2", "b 2", "callback 3"]
    assert all(task.done() for task in tasks)


def test_a_woken_task_goes_to_the_back_of_the_queue(loop: Loop) -> None:
    seen: list[str] = []
    future = loop.create_future()

    async def waiter() -> None:
        await future
        seen.append("waiter")

    task = loop.create_task(waiter())
    turn(loop)
    loop.call_soon(future.set_result, None)
    loop.call_soon(seen.append, "callback")
    turn(loop)
    assert seen == ["callback"]
    turn(loop)
    assert seen == ["callback", "waiter"]
    assert task.done()


def test_callbacks_of_a_future_run_in_the_order_of_adding(loop: Loop) -> None:
    seen: list[int] = []
    future = loop.create_future()
    for i in range(10):
        future.add_done_callback(functools.partial(lambda i, _: seen.append(i), i))
    future.set_result(None)
    assert seen == []
    turn(loop)
    assert seen == list(range(10))


def test_a_turn_runs_queued_then_readers_then_timers(loop: Loop, readable: socket.socket) -> None:
    seen: list[str] = []
    loop.add_reader(readable, seen.append, "reader")
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.call_soon(seen.append, "queued")
    turn(loop)
    assert seen == ["queued", "reader", "timer"]
    loop.remove_reader(readable)


def test_a_reader_of_one_descriptor_runs_before_its_writer(loop: Loop, readable: socket.socket) -> None:
    seen: list[str] = []
    loop.add_writer(readable, seen.append, "writer")
    loop.add_reader(readable, seen.append, "reader")
    turn(loop)
    assert seen == ["reader", "writer"]
    loop.remove_reader(readable)
    loop.remove_writer(readable)


def test_readers_are_queued_and_never_run_inside_a_callback(loop: Loop, readable: socket.socket) -> None:
    seen: list[str] = []

    def callback() -> None:
        loop.add_reader(readable, seen.append, "reader")
        seen.append("callback")

    loop.call_soon(callback)
    turn(loop)
    assert seen == ["callback"]
    turn(loop)
    assert seen == ["callback", "reader"]
    loop.remove_reader(readable)


def test_a_busy_queue_does_not_starve_descriptors(loop: Loop, readable: socket.socket) -> None:
    busy = True

    def again() -> None:
        if busy:
            loop.call_soon(again)

    loop.call_soon(again)
    loop.add_reader(readable, loop.stop)
    loop.run_forever()
    busy = False
    loop.remove_reader(readable)


def test_a_busy_queue_does_not_starve_timers(loop: Loop) -> None:
    busy = True

    def again() -> None:
        if busy:
            loop.call_soon(again)

    loop.call_soon(again)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    busy = False


def test_spinning_tasks_do_not_starve_other_tasks(loop: Loop) -> None:
    async def spin(done: asyncio.Event) -> int:
        rounds = 0
        while not done.is_set():
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    async def main() -> list[int]:
        done = asyncio.Event()
        tasks = [asyncio.create_task(spin(done)) for _ in range(10)]
        await asyncio.sleep(0.01)
        done.set()
        return await asyncio.gather(*tasks)

    rounds = loop.run_until_complete(main())
    assert max(rounds) - min(rounds) <= 1


def test_a_ready_descriptor_does_not_starve_the_queue(loop: Loop, readable: socket.socket) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        loop.stop() if count == 100 else loop.call_soon(again)

    loop.add_reader(readable, lambda: None)
    loop.call_soon(again)
    loop.run_forever()
    loop.remove_reader(readable)


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_arguments_arrive_as_they_were_given(loop: Loop, name: str, count: int) -> None:
    seen: list[tuple[object, ...]] = []
    arguments = tuple(object() for _ in range(count))
    schedule: Callable[..., object] = getattr(loop, name)
    schedule(*([] if "soon" in name else [0]), lambda *found: seen.append(found), *arguments)
    turn(loop)
    assert len(seen) == 1
    assert all(a is b for a, b in zip(seen[0], arguments, strict=True))


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe"])
def test_keywords_for_the_callback_are_refused(loop: Loop, name: str) -> None:
    schedule: Callable[..., object] = getattr(loop, name)
    with pytest.raises(TypeError):
        schedule(print, end="")
    with pytest.raises(TypeError):
        schedule()


class Callables:
    def __init__(self, seen: list[object]) -> None:
        seen.append("class")
        self.seen = seen

    def method(self) -> None:
        self.seen.append("method")

    def __call__(self) -> None:
        self.seen.append("instance")

    @staticmethod
    def static(seen: list[object]) -> None:
        seen.append("static")

    @classmethod
    def of_class(cls, seen: list[object]) -> None:
        seen.append("of_class")


def test_anything_callable_is_a_callback(loop: Loop) -> None:
    seen: list[object] = []
    thing = Callables(seen)
    loop.call_soon(Callables, seen)
    loop.call_soon(thing.method)
    loop.call_soon(thing)
    loop.call_soon(Callables.static, seen)
    loop.call_soon(Callables.of_class, seen)
    loop.call_soon(functools.partial(seen.append, "partial"))
    loop.call_soon(seen.append, "builtin")
    turn(loop)
    assert seen[1:] == ["class", "method", "instance", "static", "of_class", "partial", "builtin"]


def test_what_a_callback_returns_is_ignored(loop: Loop, handled: list[Context]) -> None:
    loop.call_soon(lambda: 42)
    loop.call_soon(lambda: asyncio.Future(loop=loop))
    turn(loop)
    assert handled == []


def test_what_cannot_be_called_is_reported(loop: Loop, handled: list[Context]) -> None:
    loop.set_debug(False)
    not_callable: Any = None
    loop.call_soon(not_callable)
    turn(loop)
    assert isinstance(handled[0]["exception"], TypeError)


class Argument:
    pass


@pytest.mark.parametrize("fate", ["run", "cancelled", "closed"])
@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_arguments_are_let_go(loop: Loop, name: str, fate: str) -> None:
    argument = Argument()
    dead = weakref.ref(argument)
    schedule: Callable[..., asyncio.Handle] = getattr(loop, name)
    handle = schedule(*([] if "soon" in name else [0]), lambda _: None, argument)
    del argument
    if fate == "run":
        del handle
        turn(loop)
    elif fate == "cancelled":
        handle.cancel()
    else:
        del handle
        loop.close()
    gc.collect()
    assert dead() is None


def test_a_callback_runs_in_the_turn_after_a_turn_that_did_nothing(loop: Loop) -> None:
    turn(loop, 5)
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    turn(loop)
    assert seen == [1]


def test_a_deep_queue_is_no_deep_stack(loop: Loop) -> None:
    loop.set_debug(False)  # which remembers where each was made
    seen = 0

    def step(left: int) -> None:
        nonlocal seen
        seen += 1
        if left:
            loop.call_soon(step, left - 1)
        else:
            loop.stop()

    loop.call_soon(step, 50_000)
    loop.run_forever()
    assert seen == 50_001


def test_a_pipe_written_in_one_turn_is_read_in_the_next(loop: Loop) -> None:
    reading, writing = os.pipe()
    seen: list[bytes] = []
    loop.add_reader(reading, lambda: seen.append(os.read(reading, 10)))
    loop.call_soon(os.write, writing, b"now")
    turn(loop)
    assert seen == []
    turn(loop)
    assert seen == [b"now"]
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("seconds", [0, 0.0, -1])
def test_a_rust_sleep_without_a_delay_takes_one_turn_as_asyncios_does(
    pyloop_loop: Loop, pyloop: ModuleType, seconds: float
) -> None:
    seen = list[str]()

    async def main() -> None:
        task = asyncio.create_task(each("theirs", asyncio.sleep))
        await each("ours", pyloop.sleep)
        await task

    async def each(name: str, sleep: Any) -> None:
        for number in range(100):
            seen.append(f"{name} {number}")
            await sleep(seconds)

    pyloop_loop.run_until_complete(main())
    assert seen == [f"{name} {number}" for number in range(100) for name in ("ours", "theirs")]
