"""Python functions, plain and async, that Rust calls from any task and thread (`pyloop::Callback`)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")

Ask = Callable[[Any, int], Awaitable[list[Any]]]

from_everywhere = pytest.mark.parametrize(
    "ask",
    [
        lambda *args: ext.asks(*args),
        lambda *args: ext.asks_in_turn(*args),
        lambda *args: ext.asks_spawned(*args),
    ],
    ids=["at once", "in turn", "spawned"],
)


def plain(number: int) -> int:
    return number + 1


async def at_once(number: int) -> int:
    return number + 1


async def later(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


class Awaited:
    def __call__(self, number: int) -> Awaited:
        self.number = number
        return self

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.number + 1


@types.coroutine
def by_generator(number: int) -> Any:
    yield from asyncio.sleep(0).__await__()
    return number + 1


def a_future(number: int) -> asyncio.Future[int]:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, number + 1)
    return future


HANDLERS: dict[str, Callable[[], Any]] = {
    "plain": lambda: plain,
    "async": lambda: at_once,
    "async, later": lambda: later,
    "partial": lambda: functools.partial(later),
    "lambda": lambda: lambda number: later(number),
    "object": lambda: lambda number: Awaited()(number),
    "generator": lambda: by_generator,
    "future": lambda: a_future,
    "task": lambda: lambda number: asyncio.ensure_future(later(number)),
}


@from_everywhere
@pytest.mark.parametrize("make", list(HANDLERS.values()), ids=list(HANDLERS))
def test_any_function_is_called_and_awaited(loop: Loop, ask: Ask, make: Callable[[], Any]) -> None:
    async def main() -> list[Any]:
        return await ask(make(), 3)

    assert loop.run_until_complete(main()) == [1, 2, 3]


@from_everywhere
def test_it_is_called_on_the_loops_thread(loop: Loop, ask: Ask) -> None:
    def handler(_: int) -> bool:
        return asyncio.get_running_loop() is loop and threading.get_ident() == home

    async def async_handler(number: int) -> bool:
        here = handler(number)
        await asyncio.sleep(0)
        return here and handler(number)

    async def main() -> None:
        assert await ask(handler, 3) == [True] * 3
        assert await ask(async_handler, 3) == [True] * 3

    home = threading.get_ident()
    loop.run_until_complete(main())


def test_any_thread_and_any_task_calls_it(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.asks_from_anywhere(plain) == (2, 3)
        assert await ext.asks_from_anywhere(later) == (2, 3)

    loop.run_until_complete(main())


@from_everywhere
def test_each_call_has_a_copy_of_the_context_that_it_was_given_in(loop: Loop, ask: Ask) -> None:
    def handler(number: int) -> str:
        seen = VAR.get()
        VAR.set(f"{number}")
        return seen

    async def async_handler(number: int) -> str:
        seen = handler(number)
        await asyncio.sleep(0)
        assert VAR.get() == f"{number}"
        return seen

    async def main() -> None:
        VAR.set("mine")
        assert await ask(handler, 3) == ["mine"] * 3
        assert await ask(async_handler, 3) == ["mine"] * 3
        kept = ext.KeptHandler(lambda *_: VAR.get())
        VAR.set("another")
        assert await kept.ask() == "mine"

    loop.run_until_complete(main())


def test_a_handler_awaits_what_calls_it_again(loop: Loop) -> None:
    async def handler(_: int) -> int:
        return sum(await ext.asks(handler_below, 2))

    async def handler_below(number: int) -> int:
        return number if number else (await ext.asks_spawned(plain, 3))[2]

    async def main() -> list[int]:
        return list(await ext.asks(handler, 2))

    assert loop.run_until_complete(main()) == [4, 4]


@from_everywhere
def test_an_exception_is_the_futures_error(loop: Loop, ask: Ask) -> None:
    def handler(number: int) -> None:
        raise KeyError(number)

    async def async_handler(number: int) -> None:
        await asyncio.sleep(0)
        raise KeyError(number)

    async def main() -> None:
        for each in (handler, async_handler):
            with pytest.raises(KeyError) as raised:
                await ask(each, 1)
            assert raised.value.args == (0,)
            assert "handler" in [entry.name for entry in raised.traceback][-1]

    loop.run_until_complete(main())


class Index:
    """A number by `__index__`, which says where it is asked."""

    def __init__(self, number: int, seen: list[int]) -> None:
        self.number, self.seen = number, seen

    def __index__(self) -> int:
        self.seen.append(threading.get_ident())
        return self.number


@pytest.mark.parametrize("spawned", [False, True])
def test_the_loops_thread_extracts_what_is_wanted_of_a_result(loop: Loop, spawned: bool) -> None:
    seen = list[int]()

    def handler(number: int) -> Index:
        return Index(number, seen)

    async def async_handler(number: int) -> Index:
        await asyncio.sleep(0)
        return Index(number, seen)

    async def failing(number: int) -> str:
        return "no number"

    async def main() -> None:
        assert await ext.asks_for_numbers(handler, 3, spawned) == [0, 1, 2]
        assert await ext.asks_for_numbers(async_handler, 3, spawned) == [0, 1, 2]
        assert len(seen) == 6 and set(seen) == {threading.get_ident()}
        assert await ext.asks_for_a_number_late(async_handler) == 1
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            await ext.asks_for_numbers(failing, 1, spawned)

    loop.run_until_complete(main())


def test_a_cancelled_handler_is_a_cancelled_error(loop: Loop) -> None:
    async def handler(_: int) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        for ask in (ext.asks, ext.asks_spawned):
            with pytest.raises(asyncio.CancelledError):
                await ask(handler, 1)

    loop.run_until_complete(main())


@pytest.mark.parametrize("spawned", [False, True])
def test_a_call_that_is_dropped_cancels_the_task(loop: Loop, spawned: bool) -> None:
    ended = list[str]()

    async def main() -> None:
        begun, never = asyncio.Event(), asyncio.Event()

        async def handler() -> None:
            begun.set()
            try:
                await never.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        assert await ext.asks_and_gives_up(handler, begun.wait, spawned)
        await until(lambda: ended == ["cancelled"] and len(asyncio.all_tasks()) == 1)
        assert not await ext.asks_and_gives_up(lambda: None, never.wait, spawned)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    loop.run_until_complete(main())


def test_a_cancelled_awaiter_cancels_what_it_asked(loop: Loop) -> None:
    begun, ended = list[int](), list[int]()

    async def handler(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    async def main() -> None:
        for ask in (ext.asks, ext.asks_spawned):
            asking = asyncio.create_task(ask(handler, 3))
            await until(lambda: len(begun) == 3)
            asking.cancel()
            await until(lambda: len(ended) == 3)
            await asyncio.wait([asking])
            assert asking.cancelled() and sorted(ended) == [0, 1, 2]
            begun.clear()
            ended.clear()

    loop.run_until_complete(main())


def test_a_call_that_nobody_polls_is_none(loop: Loop) -> None:
    async def main() -> None:
        called = list[int]()
        ext.asks_nobody(lambda: called.append(1))
        await asyncio.sleep(0)
        assert not called

    loop.run_until_complete(main())


def test_what_cannot_be_called_is_refused_and_so_is_a_call_without_a_loop(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="'int' object is not callable"):
            ext.asks(7, 1)
        kept = ext.KeptHandler(plain)
        assert kept.function is plain
        with pytest.raises(TypeError, match="takes 1 positional argument"):
            await kept.ask()

    with pytest.raises(RuntimeError, match="no running event loop"):
        ext.asks(plain, 1)
    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_run_ends_it(loop: Loop, kind: type[BaseException]) -> None:
    async def main(ask: Any) -> None:
        def handler(_: int) -> None:
            raise kind("told")

        await ask(handler, 1)

    for ask in (ext.asks, ext.asks_spawned):
        task = loop.create_task(main(ask))
        with pytest.raises(kind, match="told"):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, kind)):
            loop.run_until_complete(task)
