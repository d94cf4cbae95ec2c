"""`pyloop.run_in_thread`: for callers that cannot await, also where a loop is running already."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import threading
import traceback
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop, LoopFactory
from support.process import start

variable = contextvars.ContextVar("variable", default="unset")


async def where() -> tuple[Loop, threading.Thread]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread()


def test_it_runs_on_a_new_loop_in_another_thread(pyloop: ModuleType) -> None:
    loop, thread = pyloop.run_in_thread(where())
    assert type(loop) is pyloop.EventLoop
    assert loop.is_closed()
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_it_runs_inside_a_running_loop(pyloop: ModuleType, loop_factory: LoopFactory) -> None:
    async def main() -> None:
        here = asyncio.get_running_loop()
        there, _ = pyloop.run_in_thread(where())
        assert there is not here
        assert asyncio.get_running_loop() is here
        assert await asyncio.sleep(0, "goes on") == "goes on"

    asyncio.run(main(), loop_factory=loop_factory)


def test_it_runs_in_a_callback_of_a_running_loop(pyloop: ModuleType, loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: seen.append(pyloop.run_in_thread(asyncio.sleep(0, "value"))))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["value"]


def test_the_loop_that_is_blocked_meanwhile_hears_of_its_signals(pyloop: ModuleType, loop: Loop) -> None:
    seen: list[str] = []

    async def raises() -> None:
        signal.raise_signal(signal.SIGUSR1)  # in the helper thread: Python's handlers run in the main one
        await asyncio.sleep(0)

    async def main() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        pyloop.run_in_thread(raises())
        seen.append("ended")
        await heard.wait()
        seen.append("heard")
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())
    assert seen == ["ended", "heard"]


def test_it_runs_in_a_plain_thread(pyloop: ModuleType) -> None:
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(pyloop.run_in_thread(asyncio.sleep(0, "value"))))
    thread.start()
    thread.join()
    assert seen == ["value"]


def test_nested_runs(pyloop: ModuleType) -> None:
    async def nested(depth: int) -> list[Loop]:
        deeper = pyloop.run_in_thread(nested(depth - 1)) if depth else []
        return [asyncio.get_running_loop(), *deeper]

    assert len(set(pyloop.run_in_thread(nested(3)))) == 4


def test_it_sees_the_context_variables_of_the_caller(pyloop: ModuleType) -> None:
    async def main() -> str:
        before = variable.get()
        variable.set("inside")
        return before

    token = variable.set("outside")
    try:
        assert pyloop.run_in_thread(main()) == "outside"
        assert variable.get() == "outside"
    finally:
        variable.reset(token)


def test_an_exception_keeps_its_traceback(pyloop: ModuleType) -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        raise LookupError("inside")

    async def main() -> None:
        await inner()

    with pytest.raises(LookupError, match="inside") as caught:
        pyloop.run_in_thread(main())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[0] == "test_an_exception_keeps_its_traceback"
    assert names[-2:] == ["main", "inner"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_every_exception_comes_out(pyloop: ModuleType, error: BaseException) -> None:
    async def main() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        pyloop.run_in_thread(main())
    assert caught.value is error or isinstance(error, asyncio.CancelledError)


def test_it_takes_any_awaitable(pyloop: ModuleType) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    assert pyloop.run_in_thread(Awaitable()) == "awaited"
    assert pyloop.run_in_thread(pyloop.sleep(0.001, "slept")) == "slept"


def test_it_refuses_what_cannot_be_awaited(pyloop: ModuleType) -> None:
    with pytest.raises(TypeError, match="an awaitable is required, got 1"):
        pyloop.run_in_thread(1)
    with pytest.raises(TypeError, match="an awaitable is required"):
        pyloop.run_in_thread(where)


def test_it_refuses_a_future_of_another_loop(pyloop: ModuleType, loop: Loop) -> None:
    future = loop.create_future()
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        pyloop.run_in_thread(future)
    future.cancel()


@pytest.mark.parametrize("debug", [True, False])
def test_it_takes_debug(pyloop: ModuleType, debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert pyloop.run_in_thread(main(), debug=debug) is debug


def test_what_is_left_is_cancelled_and_closed_as_by_asyncio_run(pyloop: ModuleType) -> None:
    seen: list[str] = []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def generator() -> Any:
        try:
            yield 1
        finally:
            seen.append("closed")

    kept = generator()

    async def main() -> None:
        asyncio.create_task(left())
        await anext(kept)

    pyloop.run_in_thread(main())
    assert seen == ["cancelled", "closed"]


def test_the_handler_of_sigint_is_put_back(pyloop: ModuleType) -> None:
    before = signal.getsignal(signal.SIGINT)
    pyloop.run_in_thread(where())
    assert signal.getsignal(signal.SIGINT) is before


# ---- Ctrl-C: scripts in an interpreter of their own ------------------------------------------------------

SCRIPT = """
import contextlib, sys
import pyloop

async def main(again=0):
    try:
        if again:
            return pyloop.run_in_thread(main(again - 1))
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.001)
        print("cleaned up", flush=True)
"""


def interrupted(script: str, times: int = 1, kind: str = "asyncio") -> str:
    """What a script prints that gets a SIGINT at each "ready"."""
    with start(kind, SCRIPT + script) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for _ in range(times):
                for line in process.stdout:
                    if line == "ready\n":
                        break
                    printed += line
                process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=6)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert (process.returncode, errors) == (0, "")
    return printed + rest


CATCH = """
try:
    pyloop.run_in_thread(main({again}))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("again", [0, 1, 2])
def test_ctrl_c_cancels_waits_and_raises(again: int, pyloop: ModuleType) -> None:
    assert interrupted(CATCH.format(again=again)) == "cleaned up\n" * (again + 1) + "interrupted\n"


def test_ctrl_c_under_asyncio_run_cancels_waits_and_raises(loop_kind: str, pyloop: ModuleType) -> None:
    script = """
try:
    asyncio.run(main(again=1), loop_factory=new_event_loop)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert interrupted(script, kind=loop_kind) == "cleaned up\ncleaned up\ninterrupted\n"


def test_a_handler_of_the_program_is_left_alone(pyloop: ModuleType) -> None:
    script = """
import signal
task = None
async def waits():
    global task
    task = asyncio.current_task()
    await main()
def handler(signum, frame):
    print("handled")
    task.get_loop().call_soon_threadsafe(task.cancel)
signal.signal(signal.SIGINT, handler)
try:
    pyloop.run_in_thread(waits())
except asyncio.CancelledError:
    print("cancelled")
"""
    assert interrupted(script) == "handled\ncleaned up\ncancelled\n"


def test_an_exception_of_another_handler_cancels_and_waits(pyloop: ModuleType) -> None:
    script = """
import signal
def handler(signum, frame):
    raise TimeoutError
signal.signal(signal.SIGINT, handler)
try:
    pyloop.run_in_thread(main())
except TimeoutError:
    print("timed out")
"""
    assert interrupted(script) == "cleaned up\ntimed out\n"


def test_a_second_ctrl_c_does_not_wait(pyloop: ModuleType) -> None:
    script = """
import os, threading
release = threading.Event()
async def stubborn():
    try:
        await main()
    finally:
        print("ready", flush=True)
        release.wait()
try:
    pyloop.run_in_thread(stubborn())
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
    release.set()
"""
    assert interrupted(script, times=2) == "cleaned up\ninterrupted 2\n"


def test_an_error_while_cancelled_is_the_context_of_the_interrupt(pyloop: ModuleType) -> None:
    script = """
async def fails():
    try:
        await main()
    except asyncio.CancelledError:
        raise LookupError("while cancelled") from None
try:
    pyloop.run_in_thread(fails())
except KeyboardInterrupt as interrupt:
    print(repr(interrupt.__context__))
"""
    assert interrupted(script) == "cleaned up\nLookupError('while cancelled')\n"
