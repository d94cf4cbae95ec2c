"""Running programs on pyloop: `run`, and the priorities of tasks."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Coroutine
from typing import Any

from pyloop._loop import new_event_loop


class Priority(enum.IntEnum):
    """When a task's steps run among the ready ones: `loop.create_task(coro, priority=pyloop.HIGH)`.

    HIGH steps go before the next batch of NORMAL work and alternate with it when both are busy; LOW ones run
    when nothing else is ready, or after 64 batches of other work. A priority is a task's: the tasks that it
    makes, and what it awaits, have their own.
    """

    HIGH = 0
    NORMAL = 1
    LOW = 2


#: Steps go before the next batch of normal work.
HIGH = Priority.HIGH
#: The default.
NORMAL = Priority.NORMAL
#: Steps run when nothing else is ready, or after 64 batches of other work.
LOW = Priority.LOW


def run[T](main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new pyloop loop and give its result, as `asyncio.run` does.

    `debug`: True or False sets the loop's debug mode, None leaves it to `PYTHONASYNCIODEBUG` and `-X dev`.
    Raises what the coroutine raises, RuntimeError when a loop is running in this thread, ValueError for what
    is no coroutine (since Python 3.14 any awaitable will do, and anything else is a TypeError).
    """
    return asyncio.run(main, debug=debug, loop_factory=new_event_loop)
