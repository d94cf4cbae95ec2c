"""Synchronous code that awaits, as greenback and SQLAlchemy do it, each in an interpreter of its own.

A greenlet is left in the middle of a task's step, its stack is moved away, and other steps run where it was.
"""

from __future__ import annotations

from support.loops import LoopFactory
from support.process import output

SPAWN = """
import random
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
