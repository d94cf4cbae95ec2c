"""Wakes of loops that are not pyloop's: by a descriptor that the loop watches, without the GIL.

A loop that watches none is told by one `call_soon_threadsafe` a burst, on a thread that may wait for the GIL.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import resource
import weakref
from collections.abc import Callable
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


def counting(base: Any, watches: bool = True) -> Any:
    class Counting(base):  # type: ignore[misc]
        calls = 0
        # The descriptor that it watched last.
        watched: int | None = None

        def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
            if not watches:
                raise NotImplementedError
            self.watched = fd
            super().add_reader(fd, callback, *args)

        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().call_soon_threadsafe(*args, **kwargs)

    return Counting


Stock, Uv = counting(asyncio.SelectorEventLoop), counting(uvloop.Loop)
Deaf, DeafUv = counting(asyncio.SelectorEventLoop, False), counting(uvloop.Loop, False)

each_loop = pytest.mark.parametrize("factory", [Stock, Uv], ids=["asyncio", "uvloop"])
every_loop = pytest.mark.parametrize(
    "factory", [Stock, Uv, Deaf, DeafUv], ids=["asyncio", "uvloop", "asyncio-deaf", "uvloop-deaf"]
)
each_task = pytest.mark.parametrize("stock", [True, False], ids=["asyncio.Task", "pyloop.Task"])


def spawn(loop: Any, stock: bool, awaitable: Any) -> asyncio.Task[Any]:
    make: Any = asyncio.Task if stock else pyloop.Task
    task: asyncio.Task[Any] = make(awaitable, loop=loop)
    return task


@each_task
@every_loop
def test_a_burst_takes_no_call_or_two(factory: Any, stock: bool) -> None:
    loop, probe = factory(), ext.Probe()

    async def main() -> list[Any]:
        tasks = [spawn(loop, stock, probe.future()) for _ in range(MANY)]
        await asyncio.sleep(0)
        probe.done()
        before = loop.calls
        # This thread keeps the GIL meanwhile.
        probe.wake_without_gil()
        results = await asyncio.gather(*tasks)
        if loop.watched:
            assert loop.calls == before
        else:
            # The first wake's job takes the others with it, once it has the GIL.
            assert 1 <= loop.calls - before <= 2
        return results

    with all_dropped():
        assert loop.run_until_complete(main()) == ["done"] * MANY
    loop.close()


@every_loop
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
@every_loop
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
@every_loop
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


def waits(loop: Any, probe: Any) -> asyncio.Task[Any]:
    """A task that waits for the probe, on a loop that does not run."""
    task: asyncio.Task[Any] = loop.create_task(probe.future())
    loop.run_until_complete(asyncio.sleep(0))
    return task


def ends(loop: Any, task: asyncio.Task[Any]) -> None:
    assert loop.run_until_complete(asyncio.wait_for(task, 5)) == "done"


@each_loop
def test_a_loop_watches_one_descriptor_until_it_is_closed(factory: Any) -> None:
    loop, probes = factory(), [ext.Probe(), ext.Probe()]
    tasks = [waits(loop, probe) for probe in probes]
    fd = loop.watched
    assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"
    probes[0].done()
    probes[0].wake_without_gil()
    ends(loop, tasks[0])
    assert loop.watched == fd
    tasks[1].cancel()
    loop.run_until_complete(asyncio.gather(tasks[1], return_exceptions=True))
    loop.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    # What is woken now is nobody's.
    for probe in probes:
        probe.wake_without_gil()
        probe.wake_here()
    assert loop.calls == 0


@each_loop
def test_a_wake_of_a_loop_that_is_closed_meanwhile_is_dropped(
    factory: Any, logged: list[logging.LogRecord]
) -> None:
    loop, probe = factory(), ext.Probe()
    with all_dropped():
        task = waits(loop, probe)
        probe.done()
        probe.wake_without_gil()
        loop.close()
        probe.wake_without_gil()
        del task, probe
    assert loop.calls == 0
    # asyncio's own word about the task.
    (record,) = logged
    assert record.getMessage().startswith("Task was destroyed but it is pending!")


@each_loop
def test_the_first_tasks_context_is_not_kept(factory: Any) -> None:
    class Value:
        pass

    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")
    loop, probe = factory(), ext.Probe()

    async def sets() -> None:
        variable.set(Value())
        await probe.future()

    task = loop.create_task(sets())
    loop.run_until_complete(asyncio.sleep(0))
    value = weakref.ref(task.get_context()[variable])
    probe.done()
    probe.wake_without_gil()
    loop.run_until_complete(task)
    del task
    gc.collect()
    assert value() is None
    loop.close()


def no_reader(loop: Any) -> None:
    loop.remove_reader(loop.watched)


def others_take_its_place(loop: Any) -> None:
    loop.add_reader(loop.watched, print)
    loop.remove_reader(loop.watched)


@pytest.mark.parametrize("removes", [no_reader, others_take_its_place])
@pytest.mark.parametrize("early", [True, False], ids=["woken before", "woken after"])
@each_loop
def test_a_loop_that_is_told_to_listen_no_more_is_asked(
    factory: Any, early: bool, removes: Callable[[Any], None]
) -> None:
    loop, probe = factory(), ext.Probe()
    task = waits(loop, probe)
    probe.done()
    if early:
        probe.wake_without_gil()
    removes(loop)
    gc.collect()
    if not early:
        probe.wake_without_gil()
    ends(loop, task)
    assert loop.calls == 1
    loop.close()


@each_loop
def test_a_descriptor_that_somebody_else_has_closed_is_no_lost_wake(factory: Any) -> None:
    loop, probes = factory(), [ext.Probe(), ext.Probe()]
    tasks = [waits(loop, probe) for probe in probes]
    os.close(loop.watched)
    for probe, task in zip(probes, tasks, strict=True):
        probe.done()
        probe.wake_without_gil()
        ends(loop, task)
    # The loop and Rust close it once more.
    loop.close()


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_has_no_add_reader_is_asked(base: Any) -> None:
    class Without(base):  # type: ignore[misc]
        @property
        def add_reader(self) -> Any:
            raise AttributeError

    loop, probe = Without(), ext.Probe()
    task = waits(loop, probe)
    probe.done()
    probe.wake_without_gil()
    ends(loop, task)
    loop.close()


@each_loop
def test_a_process_without_descriptors_wakes_all_the_same(factory: Any) -> None:
    loop, probe = factory(), ext.Probe()
    loop.run_until_complete(asyncio.sleep(0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def awaits() -> Any:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        # After this task's first step.
        loop.call_soon(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        return await probe.future()

    task = loop.create_task(awaits())
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.watched is None
    probe.done()
    probe.wake_without_gil()
    ends(loop, task)
    loop.close()


@each_loop
def test_what_interrupts_the_loops_first_look_at_it_is_raised(factory: Any) -> None:
    class Interrupted(factory):  # type: ignore[misc]
        interrupts = True

        def add_reader(self, *args: Any) -> None:
            super().add_reader(*args)
            if self.interrupts:
                self.interrupts = False
                raise KeyboardInterrupt

    loop, probe = Interrupted(), ext.Probe()
    task = loop.create_task(probe.future())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(0))
    probe.done()
    probe.wake_without_gil()
    ends(loop, task)
    loop.close()
