"""The process's wake-up descriptor for signals (`signal.set_wakeup_fd`), which there is one of.

CPython writes the number of each signal that arrives into it. A loop needs it while it runs, so that a signal
ends its sleep; the program may have set one of its own, and so may another loop. Who takes the descriptor
passes on what it receives to whoever had it before, and gives it back at the end. Main thread only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import weakref
from collections.abc import Callable

#: Those that have been taken and not been given back, by descriptor.
_taken: dict[int, WakeUp] = {}


def _set(fd: int) -> int:
    """`signal.set_wakeup_fd`, with none in the place of a descriptor that is no good (any more)."""
    try:
        return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (OSError, ValueError):
        return signal.set_wakeup_fd(-1)


class _Foreign:
    """A descriptor that somebody else has set."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._fd)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def fd(self) -> int:
        """Its number; -1 once it is closed, as the number may be another file's then."""
        return self._fd if self._file is not None and self._file == self._look() else -1


class WakeUp:
    """A socket that takes the place of the wake-up descriptor. It belongs to its user, who reads from it."""

    def __init__(self, fd: int, deliver: Callable[[bytes], None]) -> None:
        """`deliver`: a method that is given the numbers of signals that somebody else has read."""
        self.fd = fd
        # A loop that nobody closes is collected all the same.
        self._deliver = weakref.WeakMethod(deliver)
        #: Whose place it has taken.
        self._below: WakeUp | _Foreign | None = None

    def take(self) -> None:
        """Receive the numbers of signals from now on.

        Raises ValueError outside the main thread.
        """
        before = signal.set_wakeup_fd(self.fd, warn_on_full_buffer=False)
        if before == self.fd:
            return
        self._leave()
        self._below = None if before == -1 else _taken.get(before) or _Foreign(before)
        _taken[self.fd] = self

    def give_back(self) -> bool:
        """Put back what was there before. If somebody has set another one meanwhile, that one stays.

        True: there are others, who are to be told of what has been received and not been read.
        """
        now = _set(-1 if self._below is None else self._below.fd)
        if now != self.fd:
            _set(now)
        self._leave()
        return self._below is not None

    def _leave(self) -> None:
        _taken.pop(self.fd, None)
        for other in _taken.values():
            if other._below is self:
                other._below = self._below

    def pass_on(self, numbers: bytes) -> None:
        """These signals have been read from the socket: tell all those who had the descriptor before."""
        below = self._below if numbers else None
        while isinstance(below, WakeUp):
            deliver = below._deliver()
            if deliver is not None:
                deliver(numbers)
            below = below._below
        if below is not None and below.fd != -1:
            # It may be full: CPython would lose them, too.
            with contextlib.suppress(OSError):
                os.write(below.fd, numbers)


def forget_all() -> None:
    """A forked child, in which asyncio has reset the descriptor."""
    _taken.clear()
