"""Synchronous code that awaits, as greenback and SQLAlchemy do it, each in an interpreter of its own.

A greenlet is left in the middle of a task's step, its stack is moved away, and other steps run where it was.
"""

from __future__ import annotations

import sys

import pytest

from support.loops import LoopFactory
from support.process import output

SPAWN = """
import random
import sys
import greenlet
import pyloop
from pyloop._native import _testing as rust

def is_inside():
    return greenlet.getcurrent().parent is not None

def await_(awaitable):
    "Awaits from synchronous code: whoever runs the greenlet does it."
    return greenlet.getcurrent().parent.switch(awaitable)

async def spawn(function, *args):
    "Runs a function that calls `await_`, as SQLAlchemy's `greenlet_spawn`."
    inside = greenlet.greenlet(function)
    result = inside.switch(*args)
    while not inside.dead:
        try:
            value = await result
        except BaseException as error:
            result = inside.throw(error)
        else:
            result = inside.switch(value)
    return result

def eagerly(coro):
    return pyloop.Task(coro, loop=asyncio.get_running_loop(), eager_start=True)
"""


def test_greenback_puts_its_portals_into_tasks(loop_kind: str) -> None:
    script = """
import gc
import greenback

async def deep(number):
    await asyncio.sleep(0.001)
    return number

def synchronous(number):
    return greenback.await_(deep(number)) + greenback.await_(deep(1))

async def work(number):
    await asyncio.sleep(0)
    await greenback.ensure_portal()
    total = synchronous(number)
    await asyncio.sleep(0)
    return total

async def unprepared(number):
    await asyncio.sleep(0)
    return synchronous(number)

async def main():
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work(number)) for number in range(50)]
    assert await asyncio.gather(*tasks) == [number + 1 for number in range(50)]
    given = [loop.create_task(unprepared(number)) for number in range(3)]
    greenback.bestow_portal(given[0])  # before its first step
    await asyncio.sleep(0)
    greenback.bestow_portal(given[1])  # and after it
    greenback.bestow_portal(given[2])
    assert await asyncio.gather(*given) == [1, 2, 3]
    cancelled = loop.create_task(work(1))
    for _ in range(3):
        await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert cancelled.cancelled()

asyncio.run(main(), loop_factory=new_event_loop)
gc.collect()
print("done")
"""
    assert output(loop_kind, script) == "done\n"


def test_an_eager_step_that_a_greenlet_leaves_is_gone_on_with(pyloop_factory: LoopFactory) -> None:
    script = f"""{SPAWN}
async def leaves(parent):
    return parent.switch("left")

async def main():
    inside = greenlet.greenlet(lambda: eagerly(leaves(greenlet.getcurrent().parent)))
    assert inside.switch() == "left"

    def deep(depth):
        return depth and deep(depth - 1)

    deep(50)
    for _ in range(3):
        assert await pyloop.sleep(0.001, 1) == await rust.yield_n(2, 1) == await rust.ready(1)
        await asyncio.gather(asyncio.sleep(0), pyloop.sleep(0.001))
    left = inside.switch("back")
    assert inside.dead
    assert await left == "back"

pyloop.run(main())
print("done")
"""
    assert output("pyloop", script) == "done\n"


def test_what_is_awaited_for_a_step_that_was_left_wakes_who_awaits_it(pyloop_factory: LoopFactory) -> None:
    script = f"""{SPAWN}
def some(choice):
    make = choice.choice([
        lambda: asyncio.sleep(0, 1), lambda: rust.ready(1), lambda: rust.yield_once(1),
        lambda: rust.yield_n(3, 1), lambda: pyloop.sleep(0.001, 1),
        lambda: rust.woken_from_thread(0.001, 1),
    ])
    return make()

async def inner(choice, depth):
    total = 0
    for _ in range(choice.randrange(1, 4)):
        # In its first step it is inside of a greenlet, and may leave it.
        total += await_(some(choice)) if is_inside() and choice.random() < 0.5 else await some(choice)
        if is_inside() and depth and choice.random() < 0.4:
            total += await_(eagerly(inner(choice, depth - 1)))
    return total

def synchronous(choice):
    tasks = [eagerly(inner(choice, 2)) for _ in range(choice.randrange(1, 4))]
    return sum(await_(task) for task in tasks)

async def main(choice):
    tasks = [asyncio.create_task(spawn(synchronous, choice)) for _ in range(choice.randrange(1, 5))]
    return await asyncio.wait_for(asyncio.gather(*tasks), 10)

for seed in range(100):
    assert all(pyloop.run(main(random.Random(seed)))), seed
print("done")
"""
    assert output("pyloop", script) == "done\n"


def test_who_awaits_it_for_a_step_that_was_left_can_be_cancelled(pyloop_factory: LoopFactory) -> None:
    script = f"""{SPAWN}
async def inner():
    return await_(rust.never())

def synchronous():
    return await_(eagerly(inner()))

async def main():
    task = asyncio.create_task(spawn(synchronous))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert rust.live() == 0

pyloop.run(main())
print("done")
"""
    assert output("pyloop", script) == "done\n"


MADE = {
    "Task": "pyloop.Task(coro, loop=loop, eager_start=True)",
    "a class derived from it": "Derived(coro, loop=loop, eager_start=True)",
    "create_task": "loop.create_task(coro, eager_start=True)",
    "a factory of asyncio's tasks": "with_factory(loop, asyncio.eager_task_factory, coro)",
    "a factory of ours": "with_factory(loop, our_eager_factory, coro)",
}
if hasattr(sys, "gettotalrefcount"):
    # A debug build of CPython aborts, on asyncio's loop as well: its C code asserts that a task of its own
    # which ends its eager step is the current one. Those that were left together are not.
    del MADE["a factory of asyncio's tasks"]


@pytest.mark.parametrize("accelerations", ["", "none"])
@pytest.mark.parametrize("made", MADE)
@pytest.mark.usefixtures("pyloop_factory")
def test_eager_steps_that_were_left_go_on_after_the_run(made: str, accelerations: str) -> None:
    script = f"""{SPAWN}
class Derived(pyloop.Task):
    pass

def our_eager_factory(loop, coro, **keywords):
    return pyloop.Task(coro, loop=loop, **{{**keywords, "eager_start": True}})

def with_factory(loop, factory, coro):
    loop.set_task_factory(factory)
    try:
        return loop.create_task(coro)
    finally:
        loop.set_task_factory(None)

async def leaves(parent):
    return parent.switch("left")

async def main():
    loop = asyncio.get_running_loop()

    def eager():
        coro = leaves(greenlet.getcurrent().parent)
        return {MADE[made]}

    left = [greenlet.greenlet(eager) for _ in range(3)]
    assert [inside.switch() for inside in left] == ["left"] * 3
    # Asleep, the loop has no GIL: no thread must think that it has.
    assert await pyloop.sleep(0.01, 1) == await rust.woken_from_thread(0.001, 1) == 1
    return left

loop = new_event_loop()
for inside in loop.run_until_complete(main()):
    if sys.version_info >= (3, 14):  # a task that leaves its step must have its loop running
        asyncio._set_running_loop(loop)
    task = inside.switch("back")
    asyncio._set_running_loop(None)
    assert inside.dead and task.done() and task.result() == "back"
loop.close()
# The thread is attached as often as PyO3 thinks: a run begins and ends.
for number in range(3):
    assert pyloop.run(pyloop.sleep(0.001, number)) == number
    assert pyloop.run(rust.woken_from_thread(0.001, number)) == number
print("done")
"""
    assert output("pyloop", script, PYLOOP_ACCEL=accelerations) == "done\n"


@pytest.mark.parametrize("task_class", ["pyloop.Task", "asyncio.Task"])
def test_callbacks_and_steps_leave_the_greenlet_of_the_loop(loop_kind: str, task_class: str) -> None:
    script = f"""{SPAWN}
import threading

hub = greenlet.getcurrent()
said = []

def leave(what):
    said.append(hub.switch(what))

async def step():
    leave("first step")
    await asyncio.sleep(0.001)
    leave("second step")
    await rust.yield_n(3, 1)
    leave("after a Rust future that gave way")
    await pyloop.sleep(0.001)
    leave("after a Rust future that was woken")
    return "stepped"

async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(leave, "callback")
    future = loop.create_future()
    future.add_done_callback(lambda _: leave("done callback"))
    future.set_result(None)
    return await {task_class}(step(), loop=loop)

def meanwhile():
    "What a program may do in its other greenlets while a loop is left."
    loop = asyncio.SelectorEventLoop()
    future = pyloop.Future(loop=loop)
    future.set_result(3)
    assert future.result() == 3
    loop.close()
    loop = pyloop.new_event_loop()
    loop.call_soon(print)
    loop.close()
    coro = asyncio.sleep(0)
    try:
        pyloop.run(coro)
    except RuntimeError as error:
        assert "running" in str(error)
    coro.close()
    there = []
    thread = threading.Thread(target=lambda: there.append(pyloop.run(pyloop.sleep(0.001, 5))))
    thread.start()
    thread.join()
    assert there == [5]

loop = new_event_loop()
inside = greenlet.greenlet(lambda: loop.run_until_complete(main()))
places = [inside.switch()]
while not inside.dead:
    meanwhile()
    places.append(inside.switch(len(places)))
assert places.pop() == "stepped"
assert said == list(range(1, len(places) + 1)) and len(set(places)) == 6, (said, places)
loop.close()
assert pyloop.run(pyloop.sleep(0.001, 6)) == 6
print("done")
"""
    assert output(loop_kind, script) == "done\n"
