"""Timers: in deadline order, never early, any number of them, and gone when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from support.loops import Loop, turn

RESOLUTION = time.get_clock_info("monotonic").resolution
HOUR = 3600.0


def resident() -> int:
    """The bytes of memory that the process occupies now."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_time_is_the_monotonic_clock(loop: Loop) -> None:
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


def test_call_later_runs_the_callback_once(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(0.001, seen.append, 1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_timers_run_in_the_order_of_their_deadlines(loop: Loop) -> None:
    seen: list[int] = []
    now = loop.time()
    order = list(range(200))
    random.Random(1).shuffle(order)
    for i in order:
        loop.call_at(now + i * 50e-6, seen.append, i)
    loop.call_at(now + 0.02, loop.stop)
    loop.run_forever()
    assert seen == list(range(200))


def test_timers_that_are_due_already_run_in_the_order_of_their_deadlines(loop: Loop) -> None:
    seen: list[int] = []
    now = loop.time()
    order = list(range(1000))
    random.Random(2).shuffle(order)
    for i in order:
        loop.call_at(now - 1 + i * 1e-6, seen.append, i)
    turn(loop)
    assert seen == list(range(1000))


def test_any_mix_of_adding_and_cancelling_keeps_the_order(loop: Loop) -> None:
    rng = random.Random(3)
    seen: list[float] = []
    kept: list[float] = []
    pending: list[tuple[float, asyncio.TimerHandle]] = []
    now = loop.time()
    for _ in range(5000):
        if pending and rng.random() < 0.45:
            pending.pop(rng.randrange(len(pending)))[1].cancel()
        else:
            when = now - rng.random()
            pending.append((when, loop.call_at(when, seen.append, when)))
    kept = sorted(when for when, _ in pending)
    turn(loop)
    assert seen == kept


@pytest.mark.parametrize("delay", [0, 1e-9, 1e-6, 1e-4, 0.0005, 0.001, 0.0015, 0.003, 0.01])
def test_a_timer_never_fires_early(loop: Loop, delay: float) -> None:
    early: list[float] = []

    def fired(when: float) -> None:
        early.append(when - time.monotonic())

    for _ in range(10):
        when = loop.time() + delay
        loop.call_at(when, fired, when)
        handle = loop.call_later(delay, loop.stop)
        loop.run_forever()
        assert loop.time() >= handle.when() - RESOLUTION
    assert len(early) == 10
    assert max(early) <= RESOLUTION


def test_a_timer_of_an_idle_loop_fires_soon_after_its_deadline(loop: Loop) -> None:
    late: list[float] = []
    for _ in range(20):
        handle = loop.call_later(0.002, loop.stop)
        loop.run_forever()
        late.append(loop.time() - handle.when())
    assert min(late) < 0.002  # the machine may be busy, but not all the time


def test_a_timer_in_the_past_fires_in_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(-HOUR, seen.append, "later")
    loop.call_at(0, seen.append, "at")
    turn(loop)
    assert sorted(seen) == ["at", "later"]


def test_call_later_of_zero_runs_after_what_is_queued(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0, seen.append, "later")
    loop.call_soon(seen.append, "soon")
    turn(loop)
    assert seen == ["soon", "later"]


def test_a_timer_made_by_a_timer_waits_for_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_later(-1, seen.append, "second")

    loop.call_later(0, first)
    turn(loop)
    assert seen == ["first"]
    turn(loop)
    assert seen == ["first", "second"]


def test_an_earlier_timer_made_meanwhile_fires_first(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0.02, seen.append, "late")
    loop.call_later(0.021, loop.stop)
    loop.call_soon(loop.call_later, 0.001, seen.append, "early")
    loop.run_forever()
    assert seen == ["early", "late"]


@pytest.mark.parametrize(
    "delay", [1e6, 1e9, 1e12, 1e18, 1e300, sys.float_info.max, float("inf"), 2**63, 10**30]
)
@pytest.mark.parametrize("name", ["call_later", "call_at"])
def test_a_huge_delay_waits_and_harms_nobody(loop: Loop, name: str, delay: float) -> None:
    schedule: Callable[..., asyncio.TimerHandle] = getattr(loop, name)
    handle = schedule(delay, pytest.fail, "this is too early")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert handle.when() >= delay
    handle.cancel()


def test_a_parked_loop_with_only_a_huge_timer_can_be_woken(loop: Loop) -> None:
    handle = loop.call_later(1e18, pytest.fail, "this is too early")
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    handle.cancel()


@pytest.mark.parametrize("delay", [-1e300, float("-inf"), -1, -0.0, -(10**30)])
def test_a_negative_delay_is_no_delay(loop: Loop, delay: float) -> None:
    seen: list[int] = []
    loop.call_later(delay, seen.append, 1)
    loop.call_at(delay, seen.append, 2)
    turn(loop)
    assert sorted(seen) == [1, 2]


def test_not_a_number_harms_nobody(pyloop_loop: Loop) -> None:
    # asyncio takes it, and its heap or its next wait breaks.
    loop, handle = pyloop_loop, None
    with contextlib.suppress(ValueError):
        handle = loop.call_later(float("nan"), int)
    seen: list[int] = []
    for i in range(3):
        loop.call_later(i / 1000, seen.append, i)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2]
    if handle is not None:
        handle.cancel()


def test_none_is_no_delay_and_no_deadline(loop: Loop) -> None:
    call_later: Any = loop.call_later
    call_at: Any = loop.call_at
    with pytest.raises(TypeError, match="delay must not be None"):
        call_later(None, int)
    with pytest.raises(TypeError, match="when cannot be None"):
        call_at(None, int)


@pytest.mark.parametrize("delay", ["1", [], {}, ..., b"1"], ids=repr)
def test_what_is_no_number_is_no_delay(loop: Loop, delay: Any) -> None:
    with pytest.raises(TypeError):
        loop.call_later(delay, int)
    turn(loop)


def test_a_number_too_large_for_a_float_is_an_overflow(loop: Loop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, int)


@pytest.mark.parametrize("delay", [0, False, True - 1, Fraction(1, 2000), 0.0005])
def test_any_real_number_is_a_delay(loop: Loop, delay: Any) -> None:
    handle = loop.call_later(delay, loop.stop)
    loop.run_forever()
    assert loop.time() >= handle.when() - RESOLUTION


@pytest.mark.parametrize("when", [0, True, Fraction(1, 2)])
def test_any_real_number_is_a_deadline(loop: Loop, when: Any) -> None:
    handle = loop.call_at(when, loop.stop)
    loop.run_forever()
    assert handle.when() == when


def test_when_is_the_deadline(loop: Loop) -> None:
    before = loop.time()
    later, at = loop.call_later(5, int), loop.call_at(before + 7.25, int)
    assert before + 5 <= later.when() <= loop.time() + 5
    assert at.when() == before + 7.25
    later.cancel()
    at.cancel()


def test_a_timer_due_together_with_its_canceller_is_cancelled(loop: Loop) -> None:
    now = loop.time()
    loop.call_at(now - 2, lambda: handle.cancel())
    handle: asyncio.TimerHandle = loop.call_at(now - 1, pytest.fail, "it was cancelled")
    turn(loop, 2)


def test_a_cancelled_first_timer_does_not_hold_up_the_second(loop: Loop) -> None:
    first = loop.call_later(0.001, pytest.fail, "it was cancelled")
    loop.call_later(0.002, loop.stop)
    first.cancel()
    loop.run_forever()


def test_a_run_with_nothing_but_cancelled_timers_parks(loop: Loop) -> None:
    for _ in range(200):
        loop.call_later(0.0001, pytest.fail, "it was cancelled").cancel()
    loop.call_later(0.005, loop.stop)
    loop.run_forever()


def test_200_000_timers_may_be_pending(loop: Loop) -> None:
    loop.set_debug(False)  # which remembers where each was made
    now, rng = loop.time(), random.Random(4)
    handles = [loop.call_at(now + HOUR + rng.random(), int) for _ in range(200_000)]
    begun = time.monotonic()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert time.monotonic() - begun < 2
    for handle in handles:
        handle.cancel()
    turn(loop)


def test_50_000_timers_fire_in_order(loop: Loop) -> None:
    loop.set_debug(False)  # which remembers where each was made
    now, seen = loop.time() - 1, list[int]()
    order = list(range(50_000))
    random.Random(5).shuffle(order)
    for i in order:
        loop.call_at(now + i * 1e-6, seen.append, i)
    turn(loop)
    assert seen == list(range(50_000))


@pytest.mark.parametrize("apart", [True, False], ids=["soonest first", "latest first"])
def test_cancelled_timers_do_not_pile_up(loop: Loop, apart: bool) -> None:
    loop.set_debug(False)  # which remembers where each was made

    def many() -> None:
        handles = [loop.call_later(HOUR + (i if apart else -i), int) for i in range(10_000)]
        for handle in handles:
            handle.cancel()
        turn(loop)

    for _ in range(2):
        many()
    before = resident()
    for _ in range(15):
        many()
    assert resident() - before < 8 * 2**20  # kept, they would take 30 MiB at the least


def test_timeouts_that_never_happen_do_not_pile_up(loop: Loop) -> None:
    loop.set_debug(False)  # which remembers where each was made

    async def main(count: int) -> None:
        for _ in range(count):
            async with asyncio.timeout(HOUR):
                await asyncio.sleep(0)

    loop.run_until_complete(main(2000))
    before = resident()
    loop.run_until_complete(main(20_000))
    assert resident() - before < 4 * 2**20


def test_a_pending_timer_survives_from_one_run_to_the_next(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(0.002, seen.append, 1)
    turn(loop, 3)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_a_timer_that_fell_due_between_two_runs_fires_in_the_next(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(0.001, seen.append, 1)
    turn(loop)
    end = loop.time() + 0.002
    while loop.time() < end:
        pass
    turn(loop)
    assert seen == [1]


def test_sleeps_end_in_the_order_of_their_lengths(loop: Loop) -> None:
    seen: list[int] = []

    async def sleeper(i: int) -> None:
        await asyncio.sleep(i * 0.02)  # a slow machine makes a sleeper late to begin
        seen.append(i)

    async def main() -> None:
        await asyncio.gather(*(sleeper(i) for i in (3, 1, 4, 0, 5, 2)))

    loop.run_until_complete(main())
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_delay_below_the_resolution_of_the_clock_gives_way_to_others(loop: Loop) -> None:
    seen: list[str] = []

    def again(left: int) -> None:
        seen.append("timer")
        if left:
            loop.call_later(1e-12, again, left - 1)
        else:
            loop.stop()

    loop.call_soon(again, 100)
    loop.call_soon(seen.append, "other")
    loop.run_forever()
    assert seen[:2] == ["timer", "other"]
    assert len(seen) == 102


@pytest.mark.parametrize("when", [10**6, 10**6 + 0.5, True])
def test_a_timer_knows_its_time_as_it_was_given(loop: Loop, when: float) -> None:
    handle = loop.call_at(when, print)
    assert (handle.when(), type(handle.when())) == (when, type(when))
    assert hash(handle) == hash(when)
    assert handle == handle
    later = loop.call_later(1, print)
    assert type(later.when()) is float
    handle.cancel()
    later.cancel()


def test_a_patched_clock_is_the_one_that_the_loop_shows(loop: Loop) -> None:
    """It is also the clock that timers are compared with: see test_clocks.py."""
    patched: Any = loop
    patched.time = lambda: 1e9
    assert loop.time() == 1e9
    handle = loop.call_at(loop.time() + 5, print)
    assert handle.when() == 1e9 + 5
    handle.cancel()
    del patched.time
    assert loop.time() < 1e9
