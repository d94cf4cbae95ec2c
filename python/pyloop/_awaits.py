"""Who awaits whom, found where asyncio keeps it: in done callbacks of futures and in suspended coroutines.

Nothing is recorded while a program runs: whoever asks pays. With `_compat.py` the place of asyncio's private
names: of what `gather`, `wait`, `shield`, `as_completed`, `TaskGroup` and `wait_for` put between a task and
those that it waits for. `tests/window/test_tasks.py` pins them.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CoroutineType, FrameType, FunctionType
from typing import Any

#: A task or a future that waits, and through what.
Waiter = tuple[Any, str]

#: Told by its own done callback, and not by what waits for something else in between.
DIRECTLY = "await"


def awaited_by(future: Any) -> frozenset[asyncio.Task[Any]] | None:
    """The tasks that await a future, for asyncio's call graphs (`Future._asyncio_awaited_by`)."""
    return frozenset(task for task, _ in waiters(future)) or None


def waiters(future: Any, tasks: Mapping[int, Any] | None = None) -> list[Waiter]:
    """The tasks that wait for a future, each with what it waits through: "await", "gather" and so on.

    `tasks`: those of the loop by their ids, if they are known. A task that has called `gather` (or its like)
    and does not await what that gave is told where nobody else does: CPython 3.14 and later know it.
    """
    found: dict[int, Waiter] = {}
    callers: dict[int, Waiter] = {}
    seen, left = {id(future)}, [(future, DIRECTLY)]
    while left:
        each, through = left.pop()
        for callback in _callbacks(each):
            if _is_wakeup(callback):
                found.setdefault(id(callback.__self__), (callback.__self__, through))
                continue
            for behind, how in _behind(callback) or _behind_rust(callback, each, tasks):
                how = through if through is not DIRECTLY else how
                if not asyncio.isfuture(behind):
                    continue
                if not isinstance(behind, asyncio.Task):
                    if id(behind) not in seen:
                        seen.add(id(behind))
                        left.append((behind, how))
                elif _is_member(callback):
                    found.setdefault(id(behind), (behind, how))
                else:
                    callers.setdefault(id(behind), (behind, how))
    return list((found or callers).values())


def _callbacks(future: Any) -> list[Any]:
    return [callback for callback, _ in getattr(future, "_callbacks", None) or ()]


def _is_wakeup(callback: Any) -> bool:
    """Whether this done callback wakes a task: ours, asyncio's native one or its Python one."""
    name = getattr(callback, "__qualname__", "").rpartition(".")[2]
    return name in ("task_wakeup", "__wakeup") and isinstance(callback.__self__, asyncio.Task)


def _is_member(callback: Any) -> bool:
    """Whether the task behind it waits as long as this one lives: as that of a TaskGroup does."""
    return getattr(callback, "__qualname__", type(callback).__name__) in _MEMBERS


_MEMBERS = {
    "DoneCall",
    "TaskGroup._on_task_done",
    "TaskGroup._spawn.<locals>.task_done",
    "staggered_race.<locals>.task_done",
}


def _behind(callback: Any) -> list[Waiter]:
    """The futures and tasks that a done callback of asyncio's is going to tell."""
    if isinstance(callback, functools.partial):
        name = getattr(callback.func, "__qualname__", "")
        return [(each, "wait_for") for each in callback.args] if name == "_release_waiter" else []
    function = getattr(callback, "__func__", callback)
    if not isinstance(function, FunctionType):
        return []
    known = _BEHIND.get((function.__module__, function.__qualname__))
    if known is None:
        return []
    how, find = known
    try:
        return [(each, how) for each in find(callback)]
    except (AttributeError, KeyError, ValueError):
        # Another version of asyncio has it elsewhere, or the function is just being set up.
        return []


def _behind_rust(callback: Any, future: Any, tasks: Mapping[int, Any] | None) -> list[Waiter]:
    """The task that awaits a Rust future which waits for this future of Python's (`bridge/from_py.rs`)."""
    awaiter = getattr(callback, "_awaiter", None)
    if not isinstance(awaiter, int):
        return []
    if tasks is None:
        tasks = {id(task): task for task in asyncio.all_tasks(future.get_loop())}
    task = tasks.get(awaiter)
    return [(task, "Rust")] if asyncio.iscoroutine(waits_for(task)) else []


def _cell(function: Any, name: str) -> Any:
    """What a variable of the function around it is now."""
    cell = function.__closure__[function.__code__.co_freevars.index(name)]
    return cell.cell_contents


def _optional(function: Any, name: str) -> list[Any]:
    return [_cell(function, name)] if name in function.__code__.co_freevars else []


def _of_gather(callback: Any) -> list[Any]:
    outer = _cell(callback, "outer")
    # A child that outlives its gather is not waited for any more (gh-157213).
    return [] if outer is None or outer.done() else [outer, *(callback.__defaults__ or ())]


def _of_shield(callback: Any) -> list[Any]:
    return [_cell(callback, "outer")]


def _getters(queue: Any) -> list[Any]:
    return list(queue._getters)


def _of_as_completed(callback: Any) -> list[Any]:
    iterator = callback.__self__
    return [*_getters(iterator._done), getattr(iterator, "_cur_task", None)]


#: By module and qualified name of a done callback: what it is for, and whom it tells.
_BEHIND: dict[tuple[str, str], tuple[str, Callable[[Any], list[Any]]]] = {
    ("asyncio.tasks", "gather.<locals>._done_callback"): ("gather", _of_gather),
    ("asyncio.tasks", "_wait.<locals>._on_completion"): ("wait", lambda f: [_cell(f, "waiter")]),
    ("asyncio.tasks", "shield.<locals>._inner_done_callback"): ("shield", _of_shield),
    ("asyncio.tasks", "shield.<locals>._clear_awaited_by_callback"): (
        "shield",
        lambda f: _optional(f, "cur_task"),
    ),
    ("asyncio.tasks", "_AsCompletedIterator._handle_completion"): ("as_completed", _of_as_completed),
    ("asyncio.tasks", "as_completed.<locals>._on_completion"): (  # before 3.13
        "as_completed",
        lambda f: _getters(_cell(f, "done")),
    ),
    ("asyncio.taskgroups", "TaskGroup._on_task_done"): ("TaskGroup", lambda f: [f.__self__._parent_task]),
    ("asyncio.staggered", "staggered_race.<locals>.task_done"): (
        "staggered_race",
        lambda f: _optional(f, "parent_task"),
    ),
    ("anyio._backends._asyncio", "TaskGroup._spawn.<locals>.task_done"): (
        "TaskGroup",
        lambda f: [_cell(f, "self").cancel_scope._host_task],
    ),
}


def waits_for(task: Any) -> Any:
    """The future that a task waits for: asyncio's, ours or a Rust one. None: none that is known."""
    return getattr(task, "_fut_waiter", None)


def thread_of(loop: Any) -> int | None:
    """`threading.get_ident()` of the thread that runs a loop; None: it is not running, or does not tell."""
    ident: int | None = getattr(loop, "_thread_id", None)
    return ident


def origin(future: Any) -> tuple[str, int] | None:
    """Where a future was made, as (file, line): known in debug mode."""
    stack = getattr(future, "_source_traceback", None)
    return (stack[-1].filename, stack[-1].lineno) if stack else None


# --- what a coroutine awaits ---

#: What Python puts between a coroutine and what it awaits; only the collector tells what is inside.
_WRAPPERS = {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"}


def chain(coroutine: Any) -> Iterator[tuple[str, FrameType | None, Any]]:
    """(qualified name, frame, object) of a coroutine and of what it awaits in turn, the outermost first.

    Generators and async generators are among them, Rust futures, whose frame has their name and nothing else,
    and the frames of plain functions, whose object is None, which the coroutine that runs has called.
    """
    each, seen = coroutine, set[int]()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if type(each) is CoroutineType and not each.cr_running:
            # As a rule.
            yield each.__qualname__, each.cr_frame, each
            each = each.cr_await
            continue
        for prefix, awaited in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(each, awaited):
                frame = getattr(each, f"{prefix}_frame", None)
                yield getattr(each, "__qualname__", type(each).__qualname__), frame, each
                if getattr(each, f"{prefix}_running", False) and frame is not None:
                    called = list(_called_by(frame))
                    if called:
                        yield from called
                        return
                each = getattr(each, awaited)
                break
        else:
            each = _inside(each) if type(each).__name__ in _WRAPPERS else None


def _inside(wrapper: Any) -> Any:
    for each in gc.get_referents(wrapper):
        if any(hasattr(each, name) for name in ("cr_await", "ag_await", "gi_yieldfrom")):
            return each
        if type(each).__name__ in _WRAPPERS:
            return each
    return None


#: Whose frames are those of the look itself.
_LOOKERS = {"pyloop._awaits", "pyloop._loop", "pyloop._run", "pyloop.window"}


def _called_by(frame: FrameType) -> Iterator[tuple[str, FrameType, Any]]:
    """What the frame, which runs, has called, in whichever thread."""
    for innermost in sys._current_frames().values():
        called: list[FrameType] = []
        each: FrameType | None = innermost
        while each is not None and each is not frame:
            if called or each.f_globals.get("__name__") not in _LOOKERS:
                called.append(each)
            each = each.f_back
        if each is frame:
            for inner in reversed(called):
                yield inner.f_code.co_qualname, inner, None
            return
