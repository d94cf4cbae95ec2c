"""`pyloop.watchdog`: a thread that reports what keeps the loop, while it does. A second in all."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop

THRESHOLD = 0.02


class Reports:
    """What a watchdog reports, and the way to wait for it within a callback."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.came = threading.Event()

    def __call__(self, slow: Any) -> None:
        self.all.append(slow)
        self.came.set()

    def block_until_one_comes(self) -> None:
        self.came.wait(9)
        self.came.clear()


def test_a_slow_callback_is_reported_while_it_runs_with_where_it_is(
    pyloop: ModuleType, pyloop_loop: Loop
) -> None:
    reports = Reports()
    with pyloop.watchdog(pyloop_loop, threshold=THRESHOLD, report=reports):
        pyloop_loop.call_soon(reports.block_until_one_comes)
        pyloop_loop.call_soon(pyloop_loop.stop)
        pyloop_loop.run_forever()
    (slow,) = reports.all
    assert slow.loop is pyloop_loop
    assert slow.seconds >= THRESHOLD
    assert slow.task is None
    names = [frame.name for frame in slow.stack]
    assert names.index("run_forever") < names.index("block_until_one_comes") < names.index("wait")
    assert "The event loop has been in a callback for 0." in str(slow)
    assert "self.came.wait(9)" in str(slow)


def test_a_slow_step_is_reported_with_its_task(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    reports, texts = Reports(), list[str]()

    def report(slow: Any) -> None:
        texts.append(str(slow))
        reports(slow)

    async def main() -> None:
        with pyloop.watchdog(threshold=THRESHOLD, report=report):
            await asyncio.sleep(0)
            reports.block_until_one_comes()
            await asyncio.sleep(0)

    task = pyloop_loop.create_task(main(), name="the slow one")
    pyloop_loop.run_until_complete(task)
    (slow,) = reports.all
    assert slow.task is task
    assert "in a step of <Task pending name='the slow one'" in texts[0]


def test_each_slow_callback_is_reported_once(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    reports = Reports()

    def slow() -> None:
        reports.block_until_one_comes()
        time.sleep(2 * THRESHOLD)

    with pyloop.watchdog(pyloop_loop, threshold=THRESHOLD, report=reports):
        for _ in range(2):
            pyloop_loop.call_soon(slow)
        pyloop_loop.call_soon(pyloop_loop.stop)
        pyloop_loop.run_forever()
    assert len(reports.all) == 2


def test_a_loop_that_sleeps_or_has_many_short_callbacks_is_not_reported(
    pyloop: ModuleType, pyloop_loop: Loop
) -> None:
    reports = Reports()
    end = time.monotonic() + 4 * THRESHOLD

    def short() -> None:
        if time.monotonic() < end:
            # All in one batch, which takes long.
            for _ in range(50):
                pyloop_loop.call_soon(int)
            pyloop_loop.call_soon(short)

    with pyloop.watchdog(pyloop_loop, threshold=THRESHOLD, report=reports):
        pyloop_loop.run_until_complete(asyncio.sleep(4 * THRESHOLD))
        for _ in range(100):
            pyloop_loop.call_soon(short)
        pyloop_loop.run_until_complete(asyncio.sleep(4 * THRESHOLD))
        # Nor is one that does not run.
        time.sleep(2 * THRESHOLD)
    assert reports.all == []


def test_the_logger_asyncio_is_told_if_nobody_else_is(
    pyloop: ModuleType, pyloop_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> None:
        while not caplog.records:
            time.sleep(0.001)

    with caplog.at_level(logging.WARNING, "asyncio"):
        with pyloop.watchdog(pyloop_loop, threshold=THRESHOLD):
            pyloop_loop.call_soon(slow)
            pyloop_loop.call_soon(pyloop_loop.stop)
            pyloop_loop.run_forever()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.WARNING)
    assert "time.sleep(0.001)" in record.getMessage()


def test_what_report_raises_is_logged_and_the_next_one_is_told(
    pyloop: ModuleType, pyloop_loop: Loop, caplog: pytest.LogCaptureFixture, logged: Any
) -> None:
    reports = Reports()

    def report(slow: Any) -> None:
        reports(slow)
        raise ValueError("mine")

    with caplog.at_level(logging.ERROR, "asyncio"):
        with pyloop.watchdog(pyloop_loop, threshold=THRESHOLD, report=report):
            for _ in range(2):
                pyloop_loop.call_soon(reports.block_until_one_comes)
            pyloop_loop.call_soon(pyloop_loop.stop)
            pyloop_loop.run_forever()
    assert len(reports.all) == 2
    assert "has raised" in caplog.text and "ValueError: mine" in caplog.text


def test_what_it_cannot_watch_is_refused(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        pyloop.watchdog()
    with pytest.raises(ValueError, match="threshold must be above 0"):
        pyloop.watchdog(pyloop_loop, threshold=0)
    other = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match=r"a pyloop\.EventLoop is required"):
        pyloop.watchdog(other)
    other.close()
    with pyloop.watchdog(pyloop_loop) as watchdog:
        with pytest.raises(RuntimeError, match="at work already"):
            watchdog.__enter__()


def test_no_thread_is_left(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    before = threading.active_count()
    with pyloop.watchdog(pyloop_loop, threshold=9):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
