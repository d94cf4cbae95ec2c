"""pyloop: an asyncio-compatible event loop that is a tokio runtime.

    asyncio.run(main(), loop_factory=pyloop.new_event_loop)
    pyloop.run(main())  # the same

A Python coroutine is driven as a Rust future; a Rust future is a Python awaitable, polled in place on the
same thread. A program that uses asyncio as documented runs unchanged.

| | |
|---|---|
| `new_event_loop`, `run` | a loop, and a program on one |
| `install`, `EventLoopPolicy` | the loops of a program that makes them without one; before Python 3.16 |
| `run_in_thread` | a coroutine from synchronous code, also while a loop runs |
| `HIGH`, `NORMAL`, `LOW` | `loop.create_task(coroutine, priority=pyloop.HIGH)` |
| `sleep` | `asyncio.sleep` as a Rust future |
| `EventLoop`, `Task`, `Future`, `RustFuture` | the classes, for `isinstance` and annotations |
| `dump`, `open_window` | what the loops do now: a tree, and for `python -m pyloop ps PID` |
| `trace`, `watchdog` | a timeline of what a loop does; who keeps it for too long |
| `accelerations` | what leans on CPython's insides, and whether it is on |
| `get_include` | where `pyloop.h` is, for extension modules in C and C++ |
| `pyloop.sync`, `pyloop.fs` | tokio's channels and locks; files and directories |
| `pyloop.window` | the tasks of running loops, as values |
| `pyloop.testing` | a clock that jumps, another order of tasks, leaks |
| `pyloop.metrics` | statistics for OpenTelemetry and Prometheus |

From a shell: `python -m pyloop program.py`, `uvicorn --loop pyloop:new_event_loop app:app`,
`pytest -p pyloop.pytest_plugin`. Times are seconds, as floats, everywhere.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from pyloop import _native as _native
from pyloop._accel import accelerations
from pyloop._loop import EventLoop, new_event_loop
from pyloop._native import Future, RustFuture, Task, __version__, sleep
from pyloop._run import HIGH, LOW, NORMAL, Priority, run

if TYPE_CHECKING:
    from pyloop._include import get_include
    from pyloop._policy import EventLoopPolicy, install
    from pyloop._run_in_thread import run_in_thread
    from pyloop._trace import trace
    from pyloop._watchdog import SlowCallback, watchdog
    from pyloop.window import dump, open_window

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "EventLoop",
    "Future",
    "Priority",
    "RustFuture",
    "SlowCallback",
    "Task",
    "__version__",
    "accelerations",
    "dump",
    "get_include",
    "install",
    "new_event_loop",
    "open_window",
    "run",
    "run_in_thread",
    "sleep",
    "trace",
    "watchdog",
]


# What few programs use is imported when it is asked for.
_LATE = {
    "SlowCallback": "pyloop._watchdog",
    "dump": "pyloop.window",
    "get_include": "pyloop._include",
    "install": "pyloop._policy",
    "open_window": "pyloop.window",
    "run_in_thread": "pyloop._run_in_thread",
    "trace": "pyloop._trace",
    "watchdog": "pyloop._watchdog",
}

if sys.version_info < (3, 16):  # which has no policies
    __all__ += ["EventLoopPolicy"]
    _LATE["EventLoopPolicy"] = "pyloop._policy"


if not TYPE_CHECKING:  # for a type checker, a module that has it has every name

    def __getattr__(name: str) -> Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_LATE[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
