"""Random programs of callbacks, timers, tasks and a pipe: pyloop runs them in exactly asyncio's order."""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import Loop, LoopFactory, new_loop, turn

FAR = 10_000.0


class Program:
    """What each of its callbacks does is drawn from the seed and its number: it is the same on each loop.

    A program ends because a callback of depth 4 does nothing. Timers are due at once, each at a time of its
    own, or never.
    """

    def __init__(self, loop: Loop, seed: int, pipe: bool) -> None:
        self.loop = loop
        self.seed = seed
        self.log: list[str] = []
        self.handles: list[asyncio.Handle] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.made = 0
        self.ended = False
        self.start = loop.time() - 1000
        self.pipe = os.pipe() if pipe else None
        if self.pipe:
            loop.add_reader(self.pipe[0], self.readable, self.pipe[0])

    def close(self) -> None:
        self.ended = True
        if self.pipe:
            self.loop.remove_reader(self.pipe[0])
            for end in self.pipe:
                os.close(end)
        for handle in self.handles:
            handle.cancel()
        for future in [*self.tasks, *self.futures]:
            future.cancel()
        turn(self.loop, 5)

    def readable(self, end: int) -> None:
        self.log.append(f"read {os.read(end, 1)!r}")

    def called(self, number: int, depth: int) -> None:
        self.log.append(f"callback {number}")
        self.act(number, depth)

    def resolved(self, number: int, depth: int, future: object) -> None:
        self.called(number, depth)

    async def task(self, number: int, depth: int) -> None:
        rng = random.Random(f"{self.seed} task {number}")
        for step in range(rng.randrange(4)):
            self.log.append(f"task {number} step {step}")
            try:
                if rng.random() < 0.6 or not self.futures:
                    await asyncio.sleep(0)
                else:
                    await asyncio.wait([rng.choice(self.futures)], timeout=None)
            except asyncio.CancelledError:
                self.log.append(f"task {number} cancelled")
                return
        self.act(number, depth)
        self.log.append(f"task {number} ends")

    def act(self, number: int, depth: int) -> None:
        if depth == 4 or self.ended:
            return
        rng = random.Random(f"{self.seed} callback {number}")
        for _ in range(rng.randrange(4)):
            self.made += 1
            new, deeper = self.made, depth + 1
            kind = rng.randrange(12)
            self.log.append(f"{number} does {kind} with {new}")
            if kind < 3:
                self.handles.append(self.loop.call_soon(self.called, new, deeper))
            elif kind == 3:
                self.handles.append(self.loop.call_soon_threadsafe(self.called, new, deeper))
            elif kind < 6:
                when = self.start + rng.random() + new * 1e-9
                self.handles.append(self.loop.call_at(when, self.called, new, deeper))
            elif kind == 6:
                self.handles.append(self.loop.call_at(self.loop.time() + FAR, self.called, new, deeper))
            elif kind == 7 and self.handles:
                rng.choice(self.handles).cancel()
            elif kind == 8:
                future = self.loop.create_future()
                future.add_done_callback(functools.partial(self.resolved, new, deeper))
                self.futures.append(future)
            elif kind == 9 and self.futures:
                future = rng.choice(self.futures)
                if not future.done():
                    future.set_result(None)
            elif kind == 10:
                self.tasks.append(self.loop.create_task(self.task(new, deeper)))
            elif kind == 11 and self.tasks:
                rng.choice(self.tasks).cancel()
            elif self.pipe:
                os.write(self.pipe[1], bytes([new % 256]))


def log_of(loop: Loop, seed: int, drive: Callable[[Program], None], pipe: bool) -> list[str]:
    program = Program(loop, seed, pipe)
    for number in range(-1, -6, -1):
        loop.call_soon(program.called, number, 0)
    drive(program)
    log = list(program.log)
    program.close()
    return log


def turn_by_turn(program: Program) -> None:
    for number in range(40):
        program.log.append(f"turn {number}")
        turn(program.loop)


def at_one_go(program: Program) -> None:
    def again(left: int) -> None:
        if left:
            program.loop.call_soon(again, left - 1)
        else:
            program.loop.stop()

    program.loop.call_soon(again, 40)
    program.loop.run_forever()


@pytest.mark.parametrize("seed", range(60))
def test_a_random_program_runs_turn_by_turn_as_on_asyncio(pyloop_factory: LoopFactory, seed: int) -> None:
    oracle, loop = new_loop("asyncio"), pyloop_factory()
    for each in oracle, loop:
        each.set_debug(False)
    expected = log_of(oracle, seed, turn_by_turn, pipe=True)
    assert log_of(loop, seed, turn_by_turn, pipe=True) == expected
    oracle.close()
    loop.close()


@pytest.mark.parametrize("seed", range(100, 140))
def test_a_random_program_runs_at_one_go_as_on_asyncio(pyloop_factory: LoopFactory, seed: int) -> None:
    oracle, loop = new_loop("asyncio"), pyloop_factory()
    for each in oracle, loop:
        each.set_debug(False)
    expected = log_of(oracle, seed, at_one_go, pipe=False)
    assert log_of(loop, seed, at_one_go, pipe=False) == expected
    assert len(expected) > 5
    oracle.close()
    loop.close()
