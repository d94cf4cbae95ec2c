"""Context variables: every callback runs in the context that it was scheduled in."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import signal
import socket
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
