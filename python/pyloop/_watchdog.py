"""`watchdog`: a thread that says which callback keeps a loop, while it does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pyloop._loop import EventLoop

_logger = logging.getLogger("asyncio")

# How often the thread looks within a threshold: a report is late by one look at most.
_LOOKS = 4


@dataclass(frozen=True)
class SlowCallback:
    """A callback, or a step of a task, that has kept the loop for too long, and still does."""

    loop: EventLoop
    # Since the watchdog has first seen it: it may have run for up to a quarter of the threshold before.
    seconds: float
    # The task whose step it is; None for a callback.
    task: asyncio.Task[Any] | None
    # Where the loop's thread is now, the innermost call last.
    stack: traceback.StackSummary = field(repr=False)

    def __str__(self) -> str:
        what = f"a step of {self.task!r}" if self.task is not None else "a callback"
        where = "".join(self.stack.format()).rstrip("\n")
        return f"The event loop has been in {what} for {self.seconds:.3f} seconds, and is here:\n{where}"


class watchdog:
    """Have a thread look whether one callback or step keeps the loop for longer than `threshold` seconds.

        async def main():
            with pyloop.watchdog(threshold=0.1):
                ...

    Each that does is reported once, while it runs, with the stack of the loop's thread: as a warning of the
    logger `asyncio`, or by calling `report` with a `SlowCallback`, in the watchdog's thread. What `report`
    raises is logged, and the thread goes on. `loop` is the running one, if it is not given; it is not kept
    alive.

    The loop does nothing for it. The thread takes the GIL four times within a threshold; code that never
    gives the GIL up (one long call of C) is not seen before it does.

    Raises RuntimeError without a running loop where none is given, TypeError for a loop that is not pyloop's,
    ValueError for a threshold that is not above 0.
    """

    def __init__(
        self,
        loop: EventLoop | None = None,
        *,
        threshold: float = 0.1,
        report: Callable[[SlowCallback], object] | None = None,
    ) -> None:
        watched = asyncio.get_running_loop() if loop is None else loop
        if not isinstance(watched, EventLoop):
            raise TypeError(f"a pyloop.EventLoop is required, got {watched!r}")
        if not threshold > 0:
            raise ValueError(f"threshold must be above 0, not {threshold!r}")
        self._loop = weakref.ref(watched)
        self._threshold = threshold
        self._report = report if report is not None else _log
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("the watchdog is at work already")
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="pyloop-watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        thread, self._thread = self._thread, None
        # A forked child has no such thread; a report may end the block itself.
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _watch(self) -> None:
        seen: int | None = None
        since = 0.0
        reported = False
        while not self._over.wait(self._threshold / _LOOKS):
            loop = self._loop()
            if loop is None:
                return
            now = time.monotonic()
            running = loop._entry_that_runs()
            if running is None or running != seen:
                seen, since, reported = running, now, False
            elif not reported and now - since >= self._threshold:
                reported = self._tell(loop, running, now - since)
            del loop

    def _tell(self, loop: EventLoop, running: int, seconds: float) -> bool:
        """Report it. False: it has just ended."""
        thread = loop._thread_id
        frame = sys._current_frames().get(thread) if thread is not None else None
        if frame is None or loop._entry_that_runs() != running:
            return False
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
        stack.reverse()
        task = asyncio.current_task(loop)
        del frame
        try:
            self._report(SlowCallback(loop, seconds, task, stack))
        except Exception:
            _logger.exception("pyloop.watchdog: %r has raised", self._report)
        return True


def _log(slow: SlowCallback) -> None:
    _logger.warning("%s", slow)
