"""Tasks and the collector: what is reported when a task goes, what keeps one alive, and what must not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from support import making
from support.coroutines import fail, give, wait_for_ever
from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.making import Spawn, TaskClass
from support.rust import pyloop

pytest_generate_tests = making.parametrize


def test_an_exception_that_nobody_retrieved_is_reported(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    loop.set_debug(False)
    error = ValueError("forgotten")
    task = spawn(fail(error), loop=loop, name="forgetful")
    identity = id(task)
    turn(loop)
    assert task.done()
    assert not handled
    del task
    gc.collect()
    [context] = handled
    assert context == {
        "message": "Task exception was never retrieved",
        "exception": error,
        "future": context["future"],
    }
    assert id(context["future"]) == identity
    assert repr(context["future"]).startswith(
        "<Task finished name='forgetful' coro=<fail() done, defined at "
    )


def test_each_of_many_tasks_after_each_other_is_as_new(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    """Whatever memory an implementation keeps for the next one."""
    for number in range(20):
        task: Any = spawn(fail(ValueError(str(number))), loop=loop)
        assert not hasattr(task, "mark")
        assert not task.done()
        assert not task._callbacks
        assert gc.is_tracked(task)
        assert task.cancelling() == 0
        task.mark = number
        reference = weakref.ref(task)
        turn(loop, 2)
        assert reference() is task
        del task
        gc.collect()
        assert [str(context["exception"]) for context in handled] == [str(number)]
        handled.clear()
        assert reference() is None


def test_an_exception_is_reported_as_soon_as_nobody_can_retrieve_it(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    gc.disable()
    try:
        spawn(fail(ValueError("forgotten")), loop=loop)
        turn(loop, 2)
        assert len(handled) == 1
    finally:
        gc.enable()


def test_in_debug_mode_the_report_tells_where_the_task_was_made(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    loop.set_debug(True)
    spawn(fail(ValueError()), loop=loop)
    turn(loop, 2)
    gc.collect()
    loop.set_debug(False)
    [context] = handled
    assert set(context) == {"message", "exception", "future", "source_traceback"}
    names = [frame.name for frame in context["source_traceback"]]
    assert "test_in_debug_mode_the_report_tells_where_the_task_was_made" in names


@pytest.mark.parametrize(
    "retrieve", ["result", "exception", "await", "run", "gather", "wait and result", "cancel"]
)
def test_an_exception_is_retrieved_by(
    loop: Loop, spawn: Spawn, handled: list[Context], retrieve: str
) -> None:
    task = spawn(fail(ValueError()), loop=loop)

    async def main(task: asyncio.Task[None]) -> None:
        if retrieve == "await":
            await task
        elif retrieve == "gather":
            await asyncio.gather(task)
        else:
            done, _ = await asyncio.wait([task])
            done.pop().result()

    if retrieve in ("await", "gather", "wait and result"):
        with pytest.raises(ValueError):
            loop.run_until_complete(main(task))
    elif retrieve == "run":
        with pytest.raises(ValueError):
            loop.run_until_complete(task)
    else:
        turn(loop)
        if retrieve == "exception":
            task.exception()
        elif retrieve == "cancel":
            assert not task.cancel()
        else:
            with pytest.raises(ValueError):
                task.result()
    del task
    turn(loop)
    gc.collect()
    assert not handled


def test_neither_a_result_nor_a_cancellation_is_reported(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    spawn(give(), loop=loop)
    spawn(wait_for_ever(), loop=loop).cancel()
    turn(loop, 3)
    gc.collect()
    assert not handled


def test_a_task_that_is_done_is_freed_without_the_collector(loop: Loop, spawn: Spawn) -> None:
    gc.disable()
    try:
        tasks = [spawn(give(number), loop=loop) for number in range(3)]
        failed = spawn(fail(ValueError()), loop=loop)
        cancelled = spawn(wait_for_ever(), loop=loop)
        references = [weakref.ref(task) for task in (*tasks, failed, cancelled)]
        turn(loop)
        cancelled.cancel()
        turn(loop, 2)
        failed.exception()
        assert all(task.done() for task in (*tasks, failed, cancelled))
        tasks.clear()
        del failed, cancelled
        assert [reference() for reference in references] == [None] * 5
    finally:
        gc.enable()


def test_a_task_that_waited_for_another_is_freed_without_the_collector(loop: Loop, spawn: Spawn) -> None:
    async def follow(task: asyncio.Task[Any]) -> Any:
        return await task

    gc.disable()
    try:
        first = spawn(give(), loop=loop)
        second = spawn(follow(first), loop=loop)
        references = [weakref.ref(first), weakref.ref(second)]
        loop.run_until_complete(second)
        turn(loop)
        del first, second
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_a_cycle_of_task_and_coroutine_is_collected_when_done(loop: Loop, spawn: Spawn) -> None:
    class Holder:
        task: asyncio.Task[Any]

    async def main(holder: Holder) -> Holder:
        await asyncio.sleep(0)
        return holder

    holder = Holder()
    holder.task = spawn(main(holder), loop=loop)
    reference = weakref.ref(holder.task)
    loop.run_until_complete(holder.task)
    turn(loop)
    del holder
    gc.collect()
    assert reference() is None


def test_a_cycle_through_an_exceptions_traceback_is_collected_and_reported(
    loop: Loop, spawn: Spawn, handled: list[Context]
) -> None:
    async def main() -> None:
        me = asyncio.current_task()  # in the frame, in the traceback, in the exception, in the task
        assert me is not None
        raise ValueError

    reference = weakref.ref(spawn(main(), loop=loop))
    turn(loop, 2)
    gc.collect()
    assert [context["message"] for context in handled] == ["Task exception was never retrieved"]
    handled.clear()
    gc.collect()
    assert reference() is None


def test_a_waiting_task_is_alive_as_long_as_what_it_waits_for(loop: Loop, spawn: Spawn) -> None:
    future, seen = loop.create_future(), list[str]()

    async def main() -> None:
        seen.append(await future)

    reference = weakref.ref(spawn(main(), loop=loop))
    turn(loop)
    gc.collect()
    assert reference() is not None
    future.set_result("woken")
    turn(loop, 2)
    assert seen == ["woken"]
    assert reference() is None


def test_a_task_that_waits_for_nothing_known_is_destroyed_and_reported_by_asyncio(
    loop: Loop, handled: list[Context]
) -> None:
    loop.set_debug(False)
    asyncio.Task(wait_for_ever(), loop=loop, name="lost")
    turn(loop)
    gc.collect()
    [context] = handled
    assert context == {"message": "Task was destroyed but it is pending!", "task": context["task"]}
    assert repr(context["task"]).startswith("<Task pending name='lost' coro=<wait_for_ever() ")
    # Since 3.14 `all_tasks` shows it as long as the report keeps it.
    del context
    handled.clear()
    gc.collect()


def test_a_loop_keeps_its_pending_tasks_alive(pyloop_loop: Loop, handled: list[Context]) -> None:
    reference = weakref.ref(pyloop_loop.create_task(wait_for_ever()))
    turn(pyloop_loop)
    gc.collect()
    task = reference()
    assert task is not None
    assert asyncio.all_tasks(pyloop_loop) == {task}
    assert not handled
    task.cancel()
    turn(pyloop_loop, 2)
    del task
    assert reference() is None


def test_a_task_of_the_class_is_kept_alive_by_the_loop_too(pyloop_loop: Loop, handled: list[Context]) -> None:

    reference = weakref.ref(pyloop.Task(wait_for_ever(), loop=pyloop_loop))
    turn(pyloop_loop)
    gc.collect()
    task = reference()
    assert task is not None
    assert not handled
    task.cancel()
    turn(pyloop_loop, 2)


@pytest.mark.parametrize("started", [False, True])
def test_a_task_that_is_pending_when_its_loop_goes_is_reported(
    loop_factory: LoopFactory, spawn: Spawn, handled: list[Context], started: bool
) -> None:
    loop = loop_factory()
    loop.set_debug(False)
    coro: Any = wait_for_ever()
    reference = weakref.ref(spawn(coro, loop=loop, name="left"))
    if started:
        turn(loop)
        coro = None  # it knows the future, which knows the task
    loop.close()
    del loop
    gc.collect()
    [context] = handled
    assert set(context) == {"message", "task"}
    assert context["message"] == "Task was destroyed but it is pending!"
    assert context["task"].get_name() == "left"
    handled.clear()
    del context
    if not started:
        coro.close()  # it would warn that it was never awaited
    gc.collect()
    assert reference() is None


def test_who_says_so_is_not_reported_when_destroyed(
    loop_factory: LoopFactory, spawn: Spawn, handled: list[Context]
) -> None:
    loop = loop_factory()
    task: Any = spawn(wait_for_ever(), loop=loop)
    turn(loop)
    task._log_destroy_pending = False
    loop.close()
    del loop, task
    gc.collect()
    assert not handled


def test_the_coroutine_of_a_destroyed_task_is_closed(
    loop_factory: LoopFactory, spawn: Spawn, handled: list[Context]
) -> None:
    seen = list[str]()

    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            seen.append("closed")

    loop = loop_factory()
    spawn(main(), loop=loop)
    turn(loop)
    loop.close()
    del loop
    gc.collect()
    handled.clear()
    gc.collect()
    assert seen == ["closed"]


def test_a_task_of_a_subclass_is_reported_by_its_name(
    loop: Loop, task_class: TaskClass, handled: list[Context]
) -> None:
    class Job(task_class):  # type: ignore[misc, valid-type]
        pass

    Job(fail(ValueError()), loop=loop)
    turn(loop, 2)
    gc.collect()
    [context] = handled
    assert context["message"] == "Job exception was never retrieved"
    assert type(context["future"]) is Job


def test_reports_go_to_the_logger_when_nobody_handles_them(
    loop_factory: LoopFactory, spawn: Spawn, logged: list[Any]
) -> None:
    loop = loop_factory()
    loop.set_exception_handler(None)
    spawn(fail(ValueError("to the log")), loop=loop, name="logged")
    turn(loop, 2)
    gc.collect()
    loop.close()
    [record] = logged
    text = record.getMessage()
    assert text.startswith(
        "Task exception was never retrieved\nfuture: <Task finished name='logged' coro=<fail() "
    )
    assert record.exc_info[0] is ValueError


def test_a_hundred_thousand_steps_leave_nothing_behind(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        for _ in range(5000):
            await asyncio.sleep(0)

    async def around() -> None:
        for _ in range(3):
            await asyncio.gather(*(asyncio.ensure_future(give(number)) for number in range(500)))

    loop.run_until_complete(spawn(main(), loop=loop))
    loop.run_until_complete(spawn(around(), loop=loop))
    turn(loop, 2)
    gc.collect()
    before = len(gc.get_objects())
    loop.run_until_complete(spawn(main(), loop=loop))
    loop.run_until_complete(spawn(around(), loop=loop))
    turn(loop, 2)
    gc.collect()
    assert abs(len(gc.get_objects()) - before) < 100
