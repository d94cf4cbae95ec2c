"""What makes the tasks and futures under test.

A module that says `pytest_generate_tests = making.parametrize` has these arguments for its tests:

    spawn         makes a task: as the loop does by itself, by asyncio's class, by pyloop's class
    make_future   makes a future in the same three ways
    task_class    asyncio.Task and pyloop.Task
    future_class  asyncio.Future and pyloop.Future

Together with `loop` they are the full product: ours on their loop, theirs on ours. Without pyloop among the
chosen loops, only asyncio's are left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import pytest

from support import loops
from support.loops import Loop, LoopFactory

TaskClass = type[asyncio.Task[Any]]
FutureClass = type[asyncio.Future[Any]]


class Spawn(Protocol):
    """`spawn(coro, loop=loop, name=…, context=…)` is a task that has not started."""

    def __call__[T](
        self, coro: Coroutine[Any, Any, T], /, *, loop: Loop, **kwargs: Any
    ) -> asyncio.Task[T]: ...


class MakeFuture(Protocol):
    """`make_future(loop)` is a pending future of that loop."""

    def __call__(self, loop: Loop, /) -> asyncio.Future[Any]: ...


def _own_task[T](coro: Coroutine[Any, Any, T], /, *, loop: Loop, **kwargs: Any) -> asyncio.Task[T]:
    return loop.create_task(coro, **kwargs)


def _own_future(loop: Loop, /) -> asyncio.Future[Any]:
    return loop.create_future()


def _task_of(cls: TaskClass) -> Spawn:
    def spawn[T](coro: Coroutine[Any, Any, T], /, *, loop: Loop, **kwargs: Any) -> asyncio.Task[T]:
        return cls(coro, loop=loop, **kwargs)

    return spawn


def _future_of(cls: FutureClass) -> MakeFuture:
    def make(loop: Loop, /) -> asyncio.Future[Any]:
        return cls(loop=loop)

    return make


def parametrize(metafunc: pytest.Metafunc) -> None:
    tasks: dict[str, TaskClass] = {"asyncio.Task": asyncio.Task}
    futures: dict[str, FutureClass] = {"asyncio.Future": asyncio.Future}
    if "pyloop" in loops.kinds(metafunc.config):
        import pyloop

        tasks["pyloop.Task"] = pyloop.Task
        futures["pyloop.Future"] = pyloop.Future
    spawns: dict[str, Any] = {"create_task": _own_task} | {name: _task_of(cls) for name, cls in tasks.items()}
    makers: dict[str, Any] = {"create_future": _own_future} | {
        name: _future_of(cls) for name, cls in futures.items()
    }
    choices: dict[str, dict[str, Any]] = {
        "spawn": spawns,
        "make_future": makers,
        "task_class": dict(tasks),
        "future_class": dict(futures),
    }
    for name, values in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(values.values()), ids=list(values))


def _asyncio_loop() -> Loop:
    return asyncio.SelectorEventLoop()


def _uvloop_loop() -> Loop:
    import uvloop

    return uvloop.new_event_loop()


def _pyloop_loop() -> Loop:
    return loops.new_loop("pyloop")


# For a module's `pytestmark`: its tests take `loop`, `run` or `loop_factory`, and run on these three.
HOSTS: dict[str, LoopFactory] = {"asyncio": _asyncio_loop, "uvloop": _uvloop_loop, "pyloop": _pyloop_loop}
on_every_host = pytest.mark.parametrize("bare_factory", list(HOSTS.values()), ids=list(HOSTS))


def without_origin(context: dict[str, Any]) -> dict[str, Any]:
    """A context for the exception handler without what debug mode adds to it."""
    return {key: value for key, value in context.items() if key != "source_traceback"}
