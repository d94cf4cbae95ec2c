"""Context variables: every callback runs in the context that it was scheduled in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, turn
from support.threads import in_thread

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


@pytest.fixture(autouse=True)
def _outside() -> Iterator[None]:
    token = word.set("outside")
    yield
    word.reset(token)


@pytest.fixture
def readable() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        yield ours


def scheduled(loop: Loop, name: str, callback: Callable[[], object], **more: Any) -> None:
    delay: list[float] = [] if "soon" in name else [0]
    getattr(loop, name)(*delay, callback, **more)


WAYS = ["call_soon", "call_soon_threadsafe", "call_later", "call_at"]


@pytest.mark.parametrize("name", WAYS)
def test_a_callback_sees_the_context_of_its_scheduling(loop: Loop, name: str) -> None:
    seen: list[str] = []
    token = word.set("then")
    scheduled(loop, name, lambda: seen.append(word.get()))
    word.reset(token)
    turn(loop)
    assert seen == ["then"]


@pytest.mark.parametrize("name", WAYS)
def test_a_callback_runs_in_the_context_that_it_was_given(loop: Loop, name: str) -> None:
    context = contextvars.copy_context()
    context.run(word.set, "given")
    seen: list[str] = []

    def callback() -> None:
        seen.append(word.get())
        word.set("changed")

    scheduled(loop, name, callback, context=context)
    turn(loop)
    assert seen == ["given"]
    assert context[word] == "changed"
    assert word.get() == "outside"


@pytest.mark.parametrize("name", WAYS)
def test_a_context_of_none_is_the_current_one(loop: Loop, name: str) -> None:
    seen: list[str] = []
    scheduled(loop, name, lambda: seen.append(word.get()), context=None)
    turn(loop)
    assert seen == ["outside"]


@pytest.mark.parametrize("name", WAYS)
def test_callbacks_do_not_see_each_others_changes(loop: Loop, name: str) -> None:
    seen: list[str] = []

    def callback() -> None:
        seen.append(word.get())
        word.set("changed")

    for _ in range(3):
        scheduled(loop, name, callback)
    turn(loop)
    assert seen == ["outside"] * 3
    assert word.get() == "outside"


@pytest.mark.parametrize("name", WAYS)
def test_callbacks_that_share_a_context_see_each_others_changes(loop: Loop, name: str) -> None:
    context = contextvars.copy_context()

    def add(letter: str) -> None:
        word.set(word.get() + letter)

    for letter in "abc":
        scheduled(loop, name, functools.partial(add, letter), context=context)
    turn(loop)
    assert "".join(sorted(context.run(word.get))) == "abcdeiostu"


@pytest.mark.parametrize("name", WAYS)
def test_a_token_of_one_callback_is_of_no_use_to_the_next(
    loop: Loop, name: str, handled: list[Context]
) -> None:
    tokens: list[contextvars.Token[str]] = []
    scheduled(loop, name, lambda: tokens.append(word.set("mine")))
    scheduled(loop, name, lambda: word.reset(tokens[0]))
    turn(loop)
    assert isinstance(handled[0]["exception"], ValueError)
    assert "different Context" in str(handled[0]["exception"])


@pytest.mark.parametrize("name", WAYS)
def test_values_that_are_equal_are_kept_apart(loop: Loop, name: str) -> None:
    values: contextvars.ContextVar[list[str]] = contextvars.ContextVar("values")
    seen: list[list[str]] = []

    def replace() -> None:
        values.set([])
        values.get().append("from the first")

    values.set([])
    outside = values.get()
    scheduled(loop, name, replace)
    scheduled(loop, name, lambda: seen.append(values.get()))
    turn(loop)
    assert seen[0] is outside == []


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_the_context_of_a_handle_is_the_one_that_its_callback_runs_in(loop: Loop, name: str) -> None:
    seen: list[str] = []

    def callback() -> None:
        seen.append(word.get())
        word.set("by the callback")

    schedule: Callable[..., asyncio.Handle] = getattr(loop, name)
    delay = [] if "soon" in name else [0]
    one, other = schedule(*delay, callback), schedule(*delay, callback)
    context = one.get_context()
    assert context is one.get_context() is not other.get_context()
    context.run(word.set, "by the holder")
    turn(loop)
    assert seen == ["by the holder", "outside"]
    assert one.get_context() is context
    assert context[word] == other.get_context()[word] == "by the callback"


def test_the_context_of_a_handle_that_ran_unseen_shows_what_it_set(loop: Loop) -> None:
    handle = loop.call_soon(word.set, "by the callback")
    turn(loop)
    assert handle.get_context()[word] == "by the callback"
    assert word.get() == "outside"


def test_a_callback_may_come_by_its_handle_and_its_context(loop: Loop) -> None:
    seen: list[str] = []

    def callback() -> None:
        word.set("by the callback")
        handle = weak()
        assert handle is not None
        seen.append(handle.get_context()[word])

    weak = weakref.ref(loop.call_soon(callback))
    turn(loop)
    assert seen == ["by the callback"]


def test_a_failed_callback_shows_its_own_context(loop: Loop, handled: list[Context]) -> None:
    def fail() -> None:
        word.set("by the callback")
        raise ZeroDivisionError

    loop.call_soon(fail)
    loop.call_soon(lambda: None)
    turn(loop)
    assert handled[0]["handle"].get_context()[word] == "by the callback"


def test_the_values_of_a_context_go_when_its_callbacks_have_run(loop: Loop) -> None:
    class Value:
        pass

    holder: contextvars.ContextVar[Value] = contextvars.ContextVar("holder")
    context = contextvars.copy_context()
    context.run(holder.set, Value())
    dead = weakref.ref(context[holder])
    context.run(loop.call_soon, lambda: None)
    context.run(loop.call_later, 0, lambda: None)
    del context
    turn(loop)
    gc.collect()
    assert dead() is None


def test_what_runs_between_callbacks_is_in_a_context_of_its_own(loop: Loop, readable: socket.socket) -> None:
    """The loop may stay in one context for several callbacks; nothing else may find itself there."""
    seen: list[tuple[str, str]] = []

    def note(who: str, *_: object) -> None:
        seen.append((who, word.get()))
        word.set(f"by {who}")

    async def step() -> None:
        note("a task")
        await asyncio.sleep(0)
        seen.append(("the task again", word.get()))

    done = loop.create_future()
    done.add_done_callback(functools.partial(note, "a done callback"))
    done.set_result(None)
    loop.add_reader(readable, note, "a reader")
    task = loop.create_task(step())
    for i in range(3):
        loop.call_soon(note, f"callback {i}")
        loop.call_later(0, note, f"timer {i}")
        loop.call_soon_threadsafe(note, f"other thread's {i}")
    loop.run_until_complete(task)
    turn(loop, 2)
    loop.remove_reader(readable)
    first = dict(reversed(seen))  # the reader, which keeps its context, runs in several turns
    assert first.pop("the task again") == "by a task"
    kinds = ("callback", "timer", "other thread's")
    whos = [f"{kind} {i}" for kind in kinds for i in range(3)] + ["a task", "a done callback", "a reader"]
    assert first == dict.fromkeys(whos, "outside")
    assert word.get() == "outside"


@pytest.mark.parametrize("name", WAYS)
def test_a_handle_that_is_run_by_hand_leaves_the_callback_its_context(loop: Loop, name: str) -> None:
    seen: list[str] = []
    ran: list[str] = []

    def inner() -> None:
        ran.append(word.get())
        word.set("by hand")

    def outer() -> None:
        word.set("outer")
        schedule: Callable[..., asyncio.Handle] = getattr(loop, name)
        other = schedule(*([] if "soon" in name else [60]), inner)
        other._run()
        other.cancel()
        seen.append(word.get())

    loop.call_soon(outer)
    loop.call_soon(lambda: seen.append(word.get()))
    turn(loop, 2)
    assert (ran, seen) == (["outer"], ["outer", "outside"])


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit, ZeroDivisionError, None])
def test_a_run_ends_in_the_context_that_it_began_in(
    loop: Loop, how: type[BaseException] | None, handled: list[Context]
) -> None:
    def last() -> None:
        word.set("by the callback")
        if how:
            raise how

    loop.call_soon(lambda: None)
    loop.call_soon(loop.stop)
    loop.call_soon(last)
    ends = how if how in (KeyboardInterrupt, SystemExit) else None
    with pytest.raises(ends) if ends else contextlib.nullcontext():
        loop.run_forever()
    assert word.get() == "outside"
    word.set("changed")
    seen: list[str] = []
    loop.call_soon(lambda: seen.append(word.get()))
    turn(loop, 2)
    assert (seen, word.get()) == (["changed"], "changed")


def test_a_nested_call_inherits_what_the_callback_set(loop: Loop) -> None:
    seen: list[str] = []

    def callback() -> None:
        word.set("inner")
        loop.call_soon(lambda: seen.append(word.get()))

    loop.call_soon(callback)
    turn(loop, 2)
    assert seen == ["inner"]


def test_a_call_from_another_thread_takes_that_threads_context(loop: Loop) -> None:
    seen: list[str] = []

    def other() -> None:
        word.set("other thread")
        loop.call_soon_threadsafe(lambda: seen.append(word.get()))

    in_thread(other)
    turn(loop)
    assert seen == ["other thread"]


def test_a_context_that_is_entered_already_is_an_error_of_the_callback(
    loop: Loop, handled: list[Context], logged: list[logging.LogRecord]
) -> None:
    context = contextvars.copy_context()
    seen: list[int] = []
    loop.call_soon(seen.append, 1, context=context)
    loop.call_soon(seen.append, 2)
    context.run(turn, loop)
    assert seen == [2]
    assert handled or "is already entered" in logged[0].getMessage()  # its handler runs in that context too


@pytest.mark.parametrize("thing", [1, "context", {}], ids=repr)
def test_what_is_no_context_breaks_only_its_callback(loop: Loop, thing: Any, handled: list[Context]) -> None:
    seen: list[int] = []
    try:
        loop.call_soon(seen.append, 1, context=thing)
    except TypeError:
        pass  # at once is as good as when it runs
    else:
        turn(loop)
        assert isinstance(handled[0]["exception"], (AttributeError, TypeError))
    loop.call_soon(seen.append, 2)
    turn(loop)
    assert seen == [2]


def test_a_reader_runs_in_the_context_of_its_adding(loop: Loop, readable: socket.socket) -> None:
    seen: list[str] = []
    token = word.set("reader")
    loop.add_reader(readable, lambda: seen.append(word.get()))
    word.set("writer")
    loop.add_writer(readable, lambda: seen.append(word.get()))
    word.reset(token)
    turn(loop)
    assert seen == ["reader", "writer"]
    loop.remove_reader(readable)
    loop.remove_writer(readable)


def test_a_reader_keeps_its_context_from_call_to_call(loop: Loop, readable: socket.socket) -> None:
    def callback() -> None:
        seen.append(word.get())
        word.set(word.get() + "!")

    seen: list[str] = []
    loop.add_reader(readable, callback)
    turn(loop, 3)
    loop.remove_reader(readable)
    assert seen == ["outside", "outside!", "outside!!"]


def test_a_signal_handler_runs_in_the_context_of_its_adding(loop: Loop) -> None:
    seen: list[str] = []

    def handler() -> None:
        seen.append(word.get())
        loop.stop()

    token = word.set("signal")
    loop.add_signal_handler(signal.SIGUSR1, handler)
    word.reset(token)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["signal"]


def test_a_task_runs_in_a_copy_of_the_context_of_its_creation(loop: Loop) -> None:
    async def main() -> str:
        before = word.get()
        word.set("inside")
        await asyncio.sleep(0)
        assert word.get() == "inside"
        return before

    assert loop.run_until_complete(main()) == "outside"
    assert word.get() == "outside"


def test_the_exception_handler_runs_in_the_context_of_the_callback(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(word.get()))

    def callback() -> None:
        word.set("failing")
        raise LookupError

    loop.call_soon(callback)
    turn(loop)
    assert seen == ["failing"]


@pytest.mark.since(3, 12)
def test_a_protocol_runs_in_the_context_of_the_connection(loop: Loop) -> None:
    seen: list[tuple[str, str]] = []
    done = loop.create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(("made", word.get()))

        def data_received(self, data: bytes) -> None:
            seen.append(("data", word.get()))

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", word.get()))
            done.set_result(None)

    async def main() -> None:
        ours, theirs = socket.socketpair()
        word.set("connection")
        await loop.create_connection(Protocol, sock=ours)
        word.set("later")
        with theirs:
            theirs.send(b"x")
        await done

    loop.run_until_complete(main())
    assert seen == [("made", "connection"), ("data", "connection"), ("lost", "connection")]


def test_an_executor_does_not_take_the_context_but_to_thread_does(loop: Loop) -> None:
    async def main() -> tuple[str, str]:
        word.set("task")
        return await loop.run_in_executor(None, word.get), await asyncio.to_thread(word.get)

    assert loop.run_until_complete(main()) == ("none", "task")
