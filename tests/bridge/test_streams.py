"""Streams both ways: Rust streams in `async for`, async generators in Rust."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop, turn

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


# A Rust stream in Python.


def test_async_for_takes_all_items(loop: Loop) -> None:
    async def main() -> None:
        assert [item async for item in ext.counts(1000)] == list(range(1000))
        assert [item async for item in ext.ticks(10)] == list(range(10))
        assert [item async for item in ext.counts(0)] == []

    loop.run_until_complete(main())


def test_items_that_are_ready_take_no_turn(loop: Loop) -> None:
    async def main() -> None:
        seen = list[str]()
        loop.call_soon(seen.append, "turn")
        assert [item async for item in ext.counts(1000)] == list(range(1000))
        assert [item async for item in ext.counts(1000).batches(100)][-1] == list(range(900, 1000))
        assert seen == []

    loop.run_until_complete(main())


def test_others_run_while_no_item_is_there(loop: Loop) -> None:
    async def main() -> None:
        seen = list[str]()
        loop.call_soon(seen.append, "turn")
        assert [item async for item in ext.ticks(2)] == [0, 1]
        assert seen == ["turn"]

    loop.run_until_complete(main())


def test_any_object_is_an_item(loop: Loop) -> None:
    items = [None, (), StopIteration(1), StopAsyncIteration(), {"a": 1}]
    channel = ext.Channel()
    for item in items:
        channel.send(item)
    channel.close()

    async def main() -> list[Any]:
        return [item async for item in channel.stream()]

    got = loop.run_until_complete(main())
    assert all(one is other for one, other in zip(got, items, strict=True))


def test_closing_the_batches_closes_the_stream(loop: Loop) -> None:
    async def main() -> None:
        stream = ext.counts(1000)
        async with contextlib.aclosing(stream.batches(10)) as batches:
            assert await anext(batches) == list(range(10))
        for ended in (stream, batches):
            with pytest.raises(StopAsyncIteration):
                await anext(ended)
        await batches.aclose()

    loop.run_until_complete(main())


def test_batches_have_what_is_there_together(loop: Loop) -> None:
    async def main() -> None:
        channel = ext.Channel()
        stream = channel.stream()
        batches = stream.batches(3)
        for number in range(5):
            channel.send(number)
        assert await anext(batches) == [0, 1, 2]
        assert await anext(batches) == [3, 4]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        assert not waiting.done()
        channel.send(5)
        assert await waiting == [5]
        channel.send(6)
        assert await anext(stream) == 6  # the same source
        channel.send(7)
        channel.close()
        assert await anext(batches) == [7]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)

    loop.run_until_complete(main())


def test_a_batch_has_at_least_one_item(loop: Loop) -> None:
    with pytest.raises(ValueError, match="at least one"):
        ext.counts(1).batches(0)
    with pytest.raises(OverflowError):
        ext.counts(1).batches(-1)


def test_cancelling_an_item_loses_none(loop: Loop) -> None:
    async def main() -> list[Any]:
        channel = ext.Channel()
        stream = channel.stream()
        got = list[Any]()
        for number in range(50):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            # Cancelled before the item, after it and before the step, or not at all.
            if number % 3 == 0:
                waiting.cancel()
                await asyncio.wait([waiting])
            channel.send(number)
            if number % 3 == 1:
                waiting.cancel()
            await asyncio.wait([waiting])
            if waiting.cancelled():
                cancelled.append(number)
                got.append(await anext(stream))
            else:
                got.append(waiting.result())
        channel.close()
        return got + [item async for item in stream]

    cancelled = list[int]()
    assert loop.run_until_complete(main()) == list(range(50))
    assert cancelled == [number for number in range(50) if number % 3 != 2]


def test_a_timeout_on_an_item_loses_none(loop: Loop) -> None:
    async def main() -> None:
        channel = ext.Channel()
        stream = channel.stream()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.001)
        channel.send("kept")
        assert await asyncio.wait_for(anext(stream), 60) == "kept"
        await stream.aclose()

    loop.run_until_complete(main())


def test_an_error_ends_it(loop: Loop) -> None:
    async def main() -> None:
        channel = ext.Channel()
        stream = channel.stream()
        channel.send(1)
        channel.fail("broken")
        channel.send(2)
        assert await anext(stream) == 1
        with pytest.raises(ValueError, match="broken"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert repr(stream) == "<RustStream closed>"

    before = ext.live_streams()
    loop.run_until_complete(main())
    assert ext.live_streams() == before


def test_an_error_after_items_of_a_batch_comes_with_the_next(loop: Loop) -> None:
    async def main() -> None:
        channel = ext.Channel()
        channel.send(1)
        channel.fail("broken")
        batches = channel.stream().batches(10)
        assert await anext(batches) == [1]
        with pytest.raises(ValueError, match="broken"):
            await anext(batches)
        with pytest.raises(StopAsyncIteration):
            await anext(batches)

    loop.run_until_complete(main())


def test_aclose_drops_it_and_ends_who_waits(loop: Loop) -> None:
    async def main() -> None:
        stream = ext.Channel().stream()
        before = ext.live_streams()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        assert ext.live_streams() == before - 1
        with pytest.raises(StopAsyncIteration):
            await waiting
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    # A task cannot end with StopAsyncIteration for ensure_future: it is awaited by a coroutine.
    loop.run_until_complete(main())


def test_dropping_the_iterator_drops_the_stream(loop: Loop) -> None:
    async def main() -> None:
        before = ext.live_streams()
        channel = ext.Channel()
        channel.send(1)
        async for item in channel.stream():
            assert item == 1
            assert ext.live_streams() == before + 1
            break
        assert ext.live_streams() == before

    loop.run_until_complete(main())


def test_a_stream_is_taken_by_two_tasks_in_turn(loop: Loop) -> None:
    async def take(stream: Any) -> list[Any]:
        return [item async for item in stream]

    async def main() -> None:
        stream = ext.counts(100)
        first, second = await asyncio.gather(take(stream), take(stream))
        assert sorted(first + second) == list(range(100))

    loop.run_until_complete(main())


def test_its_own_stream_from_within_a_poll_is_refused(loop: Loop) -> None:
    seen = list[str]()

    def again(number: int) -> int:
        if number == 1:
            with pytest.raises(RuntimeError, match="being polled already") as told:
                anext(stream).send(None)
            seen.append(str(told.value))
        return number

    stream = ext.calling_stream(again)

    async def main() -> None:
        assert [await anext(stream) for _ in range(3)] == [0, 1, 2]

    loop.run_until_complete(main())
    assert len(seen) == 1


def test_closed_from_within_its_own_poll(loop: Loop) -> None:
    def close(number: int) -> int:
        if number == 1:
            with pytest.raises(StopIteration):
                stream.aclose().send(None)
        return number

    stream = ext.calling_stream(close)

    async def main() -> list[Any]:
        return [item async for item in stream]

    assert loop.run_until_complete(main()) == [0, 1]


def test_a_thread_fills_a_broadcast_channel(loop: Loop) -> None:
    async def take(stream: Any) -> list[int]:
        return [item async for item in stream]

    async def main() -> list[list[int]]:
        first, second = ext.broadcast_from_thread(10_000)
        return list(await asyncio.gather(take(first), take(second)))

    assert loop.run_until_complete(main()) == [list(range(10_000))] * 2


# A Rust stream that is not Send.


def test_a_stream_that_is_not_send_works_on_its_own_thread(loop: Loop) -> None:
    async def main() -> None:
        assert [item async for item in ext.local_counts(5)] == list(range(5))
        assert [batch async for batch in ext.local_counts(3).batches(2)] == [[0], [1], [2]]
        stream = ext.local_counts(5)
        assert await anext(stream) == 0
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    loop.run_until_complete(main())


def test_a_stream_that_is_not_send_ends_on_another_thread_and_comes_home(loop: Loop) -> None:
    streams = [ext.local_counts(5), ext.local_counts(5)]
    before = ext.live()

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match=r"not Send was asked for an item on another thread"):
            streams.pop().__anext__().send(None)
        streams.clear()

    async def main() -> None:
        assert await anext(streams[0]) == 0
        await asyncio.to_thread(elsewhere)
        # Both are home when this thread makes the next.
        assert await ext.yield_once() is None
        assert ext.live() == before - 2

    loop.run_until_complete(main())


# An async generator in Rust.


class Letters:
    """An async iterator that is no generator."""

    def __init__(self, letters: str) -> None:
        self.letters = iter(letters)

    def __aiter__(self) -> Letters:
        return self

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        for letter in self.letters:
            return letter
        raise StopAsyncIteration


async def numbers(to: int, log: list[str] | None = None) -> AsyncIterator[int]:
    try:
        for number in range(to):
            if number % 2:
                await asyncio.sleep(0)
            yield number
    finally:
        if log is not None:
            await asyncio.sleep(0)
            log.append("closed")


@pytest.mark.parametrize("spawned", [False, True], ids=["in place", "spawned"])
def test_rust_takes_all_items(loop: Loop, spawned: bool) -> None:
    async def main() -> None:
        assert await ext.collects(numbers(10), spawned=spawned) == list(range(10))
        assert await ext.collects(Letters("abc"), spawned=spawned) == ["a", "b", "c"]
        assert await ext.collects(ext.counts(10), spawned=spawned) == list(range(10))
        assert await ext.sums(numbers(10), 100) == 45

    loop.run_until_complete(main())


@pytest.mark.parametrize("spawned", [False, True], ids=["in place", "spawned"])
def test_dropping_the_stream_closes_the_generator(loop: Loop, spawned: bool) -> None:
    log = list[str]()

    async def main() -> None:
        assert await ext.collects(numbers(10, log), 3, spawned=spawned) == [0, 1, 2]
        await until(lambda: log == ["closed"])

    loop.run_until_complete(main())
    turn(loop)


def test_dropping_the_stream_while_the_generator_waits_closes_it(loop: Loop) -> None:
    log = list[str]()

    async def waits() -> AsyncIterator[int]:
        try:
            yield 1
            log.append("waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            log.append("closed")

    async def main() -> None:
        task = asyncio.create_task(ext.collects(waits()))
        await until(lambda: log == ["waits"])
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: log == ["waits", "cancelled", "closed"])

    loop.run_until_complete(main())
    turn(loop, 2)


def test_an_exception_is_the_last_item(loop: Loop) -> None:
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    async def main() -> None:
        first, error = await ext.collects(fails())
        assert first == 1
        assert isinstance(error, ValueError)
        assert str(error) == "broken"

    loop.run_until_complete(main())


def test_what_is_no_async_iterator_is_refused(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, AttributeError)):
            ext.collects([1, 2, 3])

    loop.run_until_complete(main())


def test_through_rust_and_back_again(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.moved_streams(numbers(5), True) == list(range(5))
        assert await ext.moved_streams(numbers(5), False) == list(range(5))

    loop.run_until_complete(main())
