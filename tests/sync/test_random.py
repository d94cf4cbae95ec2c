"""Random programs on `pyloop.sync` and on asyncio's own: they see the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import Loop
from support.rust import start_background, sync

pytestmark = pytest.mark.usefixtures("pyloop_factory", "background")

Trace = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


class OurQueue:
    """asyncio.Queue's interface on a queue of ours."""

    def __init__(self, size: int) -> None:
        self.sender, self.receiver = sync.mpsc(size)

    async def put(self, item: int) -> None:
        await self.sender.send(item)

    async def get(self) -> Any:
        return await self.receiver.recv()


class OurSemaphore:
    """asyncio.Semaphore's interface on one of ours."""

    def __init__(self, permits: int) -> None:
        self.semaphore = sync.Semaphore(permits)

    async def acquire(self) -> None:
        (await self.semaphore.acquire()).forget()

    def release(self) -> None:
        self.semaphore.add_permits(1)


class OurBarrier:
    """asyncio.Barrier's interface on one of ours."""

    def __init__(self, parties: int) -> None:
        self.barrier = sync.Barrier(parties)

    async def wait(self) -> None:
        await self.barrier.wait()

    @property
    def n_waiting(self) -> int:
        count: int = self.barrier.n_waiting
        return count


async def settle() -> None:
    """Until whatever can go on has gone on."""
    for _ in range(12):
        await asyncio.sleep(0)


async def play_queue(make: Callable[[int], Any], seed: int) -> Trace:
    chance = random.Random(seed)
    queue, trace, tasks = make(chance.randrange(1, 4)), Trace(), list[asyncio.Task[Any]]()

    async def put(number: int) -> None:
        await queue.put(number)
        trace.append(("put", number))

    async def get(number: int) -> None:
        trace.append(("got", number, await queue.get()))

    for number in range(40):
        act = chance.choice(["put", "put", "get", "get", "cancel"])
        if act == "cancel":
            pending = [task for task in tasks if not task.done()]
            if pending:
                chance.choice(pending).cancel()
        else:
            tasks.append(asyncio.create_task(put(number) if act == "put" else get(number)))
        await settle()
    trace.append(tuple(task.done() for task in tasks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return trace


async def play_semaphore(make: Callable[[int], Any], seed: int) -> Trace:
    chance = random.Random(seed)
    semaphore, trace, tasks = make(chance.randrange(3)), Trace(), list[asyncio.Task[Any]]()

    async def acquire(number: int) -> None:
        await semaphore.acquire()
        trace.append(("acquired", number))

    for number in range(40):
        act = chance.choice(["acquire", "acquire", "release", "cancel"])
        if act == "acquire":
            tasks.append(asyncio.create_task(acquire(number)))
        elif act == "release":
            semaphore.release()
        else:
            pending = [task for task in tasks if not task.done()]
            if pending:
                chance.choice(pending).cancel()
        await settle()
    trace.append(tuple(task.done() for task in tasks))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return trace


async def play_barrier(make: Callable[[int], Any], seed: int) -> Trace:
    chance = random.Random(seed)
    barrier, trace, tasks = make(chance.randrange(1, 4)), Trace(), list[asyncio.Task[Any]]()

    async def wait() -> None:
        await barrier.wait()

    for _ in range(40):
        if chance.random() < 0.7:
            tasks.append(asyncio.create_task(wait()))
        else:
            pending = [task for task in tasks if not task.done()]
            if pending:
                chance.choice(pending).cancel()
        await settle()
        trace.append((barrier.n_waiting, *[task.done() for task in tasks]))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return trace


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    ("play", "theirs", "ours"),
    [
        (play_queue, asyncio.Queue, OurQueue),
        (play_semaphore, asyncio.Semaphore, OurSemaphore),
        (play_barrier, asyncio.Barrier, OurBarrier),
    ],
    ids=["queue", "semaphore", "barrier"],
)
def test_random_programs_see_what_asyncios_see(
    loop: Loop, play: Any, theirs: Any, ours: Any, seed: int
) -> None:
    expected = loop.run_until_complete(play(theirs, seed))
    assert len(expected) > 3
    assert loop.run_until_complete(play(ours, seed)) == expected


def test_a_busy_receiver_lets_others_run(pyloop_loop: Loop) -> None:
    sender, receiver = sync.unbounded()
    ticks = list[int]()

    async def tick() -> None:
        while not sender.is_closed():
            ticks.append(1)
            await asyncio.sleep(0)

    async def main() -> None:
        sender.try_send(0)
        other = asyncio.create_task(tick())
        async for number in receiver:
            if number == 2000:
                break
            sender.try_send(number + 1)
        sender.close()
        await other

    pyloop_loop.run_until_complete(main())
    assert len(ticks) >= 5
