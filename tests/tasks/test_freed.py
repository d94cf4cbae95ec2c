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


CHAIN = """
import functools, gc, sys, threading, warnings
import pyloop
from pyloop._native import _testing as rust

warnings.simplefilter("ignore")  # Rust futures that nobody awaits
loop = new_event_loop()

class Derived(pyloop.Future):
    pass

async def give(value):
    return value

def finished(future, end, value):
    getattr(future, end)(value)
    return future

def waiting(future, value):
    future.add_done_callback(functools.partial(id, value))
    return future

def attributed(future, value):
    future.value = value
    return future

def begun(value):
    task = loop.create_task(give(value))
    loop.run_until_complete(asyncio.sleep(0))
    return task

LINKS = {
    "result": lambda last: finished(loop.create_future(), "set_result", last),
    "result in a list": lambda last: finished(loop.create_future(), "set_result", [last]),
    "message": lambda last: finished(loop.create_future(), "cancel", last),
    "callback": lambda last: waiting(loop.create_future(), last),
    "attribute": lambda last: attributed(loop.create_future(), last),
    "derived": lambda last: finished(Derived(loop=loop), "set_result", last),
    "iterator": lambda last: attributed(loop.create_future(), last).__await__(),
    "handle": lambda last: loop.call_later(3600, id, last),
    "task": begun,
    "Rust future": rust.ready,
}

def build(kind, length):
    link, last = LINKS[kind], None
    for _ in range(length):
        last = link(last)
    return [last]

def free(kind, length):
    chain = build(kind, length)
    if kind == "handle":
        loop.close()  # and with that goes its heap
    gc.collect()
    chain.clear()
"""

LENGTHS = {"task": 3_000, "handle": 20_000}
LINKS = [
    "result",
    "result in a list",
    "message",
    "callback",
    "attribute",
    "derived",
    "iterator",
    "handle",
    "task",
    "Rust future",
]


@pytest.mark.parametrize("kind", LINKS)
def test_a_long_chain_is_freed_on_a_small_stack(pyloop_factory: LoopFactory, kind: str) -> None:
    script = f"""{CHAIN}
threading.stack_size(512 * 1024)
thread = threading.Thread(target=free, args=({kind!r}, {LENGTHS.get(kind, 100_000)}))
thread.start()
thread.join()
loop.close()
print("freed")
"""
    assert output("pyloop", script) == "freed\n"


@pytest.mark.parametrize("kind", LINKS)
def test_a_long_chain_may_be_left_to_the_end_of_the_interpreter(
    pyloop_factory: LoopFactory, kind: str
) -> None:
    script = f"""{CHAIN}
chain = build({kind!r}, {LENGTHS.get(kind, 100_000)})
loop.close()
print("left")
"""
    assert output("pyloop", script) == "left\n"


def test_what_is_put_off_is_freed_when_the_last_reference_has_gone(pyloop_factory: LoopFactory) -> None:
    script = f"""{CHAIN}
import weakref
chain = build("result", 10_000)
watched, last = [], chain[0]
while last is not None:
    watched.append(weakref.ref(last))
    last = last.result()
del last
chain.clear()
print(len(watched), sum(reference() is not None for reference in watched))
loop.close()
"""
    assert output("pyloop", script) == "10000 0\n"


@pytest.mark.parametrize("held", ["result", "weak reference", "derived", "attribute", "slot"])
def test_a_late_wake_does_not_find_a_task_that_is_being_freed(pyloop_factory: LoopFactory, held: str) -> None:
    assert output("pyloop", f"held = {held!r}\n{LATE_WAKE}") == "whole\n"
