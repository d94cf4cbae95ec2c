"""Random programs of tasks and futures, step for step as asyncio runs them.

Each program is made from a seed: tasks that yield, wait for futures and for each other, resolve, fail and
cancel, start others, gather and shield. What happens is written down with the turn in which it happens, and
must be, line for line, what asyncio's own tasks and futures do on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest

from support import making
from support.loops import Loop, LoopFactory, new_loop
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize

SEEDS = 10
PROGRAMS = 25  # for each seed
FUTURES = 4
TURNS = 40

Op = tuple[Any, ...]

KINDS: dict[str, int] = {
    "yield": 5,
    "await future": 6,
    "await task": 4,
    "resolve": 5,
    "fail": 1,
    "cancel future": 1,
    "cancel task": 3,
    "uncancel": 1,
    "spawn": 2,
    "call_soon": 2,
    "callback": 2,
    "gather": 1,
    "shield": 1,
    "wait": 1,
    "raise": 1,
    "handoff": 1,
    "lock": 2,
    "event": 1,
}


def make_ops(chance: random.Random, depth: int = 0) -> list[Op]:
    """What one task does."""
    ops: list[Op] = []
    for kind in chance.choices(list(KINDS), list(KINDS.values()), k=chance.randint(1, 8)):
        if kind == "spawn":
            if depth < 3:
                ops.append((kind, make_ops(chance, depth + 1)))
        elif kind in ("gather", "wait"):
            ops.append((kind, [chance.randrange(8) for _ in range(chance.randint(1, 3))]))
        else:
            ops.append((kind, chance.randrange(8)))
    return ops


class Program:
    """One run of one program, and what happened in it."""

    def __init__(self, loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
        self.loop, self.spawn = loop, spawn
        self.turn = 0
        self.happened: list[str] = []
        self.futures = [make_future(loop) for _ in range(FUTURES)]
        self.tasks: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()
        self.event = asyncio.Event()

    def note(self, who: str, what: object) -> None:
        self.happened.append(f"{self.turn:2} {who}: {what}")

    def start(self, ops: list[Op]) -> asyncio.Task[Any]:
        name = f"t{len(self.tasks)}"
        task = self.spawn(self.work(name, ops), loop=self.loop, name=name)
        self.tasks.append(task)
        task.add_done_callback(lambda done: self.note(name, f"done, {state(done)}"))
        return task

    def task(self, number: int) -> asyncio.Task[Any]:
        return self.tasks[number % len(self.tasks)]

    def future(self, number: int) -> asyncio.Future[Any]:
        return self.futures[number % FUTURES]

    async def work(self, name: str, ops: list[Op]) -> str:
        self.note(name, "starts")
        for op in ops:
            try:
                got = await self.perform(name, *op)
            except asyncio.CancelledError as error:
                me = asyncio.current_task()
                assert me is not None
                self.note(name, f"{op[0]}: cancelled {error.args}, {me.cancelling()} requests")
                if len(op) > 1 and isinstance(op[1], int) and op[1] % 2:
                    raise
            except (ValueError, RuntimeError) as error:
                self.note(name, f"{op[0]}: {type(error).__name__}")
                if op[0] == "raise":
                    raise
            else:
                self.note(name, f"{op[0]}: {got}")
        return f"end of {name}"

    async def perform(self, name: str, kind: str, argument: Any) -> object:
        if kind == "yield":
            await asyncio.sleep(0)
            return None
        if kind == "await future":
            return await self.future(argument)
        if kind == "await task":
            older = self.tasks[: int(name[1:])]  # a ring of tasks could not be cancelled
            return await older[argument % len(older)] if older else None
        if kind == "gather":
            return await asyncio.gather(*map(self.future, argument), return_exceptions=argument[0] % 2 == 0)
        if kind == "wait":
            done, pending = await asyncio.wait(
                {self.task(number) for number in argument} - {asyncio.current_task()}
            )
            return len(done), len(pending)
        if kind == "shield":
            return await asyncio.shield(self.future(argument))
        if kind == "handoff":
            await asyncio.create_task(asyncio.sleep(0))
            return None
        if kind == "lock":
            async with self.lock:
                await asyncio.sleep(0)
            return None
        if kind == "event":
            if argument % 2:
                self.event.set()
                return "set"
            return await self.event.wait()
        return self.act(name, kind, argument)

    def act(self, name: str, kind: str, argument: Any) -> object:
        """What takes no waiting."""
        if kind == "resolve":
            future = self.future(argument)
            if future.done():
                return "done already"
            future.set_result(f"value by {name}")
        elif kind == "fail":
            future = self.future(argument)
            if not future.done():
                future.set_exception(ValueError(name))
                future.exception()
        elif kind == "cancel future":
            return self.future(argument).cancel(f"by {name}")
        elif kind == "cancel task":
            return self.task(argument).cancel(f"by {name}")
        elif kind == "uncancel":
            me = asyncio.current_task()
            assert me is not None
            return me.uncancel()
        elif kind == "spawn":
            return self.start(argument).get_name()
        elif kind == "call_soon":
            self.loop.call_soon(self.note, f"callback of {name}", argument)
        elif kind == "callback":
            self.future(argument).add_done_callback(lambda done: self.note(name, f"sees {state(done)}"))
        elif kind == "raise":
            raise ValueError(name)
        return None

    def run(self, programs: list[list[Op]]) -> list[str]:
        for ops in programs:
            self.start(ops)
        self.go_on()
        for cancelling in range(20):  # whatever waits for ever, in the order of its start
            waiting = [task for task in self.tasks if not task.done()]
            if not waiting:
                break
            for task in waiting:
                task.cancel(f"end {cancelling}")
            self.go_on(8)
        self.happened += [f"{task.get_name()} {state(task)}" for task in self.tasks]
        return self.happened

    def go_on(self, turns: int = TURNS) -> None:
        for _ in range(turns):
            self.turn += 1
            self.loop.stop()
            self.loop.run_forever()


def state(future: asyncio.Future[Any]) -> str:
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return f"failed with {type(error).__name__} {error}" if error else f"finished with {future.result()}"


def run_all(seed: int, factory: Callable[[], Loop], spawn: Spawn, make_future: MakeFuture) -> list[list[str]]:
    chance = random.Random(seed)
    happened = []
    for _ in range(PROGRAMS):
        programs = [make_ops(chance) for _ in range(chance.randint(1, 6))]
        loop = factory()
        loop.set_exception_handler(lambda loop, context: None)  # what is reported depends on the collector
        program = Program(loop, spawn, make_future)
        happened.append(program.run(programs))
        for task in asyncio.all_tasks(loop):  # those of `handoff`, orphaned
            task.cancel()
        program.go_on(4)
        loop.close()
    return happened


@functools.cache
def expected(seed: int) -> list[list[str]]:
    """What asyncio does."""

    def spawn(coro: Any, /, *, loop: Loop, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **kwargs)

    def make_future(loop: Loop, /) -> asyncio.Future[Any]:
        return asyncio.Future(loop=loop)

    return run_all(seed, lambda: new_loop("asyncio"), spawn, make_future)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_programs_run_as_on_asyncio(
    loop_factory: LoopFactory, spawn: Spawn, make_future: MakeFuture, seed: int, unraisable: list[str]
) -> None:
    found = run_all(seed, loop_factory, spawn, make_future)
    for ours, theirs in zip(found, expected(seed), strict=True):
        assert ours == theirs
