"""What a test must leave behind: nothing.

A `Guard` is opened before a test makes anything and settled after everything that the test's fixtures own is
closed. It fails on descriptors and threads that came or went, on exceptions that could only be printed, on
contexts given to `call_exception_handler` and on error records of the logger `asyncio`, unless the test asked
for these by a fixture.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any

Context = dict[str, Any]


def descriptors() -> dict[int, str]:
    """Every open descriptor of this process and what it is."""
    found: dict[int, str] = {}
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        try:
            os.fstat(fd)
        except OSError:  # the one that listed the directory
            continue
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            found[fd] = "?"
    return found


# What the threads of a loop's own pool are called; they end soon after their loop is closed.
POOL = "pyloop-blocking"


def settled_descriptors(before: dict[int, str]) -> dict[int, str]:
    """As `descriptors`, but lets a thread that wakes a loop as it closes let go of what it wakes."""
    for _ in range(10_000):
        if descriptors().keys() <= before.keys():
            break
        os.sched_yield()
    return descriptors()


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


def settled_kernel_threads(most: int) -> int:
    """As `kernel_threads`, but lets threads that were told to end do so: the kernel tells nobody when."""
    for _ in range(100_000):
        if kernel_threads() <= most and POOL not in _names():
            break
        os.sched_yield()
    return kernel_threads()


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
        self._threads = set(threading.enumerate())
        self._kernel_threads = kernel_threads()
        self._descriptors = descriptors()
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
        threads = settled_kernel_threads(self._kernel_threads) - self._kernel_threads
        now = settled_descriptors(self._descriptors)
        for fd in now.keys() - self._descriptors.keys():
            found.append(f"descriptor {fd} was left open: {now[fd]}")
        for fd in self._descriptors.keys() - now.keys():
            found.append(f"descriptor {fd} was closed, which the test did not open: {self._descriptors[fd]}")
        for thread in set(threading.enumerate()) - self._threads:
            found.append(f"thread was left running: {thread}")
        if (origins := sys.get_coroutine_origin_tracking_depth()) != self._origins:
            sys.set_coroutine_origin_tracking_depth(self._origins)
            found.append(f"coroutines keep {origins} lines of where they were made, not {self._origins}")
        if threads > 0:
            found.append(f"{threads} threads unknown to Python were left running")
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
