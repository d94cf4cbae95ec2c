"""The instructions that do not wait. Callbacks may have them, too.

Each is a function of the world, who performs it, its numbers and its bodies; what it returns is noted.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from . import awaits
from .grammar import Body
from .world import FAR, VARIABLES, Actor, Stopped, World, describe, state

Numbers = tuple[int, ...]
Act = Callable[[World, Actor, Numbers, tuple[Body, ...]], object]
ACTS: dict[str, Act] = {}


def act(kind: str) -> Callable[[Act], Act]:
    def enter(function: Act) -> Act:
        ACTS[kind] = function
        return function

    return enter


def perform_all(w: World, me: Actor, body: Body) -> None:
    """The body of a callback: what an instruction raises is raised by the callback."""
    for op in body:
        try:
            w.note(me.label, f"{op.kind}: {ACTS[op.kind](w, me, op.numbers, op.bodies)}")
        except BaseException as error:
            w.note(me.label, f"{op.kind}: raises {describe(error)}")
            raise


def callback(w: World, me: Actor, body: Body) -> Callable[..., None]:
    new = me.child()

    def call(*args: object) -> None:
        w.note(new.label, "is called")
        perform_all(w, new, body)

    return call


# ---- futures and tasks -------------------------------------------------------------------------------------


@act("resolve")
def resolve(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    future = w.future(numbers[0])
    if future.done():
        return "done already"
    future.set_result(f"by {me.label}")
    return None


@act("resolve again")
def resolve_again(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.future(numbers[0]).set_result(f"again by {me.label}")
    return None


@act("fail")
def fail(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    future = w.future(numbers[0])
    if not future.done():
        errors: list[type[BaseException] | BaseException]
        errors = [ValueError(me.label), TimeoutError, Stopped(me.label)]
        future.set_exception(errors[numbers[0] % 3])
    return None


@act("cancel future")
def cancel_future(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return w.future(numbers[0]).cancel(*([f"by {me.label}"] if numbers[0] % 2 else []))


@act("renew")
def renew(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    """Only what is done: a pending future that nobody has is one that nobody can resolve."""
    number = numbers[0] % len(w.futures)
    if w.futures[number].done():
        w.futures[number] = w.side.future(w.loop)
        return True
    return False


@act("look at")
def look_at(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    some = w.some(numbers[0])
    return some and state(some)


@act("cancel")
def cancel(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    task = w.task(numbers[0])
    return task and (task.cancel(f"by {me.label}") if numbers[1] % 3 else task.cancel())


@act("uncancel")
def uncancel(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    task = _current()
    return task and (task.cancelling(), task.uncancel(), task.cancelling())


@act("forget")
def forget(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    """The last reference to a task that is done: its report comes now, if nobody has looked at it."""
    if w.tasks and (task := w.task(numbers[0])) is not None and task.done():
        w.tasks[numbers[0] % len(w.tasks)] = None
        if task in w.seen:
            w.seen.remove(task)
        return True
    return False


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no running loop: a callback of a future that is freed
        return None


@act("spawn")
def spawn(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    new = w.new_actor()
    return _start(w, me, new, awaits.root(w, new, bodies[0]), numbers[0])


@act("spawn awaitable")
def spawn_awaitable(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    """`ensure_future` of whatever it is: a future stays what it is."""
    new = w.new_actor()
    awaitable = awaits.awaitable(w, new, bodies[0][0])
    if asyncio.isfuture(awaitable):
        return "is a future"
    if asyncio.iscoroutine(awaitable):
        return _start(w, me, new, awaitable, numbers[0])
    w.tasks[new.order] = asyncio.ensure_future(awaitable, loop=w.loop)
    return None


def _start(w: World, me: Actor, new: Actor, coro: Any, number: int) -> object:
    kwargs: dict[str, Any] = {}
    if number % 4 == 1:
        kwargs["eager_start"] = True
    if number % 3 == 1:
        kwargs["context"] = contextvars.copy_context()
        w.contexts.append(kwargs["context"])
    elif number % 3 == 2 and w.contexts and number % 4 != 1:  # eager: somebody may be in it
        kwargs["context"] = w.contexts[-1]
    task = w.start_task(me, coro, new, **kwargs)
    task.add_done_callback(lambda done: w.note(new.label, f"done: {'cancelled' if done.cancelled() else ''}"))
    return task.get_name(), task.done()


@act("when done")
def when_done(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    some = w.some(numbers[0])
    if some is not None:
        added = callback(w, me, bodies[0])
        some.add_done_callback(added)
        w.callbacks.append((some, added))
    return None


@act("forget when done")
def forget_when_done(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    if not w.callbacks:
        return None
    some, added = w.callbacks.pop(numbers[0] % len(w.callbacks))
    return some.remove_done_callback(added)


# ---- callbacks ---------------------------------------------------------------------------------------------


@act("call_soon")
def call_soon(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    added, number = callback(w, me, bodies[0]), numbers[0]
    if number % 4 == 0:
        w.handles.append(w.loop.call_soon_threadsafe(added, number))
    elif number % 4 == 1 and w.contexts:
        w.handles.append(w.loop.call_soon(added, context=w.contexts[-1]))
    elif number % 4 == 2:
        w.handles.append(w.loop.call_soon(added, 1, 2, 3))
    else:
        w.handles.append(w.loop.call_soon(added))
    return None


@act("timer")
def timer(w: World, me: Actor, numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    added, number = callback(w, me, bodies[0]), numbers[0] % 6
    if number == 0:
        w.handles.append(w.loop.call_later(FAR, added))
    elif number == 1:
        w.handles.append(w.loop.call_later(1e-9, added, 1))
    else:
        w.handles.append(w.loop.call_at(w.due(), added, number))
    return None


@act("from a thread")
def from_a_thread(w: World, me: Actor, _numbers: Numbers, bodies: tuple[Body, ...]) -> object:
    added = callback(w, me, bodies[0])
    thread = threading.Thread(target=w.loop.call_soon_threadsafe, args=(added,))
    thread.start()
    thread.join()
    return None


@act("cancel handle")
def cancel_handle(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    if not w.handles:
        return None
    handle = w.handles[numbers[0] % len(w.handles)]
    handle.cancel()
    return handle.cancelled()


@act("write")
def write(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    if w.pipe:
        os.write(w.pipe[1], b"x")
    return None


@act("stop")
def stop(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    w.loop.stop()
    return None


@act("raise")
def raise_(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    raise [
        ValueError(me.label),
        ValueError(me.label),
        KeyError(me.label),
        asyncio.CancelledError(me.label),
        StopIteration(me.label),
        Stopped(me.label),
        asyncio.InvalidStateError(),
        SystemExit(me.label),
        KeyboardInterrupt(),
        TimeoutError(),
        ExceptionGroup(me.label, [ValueError("in a group"), KeyError("too")]),
        asyncio.CancelledError(),
    ][numbers[0]]


# ---- locks, queues, variables ------------------------------------------------------------------------------


@act("set")
def set_(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.events[numbers[0] % 2].set()
    return None


@act("clear")
def clear(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.events[numbers[0] % 2].clear()
    return None


@act("put_nowait")
def put_nowait(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.queues[numbers[0] % 3].put_nowait(numbers[0])
    return None


@act("get_nowait")
def get_nowait(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return w.queues[numbers[0] % 3].get_nowait()


@act("task_done")
def task_done(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.queues[numbers[0] % 3].task_done()
    return None


@act("release")
def release(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    w.locks[numbers[0] % 2].release()
    return None


@act("set variable")
def set_variable(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    variable = VARIABLES[numbers[0] % 2]
    me.tokens.append((variable, variable.set(f"by {me.label}")))
    return None


@act("get variable")
def get_variable(w: World, me: Actor, numbers: Numbers, _bodies: object) -> object:
    return VARIABLES[numbers[0] % 2].get()


@act("reset variable")
def reset_variable(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    if me.tokens:
        variable, token = me.tokens.pop()
        variable.reset(token)
    return [variable.get() for variable in VARIABLES]


@act("who")
def who(w: World, me: Actor, _numbers: Numbers, _bodies: object) -> object:
    """The current task, and how many there are."""
    task = _current()
    return task and task.cancelling(), len(asyncio.all_tasks(w.loop))
