"""Whose loop, tasks, futures and Rust futures a program runs with."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

Loop = asyncio.AbstractEventLoop
RUST = ("sleep0", "ready", "yield once", "yield three times", "error", "never")


@dataclass(frozen=True)
class Side:
    """One of the machines that are compared."""

    name: str
    new_loop: Callable[[], Loop]
    task: Callable[..., asyncio.Task[Any]]  # as asyncio.Task is called
    future: Callable[[Loop], asyncio.Future[Any]]
    sleep: Callable[[float], Any]
    rust: Callable[[str, Loop], Any]  # an awaitable of that temper
    by_factory: bool = False  # the loop's own tasks are of another class


def _asyncio_future(loop: Loop) -> asyncio.Future[Any]:
    return asyncio.Future(loop=loop)


def _substitute(temper: str, loop: Loop) -> Any:
    """What a Rust future of that temper does, in Python."""

    async def act() -> str:
        if temper == "sleep0" or temper == "yield once":
            await asyncio.sleep(0)
        elif temper == "yield three times":
            for _ in range(3):
                await asyncio.sleep(0)
        elif temper == "error":
            raise LookupError("of a Rust future")
        elif temper == "never":
            await loop.create_future()
        return temper

    return act()


def _rust(temper: str, loop: Loop) -> Any:
    testing = importlib.import_module("pyloop._native")._testing
    if temper == "sleep0":
        return importlib.import_module("pyloop").sleep(0, temper)
    if temper == "error":
        return testing.error(LookupError("of a Rust future"))
    if temper == "never":
        return testing.never()
    if temper == "yield three times":
        return testing.yield_n(3, temper)
    return (testing.ready if temper == "ready" else testing.yield_once)(temper)


def _own_task(coro: Coroutine[Any, Any, Any], *, loop: Loop, **kwargs: Any) -> asyncio.Task[Any]:
    if kwargs.pop("eager_start", False):
        task: Any = importlib.import_module("pyloop").Task
        eager: asyncio.Task[Any] = task(coro, loop=loop, eager_start=True, **kwargs)
        return eager
    return loop.create_task(coro, **kwargs)


def _own_future(loop: Loop) -> asyncio.Future[Any]:
    return loop.create_future()


ASYNCIO = Side(
    "asyncio", asyncio.SelectorEventLoop, asyncio.Task, _asyncio_future, asyncio.sleep, _substitute
)
MIXED = tuple(
    f"{loop}'s loop, {task}'s tasks, {future}'s futures"
    for loop in ("pyloop", "asyncio")
    for task in ("pyloop", "asyncio")
    for future in ("pyloop", "asyncio")
    if {loop, task, future} == {"pyloop", "asyncio"}
)


@functools.cache
def side(name: str) -> Side:
    """The side of that name; none but asyncio's needs pyloop."""
    if name == "asyncio":
        return ASYNCIO
    pyloop = importlib.import_module("pyloop")
    if name == "pyloop":
        return Side(name, pyloop.new_event_loop, _own_task, _own_future, pyloop.sleep, _rust)
    # Under another's task or loop a Rust future takes more turns: its substitute stands in.
    new_loop, task, future = asyncio.SelectorEventLoop, asyncio.Task, _asyncio_future

    def our_future(loop: Loop) -> asyncio.Future[Any]:
        made: asyncio.Future[Any] = pyloop.Future(loop=loop)
        return made

    assert name in MIXED
    if "pyloop's loop" in name:
        new_loop = pyloop.new_event_loop
    if "pyloop's tasks" in name:
        task = pyloop.Task
    if "pyloop's futures" in name:
        future = our_future
    return Side(name, new_loop, task, future, asyncio.sleep, _substitute, by_factory=True)
