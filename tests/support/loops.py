"""The loops under test, and small steps with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]

KINDS = ("asyncio", "pyloop")


class Run(Protocol):
    """Runs a coroutine on the test's loop and gives its result."""

    def __call__[T](self, main: Coroutine[Any, Any, T], /) -> T: ...


def kinds(config: pytest.Config) -> list[str]:
    """The loops that this run is about: `--loops`, else PYLOOP_TEST_LOOPS, else all."""
    chosen = config.getoption("--loops") or os.environ.get("PYLOOP_TEST_LOOPS") or ",".join(KINDS)
    names = [name.strip() for name in chosen.split(",")]
    for name in names:
        if name not in KINDS:
            raise pytest.UsageError(f"unknown loop {name!r}: choose from {', '.join(KINDS)}")
    return names


def new_loop(kind: str) -> Loop:
    """A new loop of that kind. An import that fails is an error of the test, never a skip."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import pyloop

    loop: Loop = pyloop.new_event_loop()
    return loop


def turn(loop: Loop, count: int = 1) -> None:
    """Runs `count` turns of a loop that is not running, each without waiting for anything."""
    for _ in range(count):
        loop.stop()
        loop.run_forever()


def leftovers(loop: Any) -> list[str]:
    """What a loop that is about to be closed still has to do."""
    tasks = enumerate(asyncio.all_tasks(loop))
    # A failed test may leave thousands, and only the first few are shown.
    found = [f"pending task: {task!r}" if i < 10 else "pending task" for i, task in tasks]
    wakeup = getattr(loop, "_ssock", None)
    own = -1 if wakeup is None else wakeup.fileno()
    if isinstance(loop, asyncio.SelectorEventLoop):
        inside: Any = loop  # what follows is asyncio's own
        found += [f"pending handle: {handle!r}" for handle in inside._ready if not handle.cancelled()]
        found += [f"pending timer: {handle!r}" for handle in inside._scheduled if not handle.cancelled()]
        found += [f"watched: {key}" for key in inside._selector.get_map().values() if key.fd != own]
    elif hasattr(loop, "_watched"):
        if loop.statistics()["ready"]:
            found.append(f"pending handles: {loop.statistics()}")
        found += [f"watched: {fd}" for fd, _ in loop._watched() if fd != own]
    return found


def settle(loop: Loop) -> list[str]:
    """Lets a loop finish what needs no waiting, closes it as `asyncio.run` does, and tells what was left."""
    turn(loop, 3)
    found = leftovers(loop)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    turn(loop, 2)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return found
