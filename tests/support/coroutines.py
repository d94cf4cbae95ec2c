"""What tests have tasks run, and how they end it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.loops import Loop, turn


async def give(value: Any = None) -> Any:
    return value


async def fail(error: BaseException) -> None:
    raise error


async def pause() -> None:
    await asyncio.sleep(0)


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def end(loop: Loop, *tasks: asyncio.Task[Any]) -> None:
    """Ends what a test leaves pending on purpose."""
    for task in tasks:
        task.cancel()
    turn(loop, 3)
    assert all(task.done() for task in tasks)


def cancelled_with(task: asyncio.Future[Any]) -> tuple[Any, ...]:
    """The arguments of the error that a cancelled task raises."""
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError) as caught:
        task.result()
    return caught.value.args
