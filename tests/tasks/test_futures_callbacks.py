"""Done callbacks: when, in which order and in which context they run, and how they are taken back."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from support import making
from support.guard import Context
from support.loops import Loop, turn
from support.making import MakeFuture

pytest_generate_tests = making.parametrize

Callback = Callable[[asyncio.Future[Any]], object]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


def noting(seen: list[int], number: int) -> Callback:
    return lambda _: seen.append(number)


def test_callbacks_run_one_turn_later_in_their_order_with_the_future(
    loop: Loop, make_future: MakeFuture
) -> None:
    future, seen = make_future(loop), list[tuple[int, object]]()
    for number in range(5):
        future.add_done_callback(lambda done, number=number: seen.append((number, done)))  # type: ignore[misc]
    future.set_result(None)
    assert not seen
    turn(loop)
    assert seen == [(number, future) for number in range(5)]


@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel"])
def test_every_end_calls_the_callbacks(loop: Loop, make_future: MakeFuture, end: str) -> None:
    future, seen = make_future(loop), list[object]()
    future.add_done_callback(seen.append)
    if end == "set_result":
        future.set_result(1)
    elif end == "set_exception":
        future.set_exception(ValueError())
        future.exception()
    else:
        future.cancel()
    turn(loop)
    assert seen == [future]


def test_a_callback_added_to_a_future_that_is_done_runs_in_the_next_turn(
    loop: Loop, make_future: MakeFuture
) -> None:
    future, seen = make_future(loop), list[object]()
    future.set_result(None)
    future.add_done_callback(seen.append)
    assert not seen
    turn(loop)
    assert seen == [future]
    turn(loop)
    assert seen == [future]


def test_one_callback_added_twice_is_called_twice(loop: Loop, make_future: MakeFuture) -> None:
    future, seen = make_future(loop), list[object]()
    append = seen.append
    future.add_done_callback(append)
    future.add_done_callback(append)
    future.set_result(None)
    turn(loop)
    assert seen == [future, future]


def test_removing_takes_every_equal_callback_and_tells_how_many(loop: Loop, make_future: MakeFuture) -> None:
    future, seen, others = make_future(loop), list[object](), list[object]()
    future.add_done_callback(seen.append)  # each time another bound method, all of them equal
    future.add_done_callback(others.append)
    future.add_done_callback(seen.append)
    future.add_done_callback(seen.append)
    assert future.remove_done_callback(print) == 0
    assert future.remove_done_callback(seen.append) == 3
    assert future.remove_done_callback(seen.append) == 0
    future.set_result(None)
    turn(loop)
    assert not seen
    assert others == [future]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_removing_the_only_first_or_last_callback(loop: Loop, make_future: MakeFuture, count: int) -> None:
    for gone in range(count):
        future, seen = make_future(loop), list[int]()
        callbacks = [noting(seen, number) for number in range(count)]
        for callback in callbacks:
            future.add_done_callback(callback)
        assert future.remove_done_callback(callbacks[gone]) == 1
        future.set_result(None)
        turn(loop)
        assert seen == [number for number in range(count) if number != gone]


def test_a_future_that_is_done_has_no_callbacks_to_remove(loop: Loop, make_future: MakeFuture) -> None:
    future, seen = make_future(loop), list[object]()
    future.add_done_callback(seen.append)
    future.set_result(None)
    assert future.remove_done_callback(seen.append) == 0
    turn(loop)
    assert seen == [future]  # it had been scheduled already


def test_a_callback_may_add_callbacks(loop: Loop, make_future: MakeFuture) -> None:
    future, seen = make_future(loop), list[str]()

    def first(done: asyncio.Future[Any]) -> None:
        seen.append("first")
        done.add_done_callback(lambda _: seen.append("added"))

    future.add_done_callback(first)
    future.add_done_callback(lambda _: seen.append("second"))
    future.set_result(None)
    turn(loop)
    assert seen == ["first", "second"]
    turn(loop)
    assert seen == ["first", "second", "added"]


def test_a_callback_cannot_take_back_one_that_is_already_scheduled(
    loop: Loop, make_future: MakeFuture
) -> None:
    future, seen = make_future(loop), list[str]()

    def first(done: asyncio.Future[Any]) -> None:
        assert done.remove_done_callback(second) == 0

    def second(done: asyncio.Future[Any]) -> None:
        seen.append("second")

    future.add_done_callback(first)
    future.add_done_callback(second)
    future.set_result(None)
    turn(loop)
    assert seen == ["second"]


def test_a_callback_that_raises_is_reported_and_stops_no_other(
    loop: Loop, make_future: MakeFuture, handled: list[Context]
) -> None:
    loop.set_debug(False)
    future, seen, error = make_future(loop), list[str](), ZeroDivisionError()

    def fail(done: asyncio.Future[Any]) -> None:
        raise error

    future.add_done_callback(lambda _: seen.append("before"))
    future.add_done_callback(fail)
    future.add_done_callback(lambda _: seen.append("after"))
    future.set_result(None)
    turn(loop)
    assert seen == ["before", "after"]
    [context] = handled
    assert context["exception"] is error
    assert context["message"].startswith("Exception in callback ")
    assert ".fail(" in context["message"]
    assert set(context) == {"message", "exception", "handle"}
    assert isinstance(context["handle"], asyncio.Handle)


def test_callbacks_run_in_a_copy_of_the_context_they_were_added_in(
    loop: Loop, make_future: MakeFuture
) -> None:
    future, seen = make_future(loop), list[str]()

    def look(future: asyncio.Future[Any]) -> None:
        seen.append(VAR.get())
        VAR.set("from the callback")

    token = VAR.set("added")
    future.add_done_callback(lambda _: seen.append(VAR.get()))
    VAR.set("later")
    future.add_done_callback(look)
    VAR.set("resolved")
    future.set_result(None)
    turn(loop)
    assert seen == ["added", "later"]
    assert VAR.get() == "resolved"
    VAR.reset(token)


def test_callbacks_run_in_the_context_given_with_them(loop: Loop, make_future: MakeFuture) -> None:
    context, seen = contextvars.copy_context(), list[str]()
    context.run(VAR.set, "given")

    def look(future: asyncio.Future[Any]) -> None:
        seen.append(VAR.get())
        VAR.set("changed")

    for early in (True, False):
        future = make_future(loop)
        if early:
            future.add_done_callback(look, context=context)
        future.set_result(None)
        if not early:
            future.add_done_callback(look, context=context)
        turn(loop)
    assert seen == ["given", "changed"]
    assert context[VAR] == "changed"
    assert VAR.get() == "none"


def test_the_context_of_a_callback_comes_by_keyword_alone(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    with pytest.raises(TypeError):
        future.add_done_callback(print, contextvars.copy_context())
    with pytest.raises(TypeError):
        future.add_done_callback()


def test_a_callback_is_kept_alive_until_it_has_run_and_no_longer(loop: Loop, make_future: MakeFuture) -> None:
    class Callback:
        def __call__(self, future: asyncio.Future[Any]) -> None: ...

    future, callbacks = make_future(loop), [Callback(), Callback()]
    references = [weakref.ref(callback) for callback in callbacks]
    for callback in callbacks:
        future.add_done_callback(callback)
    del callback
    callbacks.clear()
    assert all(reference() is not None for reference in references)
    future.set_result(None)
    turn(loop)
    assert all(reference() is None for reference in references)


class Spiteful:
    """Equal to nothing, and changes the future while it is being compared."""

    def __init__(self, future: asyncio.Future[Any], change: str) -> None:
        self.future, self.change = future, change

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, future: asyncio.Future[Any]) -> None: ...

    def __eq__(self, other: object) -> bool:
        if self.change == "remove":
            self.future.remove_done_callback(print)
        elif self.change == "add":
            self.future.add_done_callback(print)
            self.future.remove_done_callback(print)
        elif self.change == "finish":
            self.future.cancel()
        elif self.change == "raise":
            raise ZeroDivisionError("compared")
        return False


@pytest.mark.parametrize("change", ["remove", "add", "finish", "raise"])
@pytest.mark.parametrize("count", [1, 3])
def test_comparing_callbacks_may_do_anything_to_the_future(
    loop: Loop, make_future: MakeFuture, change: str, count: int
) -> None:
    future, depth = make_future(loop), 0

    class Once(Spiteful):
        __hash__ = None

        def __eq__(self, other: object) -> bool:
            nonlocal depth
            if depth:
                return False
            depth += 1
            try:
                return super().__eq__(other)
            finally:
                depth -= 1

    for _ in range(count):
        future.add_done_callback(Once(future, change))

    def other(future: asyncio.Future[Any]) -> None: ...

    if change == "raise":
        with pytest.raises(ZeroDivisionError, match=r"^compared$"):
            future.remove_done_callback(other)
    else:
        assert future.remove_done_callback(other) == 0
    assert future.done() == (change == "finish")
    future.cancel()
    turn(loop)


def test_equality_of_callbacks_is_asked_for_once_each(loop: Loop, make_future: MakeFuture) -> None:
    class Same:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, future: asyncio.Future[Any]) -> None: ...

        def __eq__(self, other: object) -> bool:
            return True

    future = make_future(loop)
    for _ in range(3):
        future.add_done_callback(Same())
    assert future.remove_done_callback(Same()) == 3
    future.cancel()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_callback_that_cannot_be_called_is_only_found_out_when_called(
    loop: Loop, make_future: MakeFuture, handled: list[Context], moment: str
) -> None:
    loop.set_debug(False)  # debug mode checks what call_soon is given
    future: Any = make_future(loop)
    if moment == "before":
        future.add_done_callback(None)
    future.set_result(1)
    if moment == "after":
        future.add_done_callback(None)
    turn(loop)
    [context] = handled
    assert isinstance(context["exception"], TypeError)


def test_stop_in_a_callback_lets_the_other_callbacks_run(loop: Loop, make_future: MakeFuture) -> None:
    future, seen = make_future(loop), list[int]()
    future.add_done_callback(lambda _: loop.stop())
    future.add_done_callback(lambda _: seen.append(1))
    future.set_result(None)
    loop.run_forever()
    assert seen == [1]


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_run_and_the_rest_runs_later(
    loop: Loop, make_future: MakeFuture, leave: type[BaseException]
) -> None:
    future, seen = make_future(loop), list[int]()

    def interrupt(done: asyncio.Future[Any]) -> None:
        raise leave

    future.add_done_callback(interrupt)
    future.add_done_callback(lambda _: seen.append(1))
    future.set_result(None)
    with pytest.raises(leave):
        loop.run_forever()
    turn(loop)
    assert seen == [1]


def test_callbacks_of_futures_resolved_in_one_turn_keep_that_order(
    loop: Loop, make_future: MakeFuture
) -> None:
    seen = list[int]()
    futures = [make_future(loop) for _ in range(4)]
    for number, future in enumerate(futures):
        future.add_done_callback(noting(seen, number))
    for number in (2, 0, 3, 1):
        futures[number].set_result(None)
    turn(loop)
    assert seen == [2, 0, 3, 1]


def test_a_future_may_be_resolved_in_a_callback_of_another(loop: Loop, make_future: MakeFuture) -> None:
    chain, seen = [make_future(loop) for _ in range(100)], list[int]()
    for number, (one, following) in enumerate(itertools.pairwise(chain)):
        one.add_done_callback(lambda _, to=following, number=number: to.set_result(number))  # type: ignore[misc]
        following.add_done_callback(lambda done: seen.append(done.result()))
    chain[0].set_result(None)
    loop.run_until_complete(chain[-1])
    assert seen == list(range(99))
