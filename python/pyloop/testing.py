"""For tests: a clock that jumps, another order of tasks, and what was left behind.

    def test_an_hour():
        pyloop.testing.run(main(), virtual_time=True)  # sleeps of an hour take no time

    async def test_a_timeout():
        with pyloop.testing.virtual_time() as clock:
            await asyncio.sleep(3600)
            assert clock.jumps == 1

    for seed in range(100):
        pyloop.testing.run(main(), seed=seed)  # tasks that are ready together, in another order each time

`pyloop.testing_plugin` has all of it for pytest. Times are seconds, as floats.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

from pyloop import _native
from pyloop._leaks import leftovers
from pyloop._loop import EventLoop
from pyloop._loop import new_event_loop as new_plain_loop

__all__ = ["Clock", "leftovers", "new_event_loop", "run", "virtual_time"]


class Clock:
    """The clock of a loop that has virtual time: it jumps when the loop has nothing to do."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """What it shows, in seconds: `loop.time()`."""
        return self._loop.time()

    def advance(self, seconds: float) -> None:
        """Move it forward by so many seconds. Timers that are due then run in the next turn, in their order.

        Raises RuntimeError when the loop has real time again, ValueError for a number that is negative or not
        finite.
        """
        _native._advance_time(self._loop, seconds)

    @property
    def jumps(self) -> int:
        """How often it has jumped to a timer, in all the virtual time that the loop has had."""
        return _native._virtual_time(self._loop)[0]

    def __repr__(self) -> str:
        jumps, is_on = _native._virtual_time(self._loop)
        return f"<Clock {'virtual' if is_on else 'real'} time={self.time()} jumps={jumps}>"


@contextlib.contextmanager
def virtual_time(*, autojump_threshold: float | None = None) -> Iterator[Clock]:
    """Give the running loop a clock that stands still, and jumps to the next timer when all waits.

    `autojump_threshold`: for how many real seconds the loop has nothing to do before a jump. None: none, or a
    millisecond where the loop watches connections or other descriptors. When the block ends the clock goes on
    as the real one goes, from where it is.

    Raises RuntimeError where no loop runs, where it is none of pyloop's, and when it has virtual time
    already; ValueError for a threshold that is negative or not finite.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError(f"virtual time needs a loop of pyloop's, and this is {loop!r}")
    _native._begin_virtual_time(loop, autojump_threshold)
    try:
        yield Clock(loop)
    finally:
        _native._end_virtual_time(loop)


def new_event_loop(
    *, virtual_time: bool = False, autojump_threshold: float | None = None, seed: int | None = None
) -> EventLoop:
    """A new loop for a test: `asyncio.Runner(loop_factory=lambda: new_event_loop(virtual_time=True))`.

    `virtual_time`: its clock shows 0.0 and jumps, as the function of that name explains.
    `seed`: tasks that are ready together make their steps in an order that follows from this number, 0 to
    2**64 - 1; None: in the order in which they became ready.

    Raises OSError when there is no descriptor left for its poller, ValueError for a threshold that is
    negative or not finite, OverflowError for a seed that is out of range.
    """
    loop = new_plain_loop()
    try:
        if virtual_time:
            _native._begin_virtual_time(loop, autojump_threshold, 0.0)
        if seed is not None:
            _native._shuffle_steps(loop, seed)
    except BaseException:
        loop.close()
        raise
    return loop


def run[T](
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    virtual_time: bool = False,
    autojump_threshold: float | None = None,
    seed: int | None = None,
) -> T:
    """Run a coroutine on a new loop for a test and give its result.

    The loop is `new_event_loop`'s, the rest is `asyncio.run`'s. What the coroutine raises comes out, with a
    note that names the seed.
    """

    def make() -> EventLoop:
        return new_event_loop(virtual_time=virtual_time, autojump_threshold=autojump_threshold, seed=seed)

    try:
        return asyncio.run(main, debug=debug, loop_factory=make)
    except BaseException as raised:
        if seed is not None:
            raised.add_note(f"pyloop.testing: seed={seed} replays this order of steps")
        raise
