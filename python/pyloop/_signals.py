"""Signals: Python's own handlers, and the wake-up descriptor that makes a sleeping loop run them.

While the loop runs in the main thread, `signal.set_wakeup_fd` points to a socket that the loop watches, so a
signal that arrives while it sleeps is handled at once, with or without a handler of the loop's.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
import warnings
from asyncio import events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyloop import _compat
from pyloop._wakeup import WakeUp

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
else:
    LoopPart = object


class SignalHandlers(LoopPart):
    """`add_signal_handler` and the wake-up descriptor of one loop (kept from `asyncio.unix_events`)."""

    _csock: Any
    _ssock: Any
    _signal_handlers: dict[int, events.Handle]
    _wakeup: WakeUp | None

    def _take_wakeup_fd(self) -> None:
        if self._wakeup is None:
            self._make_self_pipe()
            self._wakeup = WakeUp(self._csock.fileno(), self._handle_signals)
        self._wakeup.take()

    def _give_wakeup_fd_back(self) -> None:
        if self._wakeup is not None and self._wakeup.give_back():
            self._read_from_self()

    def _enter_signals(self) -> bool:
        """Before a run; True in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._take_wakeup_fd()
        return True

    def _leave_signals(self) -> None:
        """After a run in the main thread."""
        # A loop with handlers keeps the descriptor, as asyncio's does: signals between two runs are not lost.
        if not self._signal_handlers:
            self._give_wakeup_fd_back()

    def _process_self_data(self, data: bytes) -> None:
        numbers = data.replace(b"\0", b"")
        if self._wakeup is not None:
            self._wakeup.pass_on(numbers)
        self._handle_signals(numbers)

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            self._handle_signal(number)

    def add_signal_handler[*Ts](self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have `callback(*args)` called in the loop when the signal `sig` (a number) arrives.

        Raises TypeError for a coroutine, a coroutine function or a signal that is no int, ValueError for a
        number that is no signal, RuntimeError outside the main thread, for a signal that cannot be caught and
        on a closed loop.
        """
        if _compat.is_coroutine_like(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            # ValueError outside the main thread, before anything is changed.
            self._take_wakeup_fd()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from None
        self._signal_handlers[sig] = events.Handle(callback, args, self, None)
        try:
            # A handler that does nothing: Python then writes the number into the wake-up descriptor.
            signal.signal(sig, _compat.sighandler_noop)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self._signal_handlers[sig]
            if not self._signal_handlers and not self.is_running():
                self._give_wakeup_fd_back()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise

    def _handle_signal(self, sig: int) -> None:
        handle = self._signal_handlers.get(sig)
        if handle is None:
            return
        if handle.cancelled():
            self.remove_signal_handler(sig)
        else:
            self._add_callback(handle)

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of the signal `sig` (a number); False when there was none.

        Raises TypeError for a signal that is no int, ValueError for a number that is no signal or outside the
        main thread, RuntimeError when the signal cannot be reset.
        """
        self._check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        handler = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, handler)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        if not self._signal_handlers and not self.is_running():
            self._give_wakeup_fd_back()
        return True

    def _close_signals(self) -> None:
        """The loop closes."""
        if not sys.is_finalizing():
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        elif self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=3,
            )
            self._signal_handlers.clear()
        if self._csock is not None:
            self._close_self_pipe()
