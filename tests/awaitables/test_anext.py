"""`await anext(iterator, default)` of what gives Rust futures: `__await__` is called for each step of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import making
from support.extension import ext, start_extension
from support.loops import Loop, turn
from support.rust import none_left, pyloop, rust, sync

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_extension()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    with none_left():
        yield


class Items:
    """An async iterator, whose items are what `make()` gives."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.made = list[Any]()

    def __aiter__(self) -> Items:
        return self

    def __anext__(self) -> Any:
        self.made.append(self.make())
        return self.made[-1]


async def after(turns: int, value: Any) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def forever() -> None:
    await asyncio.Event().wait()


# By who is to be asyncio's equal: the coroutine.
PENDING: dict[str, Callable[[], Any]] = {
    "coroutine": lambda: after(3, "item"),
    "ready": lambda: rust.ready("item"),
    "yield_n": lambda: rust.yield_n(3, "item"),
    "give_way": lambda: rust.give_way(3, "item"),
    "local": lambda: rust.local("item"),
    "sleep": lambda: pyloop.sleep(0.001, "item"),
    "thread": lambda: rust.woken_from_thread(0.001, "item"),
    "extension": lambda: ext.awaits(after(3, "item")),
}
NEVER: dict[str, Callable[[], Any]] = {
    "coroutine": forever,
    "never": lambda: rust.never(),
    "sleep": lambda: pyloop.sleep(3600),
    "extension": lambda: ext.never(),
}

each_kind = pytest.mark.parametrize("make", list(PENDING.values()), ids=list(PENDING))
each_never = pytest.mark.parametrize("make", list(NEVER.values()), ids=list(NEVER))


@each_kind
def test_an_item_that_is_waited_for_is_given(loop: Loop, make: Callable[[], Any]) -> None:
    async def main() -> None:
        assert await anext(Items(make), "default") == "item"
        asked: list[Any] = [anext(Items(make), "default") for _ in range(3)]
        assert [await item for item in asked] == ["item"] * 3

        async def one() -> Any:
            return await anext(Items(make), "default")

        assert list(await asyncio.gather(one(), one(), one())) == ["item"] * 3

    loop.run_until_complete(main())


@pytest.mark.parametrize("fails", ["at once", "later"])
def test_an_end_and_an_error_are_told_apart(loop: Loop, fails: str) -> None:
    async def raises(error: Exception) -> None:
        if fails == "later":
            await rust.yield_once()
        raise error

    async def main() -> None:
        ended: Any = anext(Items(lambda: ext.awaits(raises(StopAsyncIteration()))), "default")
        assert await ended == "default"
        failed: Any = anext(Items(lambda: ext.awaits(raises(ZeroDivisionError()))), "default")
        with pytest.raises(ZeroDivisionError):
            await failed

    loop.run_until_complete(main())


def test_receivers_and_streams(loop: Loop) -> None:
    async def main() -> None:
        sender, receiver = sync.mpsc(1)
        waiting = asyncio.create_task(forwarded(receiver))
        await after(2, None)
        await sender.send("sent")
        assert await waiting == "sent"
        waiting = asyncio.create_task(forwarded(receiver))
        await after(2, None)
        sender.close()
        assert await waiting == "default"
        ticks = ext.ticks(2)
        assert [await anext(ticks, "default") for _ in range(4)] == [0, 1, "default", "default"]
        assert await anext(ext.counts(3).batches(2), "default") == [0, 1]

    async def forwarded(iterator: Any) -> Any:
        return await anext(iterator, "default")

    loop.run_until_complete(main())


@each_never
def test_a_task_that_waits_is_cancelled(loop: Loop, make: Callable[[], Any]) -> None:
    async def wait(items: Items) -> Any:
        try:
            return await anext(items, "default")
        except asyncio.CancelledError as error:
            return error.args

    async def main() -> None:
        task = asyncio.create_task(wait(Items(make)))
        await after(2, None)
        task.cancel("enough")
        assert await task == ("enough",)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(Items(make), "default"), 0.001)

    loop.run_until_complete(main())


@each_never
def test_a_second_task_is_refused_and_the_first_goes_on(loop: Loop, make: Callable[[], Any]) -> None:
    items = Items(make)

    async def wait() -> Any:
        return await anext(items, "default")

    async def main() -> None:
        first = asyncio.create_task(wait())
        await after(2, None)
        [item] = items.made

        async def second() -> None:
            with pytest.raises(RuntimeError, match=r"cannot reuse already awaited|is being awaited already"):
                await item

        await asyncio.create_task(second())
        again = second()
        with pytest.raises(StopIteration):
            again.send(None)
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", [lambda: rust.never(), lambda: ext.never()], ids=["own", "extension"])
def test_who_drives_it_by_hand_does_not_take_it_from_a_task(loop: Loop, make: Callable[[], Any]) -> None:
    items = Items(make)
    seen = list[str]()

    async def wait() -> Any:
        return await anext(items, "default")

    async def main() -> None:
        first = asyncio.create_task(wait())
        await after(2, None)
        loop.call_soon(by_hand)
        await after(2, None)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    def by_hand() -> None:
        [item] = items.made

        async def second() -> None:
            await item

        coroutine = second()
        with pytest.raises(RuntimeError, match=r"is being awaited already$"):
            coroutine.send(None)
        seen.append("refused")

    loop.run_until_complete(main())
    assert seen == ["refused"]


@each_never
def test_a_coroutine_that_waits_may_be_closed_by_anybody(loop: Loop, make: Callable[[], Any]) -> None:
    seen = list[str]()

    async def wait() -> None:
        try:
            await anext(Items(make), "default")
        except GeneratorExit:
            seen.append("closed")
            raise

    coroutine = wait()
    task = loop.create_task(coroutine)
    turn(loop, 2)
    # As the cycle collector does with the coroutine of a task that nobody has.
    coroutine.close()
    assert seen == ["closed"]
    task.cancel()
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        loop.run_until_complete(task)
