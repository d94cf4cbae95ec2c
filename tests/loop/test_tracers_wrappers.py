"""Functions in the place of `call_soon` that do not what is expected; what is ours alone under a tracer."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from support.guard import Context
from support.loops import Loop, Run, turn
from support.process import output
from support.tracers import NAMES, WHERE, Seen, label, nothing, traced


def test_a_wrapper_gives_nothing_back(run: Run, loop: Loop) -> None:
    original = loop.call_soon

    def call_soon(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)

    async def main() -> str:
        await asyncio.sleep(0)
        return await asyncio.create_task(asyncio.sleep(0, "slept"))

    with mock.patch.object(loop, "call_soon", call_soon):
        assert run(main()) == "slept"


def test_a_callback_that_a_wrapper_drops_is_not_called(run: Run, loop: Loop) -> None:
    original = loop.call_soon
    dropped: Seen = []
    victim: Any = None
    future: asyncio.Future[str] = loop.create_future()

    def call_soon(callback: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(callback, "__self__", None) is victim and len(dropped) < 1:
            dropped.append((callback, args))
            return original(int)
        return original(callback, *args, **kwargs)

    async def waits() -> str:
        return await future

    async def main() -> None:
        nonlocal victim
        victim = asyncio.create_task(waits())
        await asyncio.sleep(0)
        with mock.patch.object(loop, "call_soon", call_soon):
            future.set_result("there")
        for _ in range(3):
            await asyncio.sleep(0)
        ((callback, args),) = dropped
        assert (label(callback), args) == ("task_wakeup", (future,))
        assert not victim.done()
        original(callback, *args)
        assert await victim == "there"

    run(main())


def test_a_dropped_step_is_made_by_hand(run: Run, loop: Loop) -> None:
    dropped: Seen = []

    async def main() -> None:
        with mock.patch.object(
            loop, "call_soon", lambda callback, **kwargs: dropped.append((callback, kwargs))
        ):
            task = asyncio.create_task(asyncio.sleep(0, "slept"))
        await asyncio.sleep(0)
        assert not task.done()
        ((callback, kwargs),) = dropped
        assert callback.__self__ is task
        loop.call_soon(callback, **kwargs)
        assert await task == "slept"

    run(main())


def test_a_wrapper_that_fails_fails_whoever_schedules(run: Run, loop: Loop) -> None:
    called: Seen = []

    def refuses(*args: Any, **kwargs: Any) -> None:
        raise LookupError("refused")

    async def main() -> None:
        future: asyncio.Future[int] = loop.create_future()
        future.add_done_callback(called.append)
        with mock.patch.object(loop, "call_soon", refuses):
            with pytest.raises(LookupError):
                future.set_result(1)
            with pytest.raises(LookupError):
                future.add_done_callback(called.append)
        assert future.done()
        await asyncio.sleep(0)
        assert called == []

    run(main())


def test_a_wrapper_that_refuses_a_task_leaves_none(
    run: Run, loop: Loop, logged: list[logging.LogRecord], handled: list[Context]
) -> None:
    def refuses(*args: Any, **kwargs: Any) -> None:
        raise LookupError("refused")

    async def main() -> None:
        coroutine = nothing([])
        with mock.patch.object(loop, "call_soon", refuses), pytest.raises(LookupError):
            asyncio.create_task(coroutine)
        coroutine.close()
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    gc.collect()
    assert [context["message"] for context in handled] == ["Task was destroyed but it is pending!"]


def test_a_step_whose_successor_is_refused_is_reported(run: Run, loop: Loop, handled: list[Context]) -> None:
    original = loop.call_soon
    refused: Seen = []
    victim: Any = None

    def call_soon(callback: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(callback, "__self__", None) is victim:
            refused.append((callback, kwargs))
            raise LookupError("refused")
        return original(callback, *args, **kwargs)

    async def main() -> None:
        nonlocal victim
        victim = asyncio.create_task(nothing([]))
        with mock.patch.object(loop, "call_soon", call_soon):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not victim.done()
        ((callback, kwargs),) = refused
        original(callback, **kwargs)
        await victim

    run(main())
    assert [repr(context["exception"]) for context in handled] == ["LookupError('refused')"]


def test_a_wrapper_around_the_callback_runs_outside_of_the_step(run: Run, loop: Loop) -> None:
    original = loop.call_soon
    found: Seen = []

    def call_soon(callback: Any, *args: Any, **kwargs: Any) -> Any:
        def around(*args: Any) -> None:
            found.append(asyncio.current_task())
            callback(*args)
            found.append(asyncio.current_task())

        return original(around, *args, **kwargs)

    async def main() -> None:
        await asyncio.sleep(0)
        future = loop.create_future()
        future.add_done_callback(lambda _: found.append(asyncio.current_task()))
        original(future.set_result, None)
        await future
        assert asyncio.current_task() is not None

    with mock.patch.object(loop, "call_soon", call_soon):
        run(main())
    assert set(found) == {None}


def test_no_task_is_entered_in_the_step_of_another(run: Run, loop: Loop) -> None:
    async def main() -> None:
        kept: Seen = []
        with mock.patch.object(loop, "call_soon", lambda callback, **kwargs: kept.append(callback)):
            task = asyncio.create_task(nothing([]), name="other")
        with pytest.raises(
            RuntimeError, match=r"Cannot enter into task .*other.* while another task .* is being executed"
        ):
            kept[0]()
        assert asyncio.current_task() is not task
        loop.call_soon(kept[0])
        await task

    run(main())


def test_a_handle_that_a_wrapper_keeps_cancels_the_step(run: Run, loop: Loop) -> None:
    original = loop.call_soon
    handles: list[asyncio.Handle] = []

    def call_soon(*args: Any, **kwargs: Any) -> asyncio.Handle:
        handles.append(original(*args, **kwargs))
        return handles[-1]

    async def main() -> None:
        with mock.patch.object(loop, "call_soon", call_soon):
            task = asyncio.create_task(nothing([]))
        (handle,) = handles
        assert "TaskStepMethWrapper" in repr(handle)
        step = handle._callback  # type: ignore[attr-defined]
        handle.cancel()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        loop.call_soon(step)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


# --- our own ---


def test_a_replaced_create_task_makes_our_own_tasks(pyloop_loop: Any, pyloop: ModuleType) -> None:
    seen: Seen = []

    async def main() -> None:
        with traced(pyloop_loop, "base", ["create_task"], seen):
            tasks = [
                asyncio.create_task(nothing(seen)),
                asyncio.create_task(nothing(seen), name="named"),
                pyloop_loop.create_task(nothing(seen), priority=pyloop.HIGH),
                pyloop_loop.create_task(nothing(seen), eager_start=True),
                asyncio.create_task(nothing(seen), context=contextvars.copy_context()),
            ]
        names = [task.get_name() for task in tasks]
        assert names[1] == "named" and all(name.startswith("Task-") for name in names[:1] + names[2:])
        assert {type(task) for task in tasks} == {pyloop.Task}
        assert len(seen) == 5
        assert pyloop_loop.get_task_factory() is None
        unwanted = nothing(seen)
        with pytest.raises(TypeError):
            pyloop_loop.create_task(unwanted, nonsense=1)
        unwanted.close()
        await asyncio.gather(*tasks)
        tasks[0].set_name(None)
        assert tasks[0].get_name() == "None"

    pyloop_loop.run_until_complete(main())


def test_priorities_are_kept_under_a_tracer(pyloop_loop: Any, pyloop: ModuleType) -> None:
    order: Seen = []

    async def work(name: str) -> None:
        for _ in range(2):
            order.append(name)
            await asyncio.sleep(0)

    async def main() -> None:
        tasks = [
            pyloop_loop.create_task(work(name), priority=priority)
            for name, priority in [("low", pyloop.LOW), ("normal", pyloop.NORMAL), ("high", pyloop.HIGH)]
        ]
        await asyncio.gather(*tasks)

    plain: Seen = []
    pyloop_loop.run_until_complete(main())
    plain, order[:] = order[:], []
    for where in WHERE:
        with traced(pyloop_loop, where, [*NAMES, "_run"], []):
            pyloop_loop.run_until_complete(main())
        assert order == plain
        order.clear()


def test_a_rust_future_wakes_its_task_through_call_soon(pyloop_loop: Any, pyloop: ModuleType) -> None:
    seen: Seen = []

    async def main() -> None:
        with traced(pyloop_loop, "instance", ["call_soon"], seen):
            assert await pyloop.sleep(0.001, "slept") == "slept"
            task = asyncio.create_task(pyloop.sleep(60))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    pyloop_loop.run_until_complete(main())
    assert [about for _, about, *_ in seen] == [
        "TaskStepMethWrapper",  # the sleep is over
        "TaskStepMethWrapper",  # the task's first
        "TaskStepMethWrapper",  # `sleep(0)`
        "TaskStepMethWrapper",  # it is cancelled
        "task_wakeup",
    ]


def test_a_wakeup_that_is_called_twice_wakes_once(pyloop_loop: Any) -> None:
    async def main() -> None:
        future = pyloop_loop.create_future()
        task = asyncio.create_task(asyncio.wait_for(future, None))
        await asyncio.sleep(0)
        kept: Seen = []
        with mock.patch.object(pyloop_loop, "call_soon", lambda *args, **kwargs: kept.append((args, kwargs))):
            future.set_result("there")
        ((args, kwargs),) = kept
        pyloop_loop.call_soon(*args, **kwargs)
        pyloop_loop.call_soon(*args, **kwargs)
        assert await task == "there"

    pyloop_loop.run_until_complete(main())


def test_asyncios_own_methods_work_on_our_loop(pyloop_loop: Any) -> None:
    base: Any = asyncio.BaseEventLoop
    called: Seen = []
    base.call_soon(pyloop_loop, called.append, "soon")
    base.call_later(pyloop_loop, 0, called.append, "later")
    turn(pyloop_loop, 2)
    assert called == ["soon", "later"]


@pytest.mark.parametrize("first", ["tool", "pyloop"])
def test_a_tool_may_come_before_pyloop_is_imported(first: str) -> None:
    tool = """
seen = []
base, handles = asyncio.BaseEventLoop.create_task, asyncio.Handle._run
def create_task(loop, coro, **kwargs):
    seen.append("create_task")
    return base(loop, coro, **kwargs)
def run(handle):
    seen.append("_run")
    handles(handle)
asyncio.BaseEventLoop.create_task, asyncio.Handle._run = create_task, run
"""
    importing = "import pyloop\n"
    text = (
        (tool + importing if first == "tool" else importing + tool)
        + """
async def main():
    await asyncio.create_task(asyncio.sleep(0))
asyncio.run(main(), loop_factory=pyloop.new_event_loop)
print(seen.count("create_task"), seen.count("_run"))
"""
    )
    stock = text.replace(importing, "").replace("pyloop.new_event_loop", "asyncio.SelectorEventLoop")
    assert output("asyncio", text) == output("asyncio", stock)
