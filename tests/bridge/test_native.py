"""What only our own loop does for the Rust futures of another extension module."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from support.extension import ext
from support.loops import Loop

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
