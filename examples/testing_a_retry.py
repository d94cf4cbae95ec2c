"""Testing with a clock that jumps and tasks in every order: a client that tries again, later and later.

python examples/testing_a_retry.py
"""

import asyncio
from collections.abc import Awaitable, Callable

from pyloop import testing


async def with_retries(call: Callable[[], Awaitable[str]], longest: float) -> str:
    delay = 1.0
    async with asyncio.timeout(longest):
        while True:
            try:
                return await call()
            except ConnectionError:
                await asyncio.sleep(delay)
                delay *= 2


async def test_it_waits_twice_as_long_each_time() -> None:
    asked_at: list[float] = []

    async def call() -> str:
        asked_at.append(asyncio.get_running_loop().time())
        if len(asked_at) < 5:
            raise ConnectionError
        return "answer"

    assert await with_retries(call, 3600) == "answer"
    assert asked_at == [0, 1, 3, 7, 15]


async def test_it_gives_up_after_an_hour() -> None:
    async def call() -> str:
        raise ConnectionError

    try:
        await with_retries(call, 3600)
    except TimeoutError:
        assert asyncio.get_running_loop().time() == 3600
    else:
        raise AssertionError("it did not give up")


async def test_those_who_wait_get_what_was_put() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(2)

    async def take() -> int:
        return await queue.get()

    takers = [asyncio.create_task(take()) for _ in range(4)]
    for number in range(4):
        await queue.put(number)
    assert sorted(await asyncio.gather(*takers)) == [0, 1, 2, 3]  # who gets which, nobody promises


if __name__ == "__main__":
    testing.run(test_it_waits_twice_as_long_each_time(), virtual_time=True)
    testing.run(test_it_gives_up_after_an_hour(), virtual_time=True)
    for seed in range(50):
        testing.run(test_those_who_wait_get_what_was_put(), seed=seed)
    print("two tests that wait for an hour, and one in 50 orders")
