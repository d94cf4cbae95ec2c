"""Watching one thread from another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from support.loops import Loop


def until_asleep(native_id: int) -> None:
    """Returns when that thread sleeps in the kernel and goes on sleeping.

    Each look lets go of the GIL, so that a thread which only waits for the GIL is not taken for asleep.
    """
    calm = 0
    while calm < 30:
        with open(f"/proc/self/task/{native_id}/stat") as stat:
            calm = calm + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0


def run_parked(loop: Loop, act: Callable[[], object]) -> float:
    """Runs the loop and has `act` done by another thread once the loop has nothing to do.

    Gives the seconds between `act` and the end of the run.
    """
    ready, native_id, acted = threading.Event(), threading.get_native_id(), [0.0]

    def other() -> None:
        ready.wait()
        until_asleep(native_id)
        acted[0] = time.monotonic()
        act()

    thread = threading.Thread(target=other)
    thread.start()
    loop.call_soon(ready.set)
    try:
        loop.run_forever()
        return time.monotonic() - acted[0]
    finally:
        thread.join()


def in_thread(act: Callable[[], object]) -> object:
    """What `act` returns, or raises, in another thread."""
    outcome: list[tuple[bool, object]] = []

    def body() -> None:
        try:
            outcome.append((True, act()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    good, result = outcome[0]
    if isinstance(result, BaseException) and not good:
        raise result
    return result
