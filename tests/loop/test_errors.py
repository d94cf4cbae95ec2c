"""Exceptions in callbacks: reported, or leaving the run; and the loop goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory, turn

LEAVING = [KeyboardInterrupt, SystemExit]


class Base(BaseException):
    """What is no Exception and yet stays inside."""


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
@pytest.mark.parametrize("kind", [ValueError, Base, asyncio.CancelledError, GeneratorExit, StopIteration])
def test_an_exception_in_a_callback_is_reported_and_the_loop_goes_on(
    loop: Loop, handled: list[Context], name: str, kind: type[BaseException]
) -> None:
    seen: list[int] = []
    error = kind("mine")
    schedule: Callable[..., asyncio.Handle] = getattr(loop, name)
    handle = schedule(*([] if "soon" in name else [0]), failing, error)
    loop.call_later(0, seen.append, 1)
    turn(loop)
    assert seen == [1]
    assert len(handled) == 1
    assert handled[0]["exception"] is error
    assert handled[0]["handle"] is handle
    assert handled[0]["message"].startswith("Exception in callback failing(")


def test_run_forever_survives_an_exception_in_a_callback(loop: Loop, handled: list[Context]) -> None:
    loop.call_soon(failing, LookupError())
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert len(handled) == 1


def test_a_report_in_debug_mode_tells_where_the_callback_was_scheduled(
    loop: Loop, handled: list[Context]
) -> None:
    loop.set_debug(True)
    loop.call_soon(failing, LookupError())
    turn(loop)
    assert handled[0]["source_traceback"][-1].filename == __file__


def test_a_report_keeps_the_traceback(loop: Loop, handled: list[Context]) -> None:
    loop.call_soon(failing, LookupError())
    turn(loop)
    where = handled[0]["exception"].__traceback__
    while where.tb_next:
        where = where.tb_next
    assert where.tb_frame.f_code is failing.__code__


def test_an_exception_in_a_reader_is_reported_and_the_reader_stays(
    loop: Loop, handled: list[Context]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, failing, LookupError())
        turn(loop, 2)
        assert len(handled) == 2
        assert loop.remove_reader(ours)


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_the_run(loop: Loop, kind: type[BaseException]) -> None:
    error = kind("mine")
    loop.call_soon(failing, error)
    with pytest.raises(kind) as caught:
        loop.run_forever()
    assert caught.value is error
    assert not loop.is_running()


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_run_until_complete(loop: Loop, kind: type[BaseException]) -> None:
    future = loop.create_future()
    loop.call_soon(failing, kind())
    with pytest.raises(kind):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


@pytest.mark.parametrize("kind", LEAVING)
def test_what_leaves_the_run_leaves_the_rest_of_the_batch_to_the_next(
    loop: Loop, kind: type[BaseException]
) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(failing, kind())
    loop.call_soon(seen.append, 2)
    loop.call_later(0, seen.append, 3)
    with pytest.raises(kind):
        loop.run_forever()
    assert seen == [1]
    turn(loop, 2)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("kind", LEAVING)
def test_the_rest_of_a_batch_that_was_left_and_what_comes_later_are_one_batch(
    loop: Loop, kind: type[BaseException]
) -> None:
    seen: list[int] = []
    loop.call_soon(failing, kind())
    loop.call_soon(loop.stop)
    with pytest.raises(kind):
        loop.run_forever()
    loop.call_soon(seen.append, 1)
    loop.run_forever()
    assert seen == [1]


class Misbehaving(asyncio.Future[None]):
    """A future of somebody else's that fails where a task needs it."""

    def __init__(self, where: str, loop: Loop) -> None:
        super().__init__(loop=loop)
        self.where = where

    def __getattribute__(self, name: str) -> Any:
        if name != "where" and name == super().__getattribute__("where"):
            raise LookupError(name)
        return super().__getattribute__(name)


class Yields:
    """A foreign awaitable that yields anything."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __await__(self) -> Any:
        yield self.thing


class Unprintable:
    def __repr__(self) -> str:
        raise LookupError("repr")


@pytest.fixture
def left(loop_factory: LoopFactory) -> Iterator[tuple[Loop, list[Context]]]:
    """A loop whose tasks may be left behind, and what its exception handler was given."""
    loop, contexts = loop_factory(), list[Context]()
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    yield loop, contexts
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


@pytest.mark.parametrize("where", ["add_done_callback", "get_loop", "_asyncio_future_blocking", "repr"])
def test_what_a_step_cannot_do_is_reported_and_the_loop_goes_on(
    left: tuple[Loop, list[Context]], where: str
) -> None:
    loop, contexts = left

    async def waits() -> None:
        if where == "repr":
            await Yields(Unprintable())
        else:
            foreign = Misbehaving("", loop)
            foreign._asyncio_future_blocking = True
            foreign.where = where
            await Yields(foreign)

    async def main() -> str:
        task = loop.create_task(waits())
        await asyncio.sleep(0.001)
        assert not task.done()
        (context,) = contexts
        assert isinstance(context["exception"], LookupError)
        assert context["message"].startswith("Exception in ")
        return "goes on"

    assert loop.run_until_complete(main()) == "goes on"


def test_a_context_that_is_none_is_reported_and_the_loop_goes_on(left: tuple[Loop, list[Context]]) -> None:
    loop, contexts = left

    async def nothing() -> None:
        pass

    async def main() -> str:
        coroutine, context = nothing(), 5
        try:
            task = loop.create_task(coroutine, context=context)  # type: ignore[arg-type]
        except TypeError:  # since 3.15 at once
            assert sys.version_info >= (3, 15)
        else:
            await asyncio.sleep(0.001)
            assert isinstance(contexts[0]["exception"], TypeError | AttributeError)
            assert not task.done()
        coroutine.close()
        return "goes on"

    assert loop.run_until_complete(main()) == "goes on"


@pytest.mark.parametrize("kind", LEAVING)
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after waiting"])
def test_what_ends_a_program_leaves_a_task_and_the_run(
    loop: Loop, kind: type[BaseException], waits: bool
) -> None:
    error = kind("mine")

    async def main() -> None:
        if waits:
            await asyncio.sleep(0.001)
        raise error

    task = loop.create_task(main())
    with pytest.raises(kind) as caught:
        loop.run_until_complete(task)
    assert caught.value is error
    assert task.done()
    assert task.exception() is error
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_run_forever_from_a_task(loop: Loop, kind: type[BaseException]) -> None:
    async def main() -> None:
        raise kind

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_forever()
    assert isinstance(task.exception(), kind)


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_the_run_from_a_reader(loop: Loop, kind: type[BaseException]) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    loop.add_reader(reading, failing, kind())
    with pytest.raises(kind):
        loop.run_forever()
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_the_run_from_a_done_callback(
    loop: Loop, kind: type[BaseException]
) -> None:
    future = loop.create_future()
    future.add_done_callback(lambda _: failing(kind()))
    future.set_result(None)
    with pytest.raises(kind):
        loop.run_forever()


@pytest.mark.parametrize("kind", LEAVING)
def test_what_ends_a_program_leaves_the_run_from_the_exception_handler(
    loop: Loop, kind: type[BaseException]
) -> None:
    loop.set_exception_handler(lambda *_: failing(kind()))
    loop.call_soon(failing, LookupError())
    with pytest.raises(kind):
        loop.run_forever()


def test_the_exception_handler_is_given_the_loop_and_the_context(loop: Loop) -> None:
    seen: list[tuple[Loop, Context]] = []
    loop.set_exception_handler(lambda *given: seen.append(given))
    context: Context = {"message": "words", "more": 1}
    loop.call_exception_handler(context)
    assert seen == [(loop, context)]
    assert seen[0][1] is context


def test_the_exception_handler_can_be_read_replaced_and_taken_away(loop: Loop) -> None:
    def handler(loop: Loop, context: Context) -> None: ...

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("thing", [1, "handler", {}], ids=repr)
def test_an_exception_handler_must_be_callable(loop: Loop, thing: Any) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler(thing)


def test_a_new_loop_has_no_exception_handler(bare_factory: Callable[[], Loop]) -> None:
    loop = bare_factory()
    assert loop.get_exception_handler() is None
    loop.close()


def test_the_default_exception_handler_logs(loop: Loop, logged: list[logging.LogRecord]) -> None:
    loop.set_exception_handler(None)
    error = LookupError("mine")
    loop.call_soon(failing, error)
    turn(loop)
    assert len(logged) == 1
    assert logged[0].getMessage().startswith("Exception in callback failing(")
    assert logged[0].exc_info is not None
    assert logged[0].exc_info[1] is error


def test_the_default_exception_handler_can_be_called(loop: Loop, logged: list[logging.LogRecord]) -> None:
    loop.default_exception_handler({"message": "words", "beta": 2, "alpha": 1})
    assert logged[0].getMessage() == "words\nalpha: 1\nbeta: 2"


def test_an_overridden_default_handler_is_used(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Context] = []
    loop.set_exception_handler(None)
    monkeypatch.setattr(loop, "default_exception_handler", seen.append)
    loop.call_soon(failing, LookupError())
    turn(loop)
    assert len(seen) == 1


def test_an_overridden_call_exception_handler_is_used(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Context] = []
    monkeypatch.setattr(loop, "call_exception_handler", seen.append)
    loop.call_soon(failing, LookupError())
    turn(loop)
    assert len(seen) == 1


def test_an_exception_handler_that_fails_is_reported_to_the_default(
    loop: Loop, logged: list[logging.LogRecord]
) -> None:
    loop.set_exception_handler(lambda *_: failing(ValueError("in the handler")))
    loop.call_soon(failing, LookupError("in the callback"))
    turn(loop)
    assert logged[0].getMessage().startswith("Unhandled error in exception handler")
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


def test_a_callback_may_raise_while_it_stops_the_loop(loop: Loop, handled: list[Context]) -> None:
    def callback() -> None:
        loop.stop()
        raise LookupError

    loop.call_soon(callback)
    loop.run_forever()
    assert len(handled) == 1


def test_a_recursion_error_in_a_callback_is_only_an_error(loop: Loop, handled: list[Context]) -> None:
    def deeper() -> None:
        deeper()

    loop.call_soon(deeper)
    turn(loop)
    assert isinstance(handled[0]["exception"], RecursionError)


def test_an_exception_whose_class_is_odd_is_reported(loop: Loop, handled: list[Context]) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    loop.call_soon(failing, Odd())
    turn(loop)
    assert isinstance(handled[0]["exception"], Odd)


def test_a_callback_whose_repr_fails_still_runs(loop: Loop) -> None:
    class Odd:
        called = 0

        def __repr__(self) -> str:
            raise ValueError

        def __call__(self) -> None:
            Odd.called += 1

    loop.call_soon(Odd())
    turn(loop)
    assert Odd.called == 1


def test_many_exceptions_are_all_reported(loop: Loop, handled: list[Context]) -> None:
    for i in range(200):
        loop.call_soon(failing, LookupError(i))
    turn(loop)
    assert [context["exception"].args[0] for context in handled] == list(range(200))


def test_reporting_leaves_no_reference_behind(loop: Loop) -> None:
    loop.set_exception_handler(lambda *_: None)
    error = LookupError()
    before = sys.getrefcount(error)
    loop.call_soon(failing, error)
    turn(loop)
    error.__traceback__ = None
    assert sys.getrefcount(error) == before


def test_no_exception_is_being_handled_when_a_callback_runs(loop: Loop) -> None:
    seen: list[object] = []

    def callback() -> None:
        seen.append(sys.exception())

    loop.set_exception_handler(lambda *_: None)
    loop.call_soon(failing, LookupError())
    loop.call_soon(callback)
    turn(loop)
    assert seen == [None]
