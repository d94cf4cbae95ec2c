"""Futures and the collector: exceptions that nobody retrieved, cycles, and classes derived in Python."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Generator
from typing import Any

import pytest

from support import making
from support.guard import Context
from support.loops import Loop, turn
from support.making import FutureClass, MakeFuture

pytest_generate_tests = making.parametrize


def test_an_exception_that_nobody_retrieved_is_reported(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    loop.set_debug(False)
    future, error = make_future(loop), ValueError("forgotten")
    future.set_exception(error)
    identity = id(future)
    assert not handled
    del future
    [context] = handled
    assert context == {
        "message": "Future exception was never retrieved",
        "exception": error,
        "future": context["future"],
    }
    assert id(context["future"]) == identity
    assert repr(context["future"]) == "<Future finished exception=ValueError('forgotten')>"


def test_each_of_many_futures_after_each_other_is_as_new(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    """Whatever memory an implementation keeps for the next one."""
    for number in range(20):
        future: Any = make_future(loop)
        assert not hasattr(future, "mark")
        assert not future.done()
        assert not future._callbacks
        assert gc.is_tracked(future)
        future.mark = number
        reference = weakref.ref(future)
        future.set_exception(ValueError(str(number)))
        assert reference() is future
        del future
        assert [str(context["exception"]) for context in handled] == [str(number)]
        handled.clear()
        assert reference() is None


@pytest.mark.parametrize("ending", ["result", "exception", "callback", "attribute", "message"])
def test_what_a_future_holds_goes_with_it_on_whatever_thread(
    loop: Loop, make_future: MakeFuture, handled: list[Context], ending: str
) -> None:
    loop.set_debug(False)

    class Held(Exception):
        """Its end can be seen."""

    def hold() -> tuple[list[Any], weakref.ref[Any]]:
        future: Any = make_future(loop)
        held = Held()
        if ending == "result":
            future.set_result(held)
        elif ending == "exception":
            future.set_exception(held)
            assert future.exception() is held
        elif ending == "callback":
            future.add_done_callback(held.__reduce__)
            future.add_done_callback(print)
        elif ending == "attribute":
            future.held = held
        else:
            future._cancel_message = held
        return [future], weakref.ref(held)

    for _ in range(3):
        futures, reference = hold()
        assert reference() is not None
        thread = threading.Thread(target=futures.clear)
        thread.start()
        thread.join()
        assert reference() is None
    assert not handled


def test_in_debug_mode_the_report_tells_where_the_future_was_made(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    loop.set_debug(True)
    future = make_future(loop)
    future.set_exception(ValueError())
    del future
    loop.set_debug(False)
    [context] = handled
    assert set(context) == {"message", "exception", "future", "source_traceback"}
    assert context["source_traceback"][-1].filename.endswith(".py")


@pytest.mark.parametrize("retrieve", ["result", "exception", "cancel", "await", "callback", "_log_traceback"])
def test_an_exception_is_retrieved_by(
    loop: Loop, make_future: MakeFuture, handled: list[Context], retrieve: str
) -> None:
    future: Any = make_future(loop)
    future.set_exception(ValueError())
    if retrieve == "result":
        with pytest.raises(ValueError):
            future.result()
    elif retrieve == "exception":
        future.exception()
    elif retrieve == "cancel":
        assert not future.cancel()
    elif retrieve == "await":
        with pytest.raises(ValueError):
            loop.run_until_complete(future)
    elif retrieve == "callback":
        future.add_done_callback(lambda done: done.exception())
        turn(loop)
    else:
        future._log_traceback = False
    del future
    gc.collect()
    assert not handled


def test_neither_result_nor_cancel_nor_nothing_is_reported(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    pending, finished, cancelled = (make_future(loop) for _ in range(3))
    finished.set_result(1)
    cancelled.cancel()
    del pending, finished, cancelled
    gc.collect()
    assert not handled


def test_the_reported_future_may_be_kept_and_is_reported_once(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    future = make_future(loop)
    future.set_exception(ValueError("kept"))
    del future
    [context] = handled
    kept = context["future"]
    assert str(kept.exception()) == "kept"
    handled.clear()
    del context, kept
    gc.collect()
    assert not handled


def test_a_callback_does_not_retrieve_the_exception(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    future = make_future(loop)
    future.add_done_callback(lambda _: None)
    future.set_exception(ValueError())
    turn(loop)
    del future
    assert len(handled) == 1


def test_a_report_does_not_disturb_the_exception_being_handled(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    future = make_future(loop)
    future.set_exception(ValueError())
    error = KeyError("being handled")
    try:
        raise error
    except KeyError:
        del future
        assert sys.exception() is error
    assert len(handled) == 1
    assert error.__context__ is None


@pytest.mark.parametrize("by", ["callback", "result", "attribute of the exception"])
def test_a_future_in_a_cycle_is_collected(loop: Loop, make_future: MakeFuture, by: str) -> None:
    future: Any = make_future(loop)
    reference = weakref.ref(future)
    if by == "callback":

        def callback(done: object, future: Any = future) -> None: ...

        future.add_done_callback(callback)
        del callback
    elif by == "result":
        future.set_result([future])
    else:
        error: Any = ValueError()
        error.future = future
        future.set_exception(error)
        future.exception()
        del error
    del future
    gc.collect()
    assert reference() is None


def test_an_unretrieved_exception_in_a_cycle_is_reported(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    future: Any = make_future(loop)
    error: Any = ValueError()
    error.future = future
    future.set_exception(error)
    del future, error
    gc.collect()
    [context] = handled
    assert context["message"] == "Future exception was never retrieved"


def test_a_future_does_not_keep_what_it_no_longer_needs(loop: Loop, make_future: MakeFuture) -> None:
    class Value: ...

    future, value = make_future(loop), Value()
    reference = weakref.ref(value)
    future.set_result(value)
    del value
    assert reference() is not None
    del future
    assert reference() is None


# Derived in Python.


def test_a_derived_future_has_attributes_and_methods_of_its_own(
    loop: Loop, future_class: FutureClass
) -> None:
    class Named(future_class):  # type: ignore[misc, valid-type]
        def __init__(self, name: str, *, loop: Loop) -> None:
            super().__init__(loop=loop)
            self.name = name

        def describe(self) -> str:
            return f"{self.name}: {self.done()}"

    named = Named("mine", loop=loop)
    # One of ours shows asyncio's class for itself, not for what is derived from it (docs/compatibility.md).
    assert isinstance(named, asyncio.Future) == (future_class is asyncio.Future)
    # One of ours shows asyncio's class for itself, not for what is derived from it (docs/compatibility.md).
    assert isinstance(named, asyncio.Future) == (future_class is asyncio.Future)
    assert named.describe() == "mine: False"
    loop.call_soon(named.set_result, 1)
    assert loop.run_until_complete(named) == 1
    assert named.describe() == "mine: True"


def test_a_derived_future_is_called_by_its_name_in_reports_and_repr(
    loop: Loop, future_class: FutureClass, handled: list[Context]
) -> None:
    class Special(future_class):  # type: ignore[misc, valid-type]
        pass

    loop.set_debug(False)
    special = Special(loop=loop)
    assert repr(special) == "<Special pending>"
    special.set_exception(ValueError())
    del special
    gc.collect()
    [context] = handled
    assert context["message"] == "Special exception was never retrieved"


def test_a_task_awaits_a_derived_future_by_its_own_methods(loop: Loop, future_class: FutureClass) -> None:
    called = list[str]()

    class Spy(future_class):  # type: ignore[misc, valid-type]
        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            called.append("add_done_callback")
            super().add_done_callback(fn, context=context)

        def result(self) -> Any:
            called.append("result")
            return super().result()

        def cancel(self, msg: Any = None) -> bool:
            called.append("cancel")
            return bool(super().cancel(msg))

    async def wait(spy: Any) -> Any:
        return await spy

    async def main() -> None:
        spy = Spy(loop=loop)
        task = asyncio.create_task(wait(spy))
        await asyncio.sleep(0)
        assert called == ["add_done_callback"]
        spy.set_result(5)
        assert await task == 5
        assert "result" in called
        called.clear()
        spy = Spy(loop=loop)
        task = asyncio.create_task(wait(spy))
        await asyncio.sleep(0)
        task.cancel()
        assert called == ["add_done_callback", "cancel"]
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())


def test_a_derived_future_may_refuse_to_be_cancelled(loop: Loop, future_class: FutureClass) -> None:
    class Stubborn(future_class):  # type: ignore[misc, valid-type]
        def cancel(self, msg: Any = None) -> bool:
            return False

    async def wait(future: Any) -> Any:
        return await future

    async def main() -> None:
        future = Stubborn(loop=loop)
        task = asyncio.create_task(wait(future))
        await asyncio.sleep(0)
        assert task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        future.set_result("too late")  # the error waits for whatever ends the wait
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.result() == "too late"

    loop.run_until_complete(main())


def test_a_derived_future_may_have_slots_and_keeps_weak_references(
    loop: Loop, future_class: FutureClass
) -> None:
    class Slotted(future_class):  # type: ignore[misc, valid-type]
        __slots__ = ("extra",)

    slotted: Any = Slotted(loop=loop)
    slotted.extra = 1
    assert weakref.ref(slotted)() is slotted


def test_a_derived_future_that_was_not_initialised_is_an_error_and_no_crash(
    loop: Loop, future_class: FutureClass
) -> None:
    class Hollow(future_class):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            pass

    hollow: Any = Hollow()
    for use in (
        hollow.result,
        hollow.exception,
        hollow.get_loop,
        hollow.cancel,
        lambda: hollow.set_result(None),
        lambda: hollow.set_exception(ValueError()),
        lambda: hollow.add_done_callback(print),
        lambda: hollow.remove_done_callback(print),
        lambda: next(iter(hollow)),
    ):
        with pytest.raises((RuntimeError, asyncio.InvalidStateError)):
            use()
    assert hollow.done() in (False, True)
    assert hollow.cancelled() is False


def test_initialising_again_makes_it_pending_again_or_is_refused(
    loop: Loop, future_class: FutureClass
) -> None:
    future = future_class(loop=loop)
    future.set_result(1)
    if sys.version_info >= (3, 15):
        with pytest.raises(RuntimeError, match=r"Future object is already initialized$"):
            future.__init__(loop=loop)  # type: ignore[misc]
        assert future.result() == 1
        return
    future.__init__(loop=loop)  # type: ignore[misc]
    assert not future.done()
    future.set_exception(ValueError())
    future.__init__(loop=loop)  # type: ignore[misc]
    future.set_result(2)
    assert future.result() == 2


class Duck:
    """No Future at all, but what a task takes for one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self.callbacks: list[tuple[Any, Any]] = []
        self.value: Any = None
        self.cancelled_with: list[Any] = []

    def get_loop(self) -> Loop:
        return self._loop

    def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
        self.callbacks.append((fn, context))

    def result(self) -> Any:
        return self.value

    def cancel(self, msg: Any = None) -> bool:
        self.cancelled_with.append(msg)
        self.fire()
        return True

    def fire(self) -> None:
        for fn, context in self.callbacks:
            self._loop.call_soon(fn, self, context=context)
        self.callbacks.clear()

    def __await__(self) -> Generator[Any, Any, Any]:
        self._asyncio_future_blocking = True
        yield self
        return self.result()


def test_a_task_awaits_what_only_looks_like_a_future(loop: Loop, spawn: making.Spawn) -> None:
    duck = Duck(loop)

    async def wait() -> Any:
        return await duck

    task = spawn(wait(), loop=loop)
    turn(loop)
    assert len(duck.callbacks) == 1
    assert duck._asyncio_future_blocking is False
    duck.value = "quack"
    duck.fire()
    assert loop.run_until_complete(task) == "quack"


def test_cancelling_a_task_cancels_what_only_looks_like_a_future(loop: Loop, spawn: making.Spawn) -> None:
    duck = Duck(loop)
    duck.value = "cancelled, but never mind"

    async def wait() -> Any:
        return await duck

    task = spawn(wait(), loop=loop)
    turn(loop)
    task.cancel("please")
    assert duck.cancelled_with == ["please"]
    assert loop.run_until_complete(task) == "cancelled, but never mind"


def test_a_future_says_it_is_none_by_a_marker_of_none(loop: Loop, future_class: FutureClass) -> None:
    class NoFuture:
        _asyncio_future_blocking = None

    assert not asyncio.isfuture(NoFuture())
    assert asyncio.isfuture(future_class(loop=loop))
