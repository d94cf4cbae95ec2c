"""Tracers and profilers: what they put in the place of asyncio's functions is called, as asyncio calls it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from support.loops import Loop, LoopFactory, Run, new_loop
from support.process import forked, output
from support.tracers import NAMES, WHERE, Seen, class_of_loops, label, nothing, noting, traced

# --- what programs do ---


async def steps(seen: Seen) -> None:
    for number in range(3):
        seen.append(number)
        await asyncio.sleep(0)
    await asyncio.create_task(nothing(seen), name="named")


async def waits(seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    variable = contextvars.ContextVar("variable", default=0)

    def callback(number: int, done: asyncio.Future[str]) -> None:
        seen.append(("callback", number, done.result(), variable.get()))
        variable.set(99)

    future: asyncio.Future[str] = loop.create_future()
    for number in range(3):
        variable.set(number)
        future.add_done_callback(functools.partial(callback, number))
    waiting = [asyncio.create_task(asyncio.wait_for(asyncio.shield(future), 5)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    future.set_result("done")
    seen.append(await asyncio.gather(*waiting, future))
    future.add_done_callback(functools.partial(callback, 3))
    await asyncio.sleep(0)


async def groups(seen: Seen) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("failed")

    async def waits_for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cancelled")
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits_for_ever())
            group.create_task(fails())
    except* ValueError as raised:
        seen.append(repr(raised))
    results = await asyncio.gather(fails(), nothing(seen), return_exceptions=True)
    seen.append([repr(result) for result in results])


async def cancels(seen: Seen) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    assert task.cancel("over")
    with pytest.raises(asyncio.CancelledError):
        await task
    never = asyncio.create_task(nothing(seen))
    never.cancel()
    seen.append(await asyncio.wait([never]) == ({never}, set()))


async def timers(seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.001, "slept")
    loop.call_later(60, seen.append, "never").cancel()
    loop.call_at(loop.time(), seen.append, "at")
    loop.call_later(0, seen.append, "later")
    await asyncio.sleep(0.005)
    try:
        async with asyncio.timeout(0.02):
            await asyncio.Event().wait()
    except TimeoutError:
        seen.append("late")


async def callbacks(seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(seen.append, "soon")
    loop.call_soon(seen.append, "never").cancel()
    loop.call_soon_threadsafe(seen.append, "threadsafe", context=contextvars.copy_context())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def descriptors(seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(
        0.001
    )  # nothing else is ready: whose turn it is, a descriptor's or a step's, is not said
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ready = asyncio.Event()

        def readable() -> None:
            seen.append(ours.recv(10))
            loop.remove_reader(ours)
            ready.set()

        loop.add_reader(ours, readable)
        theirs.send(b"read")
        await ready.wait()


async def stock_futures(seen: Seen) -> None:
    future: asyncio.Future[int] = asyncio.Future()
    asyncio.get_running_loop().call_soon(future.set_result, 1)
    seen.append(await future)
    # A task factory's: asyncio's own class.
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await asyncio.create_task(nothing(seen))
    asyncio.get_running_loop().set_task_factory(None)


PROGRAMS = [steps, waits, groups, cancels, timers, callbacks, descriptors, stock_futures]
WAYS = [
    *(("base", [name]) for name in NAMES),
    *((where, NAMES) for where in WHERE),
    ("base", ["_run"]),
    ("base", [*NAMES, "_run"]),
    ("class", ["call_soon", "_run"]),
    ("instance", ["call_soon", "_run"]),
]


def seen_by(
    loop: Loop, where: str, names: list[str], program: Callable[[Seen], Coroutine[Any, Any, None]], when: str
) -> Seen:
    seen: Seen = []

    async def main() -> None:
        if when == "in a run":
            # Steps and callbacks are in the queue.
            beside = asyncio.ensure_future(nothing(seen))
            loop.call_soon(seen.append, "before")
            with traced(loop, where, names, seen):
                await beside
                await program(seen)
        else:
            await program(seen)
        seen.append("not traced")
        await nothing(seen)

    if when == "before a run":
        with traced(loop, where, names, seen):
            loop.run_until_complete(main())
    else:
        loop.run_until_complete(main())
    return seen


@pytest.mark.parametrize(
    ("when", "debug"), [("before a run", False), ("in a run", False), ("in a run", True)], ids=str
)
@pytest.mark.parametrize(
    ("where", "names"), WAYS, ids=lambda each: each if isinstance(each, str) else "+".join(each)
)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
@forked
def test_a_tracer_sees_what_it_sees_on_asyncio(
    pyloop_factory: LoopFactory,
    where: str,
    names: list[str],
    program: Callable[[Seen], Coroutine[Any, Any, None]],
    when: str,
    debug: bool,
) -> None:
    both = []
    for loop in new_loop("asyncio"), pyloop_factory():
        loop.set_debug(debug)
        loop.slow_callback_duration = 60
        both.append(seen_by(loop, where, names, program, when))
        loop.close()
    asyncios, ours = both
    assert ours == asyncios
    assert "not traced" in ours


# --- one tracer after the other ---


def test_a_subclass_is_asked_for_each_step_and_each_callback(
    loop_kind: str, bare_factory: LoopFactory
) -> None:
    base = class_of_loops(bare_factory)
    seen: Seen = []

    class Asked(base):  # type: ignore[misc, valid-type]
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            seen.append(label(callback))
            return super().call_soon(callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            seen.append(("at", label(callback)))
            return super().call_at(when, callback, *args, context=context)

        def create_task(self, coro: Any, **kwargs: Any) -> Any:
            seen.append(coro.__qualname__)
            return super().create_task(coro, **kwargs)

    async def main() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    loop = Asked()
    loop.run_until_complete(main())
    loop.close()
    wrapper = "TaskStepMethWrapper"
    assert seen == [
        main.__qualname__,
        wrapper,
        wrapper,
        ("at", "_set_result_unless_cancelled"),
        "task_wakeup",
        "_run_until_complete_cb",
    ]


def test_what_is_undone_is_not_called_any_more(run: Run, loop: Loop) -> None:
    seen: Seen = []

    async def main() -> None:
        for where in WHERE:
            with traced(loop, where, [*NAMES, "_run"], seen):
                await asyncio.create_task(nothing(seen))
            assert seen
            await asyncio.sleep(0)
            seen.clear()
            await asyncio.create_task(nothing(seen))
            assert seen == []

    run(main())


# In a process of its own: a class that is changed so often is never again as quick (below).
CHANGED_OFTEN = """
from unittest import mock

async def main():
    kind = type(asyncio.get_running_loop())
    original, seen = kind.call_soon, []

    def call_soon(self, *args, **kwargs):
        seen.append(args)
        return original(self, *args, **kwargs)

    for number in range(1500):
        with mock.patch.object(kind, "call_soon", call_soon):
            await asyncio.sleep(0)
        assert len(seen) == 1, number
        seen.clear()
        await asyncio.sleep(0)
        assert seen == [], number

asyncio.run(main(), loop_factory=new_event_loop)
"""


def test_a_class_is_changed_many_times(loop_kind: str) -> None:
    assert output(loop_kind, CHANGED_OFTEN) == ""


# CPython 3.13 and later tell of a thousand changes of a class, and of none that follow.
CHANGED_TOO_OFTEN = """
import time

def cost():
    loop = new_event_loop()
    left = 5000

    def again():
        nonlocal left
        left -= 1
        loop.call_soon(again) if left else loop.stop()

    loop.call_soon(again)
    began = time.process_time()
    loop.run_forever()
    spent = time.process_time() - began
    seen = []
    loop.call_soon = lambda callback, *args, **kwargs: seen.append(callback)
    loop.create_future().add_done_callback(print)
    done = loop.create_future()
    done.set_result(None)
    done.add_done_callback(print)
    del loop.call_soon
    loop.close()
    return spent, seen == [print]

before, _ = cost()
for _ in range(1200):
    asyncio.SelectorEventLoop.time = asyncio.SelectorEventLoop.time
    asyncio.SelectorEventLoop.time
    del asyncio.SelectorEventLoop.time
    asyncio.SelectorEventLoop.time
after, is_seen = cost()
print(after < before * 100 + 0.1, is_seen)
"""


def test_a_class_that_was_changed_too_often_costs_a_call_by_name(loop_kind: str) -> None:
    assert output(loop_kind, CHANGED_TOO_OFTEN) == "True True\n"


def test_the_loops_dictionary_is_looked_at_when_a_run_begins(run: Run, loop: Loop) -> None:
    seen: Seen = []

    async def main() -> None:
        await asyncio.sleep(0)

    run(main())
    vars(loop)["call_soon"] = noting("call_soon", seen, bound=True)(loop.call_soon)
    run(main())
    # Of what comes before the run begins nothing is said.
    assert [about for _, about, *_ in seen[-2:]] == ["TaskStepMethWrapper", "_run_until_complete_cb"]
    del vars(loop)["call_soon"]
    seen.clear()
    run(main())
    assert seen == []


def test_a_loop_is_given_another_class(run: Run, loop: Loop) -> None:
    seen: Seen = []
    base: Any = type(loop)

    class Traced(base):  # type: ignore[misc]
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            seen.append(label(callback))
            return super().call_soon(callback, *args, context=context)

    async def main() -> None:
        loop.__class__ = Traced
        await asyncio.sleep(0)
        assert seen == ["TaskStepMethWrapper"]
        loop.__class__ = base
        await asyncio.sleep(0)
        assert len(seen) == 1

    run(main())


def test_attributes_of_a_loop_are_set_and_deleted(loop: Loop) -> None:
    anything: Any = loop
    anything.call_soon = anything.note = 1
    assert anything.call_soon == anything.note == 1
    del anything.call_soon, anything.note
    assert callable(loop.call_soon)
    for name in "call_soon", "note":
        with pytest.raises(AttributeError):
            delattr(loop, name)


def test_every_lookup_goes_through_a_getattribute(
    run: Run, loop_kind: str, bare_factory: LoopFactory
) -> None:
    base = class_of_loops(bare_factory)
    asked: Seen = []

    class Curious(base):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name == "call_soon":
                asked.append(name)
            return super().__getattribute__(name)

    loop = Curious()
    loop.run_until_complete(nothing([]))
    loop.close()
    assert len(asked) == 3
