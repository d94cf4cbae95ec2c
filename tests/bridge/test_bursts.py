"""Wakes of loops that are not pyloop's: a burst of them takes the GIL once, by one `call_soon_threadsafe`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from support.extension import all_dropped, ext, start_extension
from support.rust import pyloop

pytestmark = pytest.mark.usefixtures("pyloop_factory", "background")

MANY = 300


@pytest.fixture(scope="module")
def background() -> None:
    start_extension()


def counting(base: Any) -> Any:
    class Counting(base):  # type: ignore[misc]
        calls = 0

        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().call_soon_threadsafe(*args, **kwargs)

    return Counting


Stock, Uv = counting(asyncio.SelectorEventLoop), counting(uvloop.Loop)

each_loop = pytest.mark.parametrize("factory", [Stock, Uv], ids=["asyncio", "uvloop"])
each_task = pytest.mark.parametrize("stock", [True, False], ids=["asyncio.Task", "pyloop.Task"])


def spawn(loop: Any, stock: bool, awaitable: Any) -> asyncio.Task[Any]:
    make: Any = asyncio.Task if stock else pyloop.Task
    task: asyncio.Task[Any] = make(awaitable, loop=loop)
    return task


@each_task
@each_loop
def test_a_burst_is_a_call_or_two(factory: Any, stock: bool) -> None:
    loop, probe = factory(), ext.Probe()

    async def main() -> list[Any]:
        tasks = [spawn(loop, stock, probe.future()) for _ in range(MANY)]
        await asyncio.sleep(0)
        probe.done()
        before = loop.calls
        # The first wake's job takes the others with it, once it has the GIL.
        probe.wake_without_gil()
        results = await asyncio.gather(*tasks)
        assert 1 <= loop.calls - before <= 2
        return results

    with all_dropped():
        assert loop.run_until_complete(main()) == ["done"] * MANY
    loop.close()


@each_loop
def test_two_loops_get_what_is_theirs(factory: Any) -> None:
    loops = [factory(), Stock()]
    probe = ext.Probe()
    tasks = []
    for loop in loops:
        tasks.append([loop.create_task(probe.future()) for _ in range(MANY)])
        loop.run_until_complete(asyncio.sleep(0))
    probe.done()
    probe.wake_without_gil()
    for loop, theirs in zip(loops, tasks, strict=True):
        results = loop.run_until_complete(asyncio.wait_for(asyncio.gather(*theirs), 5))
        assert results == ["done"] * MANY
        assert loop.calls <= 3
        loop.close()


@each_task
@each_loop
def test_one_that_raises_keeps_none_of_the_others_back(factory: Any, stock: bool) -> None:
    class Ends(SystemExit):
        pass

    def ends() -> None:
        raise Ends

    loop, probe = factory(), ext.Probe()
    tasks = [spawn(loop, stock, probe.future()) for _ in range(10)]
    loop.run_until_complete(asyncio.sleep(0))
    for task in tasks[::3]:
        task.add_done_callback(lambda _: ends())
    probe.done()
    probe.wake_without_gil()
    # Each of them leaves the run.
    for _ in range(100):
        try:
            loop.run_until_complete(asyncio.gather(*tasks))
        except Ends:
            continue
        break
    assert [task.result() for task in tasks] == ["done"] * 10
    loop.close()


@each_task
@each_loop
def test_a_thread_that_has_the_gil_asks_at_once(factory: Any, stock: bool) -> None:
    loops, probes = [factory(), factory()], [ext.Probe(), ext.Probe()]
    tasks = [spawn(loop, stock, probe.future()) for loop, probe in zip(loops, probes, strict=True)]
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
    for probe in probes:
        probe.done()
    # A job is under way, which waits for the GIL.
    probes[0].wake_without_gil()
    probes[1].wake_here()
    assert loops[1].calls == 1
    for loop, task in zip(loops, tasks, strict=True):
        assert loop.run_until_complete(asyncio.wait_for(task, 5)) == "done"
        loop.close()
