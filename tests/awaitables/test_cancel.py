"""Cancelling who awaits a Rust future, at each point of its life: it is dropped at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from support import making
from support.guard import kernel_threads
from support.loops import Loop, turn
from support.rust import WAITING, WOKEN, none_left, pyloop, rust, start_background

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

Make = Callable[[], Any]

PENDING = WAITING | WOKEN

each_pending = pytest.mark.parametrize("make", list(PENDING.values()), ids=list(PENDING))
each_waiting = pytest.mark.parametrize("make", list(WAITING.values()), ids=list(WAITING))
each_woken = pytest.mark.parametrize("make", list(WOKEN.values()), ids=list(WOKEN))


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    with none_left():
        yield


def as_task(loop: Loop, make: Make, how: str) -> asyncio.Task[Any]:
    """A task that awaits what `make` makes: the thing itself, in a coroutine, by either class."""

    async def wait() -> Any:
        return await make()

    async def nested() -> Any:
        return await wait()

    if how == "itself":
        return loop.create_task(make())
    if how == "nested":
        return loop.create_task(nested())
    if how == "stock":
        return asyncio.Task(wait(), loop=loop)
    task: asyncio.Task[Any] = pyloop.Task(wait(), loop=loop)
    return task


each_way = pytest.mark.parametrize("how", ["itself", "nested", "stock", "ours"])


def cancelled_with(task: asyncio.Task[Any]) -> tuple[Any, ...]:
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError) as caught:
        task.result()
    return caught.value.args


# Each point.


@each_pending
@each_way
def test_cancelled_before_the_first_poll(loop: Loop, make: Make, how: str) -> None:
    task = as_task(loop, make, how)
    assert task.cancel("before") is True
    turn(loop)
    assert cancelled_with(task) == ("before",)


@each_waiting
@each_way
def test_cancelled_while_it_waits(loop: Loop, make: Make, how: str) -> None:
    before = rust.live()
    task = as_task(loop, make, how)
    turn(loop)
    assert not task.done()
    assert rust.live() >= before
    assert task.cancel("while waiting") is True
    turn(loop, 2)
    assert cancelled_with(task) == ("while waiting",)
    assert rust.live() == before


@each_waiting
@each_way
def test_what_comes_after_a_cancellation_does_not_change_it(loop: Loop, make: Make, how: str) -> None:
    """As with a cancelled future: its CancelledError is on its way, whatever is asked or taken back then."""
    task = as_task(loop, make, how)
    turn(loop)
    assert task.cancel("first") is True
    assert task.cancel("second") is True
    while task.uncancel():
        pass
    turn(loop, 2)
    assert cancelled_with(task) == ("first",)


@each_woken
@each_way
def test_cancelled_after_the_wake_and_before_the_step(loop: Loop, make: Make, how: str) -> None:
    before = rust.live()
    task = as_task(loop, make, how)
    loop.call_soon(task.cancel, "after the wake")  # runs right after the first step
    turn(loop, 3)
    assert cancelled_with(task) == ("after the wake",)
    assert rust.live() == before


@each_pending
def test_it_is_dropped_before_the_coroutine_hears_of_the_cancellation(loop: Loop, make: Make) -> None:
    seen = list[int]()
    before = rust.live()

    async def main() -> None:
        awaitable = make()
        try:
            await awaitable
        except asyncio.CancelledError:
            seen.append(rust.live() - before)
            raise

    task = loop.create_task(main())
    loop.call_soon(task.cancel)
    turn(loop, 3)
    assert task.cancelled()
    assert seen == [0]


def test_cancelled_from_within_the_value_of_another(loop: Loop) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(rust.never())
        await rust.yield_once()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    loop.run_until_complete(main())


def test_a_task_that_cancels_itself_gets_the_error_at_the_rust_future(loop: Loop) -> None:
    async def main() -> list[str]:
        me = asyncio.current_task()
        assert me is not None
        seen = list[str]()
        me.cancel("myself")
        seen.append(await rust.ready("what is ready does not suspend"))
        try:
            await rust.never()
        except asyncio.CancelledError as error:
            seen.append(str(error))
        return seen

    assert loop.run_until_complete(main()) == ["what is ready does not suspend", "myself"]


@each_pending
def test_the_cancellation_may_be_ignored(loop: Loop, make: Make) -> None:
    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None
        for _ in range(3):
            loop.call_soon(me.cancel)
            with pytest.raises(asyncio.CancelledError):
                await make()
            assert me.uncancel() == 0
        return str(await rust.yield_n(3, "went on"))

    assert loop.run_until_complete(main()) == "went on"


def test_cancelling_after_the_end_does_nothing(loop: Loop) -> None:
    task = loop.create_task(rust.yield_once(1))
    assert loop.run_until_complete(task) == 1
    assert task.cancel() is False
    assert task.result() == 1


# Combinations.


@each_pending
@pytest.mark.parametrize("timeout", [0, 0.001])
def test_wait_for_drops_what_is_too_late(loop: Loop, make: Make, timeout: float) -> None:
    async def main() -> None:
        before = rust.live()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(forever(make), timeout)
        assert rust.live() == before

    async def forever(make: Make) -> None:
        while True:
            await make()

    loop.run_until_complete(main())


@each_waiting
def test_a_timeout_drops_what_is_awaited_in_it(loop: Loop, make: Make) -> None:
    async def main() -> None:
        before = rust.live()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await make()
        assert rust.live() == before

    loop.run_until_complete(main())


@each_waiting
def test_cancelling_a_gathering_drops_each_part(loop: Loop, make: Make) -> None:
    async def main() -> None:
        await asyncio.gather(make(), make(), asyncio.sleep(3600))

    before = rust.live()
    task = loop.create_task(main())
    turn(loop, 2)
    task.cancel("all")
    with pytest.raises(asyncio.CancelledError, match=r"^all$"):
        loop.run_until_complete(task)
    assert rust.live() == before


@each_waiting
def test_a_shield_keeps_it_alive_until_it_is_cancelled_itself(loop: Loop, make: Make) -> None:
    async def outer() -> None:
        await asyncio.shield(inside)

    before = rust.live()
    inside = loop.create_task(make())
    task = loop.create_task(outer())
    turn(loop, 2)
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    assert not inside.done()
    inside.cancel()
    turn(loop, 2)
    assert inside.cancelled()
    assert rust.live() == before


@each_waiting
def test_a_group_that_fails_drops_its_members(loop: Loop, make: Make) -> None:
    async def main() -> None:
        before = rust.live()
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                members = [group.create_task(make()) for _ in range(3)]
                group.create_task(rust.error(ValueError()))
        assert all(member.cancelled() for member in members)
        assert rust.live() == before

    loop.run_until_complete(main())


@each_waiting
def test_as_completed_with_a_timeout_leaves_it_to_be_cancelled(loop: Loop, make: Make) -> None:
    async def main() -> None:
        waiting, quick = asyncio.create_task(make()), asyncio.create_task(rust.yield_once(1))
        await quick
        values = list[Any]()
        with pytest.raises(TimeoutError):
            for ended in asyncio.as_completed([waiting, quick], timeout=0.05):
                values.append(await ended)
        assert values == [1]
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])

    loop.run_until_complete(main())


@each_waiting
@pytest.mark.parametrize("end", ["cancel", "aclose"])
def test_an_async_generator_waiting_in_rust_is_ended(loop: Loop, make: Make, end: str) -> None:
    order = list[str]()

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
            await make()
            yield 2
        finally:
            order.append("left")

    async def main() -> None:
        before = rust.live()
        generator: Any = generate()
        assert await anext(generator) == 1
        if end == "cancel":
            step = asyncio.create_task(anext(generator))
            await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            assert step.cancelled()
        await generator.aclose()
        assert order == ["left"]
        assert rust.live() == before

    loop.run_until_complete(main())


@each_waiting
def test_a_coroutine_that_waits_in_rust_can_be_closed_by_hand(loop: Loop, make: Make) -> None:
    order = list[str]()

    async def wait() -> None:
        try:
            await make()
        finally:
            order.append("closed")

    async def main() -> None:
        before = rust.live()
        coro = wait()
        coro.send(None)
        coro.close()
        assert order == ["closed"]
        assert rust.live() == before

    loop.run_until_complete(main())


# Late wakes.


def test_a_wake_that_comes_after_the_cancellation_wakes_nobody(loop: Loop) -> None:
    """The task waits for something else by then, and must not be stepped before that is done."""
    threads = kernel_threads()

    async def main() -> list[str]:
        me = asyncio.current_task()
        assert me is not None
        loop.call_soon(me.cancel)
        with pytest.raises(asyncio.CancelledError):
            await rust.woken_from_thread(0.01)
        future, results = loop.create_future(), list[str]()
        loop.call_later(0.03, future.set_result, "the future")
        results.append(await future)
        results.append(await rust.yield_n(3, "Rust"))
        return results

    assert loop.run_until_complete(main()) == ["the future", "Rust"]
    while kernel_threads() > threads:
        turn(loop)


def test_a_wake_that_comes_after_the_end_of_the_task_is_harmless(loop: Loop) -> None:
    threads = kernel_threads()
    tasks = [loop.create_task(rust.woken_from_thread(0.005 + number / 1000)) for number in range(5)]
    turn(loop)
    for task in tasks:
        task.cancel()
    turn(loop, 2)
    assert all(task.cancelled() for task in tasks)
    tasks.clear()
    while kernel_threads() > threads:
        turn(loop)


def test_a_wake_that_comes_after_the_loop_is_closed_is_harmless(loop: Loop) -> None:
    threads = kernel_threads()
    task = loop.create_task(rust.woken_from_thread(0.01))
    turn(loop)
    task.cancel()
    turn(loop, 2)
    loop.close()
    while kernel_threads() > threads:
        pass


def test_cancelling_races_with_wakes_from_threads(loop: Loop) -> None:
    async def main() -> int:
        ended = 0
        for number in range(60):
            task = asyncio.create_task(rust.woken_from_thread(number % 3 / 2000, "woken"))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result() == "woken"
            ended += 1
        return ended

    threads = kernel_threads()
    assert loop.run_until_complete(main()) == 60
    while kernel_threads() > threads:
        turn(loop)
