"""Signals: handlers of the loop, handlers of Python, and Ctrl-C wherever the loop is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.threads import in_thread, run_parked

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


def kill(number: int = USR1) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    numbers = [USR1, USR2, signal.SIGHUP, signal.SIGTERM, signal.SIGWINCH, signal.SIGINT, signal.SIGCHLD]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


@contextlib.contextmanager
def python_handler(handler: Callable[[int, Any], object], number: int = USR1) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_handler_is_called_with_its_arguments(loop: Loop) -> None:
    seen: list[object] = []

    def handler(*given: object) -> None:
        seen.append(given)
        loop.stop()

    loop.add_signal_handler(USR1, handler, 1, "two")
    loop.call_soon(kill)
    loop.run_forever()
    assert seen == [(1, "two")]
    assert loop.remove_signal_handler(USR1)


def test_a_handler_runs_as_a_callback_of_the_loop(loop: Loop) -> None:
    seen: list[str] = []

    def handler() -> None:
        seen.append("handler")
        assert asyncio.get_running_loop() is loop
        loop.stop()

    def callback() -> None:
        kill()
        sum(range(1000))
        seen.append("callback")

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(callback)
    loop.run_forever()
    assert seen == ["callback", "handler"]
    loop.remove_signal_handler(USR1)


def test_a_signal_wakes_a_parked_loop(loop: Loop) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    assert run_parked(loop, lambda: signal.pthread_kill(threading.main_thread().ident or 0, USR1)) < 1
    assert run_parked(loop, kill) < 1
    loop.remove_signal_handler(USR1)


def test_a_signal_from_another_process_wakes_a_parked_loop(loop: Loop) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    with subprocess.Popen(["sh", "-c", f"kill -USR1 {os.getpid()}"]):
        loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_later_handler_replaces_the_earlier(loop: Loop) -> None:
    loop.add_signal_handler(USR1, pytest.fail, "it was replaced")
    loop.add_signal_handler(USR1, loop.stop)
    loop.call_soon(kill)
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_remove_tells_whether_there_was_a_handler(loop: Loop) -> None:
    assert loop.remove_signal_handler(USR1) is False
    loop.add_signal_handler(USR1, int)
    assert loop.remove_signal_handler(USR1) is True
    assert loop.remove_signal_handler(USR1) is False


def test_add_returns_none(loop: Loop) -> None:
    add: Any = loop.add_signal_handler
    assert add(USR1, int) is None
    loop.remove_signal_handler(USR1)


def test_a_removed_handler_gives_way_to_the_default(loop: Loop) -> None:
    for number, default in (USR1, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler):
        loop.add_signal_handler(number, int)
        assert signal.getsignal(number) != default
        loop.remove_signal_handler(number)
        assert signal.getsignal(number) == default


def test_close_removes_every_handler(loop: Loop) -> None:
    for number in USR1, USR2, signal.SIGINT:
        loop.add_signal_handler(number, int)
    loop.close()
    assert signal.getsignal(USR1) == signal.SIG_DFL
    assert signal.getsignal(USR2) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_every_signal_calls_its_own_handler(loop: Loop) -> None:
    numbers = {USR1, USR2, signal.SIGHUP, signal.SIGTERM, signal.SIGWINCH}
    seen: set[int] = set()

    def handler(number: int) -> None:
        seen.add(number)
        if seen == numbers:
            loop.stop()

    for number in numbers:
        loop.add_signal_handler(number, handler, number)
    for number in numbers:
        loop.call_soon(kill, number)
    loop.run_forever()
    for number in numbers:
        loop.remove_signal_handler(number)


def test_no_signal_is_lost(loop: Loop) -> None:
    count = 0

    def handler() -> None:
        nonlocal count
        count += 1
        loop.stop() if count == 300 else kill()

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(kill)
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_flood_of_signals_does_not_drown_the_loop(loop: Loop, unraisable: list[str]) -> None:
    """A full wakeup pipe may swallow a signal and say so, but the loop lives on."""
    seen: set[int] = set()

    def flood() -> None:
        for _ in range(500):
            kill(USR1)
        kill(USR2)

    def last() -> None:
        seen.add(USR2)
        loop.call_soon(loop.call_soon, loop.stop)

    loop.add_signal_handler(USR1, seen.add, int(USR1))
    loop.add_signal_handler(USR2, last)
    loop.call_soon(flood)
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    assert USR1 in seen
    assert loop.run_until_complete(asyncio.sleep(0.001, "on")) == "on"
    loop.remove_signal_handler(USR1)
    loop.remove_signal_handler(USR2)
    turn(loop, 2)


def test_a_signal_that_came_before_the_run_is_handled_in_it(loop: Loop) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    kill()
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_signal_that_came_between_two_runs_is_handled_in_the_next(loop: Loop) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    turn(loop)
    kill()
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_handler_that_fails_is_reported(loop: Loop, handled: list[Context]) -> None:
    def handler() -> None:
        loop.stop()
        raise LookupError

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(kill)
    loop.run_forever()
    loop.remove_signal_handler(USR1)
    assert isinstance(handled[0]["exception"], LookupError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_leaves_the_run_from_a_handler(loop: Loop, kind: type[BaseException]) -> None:
    def handler() -> None:
        raise kind

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(kill)
    with pytest.raises(kind):
        loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_handler_may_remove_itself(loop: Loop) -> None:
    def handler() -> None:
        assert loop.remove_signal_handler(USR1)
        loop.stop()

    loop.add_signal_handler(USR1, handler)
    loop.call_soon(kill)
    loop.run_forever()


def test_a_handler_may_be_added_by_a_task(loop: Loop) -> None:
    async def main() -> None:
        event = asyncio.Event()
        loop.add_signal_handler(USR1, event.set)
        kill()
        await event.wait()
        loop.remove_signal_handler(USR1)

    loop.run_until_complete(main())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_cannot_be_caught_is_refused(loop: Loop, number: int) -> None:
    with pytest.raises(RuntimeError, match=f"sig {int(number)} cannot be caught"):
        loop.add_signal_handler(number, int)
    assert loop.remove_signal_handler(number) is False


@pytest.mark.parametrize("number", [0, -1, 65, 1000])
@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_what_is_no_signal_is_refused(loop: Loop, number: int, method: str) -> None:
    arguments = [int] if "add" in method else []
    with pytest.raises(ValueError, match="invalid signal number"):
        getattr(loop, method)(number, *arguments)


@pytest.mark.parametrize("thing", ["USR1", None, 1.5], ids=repr)
@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_a_signal_is_a_number(loop: Loop, thing: Any, method: str) -> None:
    arguments = [int] if "add" in method else []
    with pytest.raises(TypeError, match="sig must be an int, not"):
        getattr(loop, method)(thing, *arguments)


def test_coroutines_are_no_handlers(loop: Loop) -> None:
    async def coroutine_function() -> None: ...

    coro = coroutine_function()
    for thing in coroutine_function, coro:
        with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
            loop.add_signal_handler(USR1, thing)  # type: ignore[arg-type]
    coro.close()


def test_a_partial_is_a_handler(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(USR1, functools.partial(seen.append, 1))
    loop.add_signal_handler(USR2, loop.stop)
    loop.call_soon(kill, USR1)
    loop.call_soon(loop.call_later, 0.001, kill, USR2)
    loop.run_forever()
    assert seen == [1]
    loop.remove_signal_handler(USR1)
    loop.remove_signal_handler(USR2)


def test_handlers_are_added_by_the_main_thread_only(loop: Loop) -> None:
    with pytest.raises((RuntimeError, ValueError), match="main thread"):
        in_thread(lambda: loop.add_signal_handler(USR1, int))
    assert loop.remove_signal_handler(USR1) is False


def test_a_run_without_handlers_leaves_the_wakeup_descriptor(loop: Loop) -> None:
    loop.run_until_complete(asyncio.sleep(0.001))
    assert signal.set_wakeup_fd(-1) == -1


def test_the_wakeup_descriptor_of_the_program_is_there_again_after_a_run(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        loop.run_until_complete(asyncio.sleep(0.001))
        assert signal.set_wakeup_fd(-1) == theirs.fileno()


def test_the_wakeup_descriptor_is_restored_after_an_error(pyloop_loop: Loop) -> None:
    loop = pyloop_loop
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())

        def leave() -> None:
            raise SystemExit

        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert signal.set_wakeup_fd(-1) == theirs.fileno()


def test_a_loop_that_comes_and_goes_takes_no_signals_from_another(
    loop: Loop, loop_factory: LoopFactory
) -> None:
    loop.add_signal_handler(USR1, loop.stop)
    other = loop_factory()
    assert other.run_until_complete(asyncio.sleep(0.001, "other")) == "other"
    other.close()
    loop.call_soon(kill)
    loop.run_forever()
    loop.remove_signal_handler(USR1)


def test_a_python_handler_runs_while_the_loop_is_parked(loop: Loop) -> None:
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    with python_handler(handler):
        assert run_parked(loop, kill) < 1
    assert seen == [USR1]


def test_stop_in_a_python_handler_wakes_a_parked_pyloop(pyloop_loop: Loop) -> None:
    with python_handler(lambda *_: pyloop_loop.stop()):
        assert run_parked(pyloop_loop, kill) < 1


def test_a_python_handler_that_raises_leaves_a_parked_run(loop: Loop) -> None:
    def handler(number: int, frame: object) -> None:
        raise LookupError("in the handler")

    with python_handler(handler), pytest.raises(LookupError, match="in the handler"):
        run_parked(loop, kill)
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0.001, "again")) == "again"


def test_a_python_handler_that_raises_in_a_callback_is_the_callbacks_error(
    loop: Loop, handled: list[Context]
) -> None:
    def handler(number: int, frame: object) -> None:
        raise LookupError("in the handler")

    def callback() -> None:
        kill()
        for _ in range(1000):
            pass

    with python_handler(handler):
        loop.call_soon(callback)
        turn(loop)
    assert isinstance(handled[0]["exception"], LookupError)


def test_a_python_handler_may_use_the_loop_at_any_moment(loop: Loop) -> None:
    """It runs between any two bytecodes, so also in the middle of what the loop does."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(seen.append, 1)
        loop.call_later(0, seen.append, 2)
        loop.time()

    async def spin() -> None:
        while not stop:
            await asyncio.sleep(0)

    def flood() -> None:
        for _ in range(500):
            kill()

    stop = False
    with python_handler(handler):
        sender = threading.Thread(target=flood)
        sender.start()
        tasks = [loop.create_task(spin()) for _ in range(3)]
        while sender.is_alive():
            turn(loop, 10)
        sender.join()
        kill()  # its own is delivered before it returns, and with it what was still on its way
        stop = True
        loop.run_until_complete(asyncio.gather(*tasks))
        turn(loop, 3)
    assert seen.count(1) == seen.count(2) > 0
