"""A Rust future whose awaits are all ready gives way, in another extension module as on a runtime."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from support import making
from support.extension import ext
from support.loops import Loop

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

# tokio's.
BUDGET = 128
ITEMS = 20_000


class Turns:
    """Counts the turns of the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.count, self.counts = loop, 0, True
        loop.call_soon(self.turn)

    def turn(self) -> None:
        self.count += 1
        if self.counts:
            self.loop.call_soon(self.turn)


async def wait(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.parametrize("whole", [True, False], ids=["the whole task", "awaited"])
def test_others_run_while_everything_is_ready(loop: Loop, whole: bool) -> None:
    async def main() -> None:
        turns = Turns(loop)
        awaitable = ext.drains(ITEMS)
        polls = await asyncio.create_task(awaitable if whole else wait(awaitable))
        turns.counts = False
        assert ITEMS // BUDGET <= polls <= ITEMS // BUDGET + 2
        assert turns.count >= polls // 2
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_others_run_beside_a_local_task(loop: Loop) -> None:
    async def main() -> None:
        turns = Turns(loop)
        polls = await ext.drains_locally(ITEMS)
        turns.counts = False
        assert polls >= ITEMS // BUDGET
        # tokio polls 61 local tasks, or one so often, before it gives way.
        assert turns.count >= polls // 61
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_signal_is_heard_meanwhile(loop: Loop) -> None:
    heard = list[int]()

    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, lambda: heard.append(signal.SIGUSR1))
        draining = asyncio.create_task(ext.drains(50 * ITEMS))
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGUSR1)
        while not heard:
            assert not draining.done()
            await asyncio.sleep(0)
        draining.cancel()
        await asyncio.wait([draining])
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())


def test_each_poll_has_a_budget_of_its_own(loop: Loop) -> None:
    async def main() -> None:
        for _ in range(3):
            assert await ext.drains(BUDGET // 2) == 1
        assert await asyncio.gather(*(ext.drains(BUDGET // 2) for _ in range(10))) == [1] * 10

    loop.run_until_complete(main())


def test_a_poll_within_a_poll_has_one_too_and_takes_nothing(loop: Loop) -> None:
    inside = list[int]()

    def poll() -> None:
        for _ in range(3):
            with pytest.raises(StopIteration) as ended:
                ext.drains(BUDGET // 2).send(None)
            inside.append(ended.value.value)

    async def main() -> None:
        assert await ext.drains_and_calls(BUDGET // 2, poll) == 1
        assert inside == [1] * 3
        # And one that panics leaves things as they were.
        with pytest.raises(BaseException, match=r"^in a poll$"):
            await ext.panics("in a poll")
        assert await ext.drains(BUDGET // 2) == 1

    loop.run_until_complete(main())


def test_what_others_poll_has_none(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.drains(ITEMS) > 1
        assert await ext.pyo3_drains(10 * BUDGET) == 1

    loop.run_until_complete(main())
