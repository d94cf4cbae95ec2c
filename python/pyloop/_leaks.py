"""What a test must leave behind: nothing. For `pyloop.testing`, its pytest plugin, and pyloop's own tests.

A `Guard` is opened before a test makes anything and settled after all that the test's fixtures own is closed.
It complains of descriptors and threads that came or went, of exceptions that could only be printed, of
contexts given to `call_exception_handler` and of error records of the logger `asyncio`, unless told to expect
these. It needs nothing else of the package: pyloop's tests take it where pyloop itself is not built.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import selectors
import sys
import threading
import time
from types import TracebackType
from typing import Any

Context = dict[str, Any]


def descriptors() -> dict[int, str]:
    """Every open descriptor of this process and what it is."""
    found: dict[int, str] = {}
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # there is no such folder, or it is the descriptor that listed the other one
            with contextlib.suppress(OSError):
                os.fstat(fd)
                found[fd] = "?"
    return found


# What the threads of a loop's own pool are called; they end soon after their loop is closed.
POOL = "pyloop-blocking"

# For how many seconds what is about to end is waited for, where nobody says less.
PATIENCE = 2.0


def settled_descriptors(before: dict[int, str], patience: float = PATIENCE) -> dict[int, str]:
    """As `descriptors`, but lets a thread that wakes a loop as it closes let go of what it wakes."""
    end = time.monotonic() + patience
    while not (now := descriptors()).keys() <= before.keys() and time.monotonic() < end:
        os.sched_yield()
    return now


def kernel_threads() -> int:
    """How many threads the process has, as the kernel counts them.

    Without the background runtime's, which serves all loops but pyloop's and keeps its threads for a while.
    """
    return len(_names())


def _names() -> list[str]:
    if not os.path.isdir("/proc/self/task"):
        return [thread.name for thread in threading.enumerate()]
    found = list[str]()
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                name = file.read().rstrip("\n")
        except OSError:  # it has just ended
            continue
        if not name.startswith("pyloop-backgrou"):
            found.append(name)
    return found


def settled_kernel_threads(most: int, patience: float = PATIENCE) -> int:
    """As `kernel_threads`, but lets threads that were told to end do so: the kernel tells nobody when."""
    end = time.monotonic() + patience
    while (len(names := _names()) > most or POOL in names) and time.monotonic() < end:
        os.sched_yield()
    return len(names)


def leftovers(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What a loop that is about to be closed still has to do: a line for each task, handle and descriptor.

    Pending tasks, callbacks and timers that are neither run nor cancelled, watched descriptors. Of asyncio's
    own loop and of pyloop's; of another, its tasks. An empty list: nothing is left.
    """
    tasks = enumerate(asyncio.all_tasks(loop))
    # There may be thousands, and only the first few are shown.
    found = [f"pending task: {task!r}" if i < 10 else "pending task" for i, task in tasks]
    wakeup = getattr(loop, "_ssock", None)
    own = -1 if wakeup is None else wakeup.fileno()
    inside: Any = loop  # what follows is asyncio's own, or pyloop's
    if isinstance(loop, asyncio.SelectorEventLoop):
        found += [f"pending handle: {handle!r}" for handle in inside._ready if not handle.cancelled()]
        found += [f"pending timer: {handle!r}" for handle in inside._scheduled if not handle.cancelled()]
        keys = inside._selector.get_map().values()
        found += [f"watched: {key}" for key in keys if key.fd != own and not _is_bell(key)]
    elif hasattr(loop, "_watched"):
        ready, timers = inside._waiting()
        found += [f"pending handle: {handle!r}" for handle in ready]
        found += [f"pending timer: {handle!r}" for handle in timers]
        found += [f"watched: {fd}" for fd, _ in inside._watched() if fd != own]
    return found


def _is_bell(key: selectors.SelectorKey) -> bool:
    """Whether Rust futures wake the loop by this descriptor: it is the loop's, and closed with it."""
    reader, _ = key.data
    return reader is not None and type(reader._callback).__module__ == "pyloop._native"


class Resources:
    """The descriptors and threads of the process at one moment, to compare with those of a later one."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._threads = set(threading.enumerate())
        self._kernel_threads = kernel_threads()
        self._descriptors = descriptors()

    def admit(self, made: Resources, since: Resources) -> None:
        """Take those for known that `made` has and `since` had not."""
        self._threads |= made._threads - since._threads
        self._kernel_threads += made._kernel_threads - since._kernel_threads
        added = made._descriptors.keys() - since._descriptors.keys()
        self._descriptors |= {fd: made._descriptors[fd] for fd in added}

    def new_descriptors(self) -> list[str]:
        """Those that are open now and were not then, a line for each."""
        return self._new(settled_descriptors(self._descriptors, self._patience))

    def changed_descriptors(self) -> list[str]:
        """Those that are open now and were not then, and those that were and are not, a line for each."""
        now, before = settled_descriptors(self._descriptors, self._patience), self._descriptors
        return self._new(now) + [
            f"descriptor {fd} was closed, which the test did not open: {before[fd]}"
            for fd in sorted(before.keys() - now.keys())
        ]

    def _new(self, now: dict[int, str]) -> list[str]:
        new = sorted(now.keys() - self._descriptors.keys())
        return [f"descriptor {fd} was left open: {now[fd]}" for fd in new]

    def new_threads(self) -> list[str]:
        """Those that run now and did not then, a line for each; those that Python does not know, in one."""
        more = settled_kernel_threads(self._kernel_threads, self._patience) - self._kernel_threads
        found = [
            f"thread was left running: {thread}" for thread in set(threading.enumerate()) - self._threads
        ]
        if more > 0:
            found.append(f"{more} threads unknown to Python were left running")
        return found


class _Records(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Guard:
    """Collects what goes wrong beside a test; `expect` names what the test looks at by itself."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.records: list[logging.LogRecord] = []
        self.unraisable: list[str] = []
        self.expect: set[str] = set()
        self._handler = _Records(self.records)

    def on_context(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """The exception handler of every loop that a test gets from a fixture."""
        self.contexts.append(context)

    def __enter__(self) -> Guard:
        gc.collect()
        # What is there now stays out of the collections below: their cost would grow with every test.
        gc.freeze()
        self._hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook = self._on_unraisable
        threading.excepthook = self._on_thread_error
        logging.getLogger("asyncio").addHandler(self._handler)
        self._resources = Resources()
        self._origins = sys.get_coroutine_origin_tracking_depth()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        gc.collect()
        logging.getLogger("asyncio").removeHandler(self._handler)
        sys.unraisablehook, threading.excepthook = self._hooks

    def complaints(self) -> list[str]:
        """What the test left behind or did not look at, in words."""
        found: list[str] = []
        if "contexts" not in self.expect:
            found += [f"unexpected context: {context}" for context in self.contexts]
        if "records" not in self.expect:
            found += [f"unexpected log record: {record.getMessage()}" for record in self.records]
        self.contexts.clear()  # they may hold the last reference to what complains when it dies
        self.records.clear()
        gc.collect()
        threads = self._resources.new_threads()
        found += self._resources.changed_descriptors() + threads
        if (origins := sys.get_coroutine_origin_tracking_depth()) != self._origins:
            sys.set_coroutine_origin_tracking_depth(self._origins)
            found.append(f"coroutines keep {origins} lines of where they were made, not {self._origins}")
        if "unraisable" not in self.expect:
            found += [f"unraisable: {text}" for text in self.unraisable]
        return found

    def _on_unraisable(self, raised: sys.UnraisableHookArgs) -> None:
        # As text: keeping the objects would keep alive what the test wants to see dead.
        self.unraisable.append(f"{raised.exc_type.__name__}: {raised.exc_value} in {_name(raised.object)}")

    def _on_thread_error(self, raised: threading.ExceptHookArgs) -> None:
        self.unraisable.append(f"{raised.exc_type.__name__}: {raised.exc_value} in {raised.thread}")


def _name(thing: object) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__name__
