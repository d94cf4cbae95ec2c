"""Rust futures of another extension module: cancelled, dropped, woken too late or from within themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop, LoopFactory, turn
from support.rust import pyloop

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

TaskOf = Callable[[Any], "asyncio.Task[Any]"]

each_class = pytest.mark.parametrize(
    "task_of", [lambda coro: asyncio.Task(coro), lambda coro: pyloop.Task(coro)], ids=["asyncio", "pyloop"]
)


# Cancelling the task drops the future.


@each_class
@pytest.mark.parametrize("whole", [True, False], ids=["the whole task", "awaited"])
def test_it_is_dropped_before_the_loop_goes_on(loop: Loop, task_of: TaskOf, whole: bool) -> None:
    async def wait() -> None:
        await ext.calls_when_dropped(lambda: log.append("dropped"))

    log = list[str]()

    async def main() -> None:
        task = task_of(ext.calls_when_dropped(lambda: log.append("dropped")) if whole else wait())
        await asyncio.sleep(0)
        assert log == []
        loop.call_soon(log.append, "the next callback")
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match=r"^enough$"):
            await task

    loop.run_until_complete(main())
    assert log == ["dropped", "the next callback"]


def test_the_coroutine_hears_of_it_when_the_future_is_gone(loop: Loop) -> None:
    log = list[str]()

    async def wait() -> None:
        try:
            await ext.calls_when_dropped(lambda: log.append("dropped"))
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())
    assert log == ["dropped", "cancelled"]


def test_cancelled_before_its_first_poll_it_is_never_polled(loop: Loop) -> None:
    probe = ext.Probe()

    async def main() -> None:
        task = asyncio.create_task(probe.future())
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())
    assert (probe.polls, probe.dropped) == (0, 1)


def test_a_timeout_drops_it(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ext.never(), 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await ext.never()
        assert ext.live() == before

    before = ext.live()
    loop.run_until_complete(main())


def test_what_was_spawned_is_dropped_on_its_thread(loop: Loop) -> None:
    before = ext.live()

    async def main() -> None:
        task = asyncio.create_task(ext.spawned_never())
        await asyncio.sleep(0)
        assert ext.live() == before + 1
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: ext.live() == before)

    loop.run_until_complete(main())


def test_what_blocks_is_given_up_and_runs_to_its_end(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.create_task(ext.blocking(0.2))
        await ext.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())


def test_what_is_shielded_is_told_and_ends_in_its_own_way(loop: Loop) -> None:
    log = list[str]()

    async def main() -> None:
        task = asyncio.create_task(ext.shielded(3600, log))
        await asyncio.sleep(0)  # it has begun: a millisecond may be over before it is waited for
        await ext.sleep(0.001)
        assert log == []
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: bool(log))

    loop.run_until_complete(main())
    assert log == ["told"]


def test_a_shield_of_asyncios_keeps_it(loop: Loop) -> None:
    probe = ext.Probe()

    async def main() -> None:
        inner = asyncio.create_task(probe.future())
        outer = asyncio.ensure_future(asyncio.shield(inner))
        await asyncio.sleep(0)
        outer.cancel()
        await asyncio.wait([outer])
        assert probe.dropped == 0
        probe.done()
        probe.wake(1)
        assert await inner == "done"

    loop.run_until_complete(main())


def test_the_error_may_be_ignored_and_another_future_awaited(loop: Loop) -> None:
    async def wait() -> Any:
        try:
            await ext.never()
        except asyncio.CancelledError:
            return await ext.from_thread()

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == 42

    loop.run_until_complete(main())


# Wakes.


@each_class
def test_it_completes_while_it_is_cancelled(loop: Loop, task_of: TaskOf) -> None:
    async def main() -> None:
        probe = ext.Probe()
        task = task_of(probe.future())
        await asyncio.sleep(0)
        probe.done()
        probe.wake(1)  # the step is under way
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (probe.polls, probe.dropped) == (1, 1)
        probe.wake(1)

    loop.run_until_complete(main())


def test_a_thread_completes_it_while_it_is_cancelled(loop: Loop) -> None:
    async def one(number: int) -> None:
        probe = ext.Probe()
        task = asyncio.create_task(probe.future())
        await asyncio.sleep(0)
        probe.done()
        thread = threading.Thread(target=probe.wake, args=(1,))
        thread.start()
        if number % 2:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.result() == "done"
        thread.join()
        assert probe.dropped == 1

    async def main() -> None:
        for number in range(100):
            await one(number)

    loop.run_until_complete(main())


@each_class
def test_a_waker_kept_after_the_task_is_woken_a_million_times(loop: Loop, task_of: TaskOf) -> None:
    probe = ext.Probe()

    async def main() -> None:
        task = task_of(probe.future())
        await asyncio.sleep(0)
        probe.done()
        probe.wake(1)
        assert await task == "done"
        polls = probe.polls
        waking = loop.run_in_executor(None, probe.wake, 1_000_000)
        await waking
        assert probe.polls == polls

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_pending_future_woken_a_million_times_is_polled_again_and_stays_alive(loop: Loop) -> None:
    probe = ext.Probe()

    async def main() -> None:
        task = asyncio.create_task(probe.future())
        await asyncio.sleep(0)
        await loop.run_in_executor(None, probe.wake, 1_000_000)
        await until(lambda: probe.polls > 1)
        assert not task.done()
        probe.done()
        probe.wake(1)
        assert await task == "done"

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_wake_after_close_wakes_nobody(loop_factory: LoopFactory) -> None:
    probe = ext.Probe()
    loop = loop_factory()
    task = loop.create_task(probe.future())
    turn(loop)
    task.cancel()
    turn(loop, 2)
    loop.close()
    probe.done()
    probe.wake(1000)
    probe.wake_here()
    assert (probe.polls, probe.dropped) == (1, 1)
    probe.forget()


def test_a_wake_of_a_task_that_a_closed_loop_left_behind(
    loop_factory: LoopFactory, handled: list[Any]
) -> None:
    probe = ext.Probe()
    loop = loop_factory()
    task = loop.create_task(probe.future())
    turn(loop)
    loop.close()
    probe.done()
    probe.wake(1000)
    assert not task.done()
    del task
    probe.forget()


def test_a_wake_between_two_runs_is_not_lost(loop: Loop) -> None:
    probe = ext.Probe()
    task = loop.create_task(probe.future())
    turn(loop)
    probe.done()
    probe.wake(1)
    assert loop.run_until_complete(task) == "done"


def test_the_poll_that_finds_nothing_new_waits_on(loop: Loop) -> None:
    probe = ext.Probe()

    def was_polled(times: int) -> bool:
        return bool(probe.polls == times)

    task = loop.create_task(probe.future())
    turn(loop)
    for polls in range(2, 6):
        probe.wake(1)
        # On a foreign loop a thread of the runtime passes the wake on.
        loop.run_until_complete(until(partial(was_polled, polls)))
        turn(loop, 3)
        assert probe.polls == polls
    probe.done()
    probe.wake(1)
    assert loop.run_until_complete(task) == "done"


# From within.


def test_a_destructor_that_schedules_and_makes_tasks(loop: Loop) -> None:
    log = list[Any]()

    async def late() -> None:
        log.append(await ext.from_thread())

    def dropped() -> None:
        loop.call_soon(log.append, "scheduled")
        tasks.append(loop.create_task(late()))

    tasks = list[asyncio.Task[None]]()

    async def main() -> None:
        task = asyncio.create_task(ext.calls_when_dropped(dropped))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await tasks[0]

    loop.run_until_complete(main())
    assert log == ["scheduled", 42]


def test_a_destructor_that_steps_another_rust_future(loop: Loop) -> None:
    seen = list[Any]()

    async def inner() -> Any:
        return await ext.ready("from the destructor")

    def dropped() -> None:
        coroutine = inner()
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        seen.append(stopped.value.value)

    async def main() -> None:
        task = asyncio.create_task(ext.calls_when_dropped(dropped))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())
    assert seen == ["from the destructor"]


def test_a_destructor_that_cancels_its_own_task_again(loop: Loop) -> None:
    async def main() -> None:
        task: asyncio.Task[Any] = asyncio.create_task(ext.calls_when_dropped(lambda: task.cancel()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())


def test_a_poll_that_runs_python_that_awaits_another_rust_future(loop: Loop) -> None:
    async def inner(number: int) -> Any:
        return await ext.ready(number)

    def step(number: int) -> Any:
        coroutine = inner(number)
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        return stopped.value.value

    async def main() -> Any:
        return await ext.calls(step, 3)

    assert loop.run_until_complete(main()) == [0, 1, 2]


@pytest.mark.parametrize("ours", [True, False], ids=["pyloop.Task", "asyncio.Task"])
def test_a_poll_that_starts_an_eager_task_that_waits_in_rust(loop: Loop, ours: bool) -> None:
    async def inner(number: int) -> Any:
        await ext.yield_once()
        await ext.sleep(0.001)
        return number

    cls: Any = pyloop.Task if ours else asyncio.Task

    async def main() -> None:
        me = asyncio.current_task()
        tasks = await ext.calls(lambda number: cls(inner(number), loop=loop, eager_start=True), 3)
        assert asyncio.current_task() is me
        assert await asyncio.gather(*tasks) == [0, 1, 2]

    loop.run_until_complete(main())


def test_a_poll_that_cancels_its_own_task(loop: Loop) -> None:
    async def main() -> None:
        task: asyncio.Task[Any] = asyncio.create_task(ext.calls(lambda _: task.cancel(), 5))
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())


def test_a_poll_that_awaits_itself_is_told_so(loop: Loop) -> None:
    seen = list[str]()

    def again(_: int) -> None:
        with pytest.raises(RuntimeError, match="being polled already") as told:
            future.send(None)
        seen.append(str(told.value))

    future = ext.calls(again, 1)
    loop.run_until_complete(future)
    assert len(seen) == 1


def test_a_poll_that_closes_itself_ends_after_it(loop: Loop) -> None:
    future: Any = ext.calls(lambda _: future.close(), 5)
    with pytest.raises(RuntimeError, match="closed while it was polled"):
        loop.run_until_complete(future)


# Two loops.


def test_two_loops_in_two_threads_await_each_their_own(loop_factory: LoopFactory) -> None:
    results = dict[int, Any]()

    def body(number: int) -> None:
        async def main() -> list[Any]:
            return list(
                await asyncio.gather(
                    ext.sleep(0.001),
                    ext.local(),
                    ext.from_thread(),
                    ext.spawned(),
                    ext.spawns_local(),
                    ext.runtime(),
                )
            )

        for _ in range(20):
            results[number] = asyncio.run(main(), loop_factory=loop_factory)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert results[0][:5] == [None, 2, 42, 'Some("pyloop-background")', 4]


def test_a_probe_of_one_loop_is_woken_from_another(loop: Loop) -> None:
    probe = ext.Probe()

    def other() -> None:
        async def wake() -> None:
            await ext.sleep(0.001)
            probe.done()
            probe.wake_here()

        asyncio.run(wake(), loop_factory=making.HOSTS["pyloop"])

    async def main() -> Any:
        thread = threading.Thread(target=other)
        thread.start()
        result = await probe.future()
        await asyncio.to_thread(thread.join)
        return result

    assert loop.run_until_complete(main()) == "done"
    loop.run_until_complete(loop.shutdown_default_executor())
