"""The loops under test, and small steps with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from support.guard import leftovers

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
