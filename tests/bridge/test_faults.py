"""What befalls Rust futures: exits, closed loops, late wakes, re-entrancy, races."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from support import process
from support.extension import all_dropped, ext, until
from support.guard import Context
from support.loops import Loop, LoopFactory

pytestmark = pytest.mark.usefixtures("background", "pyloop_factory")

PRELUDE = """
import asyncio, gc, multiprocessing, os, signal, sys, threading, time, warnings
import pyloop_extension as ext
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
warnings.simplefilter("ignore", ResourceWarning)  # a loop that is not closed

if KIND == "uvloop":
    from uvloop import new_event_loop

async def awaits(awaitable):
    return await awaitable
"""

kinds = pytest.mark.parametrize("kind", ["asyncio", "pyloop", "uvloop"])


def script_of(kind: str, script: str) -> tuple[str, str]:
    return ("pyloop" if kind == "pyloop" else "asyncio"), f"KIND = {kind!r}\n{PRELUDE}{script}"


def run(kind: str, script: str) -> str:
    return process.output(*script_of(kind, script))


async def awaits(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def for_ever(_held: object = None) -> None:
    await asyncio.Event().wait()


def let_go(loop: Loop) -> None:
    """Nobody wants to hear of what is pending: close."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


# The end of the process.

STATES = """
begun, pending = [], []
async def for_ever():
    begun.append(1)
    await asyncio.Event().wait()

async def asked(_):
    await for_ever()

async def numbers():
    yield 1
    await for_ever()

async def iterates():
    async for _ in ext.ticks(1_000_000):
        pass

async def leaves_local_tasks():
    await ext.leaves_local_tasks(3, object())
    await ext.never()

async def local_task_from_thread():
    await ext.local_task_from_thread(0.003, int)
    await ext.never()

async def raced():
    while True:
        await ext.raced(100)

async def attaches():
    ext.attaches_for_ever()
    await ext.never()

kept = ext.Kept()
kept.wake_for_ever()
STATES = [
    lambda: awaits(ext.never()), lambda: awaits(ext.spawned_never()), lambda: awaits(ext.blocking(0.02)),
    lambda: awaits(ext.blocking_call(lambda: time.sleep(0.02))), lambda: awaits(ext.shielded(30, [])),
    lambda: awaits(kept.wait()), lambda: awaits(ext.awaits(for_ever())), lambda: awaits(ext.sleep(30)),
    lambda: awaits(ext.awaits_spawned(for_ever())), lambda: awaits(ext.sums(numbers(), 10**9)),
    lambda: awaits(ext.polls_python(lambda: None)), lambda: awaits(ext.drops_python(lambda: None)),
    lambda: awaits(ext.asks(asked, 2)), lambda: awaits(ext.asks_spawned(asked, 2)),
    lambda: awaits(ext.Counter().keeps()), lambda: awaits(ext.Counter().shielded()),
    iterates, leaves_local_tasks, local_task_from_thread, raced, attaches,
]

async def main():
    for state in STATES:
        pending.append(asyncio.ensure_future(state()))
    while len(begun) < 7:  # those of other threads have started on the loop
        await asyncio.sleep(0.001)
    if HOW == "exit":
        sys.exit(0)

def run():
    asyncio.run(main(), loop_factory=new_event_loop)

if HOW in ("return", "exit"):
    run()
elif HOW in ("close", "leave"):
    loop = new_event_loop()
    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    if HOW == "close":
        loop.close()
else:
    thread = threading.Thread(target=run)
    thread.start()
    if HOW == "joined":
        thread.join()
"""


@kinds
@pytest.mark.parametrize("how", ["return", "exit", "close", "leave", "joined", "not_joined"])
@pytest.mark.parametrize("_time", range(6))  # two hundred ends in all
def test_a_process_ends_in_silence_whatever_is_pending(kind: str, how: str, _time: int) -> None:
    started = [process.start(*script_of(kind, f"HOW = {how!r}\n{STATES}")) for _ in range(2)]
    for child in started:
        with child:
            printed, errors = child.communicate(timeout=15)
            assert (child.returncode, printed, errors) == (0, "", "")


# A runtime before the first poll.


@kinds
def test_pyo3s_async_functions_find_a_runtime_that_was_entered_before(kind: str) -> None:
    script = """
ext.enter_runtime()
async def main():
    await asyncio.gather(ext.pyo3_sleep(0.001), ext.pyo3_sleep(0.001))
    await ext.spawns_local()
    return ext.is_inside_runtime()
for _ in range(2):
    print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == "True\nTrue\n"


# Wakes that come too late.


def test_a_waker_outlives_its_loop(loop_factory: LoopFactory) -> None:
    kept, loop = ext.Kept(), loop_factory()
    with all_dropped():
        task = loop.create_task(awaits(kept.wait()))
        loop.run_until_complete(asyncio.sleep(0))
        let_go(loop)
        gone = weakref.ref(task)
        del task, loop
        kept.wake(1000, 2)
        gc.collect()
        assert gone() is None


def test_a_million_wakes_of_a_task_that_has_ended_are_one_message(loop_factory: LoopFactory) -> None:
    kept = ext.Kept()

    async def main() -> None:
        task = asyncio.create_task(awaits(kept.wait()))
        await asyncio.sleep(0)
        kept.finish()
        kept.wake(1, 1)
        await task
        waking = threading.Thread(target=kept.wake, args=(250_000, 4))
        waking.start()
        while waking.is_alive():
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(asyncio.sleep(0, "works"), 5) == "works"

    loop = loop_factory()
    loop.run_until_complete(main())
    if hasattr(loop, "statistics"):  # the one that finds the task ended is the last
        assert loop.statistics()["messages"] <= 4
    loop.close()


def test_a_task_that_is_begun_again_hears_the_wakers_of_its_first_life(loop_factory: LoopFactory) -> None:
    first, again = ext.Kept(), ext.Kept()

    async def main() -> None:
        task = asyncio.create_task(awaits(first.wait()))
        await asyncio.sleep(0)
        first.finish()
        first.wake(1, 1)
        await task
        await asyncio.to_thread(first.wake, 1, 1)
        await asyncio.sleep(0)
        if sys.version_info >= (3, 15):
            refused = for_ever()
            with pytest.raises(RuntimeError, match="already initialized"):
                task.__init__(refused)
            refused.close()
            return
        task.__init__(awaits(again.wait()))  # type: ignore[misc]  # as asyncio's own tests do
        await asyncio.sleep(0)
        again.finish()
        await asyncio.to_thread(again.wake, 1, 1)
        async with asyncio.timeout(5):
            await task

    with closing(loop_factory()) as loop:
        loop.run_until_complete(main())


def test_a_loop_may_be_closed_while_threads_wake_its_tasks(loop_factory: LoopFactory) -> None:
    with all_dropped():
        for _ in range(50):
            kept, loop = ext.Kept(), loop_factory()
            tasks = [loop.create_task(awaits(kept.wait())) for _ in range(2)]
            loop.run_until_complete(asyncio.sleep(0))
            waking = threading.Thread(target=kept.wake, args=(300, 1))
            waking.start()
            let_go(loop)
            waking.join()
            del tasks, loop


# What a closed loop leaves.


class Held: ...


@contextmanager
def dropped() -> Iterator[Held]:
    """What the block gives away is gone soon after it."""
    held = Held()
    gone = weakref.ref(held)
    with all_dropped():
        yield held
        del held

    async def until_gone() -> None:
        # A thread of the runtime may have had it last: what it drops goes when Rust next has the GIL.
        await until(lambda: ext.live() >= 0 and gc.collect() >= 0 and gone() is None)

    asyncio.run(until_gone(), loop_factory=asyncio.SelectorEventLoop)


def test_local_tasks_end_with_their_loop(pyloop_factory: LoopFactory) -> None:
    with dropped() as held:
        loop = pyloop_factory()
        loop.run_until_complete(ext.leaves_local_tasks(5, held))
        loop.close()
        del held


def test_local_tasks_of_a_closed_loop_end_at_the_threads_next_poll(loop_factory: LoopFactory) -> None:
    with dropped() as held:
        loop = loop_factory()
        loop.run_until_complete(ext.leaves_local_tasks(5, held))
        loop.close()
        del held
        loop = loop_factory()
        loop.run_until_complete(ext.yield_once())
        loop.close()


def test_local_tasks_of_another_loop_live_on(loop_factory: LoopFactory) -> None:
    loop, other = loop_factory(), loop_factory()
    done: list[int] = []
    loop.run_until_complete(ext.local_task_from_thread(0.01, lambda: done.append(1)))
    other.run_until_complete(ext.leaves_local_tasks(1, None))
    other.close()
    loop.run_until_complete(until(lambda: bool(done)))
    loop.close()


def test_local_tasks_end_with_their_thread(loop_factory: LoopFactory) -> None:
    def other(held: Held) -> None:
        loop = loop_factory()
        loop.run_until_complete(ext.leaves_local_tasks(5, held))
        loop.close()

    before = ext.live()
    with dropped() as held:
        thread = threading.Thread(target=other, args=(held,))
        thread.start()
        thread.join()
        del thread, held
        # CPython 3.12's join does not wait for what a thread's own destructors do.
        asyncio.run(until(lambda: ext.live() == before))


def test_python_awaitables_of_a_closed_loop_are_let_go(loop_factory: LoopFactory) -> None:
    with dropped() as held:
        loop = loop_factory()

        async def main(held: Held) -> None:
            for wait in (ext.awaits, ext.awaits_spawned):
                asyncio.ensure_future(awaits(wait(for_ever(held)))).set_name("waits")
            await until(lambda: len(asyncio.all_tasks()) == 5)

        loop.run_until_complete(main(held))
        let_go(loop)
        del held, loop


def test_a_python_awaitable_that_its_loop_never_starts_is_an_error(pyloop_factory: LoopFactory) -> None:
    told: list[object] = []

    async def two() -> int:
        return 2

    async def main() -> None:
        ext.awaits_detached(two(), told.append)

    for _ in range(20):
        told.clear()
        loop = pyloop_factory()
        loop.run_until_complete(main())
        loop.close()
        asyncio.run(until(lambda: bool(told)), loop_factory=asyncio.SelectorEventLoop)
        assert told == [2] or (isinstance(told[0], RuntimeError) and str(told[0]) == "Event loop is closed")


# Streams.


def test_a_stream_dropped_on_another_thread_closes_its_generator(loop: Loop, handled: list[Context]) -> None:
    closed: list[int] = []

    async def generator(number: int) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(100)
        finally:
            closed.append(number)

    async def main() -> None:
        for number in range(5):
            assert await ext.drops_a_stream_elsewhere(generator(number)) == (True, False)
        await until(lambda: len(closed) == 5)

    loop.run_until_complete(main())
    assert handled == []


def test_every_waiter_of_a_stream_gets_its_item(loop: Loop) -> None:
    async def main() -> None:
        channel, stream = ext.channel()
        got: list[int] = []

        async def consume() -> None:
            async for item in stream:
                got.append(item)  # noqa: PERF401 (item by item)

        consumers = [asyncio.create_task(consume()) for _ in range(3)]
        await asyncio.sleep(0)
        for item in range(10):
            channel.put(item)
            await until(lambda: len(got) == item + 1)  # noqa: B023
        consumers[2].cancel()  # it has the stream's only waker
        await asyncio.sleep(0)
        for item in range(10, 20):
            channel.put(item)
            await until(lambda: len(got) == item + 1)  # noqa: B023
        channel.end()
        await asyncio.wait(consumers)
        assert got == list(range(20))

    loop.run_until_complete(main())


def test_a_stream_that_panics_has_ended(loop: Loop) -> None:
    async def main() -> list[object]:
        stream, got = ext.stream_panics(), []
        try:
            async for item in stream:
                got.append(item)  # noqa: PERF401 (until it raises)
        except BaseException as raised:
            got.append(type(raised).__name__)
        return got + [item async for item in stream]

    with all_dropped():
        assert loop.run_until_complete(main()) == [0, "PanicException"]


# Re-entrancy.


def refusal(f: Any) -> str:
    try:
        f()
    except RuntimeError as refused:
        return str(refused)
    return "not refused"


def test_a_poll_that_does_what_it_must_not_is_told_so(loop: Loop) -> None:
    polled: list[Any] = []

    def nested() -> str:
        waiting = for_ever()
        try:
            return refusal(lambda: loop.run_until_complete(waiting))
        finally:
            waiting.close()

    async def main() -> None:
        assert "running" in await ext.polls_python(lambda: refusal(loop.close))
        assert "running" in await ext.polls_python(nested)
        polled.append(ext.polls_python(lambda: refusal(lambda: polled[0].send(None))))
        assert "being polled already" in await polled[0]
        polled[:] = [ext.polls_python(lambda: polled[0].close())]
        with pytest.raises(RuntimeError, match="closed while it was polled"):
            await polled[0]

    with all_dropped():
        loop.run_until_complete(main())
        polled.clear()


def test_a_poll_may_poll_other_futures(loop: Loop) -> None:
    tasks: list[asyncio.Task[int]] = []

    async def inner() -> int:
        await ext.sleep(0.001)
        return 9

    def by_hand() -> object:
        try:
            ext.ready(5).send(None)
        except StopIteration as ended:
            return ended.value
        return None

    def eagerly() -> object:
        if not tasks:
            tasks.append(asyncio.Task(inner(), loop=loop, eager_start=True))
        return tasks[0].result() if tasks[0].done() else None

    async def main() -> None:
        assert await ext.polls_python(by_hand) == 5
        assert await ext.polls_python(eagerly) == 9

    loop.run_until_complete(main())


def test_a_poll_may_cancel_its_task_and_drop_its_awaitable(loop: Loop) -> None:
    box: list[Any] = []

    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    def drop() -> int:
        box.clear()
        return gc.collect() * 0

    async def dropping() -> int:
        box.append(ext.polls_python(drop))
        result: int = await box[0]
        return result

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(awaits(ext.polls_python(cancel)))
        assert await dropping() == 0

    with all_dropped():
        loop.run_until_complete(main())


def test_a_destructor_may_do_anything(loop: Loop) -> None:
    ran: list[int] = []

    async def main() -> None:
        destructors: list[Any] = [
            lambda: loop.call_soon(ran.append, 1),
            lambda: loop.call_soon_threadsafe(ran.append, 2),
            lambda: loop.create_task(awaits(ext.yield_once())).add_done_callback(lambda _: ran.append(3)),
            lambda: ran.append(4) if "running" in refusal(loop.close) else None,
            lambda: ran.append(5 + 0 * gc.collect()),
        ]
        for destructor in destructors:
            task = asyncio.create_task(awaits(ext.drops_python(destructor)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            pending = ext.drops_python(destructor)
            pending.send(None)
            del pending
        await until(lambda: len(ran) == 10)

    loop.run_until_complete(main())
    assert sorted(ran) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_destructor_that_panics_takes_no_cancellation(loop: Loop, unraisable: list[str]) -> None:
    async def main() -> None:
        task = asyncio.create_task(awaits(ext.panics_in_drop()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())
    assert len(unraisable) == 1


# Races.


def test_a_future_that_completes_while_it_is_cancelled_does_one_of_the_two(loop: Loop) -> None:
    ended = {"result": 0, "cancelled": 0}
    chance = random.Random(5)

    async def main() -> None:
        for _ in range(2000):
            spins = chance.randrange(3000)
            task = asyncio.create_task(awaits(ext.raced(spins)))
            for _ in range(1 + chance.randrange(2)):
                await asyncio.sleep(0)
            for _ in range(chance.randrange(2000)):
                pass
            task.cancel()
            try:
                assert await task == spins
                ended["result"] += 1
            except asyncio.CancelledError:
                ended["cancelled"] += 1

    with all_dropped():
        loop.run_until_complete(main())
    assert sum(ended.values()) == 2000


def test_loops_of_two_threads_share_an_extension(loop_factory: LoopFactory) -> None:
    made: list[Any] = []
    ready, over = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    async def makes() -> None:
        made.extend((ext.sleep(0.005), ext.local()))
        ready.set()
        while not over.is_set():
            await ext.raced(10)
            await ext.sleep(0.0005)
        await made.pop()

    def other() -> None:
        try:
            asyncio.run(makes(), loop_factory=loop_factory)
        except BaseException as raised:
            failed.append(raised)

    async def uses() -> None:
        await made[0]
        for _ in range(200):
            await ext.raced(10)
            await ext.yield_once()
        over.set()

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(5)
    try:
        asyncio.run(uses(), loop_factory=loop_factory)
    finally:
        over.set()
        thread.join()
    made.clear()
    assert failed == []
