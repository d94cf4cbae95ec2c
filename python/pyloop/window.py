"""A window into running loops: which tasks there are, what each awaits, and for how long.

    print(pyloop.dump())                 # in the program
    python -m pyloop ps PID              # from a shell: the same tree
    python -m pyloop top PID             # a live view

| | |
|---|---|
| `dump` | what the loops of this process do now |
| `tasks_of`, `loop.tasks()` | the tasks of one loop |
| `Dump`, `LoopInfo`, `TaskInfo`, `Await`, `Frame` | frozen values; as `str()` a tree; JSON both ways |
| `open_window`, `Window` | lets `ps` and `top` in, where Python has no `sys.remote_exec` |

What a task awaits goes through Python coroutines and generators and Rust futures, and from task to task
through `gather`, `wait`, `shield`, `as_completed`, `TaskGroup` and `wait_for`. While a program runs, nothing
is recorded for it but the time at which a task's last step began. Times are seconds, as floats.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Self

from pyloop import _awaits, _compat, _forks, _native

if TYPE_CHECKING:
    from pyloop._window_server import Window

__all__ = ["Await", "Dump", "Frame", "LoopInfo", "TaskInfo", "Window", "dump", "open_window", "tasks_of"]


@dataclass(frozen=True)
class Frame:
    """One place in an await chain."""

    name: str
    """The qualified name of a coroutine, a generator or a function, or the name of a Rust future."""
    file: str | None
    """None: Rust."""
    line: int | None
    """Where it waits or runs; None: it says nothing."""


@dataclass(frozen=True)
class Await:
    """A task that another one waits for."""

    task: int
    """The `TaskInfo.id` of that task."""
    through: str
    """What is between the two: "await", "gather", "wait", "shield", "as_completed", "TaskGroup" and so on."""


@dataclass(frozen=True)
class TaskInfo:
    """A task that is not done."""

    id: int
    """`id(task)`: no other living object of the process has it."""
    name: str
    state: Literal["running", "ready", "waiting"]
    """Its step runs, is queued, or waits for something."""
    waited: float | None
    """How long ago its last step began, in seconds; None: it has made none, or is no task of pyloop's.

    For one that waits that is how long it waits. It is the time at which the loop last looked at its driver
    before that step, so it may be too long by 150 us, and by what blocked the loop meanwhile.
    """
    waits_for: str | None
    """What it waits for in the end, in words; None: it does not wait."""
    stack: tuple[Frame, ...]
    """Its coroutine and what that awaits in turn, the outermost first."""
    awaits: tuple[Await, ...] = ()
    """The tasks that it waits for."""

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """The opposite of `dataclasses.asdict`. Raises KeyError or TypeError for what is none."""
        stack = tuple(Frame(**each) for each in given["stack"])
        awaits = tuple(Await(**each) for each in given["awaits"])
        return cls(**{**given, "stack": stack, "awaits": awaits})


@dataclass(frozen=True)
class LoopInfo:
    """A loop that is not closed."""

    id: int
    """`id(loop)`."""
    kind: str
    """The name of its class."""
    thread: str | None
    """The name of the thread that runs it; None: it is not running."""
    tasks: tuple[TaskInfo, ...]
    left_out: int = 0
    """How many tasks more it has."""
    stuck: tuple[Frame, ...] | None = None
    """What its thread does, the outermost first, if it did not answer in time; else None."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """As `EventLoop.statistics`; empty for a loop of others."""

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """The opposite of `dataclasses.asdict`. Raises KeyError or TypeError for what is none."""
        tasks = tuple(TaskInfo.from_dict(each) for each in given["tasks"])
        stuck = given["stuck"]
        frames = None if stuck is None else tuple(Frame(**each) for each in stuck)
        # JSON has no tuples: of the statistics the slowest callback is one.
        statistics = {
            key: tuple(told) if isinstance(told, list) else told for key, told in given["statistics"].items()
        }
        return cls(**{**given, "tasks": tasks, "stuck": frames, "statistics": statistics})

    def __str__(self) -> str:
        from pyloop._tree import loop_tree

        return "\n".join(loop_tree(self))


@dataclass(frozen=True)
class Dump:
    """What the loops of a process do. As `str()` it is a tree: who is waited for stands below who waits."""

    pid: int
    python: str
    """CPython's version."""
    pyloop: str
    """pyloop's version."""
    loops: tuple[LoopInfo, ...]

    def to_dict(self) -> dict[str, Any]:
        """Dictionaries, lists, strings and numbers."""
        return asdict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """JSON, which `from_json` reads."""
        return json.dumps(self.to_dict(), indent=indent, default=str)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`. Raises KeyError or TypeError for what is none."""
        return cls(**{**given, "loops": tuple(LoopInfo.from_dict(each) for each in given["loops"])})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The opposite of `to_json`. Raises ValueError, KeyError or TypeError for what is none."""
        return cls.from_dict(json.loads(text))

    def __str__(self) -> str:
        from pyloop._tree import tree

        return "\n".join(tree(self))


def dump(loop: asyncio.AbstractEventLoop | None = None, *, limit: int | None = None) -> Dump:
    """What a loop does now; without one, each loop of pyloop's that is not closed, and the running one.

    `limit`: so many tasks of each loop at most. Any thread may call it; of a loop that runs in another thread
    the tasks are looked at one after the other, while they go on. Raises ValueError for a `limit` below 0.
    """
    loops = known_loops() if loop is None else [loop]
    running = _compat.get_running_loop()
    if loop is None and running is not None and all(running is not each for each in loops):
        loops.append(running)
    return of_process(look(each, limit) for each in loops)


def of_process(loops: Iterable[LoopInfo]) -> Dump:
    """The `Dump` of this process, with these loops."""
    return Dump(os.getpid(), sys.version.split()[0], _native.__version__, tuple(loops))


def known_loops() -> list[asyncio.AbstractEventLoop]:
    """The loops of pyloop's in this process that are not closed."""
    return [loop for loop in _forks.all_loops() if not loop.is_closed() and not loop._is_inherited()]


def look(
    loop: asyncio.AbstractEventLoop, limit: int | None = None, *, stuck: tuple[Frame, ...] | None = None
) -> LoopInfo:
    """What one loop does now."""
    tasks, left_out = _some(loop, limit)
    statistics = getattr(loop, "statistics", None)
    return LoopInfo(
        id=id(loop),
        kind=type(loop).__qualname__,
        thread=_thread_name(loop),
        tasks=_infos(loop, tasks),
        left_out=left_out,
        stuck=stuck,
        statistics={} if statistics is None else statistics(),
    )


def tasks_of(loop: asyncio.AbstractEventLoop, *, limit: int | None = None) -> tuple[TaskInfo, ...]:
    """The tasks of a loop that are not done, of any class and on any asyncio loop, `limit` of them at most.

    Raises ValueError for a `limit` below 0.
    """
    return _infos(loop, _some(loop, limit)[0])


def open_window() -> Window:
    """Let `python -m pyloop ps` and `top` of the same user look into this process.

    They come through a Unix socket in the user's runtime folder, which a daemon thread serves until `close()`
    is called or the process ends. Opened a second time, it is the same window. `PYLOOP_WINDOW=1` in the
    environment has a process open it with its first loop. Raises OSError when the socket cannot be made.
    """
    from pyloop._window_server import open_window

    return open_window()


def __getattr__(name: str) -> Any:
    if name == "Window":
        from pyloop._window_server import Window

        return Window
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def frame_of(name: str, frame: Any, coroutine: Any = None) -> Frame:
    """A place in a chain. A coroutine without a frame (of another compiler's) says where it begins."""
    if frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
    else:
        code = next(
            (c for prefix in ("cr", "gi", "ag") if (c := getattr(coroutine, f"{prefix}_code", None))), None
        )
        file, line = (code.co_filename, code.co_firstlineno) if code is not None else (None, None)
    return Frame(name, None, None) if file == "<Rust>" else Frame(name, file, line)


def stack_of_thread(ident: int | None) -> tuple[Frame, ...]:
    """What a thread does now, the outermost first; empty for one that is not."""
    frame, found = sys._current_frames().get(ident or 0), list[Frame]()
    while frame is not None:
        found.append(frame_of(frame.f_code.co_qualname, frame))
        frame = frame.f_back
    return tuple(reversed(found))


def _thread_name(loop: Any) -> str | None:
    ident = _awaits.thread_of(loop)
    if ident is None:
        return "?" if loop.is_running() else None
    return next((each.name for each in threading.enumerate() if each.ident == ident), str(ident))


def _some(loop: asyncio.AbstractEventLoop, limit: int | None) -> tuple[list[asyncio.Task[Any]], int]:
    """Some tasks of a loop, in the order of their names, and how many more there are."""
    if limit is not None and limit < 0:
        raise ValueError("limit must not be negative")
    pending = loop._pending_tasks() if isinstance(loop, _native.Loop) else []
    if limit is None or len(pending) < limit:
        known = set(map(id, pending))
        pending += [task for task in _compat.all_tasks(loop) if id(task) not in known]
    some = [task for task in islice(pending, limit) if not task.done()]
    return sorted(some, key=_in_order), max(0, len(pending) - limit) if limit is not None else 0


def _in_order(task: asyncio.Task[Any]) -> list[tuple[str, int]]:
    """Task-2 before Task-10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^\d]*)(\d*)", _name(task))]


def _name(task: asyncio.Task[Any]) -> str:
    get_name = getattr(task, "get_name", None)
    return str(get_name()) if get_name is not None else type(task).__qualname__


def _infos(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> tuple[TaskInfo, ...]:
    by_id = {id(task): task for task in tasks}
    awaits: dict[int, list[Await]] = {id(task): [] for task in tasks}
    for task in tasks:
        for waiter, through in _awaits.waiters(task, by_id):
            if id(waiter) in awaits:
                awaits[id(waiter)].append(Await(id(task), through))
    current = _compat.current_task(loop)
    return tuple(_info(task, tuple(awaits[id(task)]), task is current) for task in tasks)


def _info(task: asyncio.Task[Any], awaits: tuple[Await, ...], is_current: bool) -> TaskInfo:
    coroutine = task.get_coro() if hasattr(task, "get_coro") else None
    stack = tuple(frame_of(name, frame, each) for name, frame, each in _awaits.chain(coroutine))
    future = _awaits.waits_for(task)
    state: Literal["running", "ready", "waiting"] = "waiting"
    if is_current or getattr(coroutine, "cr_running", False):
        state = "running"
    elif future is None or (asyncio.isfuture(future) and future.done()):
        state = "ready"
    return TaskInfo(
        id=id(task),
        name=_name(task),
        state=state,
        waited=getattr(task, "_since_step", None),
        waits_for=_in_words(future) if state == "waiting" else None,
        stack=stack,
        awaits=awaits,
    )


def _in_words(future: Any) -> str:
    if isinstance(future, _native.RustFuture):
        return f"Rust future {future.__qualname__}"
    if isinstance(future, asyncio.Task):
        return f"task {_name(future)!r}"
    made = _awaits.origin(future)
    what = "future" if type(future) in (_native.Future, asyncio.Future) else type(future).__qualname__
    return what if made is None else f"{what} made at {made[0]}:{made[1]}"
