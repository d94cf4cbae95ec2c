"""`asyncio.all_tasks`: every pending task of one loop and no other, whoever made it, asked from anywhere."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest

from support import making
from support.guard import Context
from support.loops import Loop, LoopFactory, new_loop, turn
from support.making import Spawn

pytest_generate_tests = making.parametrize


#: A second `__init__` of a task.
REFUSED = sys.version_info >= (3, 15)


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def cancel(loop: Loop, *tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))


def test_a_task_is_shown_from_its_making_to_its_end(loop: Loop, spawn: Spawn) -> None:
    future = loop.create_future()

    async def wait() -> None:
        await future

    task = spawn(wait(), loop=loop)
    for _ in range(3):
        assert asyncio.all_tasks(loop) == {task}
        turn(loop)
    future.set_result(None)
    assert asyncio.all_tasks(loop) == {task}
    turn(loop, 2)
    assert asyncio.all_tasks(loop) == set()


def test_each_loop_has_its_own(loop_factory: LoopFactory) -> None:
    loops = [loop_factory() for _ in range(3)]
    tasks = [{loop.create_task(for_ever()) for _ in range(i + 1)} for i, loop in enumerate(loops)]
    for loop, own in zip(loops, tasks, strict=True):
        assert asyncio.all_tasks(loop) == own
        turn(loop)
        assert asyncio.all_tasks(loop) == own
    cancel(loops[1], *tasks[1])
    assert [asyncio.all_tasks(loop) for loop in loops] == [tasks[0], set(), tasks[2]]
    for loop, own in zip(loops, tasks, strict=True):
        cancel(loop, *own)
        loop.close()


@pytest.mark.parametrize("on", ["asyncio", "pyloop"])
def test_tasks_of_every_class_are_shown_together(on: str, pyloop: ModuleType) -> None:
    loop = new_loop(on)
    make: Any = pyloop.Task
    tasks = {make(for_ever(), loop=loop), asyncio.Task(for_ever(), loop=loop), loop.create_task(for_ever())}
    assert asyncio.all_tasks(loop) == tasks
    turn(loop)
    assert asyncio.all_tasks(loop) == tasks
    cancel(loop, *tasks)
    assert asyncio.all_tasks(loop) == set()
    loop.close()


def test_a_task_of_a_third_party_is_shown(loop: Loop) -> None:
    """asyncio documents `_register_task` for them."""

    class Task:
        def get_loop(self) -> Loop:
            return loop

        def done(self) -> bool:
            return False

    task: Any = Task()
    asyncio.tasks._register_task(task)
    assert asyncio.all_tasks(loop) == {task}
    asyncio.tasks._unregister_task(task)
    assert asyncio.all_tasks(loop) == set()


def test_they_can_be_asked_for_from_another_thread(loop: Loop) -> None:
    """While the loop makes and ends them, none that is pending all the time is ever missed."""
    seen = list[set[asyncio.Task[Any]]]()
    asked, stop = threading.Event(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(asyncio.all_tasks(loop))
            asked.set()

    async def main() -> None:
        lasting = {loop.create_task(for_ever()) for _ in range(10)}
        thread = threading.Thread(target=ask)
        thread.start()
        while len(seen) < 20:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(100)))
        stop.set()
        thread.join()
        for each in seen:
            assert lasting < each
            assert {task.get_loop() for task in each} == {loop}
        seen.clear()
        for task in lasting:
            task.cancel()
        await asyncio.wait(lasting)

    loop.run_until_complete(main())


def test_other_threads_may_make_loops_meanwhile(loop_kind: str) -> None:
    stop = threading.Event()

    def make_loops() -> None:
        while not stop.is_set():
            loop = new_loop(loop_kind)
            task = loop.create_task(for_ever())
            assert asyncio.all_tasks(loop) == {task}
            cancel(loop, task)
            loop.close()

    threads = [threading.Thread(target=make_loops) for _ in range(3)]
    for thread in threads:
        thread.start()
    loop = new_loop(loop_kind)
    for _ in range(300):
        assert asyncio.all_tasks(loop) == set()
    stop.set()
    for thread in threads:
        thread.join()
    loop.close()


def test_the_register_keeps_no_loop(pyloop_factory: LoopFactory, handled: list[Context]) -> None:
    loop = pyloop_factory()
    pending = loop.create_task(for_ever())
    turn(loop)
    reference = weakref.ref(loop)
    asked = asyncio.all_tasks(loop)
    loop.close()
    del loop, pending, asked
    gc.collect()
    assert [context["message"] for context in handled] == ["Task was destroyed but it is pending!"]
    handled.clear()  # a report holds its task
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("running", [False, True], ids=["at-rest", "running"])
def test_init_called_again(loop: Loop, running: bool, handled: list[Context]) -> None:
    """Until CPython refused it the task went on with the new coroutine, and then had a step too many."""

    async def three() -> int:
        return 3

    async def make() -> Any:
        first, second = for_ever(), three()
        untyped: Any = loop.create_task(first)
        if REFUSED:
            with pytest.raises(RuntimeError, match=r"Task object is already initialized$"):
                untyped.__init__(second, loop=loop)
            second.close()
        else:
            untyped.__init__(second, loop=loop)
            first.close()
        return untyped

    if running:
        task = loop.run_until_complete(make())
    else:
        with pytest.raises(StopIteration) as made:
            make().send(None)
        task = made.value.value
    assert asyncio.all_tasks(loop) <= {task}
    if REFUSED:
        cancel(loop, task)
    else:
        assert loop.run_until_complete(task) == 3
        turn(loop)
        (report,) = handled
        assert f"_step(): already done: {task!r} None" in str(report["exception"])
        handled.clear()
    assert asyncio.all_tasks(loop) == set()
