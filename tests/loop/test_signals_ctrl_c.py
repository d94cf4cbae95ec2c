"""Ctrl-C wherever the loop is: each script in an interpreter of its own, interrupted when it says so."""

from __future__ import annotations

import signal

import pytest

from support.loops import LoopFactory
from support.process import start


def interrupted(kind: str, script: str, times: int = 1) -> str:
    """What a script prints that gets a SIGINT each time that it prints "ready"."""
    with start(kind, script) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for _ in range(times):
                for line in process.stdout:
                    if line == "ready\n":
                        break
                    printed += line
                process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=15)
        except BaseException:
            process.kill()
            raise
    assert (process.returncode, errors) == (0, "")
    return printed + rest


READY = """
def ready():
    print("ready", flush=True)
"""


def test_ctrl_c_reaches_a_parked_loop(loop_kind: str) -> None:
    script = (
        READY
        + """
loop = new_event_loop()
loop.call_soon(ready)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", loop.is_running())
print(loop.run_until_complete(asyncio.sleep(0.001, "again")))
loop.close()
"""
    )
    assert interrupted(loop_kind, script) == "interrupted False\nagain\n"


def test_ctrl_c_reaches_a_loop_that_waits_for_a_timer_and_a_descriptor(loop_kind: str) -> None:
    script = (
        READY
        + """
import os
loop = new_event_loop()
reading, writing = os.pipe()
loop.add_reader(reading, print, "readable")
loop.call_later(3600, print, "late").cancel
loop.call_soon(ready)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""
    )
    assert interrupted(loop_kind, script) == "interrupted\n"


def test_ctrl_c_reaches_a_callback(loop_kind: str) -> None:
    script = (
        READY
        + """
def busy():
    ready()
    while True:
        pass
loop = new_event_loop()
loop.call_soon(busy)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""
    )
    assert interrupted(loop_kind, script) == "interrupted\n"


def test_ctrl_c_reaches_a_loop_that_is_busy_with_callbacks(loop_kind: str) -> None:
    script = (
        READY
        + """
import sys
def again(count):
    if count == 1000:
        ready()
    loop.call_soon(again, count + 1)
loop = new_event_loop()
loop.call_soon(again, 0)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
if type(loop) is asyncio.SelectorEventLoop and sys.version_info >= (3, 14) and loop.is_running():
    # There the `try` of asyncio's run_forever does not cover the jump back of the loop in it.
    loop._run_forever_cleanup()
loop.close()
"""
    )
    assert interrupted(loop_kind, script) == "interrupted\n"


def test_the_first_ctrl_c_cancels_the_main_task(loop_kind: str) -> None:
    script = (
        READY
        + """
async def main():
    try:
        ready()
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled")
        await asyncio.sleep(0.001)
        print("cleaned up")
        raise
try:
    asyncio.run(main(), loop_factory=new_event_loop)
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert interrupted(loop_kind, script) == "cancelled\ncleaned up\ninterrupted\n"


def test_the_second_ctrl_c_interrupts_at_once(loop_kind: str) -> None:
    script = (
        READY
        + """
async def main():
    try:
        ready()
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled")
        ready()
        await asyncio.Event().wait()
try:
    asyncio.run(main(), loop_factory=new_event_loop)
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert interrupted(loop_kind, script, times=2) == "cancelled\ninterrupted\n"


def test_the_main_task_may_survive_the_first_ctrl_c(loop_kind: str) -> None:
    script = (
        READY
        + """
async def main():
    try:
        ready()
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "survived"
print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    )
    assert interrupted(loop_kind, script) == "survived\n"


@pytest.mark.parametrize("sleep", ["asyncio.sleep", "pyloop.sleep"])
def test_ctrl_c_in_pyloop_run_cancels_the_main_task(pyloop_factory: LoopFactory, sleep: str) -> None:
    script = (
        READY
        + """
import pyloop
async def main():
    try:
        ready()
        await SLEEP(3600)
    finally:
        print("cleaned up")
try:
    pyloop.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert interrupted("pyloop", script.replace("SLEEP", sleep)) == "cleaned up\ninterrupted\n"


def test_ctrl_c_reaches_a_signal_handler_of_the_loop(loop_kind: str) -> None:
    script = (
        READY
        + """
import signal
async def main():
    event = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, event.set)
    ready()
    await event.wait()
    print("handled")
asyncio.run(main(), loop_factory=new_event_loop)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    )
    assert interrupted(loop_kind, script) == "handled\nTrue\n"


def test_ctrl_c_that_is_ignored_does_nothing(loop_kind: str) -> None:
    script = (
        READY
        + """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
async def main():
    ready()
    await asyncio.sleep(0.05)
    return "on"
print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    )
    assert interrupted(loop_kind, script) == "on\n"
