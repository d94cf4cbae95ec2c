"""From new_event_loop() to close() and after: nothing leaks, nothing crashes, whatever is still pending."""

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
import socket
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from types import ModuleType
from typing import Any

import pytest

from support.guard import Context, descriptors
from support.loops import Loop, LoopFactory, turn
from support.process import start
from support.threads import in_thread


class Thing:
    """Something whose end can be seen."""


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_new_loop_is_open_and_not_running(loop: Loop) -> None:
    assert not loop.is_closed()
    assert not loop.is_running()


def test_close_is_idempotent(loop: Loop) -> None:
    loop.close()
    assert loop.is_closed()
    loop.close()
    assert loop.is_closed()


def test_a_loop_that_never_ran_can_be_closed(loop: Loop) -> None:
    loop.call_soon(pytest.fail, "closed before")
    loop.call_later(0, pytest.fail, "closed before")
    loop.close()


def test_close_returns_none(loop: Loop) -> None:
    close: Callable[[], Any] = loop.close
    assert close() is None


def test_a_running_loop_cannot_be_closed(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.call_soon(int),
        lambda loop: loop.call_soon_threadsafe(int),
        lambda loop: loop.call_later(1, int),
        lambda loop: loop.call_at(1, int),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_in_executor(None, int),
        lambda loop: loop.add_reader(0, int),
        lambda loop: loop.add_writer(0, int),
        lambda loop: loop.add_signal_handler(10, int),
    ],
    ids=[
        "call_soon",
        "threadsafe",
        "call_later",
        "call_at",
        "run_forever",
        "executor",
        "reader",
        "writer",
        "signal",
    ],
)
def test_a_closed_loop_refuses_work(loop: Loop, use: Callable[[Loop], object]) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        use(loop)


def test_a_closed_loop_makes_no_task(loop: Loop) -> None:
    loop.close()
    coro = forever()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_a_closed_loop_still_answers(loop: Loop) -> None:
    loop.close()
    assert loop.time() > 0
    assert not loop.is_running()
    assert loop.get_debug() in (True, False)
    assert "closed=True" in repr(loop)
    assert loop.create_future().cancel()


def test_a_closed_loop_has_nothing_to_remove(loop: Loop) -> None:
    loop.close()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False


def test_repr_tells_the_state(loop: Loop) -> None:
    shown: list[str] = []
    loop.set_debug(False)
    loop.call_soon(lambda: shown.append(repr(loop)))
    turn(loop)
    assert "running=True closed=False debug=False" in shown[0]
    assert "running=False closed=False debug=False" in repr(loop)


def test_callbacks_pending_at_close_never_run(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: loop.call_soon(pytest.fail, "closed before"))
    loop.run_forever()
    loop.close()


@pytest.mark.parametrize("ran", [False, True], ids=["never ran", "ran"])
def test_close_lets_go_of_what_is_pending(loop: Loop, ran: bool) -> None:
    if ran:
        turn(loop)
    ours, theirs = socket.socketpair()
    things = [Thing() for _ in range(5)]
    dead = [weakref.ref(thing) for thing in things]
    loop.call_soon(print, things[0])
    loop.call_later(100, print, things[1])
    loop.call_soon_threadsafe(print, things[2])
    loop.add_reader(ours, print, things[3])
    loop.add_writer(ours, print, things[4])
    loop.close()
    things.clear()
    gc.collect()
    assert [ref() for ref in dead] == [None] * 5
    ours.close()
    theirs.close()


def test_close_closes_every_descriptor(loop_factory: LoopFactory) -> None:
    before = descriptors()
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert descriptors() == before


def test_a_loop_closed_by_another_thread_leaves_no_descriptor(loop_factory: LoopFactory) -> None:
    before = descriptors()
    for _ in range(3):
        loop = loop_factory()
        loop.run_until_complete(asyncio.sleep(0.001))
        in_thread(loop.close)
        del loop
    gc.collect()
    assert descriptors() == before


def test_many_loops_may_be_open(loop_factory: LoopFactory) -> None:
    loops = [loop_factory() for _ in range(50)]
    for i, loop in enumerate(loops):
        assert loop.run_until_complete(asyncio.sleep(0, i)) == i
    for loop in loops:
        loop.close()


def test_loops_come_and_go(loop_factory: LoopFactory) -> None:
    for i in range(300):
        loop = loop_factory()
        assert loop.run_until_complete(asyncio.sleep(0, i)) == i
        loop.close()


@pytest.mark.parametrize("ran", [False, True], ids=["never ran", "ran"])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_a_loop_that_nobody_holds_dies(
    bare_factory: LoopFactory, ran: bool, closed: bool, unraisable: list[str]
) -> None:
    loop = bare_factory()
    if ran:
        loop.run_until_complete(asyncio.sleep(0.001))
    handle = loop.call_later(100, loop.stop)
    handle.cancel()
    dead = weakref.ref(loop)
    if closed:
        loop.close()
    del loop, handle
    gc.collect()
    assert dead() is None
    if closed:
        assert unraisable == []


def test_a_loop_that_was_never_closed_warns(bare_factory: LoopFactory, unraisable: list[str]) -> None:
    loop = bare_factory()
    loop.run_until_complete(asyncio.sleep(0))
    del loop
    gc.collect()
    assert any("ResourceWarning: unclosed event loop" in text for text in unraisable)


def test_a_loop_that_was_never_closed_leaves_no_descriptor(
    bare_factory: LoopFactory, unraisable: list[str]
) -> None:
    before = descriptors()
    for _ in range(5):
        bare_factory().run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert descriptors() == before


def test_a_loop_in_a_cycle_with_its_callbacks_dies(bare_factory: LoopFactory, unraisable: list[str]) -> None:
    loop = bare_factory()
    loop.holder = loop  # type: ignore[attr-defined]
    loop.call_soon(loop.stop)
    loop.call_later(100, lambda loop: None, loop)
    loop.set_exception_handler(functools.partial(print, loop))
    dead = weakref.ref(loop)
    del loop
    gc.collect()
    assert dead() is None


def test_a_loop_with_what_a_run_left_waiting_dies(bare_factory: LoopFactory, unraisable: list[str]) -> None:
    async def wait(*held: object) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handle = loop.call_later(100, lambda *_: None, loop, [])
        pending: Any = loop.create_task(wait(handle))
        pending._log_destroy_pending = False
        loop.call_later(100, lambda *_: None, pending, handle)
        await asyncio.sleep(0)

    loop = bare_factory()
    loop.run_until_complete(main())
    dead = weakref.ref(loop)
    del loop
    gc.collect()
    assert dead() is None


def test_what_has_run_is_collected_while_the_loop_runs(loop: Loop) -> None:
    async def give(value: Any) -> Any:
        return value

    async def main() -> None:
        ring: list[Any] = []
        task = loop.create_task(give(ring))
        handles = [loop.call_soon(lambda *_: None, ring), loop.call_later(0, lambda *_: None, ring)]
        ring += [task, handles]
        await task
        await asyncio.sleep(0.001)
        dead = [weakref.ref(thing) for thing in (task, *handles)]
        del ring, task, handles
        gc.collect()
        assert [ref() for ref in dead] == [None] * 3

    loop.run_until_complete(main())


def test_a_future_does_not_keep_a_closed_loop_open(bare_factory: LoopFactory) -> None:
    loop = bare_factory()
    future = loop.create_future()
    loop.close()
    del loop
    gc.collect()
    assert future.get_loop().is_closed()


def test_a_loop_is_dropped_inside_a_callback_of_another(
    loop: Loop, bare_factory: LoopFactory, unraisable: list[str]
) -> None:
    others = [bare_factory() for _ in range(3)]
    others[0].call_soon(int)
    others[1].call_later(10, int)
    others[2].close()

    def drop() -> None:
        others.clear()
        gc.collect()

    loop.call_soon(drop)
    assert loop.run_until_complete(asyncio.sleep(0.001, "on")) == "on"


def test_a_loop_is_made_and_closed_inside_a_callback_of_another(
    loop: Loop, loop_factory: LoopFactory
) -> None:
    def callback() -> None:
        other = loop_factory()
        other.call_soon(int)
        other.close()

    loop.call_soon(callback)
    assert loop.run_until_complete(asyncio.sleep(0.001, "on")) == "on"


def test_a_loop_is_dropped_by_its_own_last_callback(bare_factory: LoopFactory, unraisable: list[str]) -> None:
    holder = [bare_factory()]
    dead = weakref.ref(holder[0])

    def callback() -> None:
        holder.pop().stop()

    holder[0].call_soon(callback)
    holder[0].run_forever()
    gc.collect()
    assert dead() is None


def test_a_finalizer_may_use_the_loop_that_closes(loop: Loop) -> None:
    errors: list[str] = []

    class Finalized:
        def __del__(self) -> None:
            try:
                loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                errors.append(str(error))

    loop.call_soon(print, Finalized())
    loop.call_later(100, print, Finalized())
    loop.close()
    gc.collect()
    assert set(errors) <= {"Event loop is closed"}


def test_tasks_pending_at_close_are_reported_when_they_die(loop: Loop, handled: list[Context]) -> None:
    task = loop.create_task(forever())
    turn(loop)
    loop.close()
    del task
    gc.collect()
    assert [context["message"] for context in handled] == ["Task was destroyed but it is pending!"]


def test_a_task_that_never_started_and_dies_with_its_loop_is_reported(
    loop: Loop, handled: list[Context], unraisable: list[str]
) -> None:
    task = loop.create_task(forever())
    loop.close()
    del task
    gc.collect()
    assert [context["message"] for context in handled] == ["Task was destroyed but it is pending!"]


def test_closing_does_not_throw_into_pending_coroutines(loop: Loop) -> None:
    """The coroutine is closed when it dies, as any coroutine is."""
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        except GeneratorExit:
            seen.append("closed")
            raise

    loop.set_exception_handler(lambda *_: None)
    task = loop.create_task(main())
    turn(loop)
    loop.close()
    assert seen == []
    assert not task.done()
    del task
    gc.collect()
    assert seen == ["closed"]


@pytest.mark.parametrize("where", ["here", "another thread"])
def test_rust_futures_pending_at_close_leave_nothing(
    pyloop_factory: LoopFactory, pyloop: ModuleType, handled: list[Context], where: str
) -> None:
    loop = pyloop_factory()
    things = [Thing() for _ in range(10)]
    dead = [weakref.ref(thing) for thing in things]

    async def wait_in_rust(thing: Thing) -> None:
        await pyloop.sleep(3600, thing)

    for thing in things:
        loop.create_task(wait_in_rust(thing))
    loop.run_until_complete(pyloop.sleep(0.001))
    things.clear()
    del thing
    loop.close() if where == "here" else in_thread(loop.close)
    gc.collect()
    assert [context["message"] for context in handled] == ["Task was destroyed but it is pending!"] * 10
    handled.clear()
    del loop
    gc.collect()
    assert [ref() for ref in dead] == [None] * 10


def test_shutdown_asyncgens_closes_generators_that_were_left(loop: Loop) -> None:
    closed: list[int] = []

    async def generator(i: int) -> AsyncGenerator[int]:
        try:
            while True:
                yield i
        finally:
            await asyncio.sleep(0)
            closed.append(i)

    generators = [generator(i) for i in range(3)]

    async def main() -> None:
        for each in generators:
            async for _ in each:
                break

    loop.run_until_complete(main())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(closed) == [0, 1, 2]


def test_a_generator_that_is_collected_is_closed_by_the_loop(loop: Loop) -> None:
    closed: list[int] = []

    async def generator() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == [1]


def test_a_generator_that_fails_to_close_is_reported(loop: Loop, handled: list[Context]) -> None:
    async def generator() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise LookupError("while closing")

    kept = generator()

    async def main() -> None:
        await anext(kept)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert "an error occurred during closing of asynchronous generator" in handled[0]["message"]
    assert isinstance(handled[0]["exception"], LookupError)


def test_a_generator_begun_after_shutdown_warns(loop: Loop) -> None:
    async def generator() -> AsyncGenerator[int]:
        yield 1

    async def main() -> None:
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            async for _ in generator():
                pass

    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(main())


def test_shutdown_asyncgens_of_a_loop_without_generators_does_nothing(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_attributes_may_be_set_on_a_loop(loop: Loop) -> None:
    thing: Any = loop
    thing.anything = [1]
    assert thing.anything == [1]
    del thing.anything
    assert not hasattr(thing, "anything")


def test_methods_may_be_replaced_on_a_loop(loop: Loop) -> None:
    seen: list[tuple[object, ...]] = []
    thing: Any = loop
    thing.getaddrinfo = lambda *given, **more: seen.append(given)
    thing.getaddrinfo("host", 1)
    assert seen == [("host", 1)]
    del thing.getaddrinfo


def test_a_loop_is_a_base_event_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_a_loop_can_be_hashed_compared_and_referred_to_weakly(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    assert loop == loop
    assert loop != other
    assert len({loop, other, loop}) == 2
    assert weakref.ref(loop)() is loop
    assert loop in weakref.WeakSet([loop])
    other.close()


def test_a_loop_cannot_be_pickled_or_copied(loop: Loop) -> None:
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(loop)


def test_a_loop_can_be_subclassed(loop: Loop) -> None:
    base = type(loop)
    seen: list[str] = []

    class Mine(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.mine = 1

        def call_soon(self, *arguments: Any, **more: Any) -> Any:
            seen.append("call_soon")
            return super().call_soon(*arguments, **more)

    mine = Mine()
    mine.call_soon(int)
    assert mine.run_until_complete(asyncio.sleep(0, mine.mine)) == 1
    assert seen[0] == "call_soon"
    mine.close()


def test_an_interpreter_exits_with_a_loop_that_is_still_open(loop_kind: str) -> None:
    with start(loop_kind, "loop = new_event_loop(); loop.call_soon(int); print('end')") as process:
        printed, errors = process.communicate(timeout=15)
    assert (process.returncode, printed) == (0, "end\n")
    assert "panicked" not in errors


def test_an_interpreter_exits_with_pending_tasks_and_threads_that_call(loop_kind: str) -> None:
    script = """
import threading
loop = new_event_loop()
async def forever():
    await asyncio.Event().wait()
task = loop.create_task(forever())
def other():
    while True:
        loop.call_soon_threadsafe(int)
threading.Thread(target=other, daemon=True).start()
loop.run_until_complete(asyncio.sleep(0.01))
print("end", flush=True)
"""
    with start(loop_kind, script) as process:
        printed, errors = process.communicate(timeout=15)
    assert (process.returncode, printed) == (0, "end\n")
    assert "panicked" not in errors


def test_a_loop_closes_while_threads_come_and_go(loop_factory: LoopFactory) -> None:
    for _ in range(10):
        loop = loop_factory()
        threads = [threading.Thread(target=loop.time) for _ in range(3)]
        for thread in threads:
            thread.start()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        for thread in threads:
            thread.join()
