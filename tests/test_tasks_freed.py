"""How tasks and futures go away: on whatever thread, while somebody still has their waker, many at once.

Each in an interpreter of its own, as what goes wrong here takes the process with it.
"""

from __future__ import annotations

import pytest

from support.loops import LoopFactory
from support.process import output

LATE_WAKE = """
import threading, weakref
import pyloop
from pyloop._native import _testing as rust

class Slow:
    # Its end gives the GIL up, until the loop has seen the wake.
    def __del__(self):
        wake_late()

def wake_late(*_):
    seen = threading.Event()
    assert rust.wake_kept() == 1
    loop.call_soon_threadsafe(seen.set)
    assert seen.wait(10)
    ended.set()

class Derived(pyloop.Task):
    pass

class Slotted(pyloop.Task):
    __slots__ = ("slow",)

async def waits():
    try:
        await rust.kept()
    except asyncio.CancelledError:
        return Slow() if held == "result" else None

def make(coro):
    if held in ("result", "weak reference"):
        return loop.create_task(coro)
    task = (Slotted if held == "slot" else Derived)(coro, loop=loop)
    if held != "derived":
        task.slow = Slow()
    return task

async def main():
    global loop, ended
    loop, ended = asyncio.get_running_loop(), threading.Event()
    holder = [make(waits())]
    await asyncio.sleep(0)
    holder[0].cancel()
    await asyncio.wait(holder)
    watched = weakref.ref(holder[0], wake_late) if held in ("weak reference", "derived") else None
    thread = threading.Thread(target=holder.clear)
    thread.start()
    while not ended.is_set():
        await pyloop.sleep(0.001)
    thread.join()
    assert watched is None or watched() is None
    # Freed once: no two of the next are one.
    tasks = [loop.create_task(asyncio.sleep(0, number)) for number in range(1000)]
    assert len({id(task) for task in tasks}) == 1000
    assert await asyncio.gather(*tasks) == list(range(1000))

asyncio.run(main(), loop_factory=new_event_loop)
print("whole")
"""


@pytest.mark.parametrize("held", ["result", "weak reference", "derived", "attribute", "slot"])
def test_a_late_wake_does_not_find_a_task_that_is_being_freed(pyloop_factory: LoopFactory, held: str) -> None:
    assert output("pyloop", f"held = {held!r}\n{LATE_WAKE}") == "whole\n"
