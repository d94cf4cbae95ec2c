"""pyloop: an asyncio-compatible event loop that is a tokio runtime.

    asyncio.run(main(), loop_factory=pyloop.new_event_loop)

A Python coroutine is driven as a Rust future; a Rust future is a Python awaitable, polled in place on the
same thread.
"""

from __future__ import annotations

from pyloop import _native as _native
from pyloop._include import get_include
from pyloop._loop import EventLoop, new_event_loop
from pyloop._native import Future, RustFuture, Task, __version__, accelerations, sleep
from pyloop._policy import install
from pyloop._run import HIGH, LOW, NORMAL, Priority, run
from pyloop._run_in_thread import run_in_thread

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "EventLoop",
    "Future",
    "Priority",
    "RustFuture",
    "Task",
    "__version__",
    "accelerations",
    "get_include",
    "install",
    "new_event_loop",
    "run",
    "run_in_thread",
    "sleep",
]

try:
    from pyloop._policy import EventLoopPolicy

    __all__ += ["EventLoopPolicy"]
except ImportError:
    # Python 3.16 has no policies.
    pass
