"""Connections of all kinds, made and closed, and cancelled wherever that is possible."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.guard import descriptors
from support.life_cycles import ALL, QUICK, LifeCycle, Place, place
from support.loops import Loop, Run

# A life cycle is cancelled after so many turns at most. The last ones have then ended by themselves.
TURNS = 60
GONE = "Error on transport creation for incoming connection"


async def _cancelled_after(turns: int, life: LifeCycle, where: Place) -> bool:
    """Whether it had ended before."""
    task = asyncio.ensure_future(life(where))
    for _ in range(turns):
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return ended


async def _cancelled_in_any_turn(life: LifeCycle, most: int, directory: Path) -> None:
    """No descriptor stays open, and none is closed twice."""
    async with place(directory) as where:
        await life(where)
        gc.collect()
        before = len(descriptors())
        for turns in range(most):
            ended = await _cancelled_after(turns, life, where)
            # They get the numbers of those that have just been closed.
            canaries = os.pipe()
            seen = [os.fstat(fd) for fd in canaries]
            for _ in range(5):
                await asyncio.sleep(0)
            assert [os.fstat(fd) for fd in canaries] == seen
            for fd in canaries:
                os.close(fd)
            if ended:
                break
        for _ in range(1000):  # servers hear of the end, threads of the pool end their look-ups
            gc.collect(0)
            if len(descriptors()) <= before:
                break
            await asyncio.sleep(0.001)
        assert len(descriptors()) <= before


@pytest.mark.parametrize("name", [name for name in QUICK if name != "server"])
def test_a_life_cycle_may_be_cancelled_in_any_turn(
    run: Run, handled: list[dict[str, Any]], name: str, tmp_path: Path
) -> None:
    run(_cancelled_in_any_turn(QUICK[name], TURNS, tmp_path))
    # Servers say so in debug mode: the client went in the middle of the handshake.
    assert all(context["message"] == GONE for context in handled)


def test_a_server_s_life_may_be_cancelled_in_any_turn(pyloop_loop: Loop, tmp_path: Path) -> None:
    """asyncio's own code, which accepts in debug mode, loses a connection whose server is closed."""
    pyloop_loop.set_debug(False)
    pyloop_loop.run_until_complete(_cancelled_in_any_turn(QUICK["server"], TURNS, tmp_path))


def test_a_subprocess_s_life_may_be_cancelled_in_any_turn(run: Run, tmp_path: Path) -> None:
    run(_cancelled_in_any_turn(ALL["subprocess"], 12, tmp_path))
