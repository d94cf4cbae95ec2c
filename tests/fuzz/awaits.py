"""The instructions that wait, or are around what waits: for coroutines."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any

from . import acts
from .grammar import Body, Op
from .sides import RUST
from .world import FAR, Actor, Stopped, World, describe, text_of

Numbers = tuple[int, ...]
Await = Callable[[World, Actor, Numbers, tuple[Body, ...]], Coroutine[Any, Any, object]]
AWAITS: dict[str, Await] = {}


class Return(Exception):
    """The body ends here."""


def waits(kind: str) -> Callable[[Await], Await]:
    def enter(function: Await) -> Await:
        AWAITS[kind] = function
        return function

    return enter


async def perform(w: World, me: Actor, op: Op) -> object:
    """One instruction: what comes of it is noted, what it raises goes on."""
    try:
        if op.kind in AWAITS:
            got = await AWAITS[op.kind](w, me, op.numbers, op.bodies)
        else:
            got = acts.ACTS[op.kind](w, me, op.numbers, op.bodies)
    except BaseException as error:
        if not isinstance(error, Return):
            task = _current()
            w.note(me.label, f"{op.kind}: raises {describe(error)}, {task and task.cancelling()} requests")
        raise
    w.note(me.label, f"{op.kind}: {text_of(got)}")
    return got


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # closed when the loop has gone
        return None


async def perform_all(w: World, me: Actor, body: Body) -> None:
    for op in body:
        await perform(w, me, op)


async def root(w: World, me: Actor, body: Body) -> str:
    """A whole task. Two of three go on after a mistake, one of four when it was cancelled."""
    _be_seen(w)
    w.note(me.label, "starts")
    for op in body:
        try:
            await perform(w, me, op)
        except Return:
            break
        except Exception:
            if me.order % 3 == 2:
                raise
        except asyncio.CancelledError:
            if me.order % 4 != 3:
                raise
    return f"end of {me.label}"


def _be_seen(w: World) -> None:
    task = _current()
    if task is not None and task not in w.tasks and task not in w.seen:
        w.seen.append(task)


async def one(w: World, me: Actor, op: Op) -> object:
    """One instruction as a coroutine of its own, which may become a task."""
    _be_seen(w)
    try:
        return await perform(w, me, op)
    except Return:
        return "returned"


def awaitable(w: World, me: Actor, op: Op) -> Any:
    """The instruction as something that can be awaited: a future, a task, a Rust future, a coroutine."""
    if op.kind == "future":
        return w.future(op.numbers[0])
    if op.kind == "task" and (task := w.older(me, op.numbers[0])) is not None:
        return task
    if op.kind == "rust":
        return w.side.rust(RUST[op.numbers[0] % len(RUST)], w.loop)
    return one(w, me.child(), op)


def awaitables(w: World, me: Actor, body: Body) -> list[Any]:
    return [awaitable(w, me, op) for op in body]


# ---- one thing ---------------------------------------------------------------------------------------------


@waits("sleep")
async def sleep(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    number = numbers[0]
    if number == 0:
        await asyncio.sleep(1e-9)
    elif number == 1:
        await asyncio.sleep(-1)
    else:
        for _ in range(max(1, number - 8)):
            await asyncio.sleep(0)
    return None


@waits("nap")
async def nap(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    await (w.side.sleep if numbers[0] % 3 else asyncio.sleep)(w.nap())
    return None


@waits("future")
async def future(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return await w.future(numbers[0])


@waits("task")
async def task(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    older = w.older(me, numbers[0])
    return None if older is None else await older


@waits("itself")
async def itself(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    """A task of its own: nobody else may await it, as asyncio leaves it marked as being awaited."""

    async def ring() -> object:
        return await made

    made: asyncio.Task[object] = w.loop.create_task(ring())
    return await made


@waits("rust")
async def rust(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return await w.side.rust(RUST[numbers[0] % len(RUST)], w.loop)


class Bare:
    """Yields what it was told to, then is done."""

    def __init__(self, *things: object) -> None:
        self.things = things

    def __repr__(self) -> str:
        return "bare"

    def __await__(self) -> Generator[Any, Any, str]:
        yield from self.things
        return "bare"


@waits("bare yield")
async def bare_yield(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    choices: list[tuple[object, ...]] = [(None,), (None, None, None), (w.future(numbers[0]),), (Bare(),)]
    return await Bare(*choices[numbers[0] % 4])


@types.coroutine
def _by_generator(inner: Awaitable[Any]) -> Generator[Any, Any, Any]:
    return (yield from inner.__await__())


@waits("await")
async def await_(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    inner = awaitable(w, me, bodies[0][0])
    if numbers[0] % 3 == 0:
        return await _by_generator(inner)
    return await inner


@waits("inside")
async def inside(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    for _ in range(numbers[0] % 3):
        me = me.inside()
    await _deeper(w, me, bodies[0], numbers[0] % 4)
    return None


async def _deeper(w: World, me: Actor, body: Body, depth: int) -> None:
    await (_deeper(w, me, body, depth - 1) if depth else perform_all(w, me, body))


@waits("generator")
async def generator(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    """An asynchronous generator, read to its end, left in the middle, or closed."""

    async def each() -> AsyncGenerator[object, None]:
        try:
            for op in bodies[0]:
                yield await perform(w, inner, op)
        finally:
            w.note(inner.label, "generator ends")
            if numbers[0] % 2:
                await asyncio.sleep(0)

    inner = me.inside()
    made, count = each(), 0
    async for _ in made:
        count += 1
        if numbers[0] % 3 == 0:
            await made.aclose()
            break
        if numbers[0] % 3 == 1:
            break
    return count


@waits("return")
async def return_(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    raise Return


# ---- several -----------------------------------------------------------------------------------------------


@waits("gather")
async def gather(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    given = awaitables(w, me, bodies[0])
    if numbers[0] % 4 == 0:
        given.append(given[0])
    got = await asyncio.gather(*given, return_exceptions=numbers[0] % 2 == 0)
    return [describe(it) if isinstance(it, BaseException) else it for it in got]


@waits("wait")
async def wait(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    when = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)[numbers[0] % 3]
    given = [asyncio.ensure_future(it, loop=w.loop) for it in awaitables(w, me, bodies[0])]
    done, pending = await asyncio.wait(given, return_when=when, timeout=_timeout(numbers[1]))
    return [it in done for it in given], len(pending)


@waits("as_completed")
async def as_completed(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    got = list[object]()
    given = [asyncio.ensure_future(it, loop=w.loop) for it in awaitables(w, me, bodies[0])]
    for it in asyncio.as_completed(given, timeout=_timeout(numbers[0])):
        try:
            got.append(await it)
        except (ValueError, KeyError) as error:
            got.append(describe(error))
    return got


def _timeout(number: int) -> float | None:
    """Mostly never."""
    return {0: 1e-9, 1: 1e-9, 2: FAR, 3: FAR}.get(number)


@waits("wait_for")
async def wait_for(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    timeout = [None, FAR, FAR, 0, -1, 1e-9, 1e-9][numbers[0] % 7]
    return await asyncio.wait_for(awaitable(w, me, bodies[0][0]), timeout)


@waits("shield")
async def shield(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    return await asyncio.shield(awaitable(w, me, bodies[0][0]))


def _deadline(w: World, number: int) -> float | None:
    return [None, w.loop.time() + FAR, w.loop.time() + 1e-9, w.due(), w.due()][number % 5]


@waits("timeout")
async def timeout(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    inner = me.inside()
    async with asyncio.timeout_at(_deadline(w, numbers[0])) as made:
        inner.timeouts = [*inner.timeouts, made]
        await perform_all(w, inner, bodies[0])
    return made.expired()


@waits("reschedule")
async def reschedule(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    if me.timeouts:
        me.timeouts[numbers[0] % len(me.timeouts)].reschedule(_deadline(w, numbers[0] // 2))
    return [made.expired() for made in me.timeouts]


class _InOrder(dict[object, None]):
    """A set in the order of its making. A TaskGroup cancels its tasks in the order of a set: by address."""

    def add(self, item: object) -> None:
        self[item] = None

    def discard(self, item: object) -> None:
        self.pop(item, None)


def in_order(group: asyncio.TaskGroup) -> asyncio.TaskGroup:
    inside: Any = group
    inside._tasks = _InOrder()
    return group


@waits("group")
async def group(w: World, me: Actor, _numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    inner = me.inside()
    async with in_order(asyncio.TaskGroup()) as made:
        inner.groups = [*inner.groups, made]
        for op in bodies[0]:
            new = w.new_actor()
            w.tasks[new.order] = made.create_task(one(w, new, op), name=new.label)
        await perform_all(w, inner, bodies[1])
    return None


@waits("add to group")
async def add_to_group(w: World, me: Actor, _numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    if not me.groups:
        return None
    new = w.new_actor()
    made = root(w, new, bodies[0])
    try:
        w.tasks[new.order] = me.groups[-1].create_task(made, name=new.label)
    finally:
        if w.tasks[new.order] is None:
            made.close()
    return new.label


# ---- locks and queues --------------------------------------------------------------------------------------


@waits("lock")
async def lock(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    async with w.locks[numbers[0] % 2]:
        await perform_all(w, me.inside(), bodies[0])
    return None


@waits("acquire")
async def acquire(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return await w.locks[numbers[0] % 2].acquire()


@waits("condition")
async def condition(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    async with w.condition:
        if numbers[0] % 2:
            await w.condition.wait()
        else:
            await w.condition.wait_for(lambda: w.future(numbers[0]).done())
        await perform_all(w, me.inside(), bodies[0])
    return None


@waits("notify")
async def notify(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    async with w.condition:
        w.condition.notify(numbers[0] % 3 + 1)
    return None


@waits("event")
async def event(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return await w.events[numbers[0] % 2].wait()


@waits("put")
async def put(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    await w.queues[numbers[0] % 3].put(numbers[0])
    return None


@waits("get")
async def get(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return await w.queues[numbers[0] % 3].get()


@waits("join")
async def join(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    if numbers[0] == 0 and sys.version_info >= (3, 13):
        w.queues[2].shutdown(immediate=True)
    await w.queues[numbers[0] % 3].join()
    return None


@waits("barrier")
async def barrier(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    return await w.barrier.wait()


# ---- exceptions --------------------------------------------------------------------------------------------


@waits("try")
async def try_(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    """The first body, and the second when it fails, or in any case."""
    first, number = me.inside(), numbers[0] % 6
    caught: tuple[type[BaseException], ...] = (Exception, asyncio.CancelledError)
    if number == 0:
        caught = (Exception,)
    elif number == 1:
        caught = (Exception, asyncio.CancelledError, Stopped)
    if number == 2:
        try:
            await perform_all(w, first, bodies[0])
        finally:
            await perform_all(w, me.inside(), bodies[1])
        return "finally"
    try:
        await perform_all(w, first, bodies[0])
    except Return:
        raise
    except caught as error:
        current = _current()
        if isinstance(error, asyncio.CancelledError) and number % 2 and current is not None:
            current.uncancel()
        await perform_all(w, me.inside(), bodies[1])
        if number == 3:
            raise RuntimeError(me.label) from error
        return f"caught {describe(error)}"
    return "nothing to catch"
