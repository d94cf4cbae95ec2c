"""What only our own loop does for the Rust futures of another extension module."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from support.extension import ext
from support.loops import Loop, turn
from support.rust import pyloop

pytestmark = pytest.mark.usefixtures("pyloop_factory", "nothing_left")


def test_a_slow_poll_is_reported_by_name(pyloop_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    pyloop_loop.set_debug(True)
    pyloop_loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        pyloop_loop.run_until_complete(ext.slow(0.02))
    reports = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("Polling Rust future 'extension.slow' took 0.") for text in reports), reports


def test_one_that_is_not_send_goes_home_without_being_asked(pyloop_loop: Loop) -> None:
    threads = list[int]()

    async def main() -> None:
        task = asyncio.create_task(ext.calls_when_dropped(lambda: threads.append(threading.get_ident())))
        await asyncio.sleep(0)
        held = [task.get_coro()]
        other = threading.Thread(target=lambda: held[0].close())  # type: ignore[union-attr]
        other.start()
        await asyncio.to_thread(other.join)
        while not threads:
            await asyncio.sleep(0)
        task.cancel()

    pyloop_loop.run_until_complete(main())
    assert threads == [threading.get_ident()]


def test_a_look_at_the_tasks_goes_through_a_rust_future_to_what_it_awaits(pyloop_loop: Loop) -> None:
    future = pyloop_loop.create_future()

    async def inner() -> None:
        await future

    async def outer() -> None:
        await ext.awaits(inner())

    task = pyloop_loop.create_task(outer())
    turn(pyloop_loop, 2)
    tasks = {each.id: each for each in pyloop.dump(pyloop_loop).loops[0].tasks}
    ((below, through),) = [(each.task, each.through) for each in tasks[id(task)].awaits]
    assert through == "Rust"
    assert [frame.name.rpartition(".")[2] for frame in tasks[below].stack] == ["inner"]
    assert tasks[id(task)].stack[-1].file is None
    future.set_result(None)
    pyloop_loop.run_until_complete(task)
