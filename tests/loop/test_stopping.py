"""stop(): from anywhere, at any time, and what the run still does."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from support.loops import Loop, turn
from support.rust import rust
from support.threads import run_parked


def test_stop_runs_the_rest_of_the_batch(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 2)
    loop.run_forever()
    assert seen == [1, 2]


def test_stop_leaves_what_the_batch_scheduled_to_the_next_run(loop: Loop) -> None:
    seen: list[int] = []

    def first() -> None:
        loop.call_soon(seen.append, 1)

    loop.call_soon(loop.stop)
    loop.call_soon(first)
    loop.run_forever()
    assert seen == []
    turn(loop)
    assert seen == [1]


def test_what_gives_way_in_the_last_turn_goes_on_in_the_next_run(pyloop_loop: Loop) -> None:
    """tokio wakes it when it has looked at its driver, which the last turn is no reason for."""
    task = pyloop_loop.create_task(rust.give_way(3, "done"))
    turn(pyloop_loop, 5)
    assert task.result() == "done"


def test_stop_before_the_run_lets_one_turn_happen(loop: Loop) -> None:
    seen: list[int] = []

    def first() -> None:
        seen.append(1)
        loop.call_soon(seen.append, 2)

    loop.call_soon(first)
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 2]


def test_stop_before_the_run_works_once(loop: Loop) -> None:
    loop.stop()
    loop.stop()
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"


def test_stop_before_the_run_does_not_wait_for_a_timer(loop: Loop) -> None:
    handle = loop.call_later(3600, loop.stop)
    loop.stop()
    loop.run_forever()
    handle.cancel()


def test_stop_before_the_run_still_fires_due_timers(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_at(loop.time() - 1, seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_a_run_survives_a_stop_that_was_asked_before_a_failed_run(loop: Loop) -> None:
    future = loop.create_future()
    loop.stop()
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def test_stop_is_safe_when_the_loop_does_not_run(loop: Loop) -> None:
    loop.stop()
    assert not loop.is_running()
    turn(loop)


def test_stop_is_safe_on_a_closed_loop(loop: Loop) -> None:
    loop.close()
    loop.stop()


def test_stop_returns_none(loop: Loop) -> None:
    stop: Any = loop.stop
    assert stop() is None
    loop.run_forever()


def test_stop_from_a_callback(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not loop.is_running()


def test_stop_from_a_delayed_callback(loop: Loop) -> None:
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert not loop.is_running()


def test_stop_from_a_task(loop: Loop) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        loop.stop()

    task = loop.create_task(main())
    loop.run_forever()
    turn(loop)
    assert task.done()


def test_stop_twice_in_one_batch_stops_one_run(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"


def test_stop_before_an_error_does_not_reach_the_next_run(loop: Loop) -> None:
    def leave() -> None:
        loop.stop()
        raise SystemExit

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"


def test_call_soon_threadsafe_of_stop_wakes_a_parked_loop_at_once(loop: Loop) -> None:
    assert run_parked(loop, lambda: loop.call_soon_threadsafe(loop.stop)) < 1


def test_stop_from_another_thread_wakes_a_parked_pyloop_at_once(pyloop_loop: Loop) -> None:
    assert run_parked(pyloop_loop, pyloop_loop.stop) < 1


def test_stop_from_another_thread_stops_a_busy_loop(loop: Loop) -> None:
    busy = True

    def again() -> None:
        if busy:
            loop.call_soon(again)

    loop.call_soon(again)
    thread = threading.Thread(target=loop.stop)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    busy = False


def test_stop_from_a_signal_handler_wakes_a_parked_loop(loop: Loop) -> None:
    old = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(loop.stop))
    try:
        taken = run_parked(
            loop, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        )
        assert taken < 1
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_stop_before_run_until_complete_of_a_done_future_is_harmless(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(1)
    loop.stop()
    assert loop.run_until_complete(future) == 1
