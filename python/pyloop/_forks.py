"""A loop in a forked child of the process that made it.

The child has copies of the loop's descriptors, and with them a share of its parent's epoll: if it told the
kernel that it watches something no more, the parent would hear nothing of it again. So an *inherited* loop is
left to the parent. What waits in it is forgotten as soon as the child begins, tasks and callbacks included:
they are the parent's to run. To run the loop is refused. To end it is not, as `asyncio.Runner` does that on
the way out of a child that was forked by a coroutine: there is nothing to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from asyncio import base_events
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, Any

from pyloop import _compat, _wakeup

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
    from pyloop._loop import EventLoop
else:
    LoopPart = object

_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


def _in_child() -> None:
    """The first thing in a forked child."""
    _wakeup.forget_all()
    for loop in list(_loops):
        if not loop.is_closed():
            loop._leave_to_parent()
            # Those of other classes than ours: of a task factory, say.
            _compat.forget_tasks_of(loop)


os.register_at_fork(after_in_child=_in_child)


def note(loop: EventLoop) -> None:
    """A new loop, which a child may inherit."""
    _loops.add(loop)


def all_loops() -> list[EventLoop]:
    """The loops of this process that somebody has."""
    while True:
        try:
            return list(_loops)
        except RuntimeError:  # another thread has made one meanwhile
            continue


class Inheritable(LoopPart):
    """What an inherited loop does in a child."""

    def run_until_complete[T](self, future: Awaitable[T]) -> T:
        """Run until the awaitable is done, and give its result or raise its exception.

        Raises RuntimeError when the loop is closed, running or stopped before that, or made by the parent of
        this process.
        """
        if self._is_inherited():
            if not _is_clean_up(future):
                self._check_process()
            with contextlib.suppress(StopIteration):
                future.send(None)  # type: ignore[attr-defined]
            return None  # type: ignore[return-value]
        return base_events.BaseEventLoop.run_until_complete(self, future)

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that this loop has iterated."""
        if not self._is_inherited():
            await base_events.BaseEventLoop.shutdown_asyncgens(self)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads of the default executor to end, for `timeout` seconds at most."""
        if not self._is_inherited():
            await base_events.BaseEventLoop.shutdown_default_executor(self, timeout)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if not self._is_inherited():
            _compat.finalize_asyncgen(self, agen)

    # At the end of the interpreter a loop may outlive what this module has.
    def __del__(self, _base: Any = base_events.BaseEventLoop) -> None:
        if not self._is_inherited():
            _base.__del__(self)


def _is_clean_up(awaitable: object) -> bool:
    """Whether this is one of the coroutines that `asyncio.Runner` ends with; they do not wait here."""
    code = getattr(awaitable, "cr_code", None)
    return asyncio.iscoroutine(awaitable) and getattr(code, "co_name", "") in _CLEAN_UP


_CLEAN_UP = {"shutdown_asyncgens", "shutdown_default_executor"}
