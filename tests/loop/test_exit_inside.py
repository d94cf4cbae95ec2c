"""The end of the interpreter while daemon threads are in native code that runs Python code: in no loop's run.

CPython before 3.14 ends such threads by force, where they next ask for the GIL. All takes 1.2 s.
"""

from __future__ import annotations

import sys

import pytest

from support import process

PRELUDE = """
import os, sys, threading, time
import pyloop
from pyloop import fs, sync

waits, wakes = os.pipe()
inside = threading.Semaphore(0)

def blocks(*args, **kwargs):
    inside.release()
    os.read(waits, 1)

def with_(**methods):
    return type("Object", (), methods)()

class AtTheEnd:
    def __del__(self, close=os.close, sleep=time.sleep, wakes=wakes, then=[]):
        close(wakes)
        sleep(0.05)  # the threads ask for the GIL
        for call in then:
            call()

def all_of(*calls):
    for call in calls:
        threading.Thread(target=call, daemon=True).start()
    for call in calls:
        assert inside.acquire(timeout=10)
    sys.at_the_end = AtTheEnd()  # `sys` is emptied when the interpreter has begun to end
    sys.exit(3)

async def nothing():
    pass

loop = pyloop.new_event_loop()

def handling():
    handling = pyloop.new_event_loop()
    handling.set_exception_handler(blocks)
    return handling

def with_result(result):
    future = pyloop.Future(loop=loop)
    future.set_result(result)
    return future
"""

CALLS = """
def makes_a_task():
    made = pyloop.new_event_loop()
    made.set_task_factory(lambda loop, coro: (coro.close(), blocks()))
    made.create_task(nothing())

def completes_a_future_of_another_loop():
    future = pyloop.Future(loop=with_(get_debug=bool, call_soon=blocks))
    future.add_done_callback(print)
    future.set_result(None)

def sets_an_exception_that_must_be_made():
    pyloop.Future(loop=loop).set_exception(type("Made", (Exception,), {"__init__": blocks}))

def drops_an_exception_that_nobody_has_seen():
    pyloop.Future(loop=handling()).set_exception(ValueError())

def drops_a_result():
    with_result(with_(__del__=blocks))

def cancels_a_handle():
    loop.call_soon_threadsafe(print, with_(__del__=blocks)).cancel()

def replaces_what_is_watched():
    sender, receiver = sync.watch(with_(__del__=blocks))
    sender.send(None)

def drops_what_was_sent():
    sender, receiver = sync.oneshot()
    sender.send(with_(__del__=blocks))
    del receiver

all_of(
    makes_a_task, completes_a_future_of_another_loop, sets_an_exception_that_must_be_made,
    drops_an_exception_that_nobody_has_seen, drops_a_result, cancels_a_handle, replaces_what_is_watched,
    drops_what_was_sent,
    lambda: pyloop.Future(loop=with_(get_debug=blocks)),
    lambda: repr(with_result(with_(__repr__=blocks))),
    lambda: pyloop.sleep(with_(__float__=blocks)),
    lambda: sync.oneshot()[1].blocking_recv(timeout=with_(__float__=blocks)),
    lambda: loop.call_later(with_(__float__=blocks, __radd__=blocks), print),
    lambda: fs.open(with_(__fspath__=blocks)),
    lambda: loop.add_reader(with_(fileno=blocks), print),
    lambda: handling().call_exception_handler({}),
)
"""


@pytest.mark.usefixtures("pyloop_factory")
def test_threads_that_are_in_native_code_do_not_disturb_the_exit() -> None:
    with process.start("pyloop", PRELUDE + CALLS) as ended:
        printed, errors = ended.communicate(timeout=15)
    assert (ended.returncode, printed, errors) == (3, "", "")


@pytest.mark.before(3, 14)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.usefixtures("pyloop_factory")
@pytest.mark.parametrize(("call", "threads"), [("pyloop.sleep(with_(__float__=blocks))", 2), ("blocks()", 1)])
def test_a_thread_that_has_left_native_code_ends_as_any(call: str, threads: int) -> None:
    script = f"""
def count(write=os.write, listdir=os.listdir):
    write(1, b"%d" % len(listdir("/proc/self/task")))

AtTheEnd.__del__.__defaults__[-1].append(count)

def works():
    repr(with_result(None))
    {call}

all_of(works)
"""
    with process.start("pyloop", PRELUDE + script) as ended:
        printed, errors = ended.communicate(timeout=15)
    assert (ended.returncode, printed, errors) == (3, str(threads), "")
