"""Other threads: what they may ask of a loop, and that a parked loop does not hold them up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyloop
import pyloop.fs
from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.process import output
from support.threads import in_thread, run_parked


def test_call_soon_threadsafe_wakes_a_parked_loop(loop: Loop) -> None:
    seen: list[int] = []

    def act() -> None:
        loop.call_soon_threadsafe(seen.append, threading.get_ident())
        loop.call_soon_threadsafe(lambda: seen.append(threading.get_ident()))
        loop.call_soon_threadsafe(loop.stop)

    assert run_parked(loop, act) < 1
    assert seen[0] != seen[1] == threading.get_ident()


def test_call_soon_threadsafe_wakes_a_loop_that_waits_for_a_timer(loop: Loop) -> None:
    handle = loop.call_later(3600, int)
    assert run_parked(loop, lambda: loop.call_soon_threadsafe(loop.stop)) < 1
    handle.cancel()


def test_a_call_that_comes_as_a_run_begins_is_not_lost(loop_factory: LoopFactory) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the two threads change after each bytecode, nearly
    try:
        for _ in range(150):
            loop, called = loop_factory(), threading.Event()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            loop.call_soon_threadsafe(called.set)
            assert called.wait(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
    finally:
        sys.setswitchinterval(interval)


def test_calls_of_one_thread_keep_their_order(loop: Loop) -> None:
    seen: list[int] = []

    def other() -> None:
        for i in range(5000):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == list(range(5000))


def test_no_call_of_many_threads_is_lost(loop: Loop) -> None:
    loop.set_debug(False)
    count, each = 8, 1000
    seen: dict[int, list[int]] = {number: [] for number in range(count)}
    left = count

    def finished() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def other(number: int) -> None:
        for i in range(each):
            loop.call_soon_threadsafe(seen[number].append, i)
        loop.call_soon_threadsafe(finished)

    threads = [threading.Thread(target=other, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert all(each_seen == list(range(each)) for each_seen in seen.values())


@pytest.mark.parametrize("count", [1, 4])
def test_threads_that_do_nothing_but_call_keep_no_timer_waiting(loop: Loop, count: int) -> None:
    ended = threading.Event()

    def spam() -> None:
        while not ended.is_set():
            loop.call_soon_threadsafe(int)

    async def main() -> float:
        threads = [threading.Thread(target=spam) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            due = loop.time() + 0.05
            # Several turns for each timer: a task in a task.
            await asyncio.wait_for(asyncio.create_task(asyncio.sleep(0.05)), 60)
            return loop.time() - due
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    assert loop.run_until_complete(main()) < 3


def test_many_calls_of_another_thread_come_before_a_later_one_of_the_loops_own(loop: Loop) -> None:
    seen: list[int] = []

    def others() -> None:
        for i in range(5000):
            loop.call_soon_threadsafe(seen.append, i)

    def own() -> None:
        thread = threading.Thread(target=others)
        thread.start()
        thread.join()
        loop.call_soon(seen.append, 5000)
        loop.call_soon(loop.stop)

    loop.call_soon(own)
    loop.run_forever()
    assert seen == list(range(5001))


def test_no_wake_of_a_loop_that_is_about_to_park_is_lost(loop: Loop) -> None:
    """Ping-pong with a thread: each ball finds the loop parked, parking, or at work."""
    loop.set_debug(False)
    count, ball, done = 0, threading.Semaphore(0), False

    def other() -> None:
        while True:
            ball.acquire()
            if done:
                return
            loop.call_soon_threadsafe(hit)

    def hit() -> None:
        nonlocal count, done
        count += 1
        if count == 3000:
            done = True
            loop.stop()
        ball.release()

    thread = threading.Thread(target=other)
    thread.start()
    loop.call_soon(hit)
    loop.run_forever()
    thread.join()
    assert count == 3000


def test_what_other_threads_queue_before_the_run_is_run(loop: Loop) -> None:
    seen: list[int] = []
    in_thread(lambda: loop.call_soon_threadsafe(seen.append, 1))
    turn(loop)
    assert seen == [1]


def test_what_other_threads_queue_between_two_runs_is_run(loop: Loop) -> None:
    seen: list[int] = []
    turn(loop)
    in_thread(lambda: loop.call_soon_threadsafe(seen.append, 1))
    in_thread(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.run_forever()
    assert seen == [1]


def test_call_soon_threadsafe_of_a_closed_loop_fails(loop: Loop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        in_thread(lambda: loop.call_soon_threadsafe(int))


def test_a_turn_ends_while_a_thread_does_nothing_but_call(loop_factory: LoopFactory) -> None:
    # CPython lets a thread have the GIL after 5 ms, if nobody gives it up and takes it back meanwhile.
    beside = []
    for _ in range(5):
        loop = loop_factory()
        called = itertools.count()
        started = threading.Event()

        def other(
            loop: Loop = loop, called: Iterator[int] = called, started: threading.Event = started
        ) -> None:
            with contextlib.suppress(RuntimeError):
                while True:
                    loop.call_soon_threadsafe(int)
                    next(called)
                    started.set()

        thread = threading.Thread(target=other)
        thread.start()
        started.wait()
        before = next(called)
        turn(loop)
        beside.append(next(called) - before)
        loop.close()
        thread.join()
    # Hundreds of thousands, and seconds, when the loop waits in vain.
    assert max(beside) < 100_000


def test_threads_that_call_while_the_loop_closes_get_an_error_or_nothing(loop_factory: LoopFactory) -> None:
    for _ in range(20):
        loop = loop_factory()
        started = threading.Event()

        def other(loop: Loop = loop, started: threading.Event = started) -> None:
            while True:
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as error:
                    assert str(error) == "Event loop is closed"
                    return
                started.set()

        thread = threading.Thread(target=other)
        thread.start()
        started.wait()
        turn(loop)
        loop.close()
        thread.join()


def test_a_loop_made_in_one_thread_runs_in_another(loop: Loop) -> None:
    async def main() -> int:
        await asyncio.sleep(0.001)
        assert asyncio.get_running_loop() is loop
        return threading.get_ident()

    ident = in_thread(lambda: loop.run_until_complete(main()))
    assert ident != threading.get_ident()


def test_a_loop_runs_in_one_thread_and_then_in_another(loop: Loop) -> None:
    seen: list[object] = []

    async def part(event: asyncio.Event, word: str) -> None:
        seen.append((word, threading.get_ident()))
        await event.wait()
        seen.append((word, threading.get_ident()))

    async def begin() -> tuple[asyncio.Event, asyncio.Task[None]]:
        event = asyncio.Event()
        task = asyncio.create_task(part(event, "part"))
        await asyncio.sleep(0.001)
        return event, task

    async def end(event: asyncio.Event, task: asyncio.Task[None]) -> None:
        event.set()
        await task

    event, task = loop.run_until_complete(begin())
    other: list[int] = []

    def there() -> None:
        other.append(threading.get_ident())
        loop.run_until_complete(end(event, task))

    in_thread(there)
    assert seen == [("part", threading.get_ident()), ("part", other[0])]
    assert loop.run_until_complete(asyncio.sleep(0.001, "home")) == "home"


def test_a_loop_that_ran_in_one_thread_is_closed_in_another(loop: Loop) -> None:
    in_thread(lambda: loop.run_until_complete(asyncio.sleep(0.001)))
    handle = loop.call_later(10, int)
    loop.close()
    assert loop.is_closed()
    handle.cancel()


def test_a_loop_dies_in_a_thread_that_it_never_knew(bare_factory: LoopFactory) -> None:
    loops = [bare_factory()]
    loops[0].run_until_complete(asyncio.sleep(0))
    loops[0].call_later(10, int)
    loops[0].close()

    def drop() -> None:
        loops.clear()
        gc.collect()

    in_thread(drop)


@pytest.mark.parametrize("run", ["run_forever", "run_until_complete"])
def test_a_loop_that_runs_in_one_thread_does_not_run_in_another(loop: Loop, run: str) -> None:
    async def main() -> None:
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            in_thread(loop.run_forever if run == "run_forever" else lambda: loop.run_until_complete(coro))
        coro.close()

    depth = sys.get_coroutine_origin_tracking_depth()
    loop.run_until_complete(main())
    # asyncio of CPython 3.13 ends its debug mode's tracking in the other thread, and not in this one.
    sys.set_coroutine_origin_tracking_depth(depth)


def test_a_running_loop_is_not_closed_by_another_thread(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            in_thread(loop.close)

    loop.run_until_complete(main())
    assert not loop.is_closed()


def test_a_parked_loop_does_not_hold_the_gil(loop: Loop) -> None:
    counted = 0

    def act() -> None:
        nonlocal counted
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            counted += 1
        loop.call_soon_threadsafe(loop.stop)

    assert run_parked(loop, act) < 1
    assert counted > 1000


def test_an_idle_loop_uses_no_processor_time(loop: Loop) -> None:
    loop.set_debug(False)
    turn(loop)
    loop.call_later(1, loop.stop)
    begun = time.thread_time()
    loop.run_forever()
    assert time.thread_time() - begun < 0.0025


def test_a_loop_whose_messages_have_come_at_once_sleeps_when_they_end(pyloop_loop: Loop) -> None:
    loop: Any = pyloop_loop

    async def main() -> None:
        for _ in range(100):
            assert await pyloop.fs.exists(
                os.curdir
            )  # by another thread, which is back sooner than a sleep takes
        turns = loop.statistics()["turns"]
        await asyncio.sleep(0.02)
        # It looks for 50 us at most, a turn in 4 us or so. A loop that never slept would have 5,000 turns.
        assert loop.statistics()["turns"] - turns < 100

    loop.run_until_complete(main())


def test_a_loop_that_waits_for_a_descriptor_uses_no_processor_time(loop: Loop) -> None:
    loop.set_debug(False)
    reading, writing = os.pipe()
    loop.add_reader(reading, int)
    loop.call_later(0.3, loop.stop)
    begun = time.thread_time()
    loop.run_forever()
    assert time.thread_time() - begun < 0.0025
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


def test_other_threads_see_whether_the_loop_runs(loop: Loop) -> None:
    seen: list[bool] = []
    seen.append(bool(in_thread(loop.is_running)))
    loop.call_soon(lambda: seen.append(bool(in_thread(loop.is_running))))
    turn(loop)
    seen.append(bool(in_thread(loop.is_closed)))
    assert seen == [False, True, False]


def test_the_loop_is_the_running_loop_of_its_own_thread_only(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            in_thread(asyncio.get_running_loop)

    loop.run_until_complete(main())


def test_two_loops_in_two_threads_talk_to_each_other(loop_factory: LoopFactory) -> None:
    first, second = loop_factory(), loop_factory()
    thread = threading.Thread(target=second.run_forever)
    thread.start()

    async def there(i: int) -> int:
        assert asyncio.get_running_loop() is second
        await asyncio.sleep(0)
        return i * 2

    async def main() -> list[int]:
        futures = [asyncio.run_coroutine_threadsafe(there(i), second) for i in range(200)]
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    assert first.run_until_complete(main()) == [i * 2 for i in range(200)]
    second.call_soon_threadsafe(second.stop)
    thread.join()
    first.close()
    second.close()


def test_run_coroutine_threadsafe_gives_results_errors_and_cancellation(loop: Loop) -> None:
    async def good() -> int:
        await asyncio.sleep(0)
        return 7

    async def bad() -> int:
        await asyncio.sleep(0)
        raise LookupError("bad")

    cancelled = threading.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def other() -> None:
        try:
            assert asyncio.run_coroutine_threadsafe(good(), loop).result(10) == 7
            with pytest.raises(LookupError, match="bad"):
                asyncio.run_coroutine_threadsafe(bad(), loop).result(10)
            future = asyncio.run_coroutine_threadsafe(long(), loop)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
            future.cancel()
            assert cancelled.wait(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    outcome: list[BaseException] = []

    def body() -> None:
        try:
            other()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    loop.run_forever()
    thread.join()
    assert outcome == []


@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at"])
def test_a_call_from_the_wrong_thread_is_refused_in_debug_mode(loop: Loop, name: str) -> None:
    loop.set_debug(True)
    schedule: Callable[..., object] = getattr(loop, name)

    def wrong() -> None:
        with pytest.raises(RuntimeError, match="Non-thread-safe operation invoked on an event loop other"):
            schedule(*([] if name == "call_soon" else [0]), int)

    loop.call_soon(in_thread, wrong)
    turn(loop)


@pytest.mark.parametrize("name", ["create_task", "ensure_future", "set_result", "cancel"])
def test_a_task_moved_from_the_wrong_thread_is_refused_in_debug_mode(
    loop_factory: LoopFactory, name: str
) -> None:
    loop = loop_factory()
    loop.set_debug(True)
    reports: list[Context] = []  # the tasks do not come to an end
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    future: asyncio.Future[None] = loop.create_future()

    async def waits() -> None:
        await future

    async def main() -> None:
        task = loop.create_task(waits())
        await asyncio.sleep(0)
        coroutine = waits()
        acts: dict[str, Callable[[], object]] = {
            "create_task": lambda: loop.create_task(coroutine),
            "ensure_future": lambda: asyncio.ensure_future(coroutine, loop=loop),
            "set_result": lambda: future.set_result(None),
            "cancel": task.cancel,
        }
        with pytest.raises(RuntimeError, match="Non-thread-safe operation invoked on an event loop other"):
            in_thread(acts[name])
        coroutine.close()

    loop.run_until_complete(main())
    loop.close()
    # One that never began, and that somebody keeps now, is the collector's business as any other.
    assert all(gc.is_tracked(report["task"]) for report in reports)


@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at"])
def test_any_thread_may_call_a_loop_that_does_not_run(loop: Loop, name: str) -> None:
    loop.set_debug(True)
    schedule: Callable[..., object] = getattr(loop, name)
    seen: list[int] = []
    in_thread(lambda: schedule(*([] if name == "call_soon" else [0]), seen.append, 1))
    turn(loop)
    assert seen == [1]


def test_call_soon_threadsafe_is_no_wrong_thread_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    seen: list[int] = []
    loop.call_soon(in_thread, lambda: loop.call_soon_threadsafe(seen.append, 1))
    turn(loop, 2)
    assert seen == [1]


def test_calls_from_the_wrong_thread_break_nothing(loop: Loop, handled: list[Context]) -> None:
    """asyncio tolerates in practice what it forbids, so programs do it: calls may come late, never apart."""
    loop.set_debug(False)
    seen: list[int] = []

    def other() -> None:
        for i in range(1000):
            loop.call_soon(seen.append, i)
            loop.call_later(3600, seen.append, i).cancel()
            loop.time()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    turn(loop, 2)
    assert seen == list(range(1000))
    assert handled == []


def test_call_soon_threadsafe_may_come_from_a_finalizer(loop: Loop) -> None:
    seen: list[int] = []

    class Finalized:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            loop.call_soon_threadsafe(seen.append, 1)

    def drop(count: int) -> None:
        for _ in range(count):
            Finalized()
        in_thread(gc.collect)

    loop.call_soon(drop, 20)
    turn(loop, 3)
    assert seen == [1] * 20


def test_a_process_that_runs_coroutines_has_one_thread(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import os, signal, socket

async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    loop.add_signal_handler(signal.SIGUSR1, int)
    await asyncio.gather(*(asyncio.sleep(i / 1000) for i in range(5)))
    await asyncio.gather(loop.sock_sendall(ours, b"x"), loop.sock_recv(theirs, 1))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    ours.close()
    theirs.close()
    print(len(os.listdir("/proc/self/task")))

asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "1\n"
