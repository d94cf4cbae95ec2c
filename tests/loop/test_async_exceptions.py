"""An exception that another thread asks for: `PyThreadState_SetAsyncExc`, as stopit and debuggers use it."""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest

from support.guard import Context
from support.loops import Loop
from support.threads import run_parked


class Bang(BaseException):
    pass


def ask_for(exception: type[BaseException], ident: int) -> None:
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(exception)) == 1


@pytest.mark.parametrize("exception", [Bang, ValueError, KeyboardInterrupt, SystemExit])
def test_one_that_comes_while_the_loop_sleeps_leaves_the_run(
    loop: Loop, exception: type[BaseException]
) -> None:
    ident = threading.get_ident()

    def act() -> None:
        ask_for(exception, ident)
        loop.call_soon_threadsafe(seen.append, "called")

    seen: list[str] = []
    sleeper = loop.create_task(asyncio.sleep(0.05, "slept"))
    with pytest.raises(exception):
        run_parked(loop, act)
    assert not sleeper.done()
    # Nothing is lost.
    assert loop.run_until_complete(sleeper) == "slept"
    assert seen == ["called"]


def test_one_that_comes_while_the_loop_sleeps_for_a_timer_leaves_the_run(loop: Loop) -> None:
    ident = threading.get_ident()
    asked = threading.Timer(0.005, ask_for, (Bang, ident))
    asked.start()
    sleeper = loop.create_task(asyncio.sleep(0.05, "slept"))
    with pytest.raises(Bang):
        loop.run_until_complete(sleeper)
    asked.join()
    assert not sleeper.done()
    assert loop.run_until_complete(sleeper) == "slept"


def test_one_that_comes_while_a_callback_runs_is_the_callbacks(loop: Loop, handled: list[Context]) -> None:
    ident = threading.get_ident()

    def busy() -> None:
        other = threading.Thread(target=ask_for, args=(Bang, ident))
        other.start()
        while True:
            pass

    loop.call_soon(busy)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [type(context["exception"]) for context in handled] == [Bang]


def test_one_in_a_loop_of_a_thread_leaves_that_run(loop: Loop) -> None:
    raised: list[BaseException] = []
    running = threading.Event()

    def body() -> None:
        loop.call_soon(running.set)
        try:
            loop.run_forever()
        except Bang as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    running.wait()
    assert thread.ident is not None
    ask_for(Bang, thread.ident)
    loop.call_soon_threadsafe(int)
    thread.join()
    assert len(raised) == 1
