"""A seed that has tasks take their steps in another order."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from types import ModuleType

import pytest

from support.loops import LoopFactory
from support.process import environment


@pytest.fixture
def testing(pyloop_factory: LoopFactory) -> ModuleType:
    from pyloop import testing

    return testing


async def order(count: int = 4) -> tuple[int, ...]:
    """The order in which tasks that wait for one event go on."""
    seen: list[int] = []
    event = asyncio.Event()

    async def waits(number: int) -> None:
        await event.wait()
        seen.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(waits(number))
        await asyncio.sleep(0)
        event.set()
    return tuple(seen)


def test_without_a_seed_the_order_is_asyncios(testing: ModuleType) -> None:
    assert (
        testing.run(order()) == asyncio.run(order(), loop_factory=asyncio.SelectorEventLoop) == (0, 1, 2, 3)
    )


def test_a_seed_is_an_order_and_the_seeds_are_all_of_them(testing: ModuleType) -> None:
    orders = [testing.run(order(3), seed=seed) for seed in range(40)]
    assert set(orders) == set(itertools.permutations(range(3)))
    assert orders[:10] == [testing.run(order(3), seed=seed) for seed in range(10)]


def test_the_order_is_that_of_the_seed_in_every_process(testing: ModuleType) -> None:
    code = """
import asyncio, sys
from pyloop import testing

async def cancelled(number, seen):
    try:
        await asyncio.sleep(60)
    finally:
        seen.append(number)

async def main():
    seen = []
    try:
        async with asyncio.TaskGroup() as group:  # which has its tasks in a set
            for number in range(12):
                group.create_task(cancelled(number, seen))
            await asyncio.sleep(0)
            raise LookupError
    except* LookupError:
        pass
    return seen

junk = [object() for _ in range(int(sys.argv[1]))]
print(testing.run(main(), seed=7))
"""
    outputs = set()
    for number in range(2):
        env = environment() | {"PYTHONHASHSEED": str(number)}
        command = [sys.executable, "-c", code, str(1000 * number)]
        ran = subprocess.run(command, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        outputs.add(ran.stdout)
    assert len(outputs) == 1
    assert outputs != {f"{list(range(12))}\n"}


def test_callbacks_keep_their_order_and_no_step_passes_one(testing: ModuleType) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()

        async def step(name: str) -> None:
            seen.append(name)

        tasks = []
        for number in range(4):
            tasks += [loop.create_task(step(f"{number}a")), loop.create_task(step(f"{number}b"))]
            loop.call_soon(seen.append, f"{number}")
        await asyncio.gather(*tasks)
        return seen

    differed = False
    for seed in range(20):
        seen = testing.run(main(), seed=seed)
        assert [name for name in seen if len(name) == 1] == ["0", "1", "2", "3"]
        for number in range(4):
            assert set(seen[3 * number : 3 * number + 2]) == {f"{number}a", f"{number}b"}
        differed = differed or seen[0] == "0b"
    assert differed


def test_each_task_keeps_its_own_order(testing: ModuleType) -> None:
    async def counts(seen: list[int]) -> None:
        for number in range(20):
            seen.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        all_seen: list[list[int]] = [[] for _ in range(5)]
        await asyncio.gather(*map(counts, all_seen))
        assert all_seen == [list(range(20))] * 5

    for seed in range(5):
        testing.run(main(), seed=seed)


def test_a_bug_of_order_is_found_and_the_seed_is_said(testing: ModuleType) -> None:
    async def main() -> None:
        settings: dict[str, int] = {}
        started = asyncio.Event()

        async def writes() -> None:
            await started.wait()
            settings["port"] = 80

        async def reads() -> int:
            await started.wait()
            return settings["port"]

        async with asyncio.TaskGroup() as group:
            group.create_task(writes())
            group.create_task(reads())
            await asyncio.sleep(0)
            started.set()

    testing.run(main())
    found = []
    for seed in range(20):
        try:
            testing.run(main(), seed=seed)
        except* KeyError as raised:
            found.append(seed)
            assert raised.__notes__ == [f"pyloop.testing: seed={seed} replays this order of steps"]
    assert 0 < len(found) < 20


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(testing: ModuleType, seed: int) -> None:
    with pytest.raises(OverflowError):
        testing.new_event_loop(seed=seed)
