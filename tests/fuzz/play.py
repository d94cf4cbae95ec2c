"""Runs one program on one side: what happened, line for line."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import warnings
from typing import Any

from . import awaits, sides
from .grammar import Program
from .world import PAUSE, World, describe

TURNS = 40
TRIES = 6  # of a timed program, each with sleepers twice as far apart
CALM_DOWN = 12  # turns after a cancellation


class Player:
    """Drives a loop until nothing more can happen, then ends what waits for ever."""

    def __init__(self, program: Program, side: sides.Side, late: list[str], pause: float) -> None:
        self.program = program
        self.endless = False
        self.loop = side.new_loop()
        self.loop.set_debug(program.debug)
        self.loop.slow_callback_duration = 1e9
        if side.by_factory:

            def make(loop: sides.Loop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
                return side.task(coro, loop=loop, **kwargs)

            self.loop.set_task_factory(make)
        numbered = not program.timed
        self.world = World(side, self.loop, numbered, program.drive == "turn by turn", late)
        self.world.pause = pause
        self.loop.set_exception_handler(self.world.report)

    def play(self) -> list[str]:
        w = self.world
        for body in self.program.roots:
            new = w.new_actor()
            task = w.start_task(new, awaits.root(w, new, body), new)
            task.add_done_callback(lambda done, label=new.label: w.note(label, "done"))
        self.drive(TURNS)
        w.note("loop", "the end")
        for number in range(20):  # whatever waits for ever, in the order of its start
            waiting = [task for task in [*w.tasks, *w.seen] if task is not None and not task.done()]
            if not waiting:
                break
            for task in waiting:
                task.cancel(f"end {number}")
            self.turns(CALM_DOWN)
        else:  # it swallows each cancellation: what happens from here on is beside the point
            self.endless = True
        happened = w.happened[:]
        self.close()
        return happened

    def close(self) -> None:
        w = self.world
        for handle in w.handles:
            handle.cancel()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.turns(CALM_DOWN)
        self.until_done(self.loop.shutdown_asyncgens())
        w.close()
        self.loop.close()
        w.futures.clear()
        w.tasks.clear()
        w.seen.clear()
        w.callbacks.clear()

    # ---- the ways to run a loop ----------------------------------------------------------------------------

    def drive(self, turns: int) -> None:
        if self.program.drive == "turn by turn":
            self.turns(turns)
        elif self.program.drive == "at one go":
            self.at_one_go(turns)
        else:
            self.until_done(self.main(turns))

    def run(self) -> None:
        """`run_forever`, which a SystemExit ends."""
        try:
            self.loop.run_forever()
        except BaseException as error:
            self.world.note("loop", f"run ended by {describe(error)}")

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.world.turn += 1
            self.loop.stop()
            self.run()

    def at_one_go(self, count: int) -> None:
        left = count

        def turn() -> None:
            nonlocal left
            self.world.turn += 1
            left -= 1
            if left > 0:
                self.loop.call_soon(turn)
            else:
                self.loop.stop()

        self.loop.call_soon(turn)
        while left > 0:
            self.run()

    async def main(self, count: int) -> None:
        for _ in range(count):
            self.world.turn += 1
            await asyncio.sleep(0)
        half = self.world.pause / 2
        if (left := self.world.latest - self.loop.time()) > -half:  # whom it wakes may sleep again
            await asyncio.sleep(left + half)
            await self.main(count)

    def until_done(self, coro: Any) -> None:
        main = self.loop.create_task(coro)
        while not main.done():
            try:
                self.loop.run_until_complete(main)
            except BaseException as error:
                self.world.note("loop", f"run ended by {describe(error)}")


def play(program: Program, side: str, pause: float = PAUSE) -> list[str]:
    """In a context of its own, without the collector: what it finds when is no part of the program."""
    reports = list[str]()

    def note(raised: sys.UnraisableHookArgs) -> None:
        reports.append(f"unraisable: {describe(raised.exc_value)}")

    def run() -> tuple[list[str], bool]:
        player = Player(program, sides.side(side), reports, pause)
        return player.play(), player.endless

    hook, sys.unraisablehook = sys.unraisablehook, note
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what was never awaited
            happened, endless = contextvars.Context().run(run)
            gc.collect()  # and with it come the reports on what nobody has looked at
    finally:
        gc.enable()
        sys.unraisablehook = hook
    return happened if endless else [*happened, *sorted(reports)]


def both(program: Program) -> tuple[list[str], list[str]]:
    """What asyncio does, and what the program's own side does."""
    theirs, ours = play(program, "asyncio"), play(program, program.side)
    for number in range(1, TRIES if program.timed else 1):
        # On a busy machine two sleepers may be late together, and are woken in any order.
        if theirs == ours:
            break
        pause = PAUSE * 2**number
        theirs, ours = play(program, "asyncio", pause), play(program, program.side, pause)
    return theirs, ours
