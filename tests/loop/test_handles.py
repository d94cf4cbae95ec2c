"""Handle and TimerHandle: asyncio's own kinds, their cancellation and what they say about themselves."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import re
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import Loop, turn
from support.threads import in_thread, until_asleep

Schedule = Callable[..., asyncio.Handle]
SOON = ["call_soon", "call_soon_threadsafe"]
LATER = ["call_later", "call_at"]


def callback(*arguments: object) -> None:
    raise AssertionError("this callback was cancelled")


@pytest.fixture(params=SOON + LATER)
def schedule(request: pytest.FixtureRequest, loop: Loop) -> Schedule:
    """Each way to have something called in the next turn."""
    method: Schedule = getattr(loop, request.param)
    return method if request.param in SOON else functools.partial(method, 0)


@pytest.fixture(params=LATER)
def schedule_at(request: pytest.FixtureRequest, loop: Loop) -> Callable[..., asyncio.TimerHandle]:
    """Each way to have something called at a time, which is the first argument."""
    if request.param == "call_at":
        return loop.call_at
    return lambda when, *rest, **more: loop.call_later(when - loop.time(), *rest, **more)


def test_every_handle_is_an_asyncio_handle(schedule: Schedule) -> None:
    handle = schedule(int)
    assert isinstance(handle, asyncio.Handle)


def test_a_timer_is_an_asyncio_timer_handle(loop: Loop) -> None:
    for handle in loop.call_later(0, int), loop.call_at(0, int):
        assert isinstance(handle, asyncio.TimerHandle)
        assert isinstance(handle, asyncio.Handle)


def test_what_runs_soon_is_no_timer(loop: Loop) -> None:
    for handle in loop.call_soon(int), loop.call_soon_threadsafe(int):
        assert not isinstance(handle, asyncio.TimerHandle)


def test_a_cancelled_handle_does_not_run(loop: Loop, schedule: Schedule) -> None:
    handle = schedule(callback)
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True
    turn(loop, 2)


def test_a_handle_may_be_cancelled_twice(loop: Loop, schedule: Schedule) -> None:
    handle = schedule(callback)
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    turn(loop, 2)


def test_cancel_returns_none(schedule: Schedule) -> None:
    cancel: Callable[[], Any] = schedule(callback).cancel
    assert cancel() is None


def test_cancelling_a_handle_that_ran_does_nothing(loop: Loop, schedule: Schedule) -> None:
    seen: list[int] = []
    handle = schedule(seen.append, 1)
    turn(loop)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    turn(loop)
    assert seen == [1]


def test_a_handle_may_be_cancelled_by_the_same_batch(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(lambda: second.cancel())
    second: asyncio.Handle = loop.call_soon(callback)
    loop.call_soon(seen.append, 3)
    turn(loop, 2)
    assert seen == [3]


def test_a_handle_may_cancel_itself_while_it_runs(loop: Loop) -> None:
    seen: list[bool] = []

    def own() -> None:
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_soon(own)
    turn(loop, 2)
    assert seen == [True]


def test_a_timer_may_cancel_itself_while_it_runs(loop: Loop) -> None:
    seen: list[bool] = []

    def own() -> None:
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_later(0, own)
    turn(loop, 2)
    assert seen == [True]


def test_a_handle_may_be_cancelled_when_the_loop_is_closed(loop: Loop, schedule: Schedule) -> None:
    handle = schedule(callback)
    loop.close()
    handle.cancel()
    assert handle.cancelled()


def test_a_handle_outlives_its_loop(loop: Loop, schedule: Schedule) -> None:
    handle = schedule(callback)
    loop.close()
    assert "callback" in repr(handle) or "cancelled" in repr(handle)


def test_when_stays_the_deadline_of_a_cancelled_timer(loop: Loop) -> None:
    handle = loop.call_at(123.5, callback)
    handle.cancel()
    assert handle.when() == 123.5


def test_the_deadline_of_a_timer_can_be_read_as_asyncio_keeps_it(loop: Loop) -> None:
    handle: Any = loop.call_at(123.5, callback)
    assert handle._when == 123.5
    handle.cancel()


def test_repr_shows_the_callback_and_where_it_is(loop: Loop, schedule: Schedule) -> None:
    loop.set_debug(False)
    handle = schedule(callback, 1, "two")
    line = callback.__code__.co_firstlineno
    timer = isinstance(handle, asyncio.TimerHandle)
    shown = rf"<{'TimerHandle when=[-0-9.e]+' if timer else '_?[A-Za-z]*Handle'} callback\((1, 'two')?\) at "
    assert re.fullmatch(shown + rf".*test_handles\.py:{line}>", repr(handle)), repr(handle)
    handle.cancel()


def test_repr_shows_that_it_is_cancelled(loop: Loop, schedule: Schedule) -> None:
    loop.set_debug(False)
    handle = schedule(callback)
    handle.cancel()
    when = r" when=[-0-9.e]+" if isinstance(handle, asyncio.TimerHandle) else ""
    assert re.fullmatch(rf"<_?[A-Za-z]*Handle cancelled{when}>", repr(handle)), repr(handle)


def test_repr_in_debug_mode_shows_partials_and_builtins(loop: Loop) -> None:
    loop.set_debug(True)
    handles = [loop.call_soon(functools.partial(callback, 1), 2), loop.call_soon(int, "3")]
    assert "callback(1)(2)" in repr(handles[0])
    assert "int('3')" in repr(handles[1])
    for handle in handles:
        handle.cancel()


def test_repr_in_debug_mode_shows_where_it_was_made(loop: Loop, schedule: Schedule) -> None:
    loop.set_debug(True)
    handle = schedule(callback)
    assert re.search(r" created at .*test_handles\.py:\d+>$", repr(handle)), repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "callback" in repr(handle)


def test_a_handle_knows_its_context(loop: Loop, schedule: Schedule) -> None:
    context = contextvars.copy_context()
    handle = schedule(callback, context=context)
    assert handle.get_context() is context
    handle.cancel()


def test_a_handle_without_a_context_has_a_copy_of_the_current_one(loop: Loop, schedule: Schedule) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    token = variable.set(7)
    handle = schedule(callback)
    variable.reset(token)
    assert handle.get_context()[variable] == 7
    handle.cancel()


def test_a_cancelled_handle_knows_the_context_that_its_caller_has(loop: Loop, schedule: Schedule) -> None:
    context = contextvars.copy_context()
    given = schedule(callback, context=context)
    given.cancel()
    assert given.get_context() is context
    asked = schedule(callback)
    context = asked.get_context()
    asked.cancel()
    assert asked.get_context() is context
    unasked = schedule(callback)
    unasked.cancel()
    assert isinstance(unasked.get_context(), contextvars.Context)
    assert unasked.get_context() is unasked.get_context()


@pytest.mark.parametrize("name", SOON + LATER)
@pytest.mark.parametrize("given", ["current", "given", "asked for"])
@pytest.mark.parametrize("running", [True, False])
def test_a_cancelled_handle_lets_go_of_all_that_its_callback_was_to_have(
    pyloop_loop: Loop, name: str, given: str, running: bool
) -> None:
    class Value:
        def __call__(self, *_: object) -> None:
            raise AssertionError("cancelled")

    loop, variable = pyloop_loop, contextvars.ContextVar[Value | None]("variable")
    held, references = list[asyncio.Handle](), list[weakref.ref[Value]]()
    method: Schedule = getattr(loop, name)
    late: Schedule = method if name in SOON else functools.partial(method, 3600)

    def schedule() -> None:
        called, argument, known = Value(), Value(), Value()
        references.extend(map(weakref.ref, (called, argument, known)))
        variable.set(known)
        handle = late(
            called, argument, **({"context": contextvars.copy_context()} if given == "given" else {})
        )
        if given == "asked for":
            assert handle.get_context()[variable] is known
        handle.cancel()
        held.append(handle)
        variable.set(None)

    if running:
        loop.call_soon(schedule)
        # The loop keeps the variables of the last callback until it pauses.
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    else:
        contextvars.copy_context().run(schedule)
        turn(loop)
    assert [reference() for reference in references] == [None] * 3
    assert "cancelled" in repr(held[0])


def test_timers_are_ordered_by_their_deadlines(
    loop: Loop, schedule_at: Callable[..., asyncio.TimerHandle]
) -> None:
    now = loop.time()
    first, second = schedule_at(now + 1000, callback), schedule_at(now + 2000, callback)
    assert first < second
    assert first <= second
    assert second > first
    assert second >= first
    assert not second < first
    assert not second <= first
    assert sorted([second, first]) == [first, second]
    first.cancel()
    second.cancel()


def test_timers_are_equal_when_everything_of_them_is(loop: Loop) -> None:
    one, same = loop.call_at(1000.5, callback, 1), loop.call_at(1000.5, callback, 1)
    others = [
        loop.call_at(1000.25, callback, 1),
        loop.call_at(1000.5, int, 1),
        loop.call_at(1000.5, callback, 2),
    ]
    assert one == same
    assert hash(one) == hash(same) == hash(1000.5)
    assert one <= same
    assert one >= same
    assert not one < same
    assert not one > same
    for other in others:
        assert one != other
    same.cancel()
    assert one != same
    for handle in one, *others:
        handle.cancel()


def test_a_timer_compares_with_nothing_else(loop: Loop) -> None:
    handle: Any = loop.call_at(1000.5, callback)
    assert handle != 1000.5
    assert handle != "handle"
    with pytest.raises(TypeError):
        _ = handle < 1001
    with pytest.raises(TypeError):
        _ = handle >= 1000
    handle.cancel()


def test_a_timer_compares_with_a_timer_made_by_hand(loop: Loop) -> None:
    handle = loop.call_at(1000.5, callback)
    by_hand = asyncio.TimerHandle(1001.5, callback, (), loop)
    assert handle < by_hand
    assert by_hand > handle
    handle.cancel()


def test_handles_that_run_soon_are_equal_to_themselves_only(loop: Loop) -> None:
    one, other = loop.call_soon(int), loop.call_soon(int)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_handles_may_be_kept_in_a_set(loop: Loop, schedule: Schedule) -> None:
    handles = {schedule(int, i) for i in range(10)}
    assert len(handles) == 10
    for handle in handles:
        handle.cancel()


def test_a_handle_made_by_hand_runs_its_callback(loop: Loop) -> None:
    seen: list[int] = []
    handle: Any = asyncio.Handle(seen.append, (1,), loop)
    loop.call_soon(handle._run)
    turn(loop)
    assert seen == [1]


def test_the_handle_of_call_soon_threadsafe_can_be_cancelled_by_any_thread(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(callback)
    in_thread(handle.cancel)
    assert in_thread(handle.cancelled) is True
    turn(loop, 2)


def test_a_timer_cancelled_by_another_thread_does_not_run(loop: Loop) -> None:
    loop.set_debug(False)  # which refuses it
    handles = [loop.call_later(0, callback) for _ in range(10)]
    for handle in handles:
        in_thread(handle.cancel)
    turn(loop, 2)


def test_a_callback_that_another_thread_may_still_cancel_runs_or_not_but_never_both(loop: Loop) -> None:
    ran: list[int] = []
    cancelled: list[int] = []
    count = 2000

    def other() -> None:
        for i in range(count):
            handle = loop.call_soon_threadsafe(ran.append, i)
            if i % 2:
                handle.cancel()
                cancelled.append(i)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    assert set(range(0, count, 2)) <= set(ran)
    assert len(ran) == len(set(ran))
    assert ran == sorted(ran)


@pytest.mark.since(3, 14)
def test_the_handle_of_call_soon_threadsafe_has_a_class_of_its_own(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(int)
    other = loop.call_soon(int)
    assert type(handle) is not type(other)
    assert handle.__class__ is not other.__class__
    assert isinstance(handle, asyncio.Handle)
    assert issubclass(handle.__class__, asyncio.Handle)


@pytest.mark.since(3, 14)
@pytest.mark.parametrize("ask", ["cancel", "cancelled"])
def test_another_thread_that_asks_while_the_callback_runs_waits_for_its_end(loop: Loop, ask: str) -> None:
    began = threading.Event()
    seen: list[object] = []

    def work() -> None:
        began.set()
        until_asleep(others_id[0])
        seen.append("ended")

    def other() -> None:
        others_id.append(threading.get_native_id())
        handle = loop.call_soon_threadsafe(work)
        began.wait()
        seen.append(getattr(handle, ask)())
        loop.call_soon_threadsafe(loop.stop)

    others_id: list[int] = []
    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == ["ended", False if ask == "cancelled" else None]


@pytest.mark.since(3, 14)
def test_several_threads_that_ask_while_the_callback_runs_all_go_on(loop: Loop) -> None:
    handles: list[asyncio.Handle] = []
    ids: list[int] = []
    began = threading.Event()

    def work() -> None:
        handles[0].cancel()  # the thread that runs it does not wait for itself
        began.set()
        for native_id in ids:
            until_asleep(native_id)
        loop.stop()

    def other() -> None:
        ids.append(threading.get_native_id())
        began.wait()
        assert handles[0].cancelled()

    threads = [threading.Thread(target=other) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(ids) < 3:
        time.sleep(0)
    handles.append(loop.call_soon_threadsafe(work))
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert handles[0].cancelled()
