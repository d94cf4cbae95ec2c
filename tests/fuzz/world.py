"""What a program acts on, and what happened."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
from collections.abc import Coroutine
from typing import Any

from .sides import Loop, Side

FUTURES = 4
FAR = 10_000.0
PAUSE = 0.004  # seconds between the sleepers of a timed program

VARIABLES: tuple[contextvars.ContextVar[str], ...] = (
    contextvars.ContextVar("first", default="unset"),
    contextvars.ContextVar("second", default="unset"),
)


class Stopped(BaseException):
    """No Exception, and yet nothing that ends a run."""


# Addresses, names that nobody gave, where debug mode says that a task was made, and the callback of a handle
# (which asyncio's does not know any more when it has cancelled its own handle).
_CHANGES = re.compile(
    r"0x[0-9a-f]+|Task-\d+|(?<=name=')None| created at [^ >]*"
    r"|(?<=in callback )(None|callback)[^:]*:?[^:]*(?=:)"
)


def text_of(value: object) -> str:
    """As repr, without what differs from run to run."""
    return _CHANGES.sub("…", repr(value))


def describe(error: BaseException | None, depth: int = 3) -> str:
    """An exception, and what it came from."""
    if error is None:
        return "none"
    said = f"{type(error).__name__}{text_of(error.args)}"
    if isinstance(error, BaseExceptionGroup):
        said = f"{type(error).__name__}[{', '.join(describe(e, depth) for e in error.exceptions)}]"
    if depth:
        if error.__cause__ is not None:
            said += f" because of {describe(error.__cause__, depth - 1)}"
        elif error.__context__ is not None and not error.__suppress_context__:
            said += f" after {describe(error.__context__, depth - 1)}"
    return said


def state(future: asyncio.Future[Any]) -> str:
    """Looking retrieves the exception: there is no report of it then."""
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return f"failed: {describe(error)}" if error else f"finished: {text_of(future.result())}"


class Actor:
    """Who performs instructions: a task, a coroutine inside one, or a callback."""

    def __init__(self, label: str, order: int) -> None:
        self.label = label
        self.order = order  # it waits for older tasks only: a ring of tasks could not be cancelled
        self.children = 0
        self.timeouts: list[asyncio.Timeout] = []
        self.groups: list[asyncio.TaskGroup] = []
        self.tokens: list[tuple[contextvars.ContextVar[str], contextvars.Token[str]]] = []

    def child(self) -> Actor:
        self.children += 1
        return Actor(f"{self.label}.{self.children}", self.order)

    def inside(self) -> Actor:
        """A coroutine awaited by this one: what is around it is around the other, too."""
        child = self.child()
        child.timeouts, child.groups = self.timeouts, self.groups
        return child


class World:
    """One run of one program."""

    def __init__(self, side: Side, loop: Loop, numbered: bool, pipe: bool, late: list[str]) -> None:
        self.side, self.loop, self.numbered = side, loop, numbered
        self.turn = 0
        self.happened: list[str] = []
        self.late = late  # reports whose time depends on when an object is freed
        self.futures = [side.future(loop) for _ in range(FUTURES)]
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.seen: list[asyncio.Task[Any]] = []  # also those that gather and its like made
        self.handles: list[asyncio.Handle] = []
        self.callbacks: list[tuple[asyncio.Future[Any], Any]] = []
        self.contexts: list[contextvars.Context] = []
        self.locks = asyncio.Lock(), asyncio.Semaphore(2)
        self.events = asyncio.Event(), asyncio.Event()
        self.condition = asyncio.Condition()
        self.queues: tuple[asyncio.Queue[Any], ...] = (
            asyncio.Queue(1),
            asyncio.LifoQueue(2),
            asyncio.PriorityQueue(),
        )
        self.barrier = asyncio.Barrier(2)
        self.timers = 0
        self.latest = 0.0  # until when somebody sleeps
        self.pause = PAUSE
        self.start = loop.time()
        self.pipe = os.pipe() if pipe else None
        if self.pipe:
            os.set_blocking(self.pipe[0], False)
            loop.add_reader(self.pipe[0], self._readable, self.pipe[0])

    def _readable(self, end: int) -> None:
        try:
            got = os.read(end, 1)
        except BlockingIOError:  # called again before what ended a run was over
            got = b""
        self.note("pipe", got)

    def close(self) -> None:
        if self.pipe:
            self.loop.remove_reader(self.pipe[0])
            for end in self.pipe:
                os.close(end)

    # ---- what happened -------------------------------------------------------------------------------------

    def note(self, who: str, what: object) -> None:
        turn = f"{self.turn:2} " if self.numbered else ""
        self.happened.append(f"{turn}{who}: {what}")

    def report(self, _loop: Loop, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        about = [key for key in ("future", "task", "handle") if key in context]
        tasks = [context[key] for key in about if isinstance(context[key], asyncio.Task)]
        names = [task.get_name() for task in tasks if task in self.tasks]
        said = f"{context['message']}: {describe(context.get('exception'))} {about} {names}"
        said = _CHANGES.sub("…", said)
        if "never retrieved" in said or "destroyed" in said:
            self.late.append(said)
        else:
            self.note("report", said)

    # ---- what there is -------------------------------------------------------------------------------------

    def future(self, number: int) -> asyncio.Future[Any]:
        return self.futures[number % FUTURES]

    def task(self, number: int) -> asyncio.Task[Any] | None:
        return self.tasks[number % len(self.tasks)] if self.tasks else None

    def older(self, me: Actor, number: int) -> asyncio.Task[Any] | None:
        older = self.tasks[: me.order]
        return older[number % len(older)] if older else None

    def some(self, number: int) -> asyncio.Future[Any] | None:
        """A future or a task."""
        return self.future(number // 2) if number % 2 else self.task(number // 2)

    def due(self) -> float:
        """A time that has come, different from all others."""
        self.timers += 1
        return self.start - 1000 + self.timers * 1e-6

    def nap(self) -> float:
        """How long until a time that no other sleeper has."""
        now = self.loop.time()
        self.latest = max(self.latest, now) + self.pause
        return self.latest - now

    def start_task(self, me: Actor, coro: Coroutine[Any, Any, Any], new: Actor, **kwargs: Any) -> Any:
        task = self.side.task(coro, loop=self.loop, name=new.label, **kwargs)
        self.tasks[new.order] = task
        return task

    def new_actor(self) -> Actor:
        """Of the task that is made next."""
        self.tasks.append(None)
        return Actor(f"t{len(self.tasks) - 1}", len(self.tasks) - 1)
