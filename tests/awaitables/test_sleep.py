"""pyloop.sleep: a Rust future on tokio's timer, on any loop: never early, never lost."""

from __future__ import annotations

import asyncio
import fractions
import gc
import inspect
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support import making
from support.loops import Loop, LoopFactory, turn
from support.rust import none_left, pyloop, rust, start_background

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    with none_left():
        yield


@pytest.mark.parametrize("seconds", [0, 0.0, 0.001, 0.0137, -1, -0.5, True])
def test_it_is_never_early(loop: Loop, seconds: float) -> None:
    async def main() -> float:
        start = time.monotonic()
        assert await pyloop.sleep(seconds) is None
        return time.monotonic() - start

    assert loop.run_until_complete(main()) >= seconds


def test_the_time_runs_from_the_await(loop: Loop) -> None:
    async def main() -> float:
        sleeping = pyloop.sleep(0.02)
        await asyncio.sleep(0.03)
        start = time.monotonic()
        await sleeping
        return time.monotonic() - start

    assert loop.run_until_complete(main()) >= 0.02


def test_it_gives_its_result(loop: Loop) -> None:
    result = object()

    async def main() -> None:
        assert await pyloop.sleep(0.001, result) is result
        assert await pyloop.sleep(0.001, result=result) is result
        assert await pyloop.sleep(0, result) is result
        assert await pyloop.sleep(-1, result) is result

    loop.run_until_complete(main())


def test_sleeping_for_nothing_lets_others_run(loop: Loop) -> None:
    order = list[str]()

    async def main() -> None:
        loop.call_soon(order.append, "callback")
        await pyloop.sleep(0)
        order.append("main")

    loop.run_until_complete(main())
    assert order == ["callback", "main"]


def test_sleepers_wake_in_the_order_of_their_deadlines(loop: Loop) -> None:
    order = list[int]()

    async def sleep(milliseconds: int) -> None:
        await pyloop.sleep(milliseconds / 1000)
        order.append(milliseconds)

    async def main() -> None:
        await asyncio.gather(*(sleep(milliseconds) for milliseconds in (60, 20, 80, 40)))

    loop.run_until_complete(main())
    assert order == [20, 40, 60, 80]


def test_many_sleep_at_once(loop: Loop) -> None:
    async def main() -> Any:
        start = loop.time()
        results = await asyncio.gather(*(pyloop.sleep(0.01, number) for number in range(1000)))
        assert 0.01 <= loop.time() - start < 5
        return results

    assert loop.run_until_complete(main()) == list(range(1000))


def test_it_ends_before_a_longer_timer_of_the_loop_and_after_a_shorter(loop: Loop) -> None:
    order = list[str]()

    async def main() -> None:
        loop.call_later(0.2, order.append, "long")
        loop.call_later(0.001, order.append, "short")
        await pyloop.sleep(0.08)
        order.append("sleep")
        await asyncio.sleep(0.12)

    loop.run_until_complete(main())
    assert order == ["short", "sleep", "long"]


def test_an_hour_is_cancelled_at_once(loop: Loop) -> None:
    before = rust.live()
    task = loop.create_task(pyloop.sleep(3600))
    turn(loop)
    assert not task.done()
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    assert rust.live() == before


@pytest.mark.parametrize("seconds", [1e9, 1e15, 1e300, float("inf")])
def test_a_very_long_sleep_is_no_error(loop: Loop, seconds: float) -> None:
    task = loop.create_task(pyloop.sleep(seconds))
    turn(loop, 2)
    assert not task.done()
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()


def test_not_a_number_is_refused(loop: Loop) -> None:
    with pytest.raises(ValueError):
        loop.run_until_complete(pyloop.sleep(float("nan")))


@pytest.mark.parametrize("wrong", ["1", None, [1]])
def test_what_is_no_number_is_refused(loop: Loop, wrong: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(pyloop.sleep(wrong))


def test_whatever_is_a_number_is_taken(loop: Loop) -> None:
    async def main() -> None:
        await pyloop.sleep(fractions.Fraction(1, 1000))

    loop.run_until_complete(main())


def test_it_runs_alone(loop_factory: LoopFactory) -> None:
    assert asyncio.run(pyloop.sleep(0.001, "alone"), loop_factory=loop_factory) == "alone"


def test_two_loops_after_each_other(loop_factory: LoopFactory) -> None:
    for number in range(3):
        loop = loop_factory()
        assert loop.run_until_complete(pyloop.sleep(0.001, number)) == number
        loop.close()


def test_it_wakes_a_loop_that_has_nothing_else_to_do(loop: Loop) -> None:
    async def main() -> float:
        start = time.monotonic()
        await pyloop.sleep(0.05)
        return time.monotonic() - start

    assert 0.05 <= loop.run_until_complete(main()) < 2


def test_a_sleep_that_is_dropped_while_it_runs_leaves_the_loop_alone(loop: Loop) -> None:
    async def main() -> None:
        task: asyncio.Task[Any] | None = asyncio.create_task(pyloop.sleep(0.005))
        await asyncio.sleep(0)
        assert task is not None
        task.cancel()
        del task
        await asyncio.sleep(0.02)
        gc.collect()

    loop.run_until_complete(main())


def test_its_signature_is_that_of_asyncios(loop: Loop) -> None:
    del loop
    parameters = inspect.signature(pyloop.sleep).parameters
    assert list(parameters)[-1] == "result"
    assert parameters["result"].default is None
    assert len(parameters) == 2
