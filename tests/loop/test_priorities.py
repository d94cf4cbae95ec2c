"""Priorities, which only pyloop has: HIGH before the next batch, LOW when all else waits, nobody starved."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop, turn


def create(loop: Loop, coro: Coroutine[Any, Any, Any], priority: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = loop.create_task(coro, priority=priority, **more)  # type: ignore[call-arg]
    return task


async def note(seen: list[str], *words: str) -> str:
    for word in words[:-1]:
        seen.append(word)
        await asyncio.sleep(0)
    seen.append(words[-1])
    return words[-1]


def test_a_high_task_goes_before_what_was_queued_earlier(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    seen: list[str] = []
    pyloop_loop.call_soon(seen.append, "callback")
    create(pyloop_loop, note(seen, "low"), pyloop.LOW)
    create(pyloop_loop, note(seen, "normal"), pyloop.NORMAL)
    create(pyloop_loop, note(seen, "high"), pyloop.HIGH)
    turn(pyloop_loop, 3)
    assert seen == ["high", "callback", "normal", "low"]


def test_normal_is_what_a_task_has_that_asks_for_nothing(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    seen: list[str] = []
    create(pyloop_loop, note(seen, "first"), pyloop.NORMAL)
    pyloop_loop.create_task(note(seen, "second"))
    create(pyloop_loop, note(seen, "third"), pyloop.NORMAL)
    turn(pyloop_loop)
    assert seen == ["first", "second", "third"]


def test_a_high_task_woken_by_a_batch_waits_for_its_end_and_goes_before_the_next(
    pyloop_loop: Loop, pyloop: ModuleType
) -> None:
    loop, seen = pyloop_loop, list[str]()
    future = loop.create_future()

    async def high() -> None:
        await future
        seen.append("high")

    task = create(loop, high(), pyloop.HIGH)
    turn(loop)

    def wake() -> None:
        loop.call_soon(seen.append, "next batch")
        future.set_result(None)

    loop.call_soon(wake)
    loop.call_soon(seen.append, "this batch")
    turn(loop, 3)
    assert seen == ["this batch", "high", "next batch"]
    assert task.done()


def test_tasks_of_one_priority_run_in_order(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    for priority in pyloop.HIGH, pyloop.NORMAL, pyloop.LOW:
        seen: list[str] = []
        tasks = [create(pyloop_loop, note(seen, f"{i} 1", f"{i} 2"), priority) for i in range(5)]
        pyloop_loop.run_until_complete(asyncio.wait(tasks))
        assert seen == [f"{i} {step}" for step in (1, 2) for i in range(5)]


def test_a_task_keeps_its_priority_at_every_step(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    seen: list[str] = []
    pyloop_loop.create_task(note(seen, *["normal"] * 5))
    create(pyloop_loop, note(seen, *["high"] * 5), pyloop.HIGH)
    turn(pyloop_loop, 12)
    assert seen == ["high", "normal"] * 5


def test_a_low_task_runs_when_nothing_else_is_ready(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    seen: list[str] = []
    create(pyloop_loop, note(seen, "low 1", "low 2"), pyloop.LOW)
    task = pyloop_loop.create_task(note(seen, "1", "2", "3"))
    pyloop_loop.run_until_complete(task)
    assert seen[:3] == ["1", "2", "3"]
    turn(pyloop_loop, 3)
    assert seen == ["1", "2", "3", "low 1", "low 2"]


@pytest.mark.parametrize("busy", ["HIGH", "NORMAL", "call_soon"])
@pytest.mark.parametrize("starving", ["NORMAL", "LOW"])
def test_nobody_is_starved(pyloop_loop: Loop, pyloop: ModuleType, busy: str, starving: str) -> None:
    spinning = True

    async def spin() -> None:
        while spinning:
            await asyncio.sleep(0)

    def again() -> None:
        if spinning:
            pyloop_loop.call_soon(again)

    spinners: list[asyncio.Task[None]] = []
    if busy == "call_soon":
        again()
    else:
        spinners = [create(pyloop_loop, spin(), getattr(pyloop, busy)) for _ in range(3)]
    task = create(pyloop_loop, note([], *["step"] * 20), getattr(pyloop, starving))
    pyloop_loop.run_until_complete(task)
    spinning = False
    pyloop_loop.run_until_complete(asyncio.gather(*spinners)) if spinners else turn(pyloop_loop)


@pytest.mark.parametrize("busy", ["HIGH", "NORMAL", "LOW"])
def test_spinning_tasks_starve_neither_timers_nor_descriptors(
    pyloop_loop: Loop, pyloop: ModuleType, busy: str
) -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def main() -> None:
        spinner = create(pyloop_loop, spin(), getattr(pyloop, busy))
        await asyncio.sleep(0.002)
        await pyloop_loop.run_in_executor(None, int)
        spinner.cancel()
        await asyncio.wait([spinner])

    pyloop_loop.run_until_complete(main())


@pytest.mark.parametrize("priority", ["HIGH", "NORMAL", "LOW"])
def test_a_task_of_any_priority_is_a_whole_task(pyloop_loop: Loop, pyloop: ModuleType, priority: str) -> None:
    async def main() -> None:
        task = create(pyloop_loop, note([], "a", "b"), getattr(pyloop, priority), name="named")
        assert task.get_name() == "named"
        assert isinstance(task, asyncio.Task)
        assert task in asyncio.all_tasks()
        assert await task == "b"
        task = create(pyloop_loop, asyncio.sleep(3600), getattr(pyloop, priority))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    pyloop_loop.run_until_complete(main())


def test_tasks_of_different_priorities_work_together(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    async def producer(queue: asyncio.Queue[int]) -> None:
        for i in range(100):
            await queue.put(i)

    async def consumer(queue: asyncio.Queue[int]) -> list[int]:
        return [await queue.get() for _ in range(100)]

    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        low = create(pyloop_loop, producer(queue), pyloop.LOW)
        high = create(pyloop_loop, consumer(queue), pyloop.HIGH)
        await low
        got: list[int] = await high
        return got

    assert pyloop_loop.run_until_complete(main()) == list(range(100))


def test_an_idle_low_task_does_not_keep_the_loop_awake(pyloop_loop: Loop, pyloop: ModuleType) -> None:
    task = create(pyloop_loop, asyncio.sleep(0.005, "done"), pyloop.LOW)
    assert pyloop_loop.run_until_complete(task) == "done"


@pytest.mark.parametrize("priority", [17, -5, "high", 1.5, ...], ids=repr)
def test_what_is_no_priority_is_refused(pyloop_loop: Loop, priority: object) -> None:
    coro = note([], "never")
    with pytest.raises((TypeError, ValueError)):
        create(pyloop_loop, coro, priority)
    coro.close()
