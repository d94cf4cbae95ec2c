"""`EventLoop`: the native loop with asyncio's own `BaseEventLoop` around it.

What runs per callback is native (`pyloop._native.Loop`); what runs per connection, per server or per loop is
CPython's code, kept by CPython.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import weakref
from asyncio import base_events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyloop import _accel, _compat, _forks, _native
from pyloop._datagrams import Datagrams
from pyloop._forks import Inheritable
from pyloop._pipes import Pipes
from pyloop._signals import SignalHandlers
from pyloop._sockets import SocketCalls
from pyloop._subprocess import Subprocesses
from pyloop._tls import TlsConnections
from pyloop._transports import Transports

if TYPE_CHECKING:
    from socket import _GetAddrInfoResult
    from typing import Protocol, type_check_only

    from pyloop.window import TaskInfo

    @type_check_only
    class Observer(Protocol):
        """Who is told of each loop of this process (`pyloop.testing_plugin`)."""

        def made(self, loop: EventLoop, /) -> None:
            """It has just been made."""

        def runs(self, loop: EventLoop, /) -> None:
            """A run is about to begin."""

        def closes(self, loop: EventLoop, /) -> None:
            """It is about to be closed."""


#: Whether who starts the process wants to look into it (`pyloop.open_window`).
_WINDOW = os.environ.get("PYLOOP_WINDOW", "") not in ("", "0")


#: None, in all but test suites.
observer: Observer | None = None


class _Slots(_native.Loop):
    """Slots for what `BaseEventLoop` and its kin keep in a loop.

    A loop without a dictionary has its methods found a good deal faster: nobody can have put another in their
    place. One that is given an attribute of another name gets its dictionary, and works as well.
    """

    slow_callback_duration: float
    if _accel.loop_slots is not None:
        __slots__ = (
            *_accel.loop_slots,
            "_csock",
            "_other_transports",
            "_pidfds",
            "_signal_handlers",
            "_ssock",
            "_unix_server_sockets",
            "_wakeup",
        )


class EventLoop(
    Datagrams,
    Inheritable,
    SignalHandlers,
    Subprocesses,
    SocketCalls,
    TlsConnections,
    Transports,
    Pipes,
    _Slots,
    _compat.AsyncioTransports,
    asyncio.BaseEventLoop,
):
    """An asyncio event loop that is a tokio runtime.

    Everything of `asyncio.AbstractEventLoop` for Unix; `create_task` also takes `priority`, and a Rust future
    (`pyloop.RustFuture`) is awaited in place. Not thread-safe but for `call_soon_threadsafe` and `stop`.

    Raises OSError when there is no descriptor left for its poller.
    """

    def __init__(self) -> None:
        super().__init__()
        self._other_transports = weakref.WeakValueDictionary()
        self._signal_handlers = {}
        self._csock = self._ssock = self._wakeup = None
        self._unix_server_sockets = {}
        self._pidfds = set()
        _accel.show_tasks_of(self)
        _forks.note(self)
        if _WINDOW:
            from pyloop._window_server import open_as_asked

            open_as_asked()
        if observer is not None:
            observer.made(self)

    def run_forever(self) -> None:
        """Run until `stop()` is called.

        Raises RuntimeError when this loop is closed or running, or another one runs in this thread.
        """
        self._check_closed()
        self._check_running()
        if observer is not None:
            observer.runs(self)
        with _Running(self):
            self._drive()

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        self._check_process()
        if _compat.get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def set_debug(self, enabled: bool) -> None:
        """Switch the debug mode on (True) or off."""
        self._debug = enabled
        if self.is_running():
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, enabled)

    def close(self) -> None:
        """Close the loop: queues are cleared, pending Rust tasks dropped, the executor is shut down unwaited.

        Raises RuntimeError when the loop is running. Closing twice is no error.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if observer is not None:
            observer.closes(self)
        if self._is_inherited():
            # Its threads are the parent's.
            self._default_executor = None
        self._close_signals()
        self._close_pidfds()
        base_events.BaseEventLoop.close(self)
        self._close()

    def tasks(self, *, limit: int | None = None) -> tuple[TaskInfo, ...]:
        """The tasks that are not done, `limit` of them at most: where each waits, for what, and for how long.

        `pyloop.dump(loop)` shows them as a tree. Raises ValueError for a `limit` below 0.
        """
        from pyloop.window import tasks_of

        return tasks_of(self, limit=limit)

    def run_in_executor[*Ts](
        self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts
    ) -> asyncio.Future[Any]:
        """Have `func(*args)` called in `executor`, or in the loop's own pool; a future of its result.

        Raises RuntimeError when the loop is closed, in debug mode TypeError for what is no function.
        """
        future = super().run_in_executor(executor, func, *args)
        if _native._hold_time(self):
            # A job takes real time: the loop's clock must not jump meanwhile (`pyloop.testing`).
            future.add_done_callback(lambda _: _native._release_time(self))
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut the loop's own pool of threads down and wait for them; None: for as long as it takes.

        Warns (RuntimeWarning) of threads that still run after `timeout` seconds.
        """
        holds = _native._hold_time(self)
        try:
            await super().shutdown_default_executor(timeout)
        finally:
            if holds:
                _native._release_time(self)

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _GetAddrInfoResult:
        """`socket.getaddrinfo` in the executor; at once when nothing needs to be looked up.

        Gives a list of `(family, type, proto, canonname, address)`. Raises `socket.gaierror`, an OSError, for
        a name that is not found.
        """
        found = _native.getaddrinfo(self, host, port, family, type, proto, flags)
        if found is not None:
            return found
        return await base_events.BaseEventLoop.getaddrinfo(
            self, host, port, family=family, type=type, proto=proto, flags=flags
        )

    @property
    def _selector(self) -> _Watched | None:
        """What asyncio's transports ask of a selector when they print themselves."""
        return None if self.is_closed() else _Watched(self)

    def _waiting(self) -> tuple[list[Any], list[Any]]:
        """What is ready and not cancelled, and the timers: for `pyloop.testing.leftovers`."""
        return _native._waiting(self)

    def _process_events(self, event_list: Any) -> None:
        """A hook of `BaseEventLoop._run_once`, which this loop does not have."""

    @property
    def _nest_patched(self) -> bool:
        """Refuse `nest_asyncio.apply()`, which asks for this first.

        It would put Python code around `_run_once`, and the loop would fail at its next run.
        """
        raise ValueError(
            f"Can't patch loop of type {type(self)}: nest_asyncio needs asyncio's own _run_once. "
            "Where a loop is running, pyloop.run_in_thread(coroutine) runs another one in a helper thread"
        )

    def __dir__(self) -> list[str]:
        # Who looks at all that a loop has (`inspect.getmembers`, `unittest.mock`) is not refused.
        return [name for name in super().__dir__() if name != "_nest_patched"]


_native.install_fast_methods(EventLoop)


class _Watched:
    """The view of a selector: which of its descriptors are watched, and for what."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As `selectors.BaseSelector.get_key`: KeyError for what is not watched."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        try:
            return self.get_map()[fd]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    @property
    def select(self) -> Any:
        """Not there: `looptime` would put its own in this place."""
        raise AttributeError(
            "pyloop has no selector to ask; pyloop.testing.virtual_time() is a clock that jumps"
        )

    def get_map(self) -> dict[int, selectors.SelectorKey]:
        """As `selectors.BaseSelector.get_map`, by descriptor."""
        return {fd: selectors.SelectorKey(fd, fd, mask, None) for fd, mask in self._loop._watched()}


class _Running:
    """What asyncio sets around a run, and puts back whatever happens."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop = self._loop
        self._has_signals = loop._enter_signals()
        self._hooks = sys.get_asyncgen_hooks()
        loop._set_coroutine_origin_tracking(loop._debug)
        sys.set_asyncgen_hooks(
            firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook
        )
        _compat.set_running_loop(loop)

    def __exit__(self, *_exc: object) -> None:
        loop = self._loop
        if self._has_signals:
            loop._leave_signals()
        _compat.set_running_loop(None)
        loop._set_coroutine_origin_tracking(False)
        sys.set_asyncgen_hooks(*self._hooks)


def new_event_loop() -> EventLoop:
    """A new pyloop event loop: `asyncio.run(main(), loop_factory=pyloop.new_event_loop)`.

    It is not running and is no thread's current loop; who makes it closes it (`asyncio.run` does both).
    Raises OSError when there is no descriptor left for its poller.
    """
    return EventLoop()
