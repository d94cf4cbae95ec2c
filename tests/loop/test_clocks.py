"""A `time` that somebody has replaced is the clock that timers are compared with, as on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from support.loops import Loop, LoopFactory, Run, turn

HOUR = 3600.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self, *_loop: object) -> float:
        return self.now


def method(clock: Clock) -> Callable[[object], float]:
    return lambda _loop: clock()


@contextlib.contextmanager
def replaced(where: str, loop: Loop, clock: Clock) -> Iterator[None]:
    match where:
        case "instance":
            put: Any = mock.patch.object(loop, "time", clock)
        case "class":
            put = mock.patch.object(type(loop), "time", method(clock))
        case "base":
            put = mock.patch.object(asyncio.BaseEventLoop, "time", method(clock))
        case _:
            put = mock.patch.object(time, "monotonic", clock)
    with put:
        yield


WHERE = pytest.mark.parametrize("where", ["instance", "class", "base", "time.monotonic"])


@WHERE
def test_timers_are_compared_with_a_replaced_clock(loop: Loop, where: str) -> None:
    clock, seen = Clock(), list[str]()
    with replaced(where, loop, clock):
        assert loop.time() == 1000.0
        handle = loop.call_later(HOUR, seen.append, "later")
        assert handle.when() == 1000.0 + HOUR
        loop.call_at(1000.0 + 2 * HOUR, seen.append, "at")
        loop.call_at(1000.0, seen.append, "now")
        turn(loop)
        assert seen == ["now"]
        clock.now += HOUR
        turn(loop)
        assert seen == ["now", "later"]
        clock.now += HOUR
        turn(loop)
    assert seen == ["now", "later", "at"]
    assert abs(loop.time() - time.monotonic()) < 60


@WHERE
def test_a_clock_that_is_replaced_in_a_run_counts_from_then_on(run: Run, loop: Loop, where: str) -> None:
    async def main() -> list[str]:
        clock, seen = Clock(), list[str]()
        for _ in range(5):
            await asyncio.sleep(0)
        with replaced(where, loop, clock):
            handle = loop.call_later(HOUR, seen.append, "moved")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append("waits")
            clock.now += HOUR
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        handle.cancel()
        before = time.monotonic()
        await asyncio.sleep(0.001)
        assert before + 0.001 <= time.monotonic() + 1e-6
        return seen

    assert run(main()) == ["waits", "moved"]


def test_a_subclass_that_overrides_time_has_its_timers_by_it(bare_factory: LoopFactory) -> None:
    with contextlib.closing(bare_factory()) as plain:
        base = type(plain)
    given = list[float]()

    def ahead(_loop: object) -> float:
        given.append(time.monotonic() + 1_000_000)
        return given[-1]

    loop: Loop = type("Ahead", (base,), {"time": ahead})()

    async def main() -> None:
        began = loop.time()
        await asyncio.sleep(0.005)
        async with asyncio.timeout(HOUR):
            await asyncio.sleep(0.002)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.002)
        assert began + 0.009 <= loop.time()

    with contextlib.closing(loop):
        loop.run_until_complete(main())
        assert len(given) > 5


def test_asyncios_own_loop_may_be_left_the_real_clock(run: Run, loop: Loop) -> None:
    # freezegun's `real_asyncio`, which puts the clock back in the same way.
    original, real = asyncio.SelectorEventLoop.time, time.monotonic
    clock = Clock()
    with mock.patch.object(time, "monotonic", clock):
        asyncio.SelectorEventLoop.time = lambda _loop: real()  # type: ignore[assignment, method-assign]
        try:
            run(asyncio.sleep(0.002))
            assert loop.time() != 1000.0
        finally:
            asyncio.SelectorEventLoop.time = original  # type: ignore[method-assign]
        assert loop.time() == 1000.0
    del asyncio.SelectorEventLoop.time  # it is BaseEventLoop's again
    assert loop.time() != 1000.0


def test_what_a_replaced_time_raises_ends_the_run(loop: Loop) -> None:
    def broken(_loop: object = None) -> float:
        raise LookupError("no clock")

    handle = loop.call_later(HOUR, print)
    with mock.patch.object(loop, "time", broken), pytest.raises(LookupError, match="no clock"):
        loop.run_forever()
    handle.cancel()


def test_a_clock_may_use_the_loop_and_is_no_tasks(loop: Loop) -> None:
    seen = set[object]()
    calls = itertools.count()

    def clock(_loop: object = None) -> float:
        seen.add(asyncio.current_task(loop))
        if next(calls) == 12:
            loop.call_soon(loop.stop)
        return 1000.0

    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    task = loop.create_task(main())
    with mock.patch.object(loop, "time", clock):
        handle = loop.call_later(0.005, print)
        loop.run_forever()  # the clock stands still, and one of its calls ends the run
    handle.cancel()
    assert task.done()
    assert seen == {None}


def test_a_clock_that_goes_back_makes_nothing_due(loop: Loop) -> None:
    clock, seen = Clock(), list[int]()
    with mock.patch.object(loop, "time", clock):
        loop.call_later(10, seen.append, 1)
        clock.now -= 500
        turn(loop, 3)
        assert seen == []
        clock.now += 510
        turn(loop)
        assert seen == [1]


def test_the_tick_of_the_clock_is_the_loops(loop: Loop) -> None:
    clock, seen = Clock(), list[int]()
    tick = mock.patch.object(loop, "_clock_resolution", 0.5)
    with mock.patch.object(loop, "time", clock), tick:
        loop.call_later(0.75, seen.append, 1)
        turn(loop)
        assert seen == []
        clock.now += 0.25
        turn(loop)
        assert seen == []  # due is what is earlier than the end of the tick
        clock.now += 0.125
        turn(loop)
        assert seen == [1]


PROGRAM_DELAYS = (3.0, 1.0, 2.0, 1.25, 0.0, 2.5)


@WHERE
def test_a_program_by_a_clock_that_ticks_once_a_turn(loop: Loop, where: str) -> None:
    clock, ticks, done = Clock(), itertools.count(1), list[bool]()

    def tick() -> None:
        clock.now = 1000.0 + 0.25 * next(ticks)
        if not done:
            loop.call_soon(tick)

    async def sleeper(number: int, delay: float, seen: list[Any]) -> None:
        await asyncio.sleep(delay)
        seen.append(number)
        try:
            async with asyncio.timeout(delay / 2):
                await asyncio.sleep(delay)
        except TimeoutError:
            seen.append((number, "late"))

    async def main() -> list[Any]:
        seen: list[Any] = []
        loop.call_soon(tick)
        await asyncio.gather(*[sleeper(*each, seen) for each in enumerate(PROGRAM_DELAYS)])
        done.append(True)
        return seen

    with replaced(where, loop, clock):
        seen = loop.run_until_complete(main())
    assert [each for each in seen if isinstance(each, int)] == [4, 1, 3, 2, 5, 0]
    assert [each[0] for each in seen if isinstance(each, tuple)] == [4, 1, 3, 2, 5, 0]
