"""A panic of a Rust future is an exception, PanicException, wherever it comes out: the loop goes on.

asyncio says what becomes of a BaseException that is neither KeyboardInterrupt nor SystemExit: so the tests
run on it, too, with an exception that a panic has become. PyO3 makes a panic of it again wherever Rust code
takes it from Python in PyO3's own way; then it would end the run, or be another exception, without the
traceback of the first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop
from support.process import output
from support.rust import pyloop, rust, start_background


@pytest.fixture(scope="module", autouse=True)
def background() -> None:
    start_background()


def panicked(message: str = "on purpose") -> BaseException:
    """The exception that a panic has become."""
    try:
        rust.panic(message).send(None)
    except BaseException as error:
        assert type(error).__name__ == "PanicException"
        return error
    raise AssertionError("it did not panic")


def outcome(loop: Loop, main: Awaitable[Any]) -> BaseException:
    """What a task of its own ends with; the loop still works after it."""

    async def wait() -> BaseException:
        task = asyncio.ensure_future(main)
        await asyncio.wait([task])
        assert await asyncio.sleep(0, "still running") == "still running"
        error = task.exception()
        assert error is not None
        return error

    return loop.run_until_complete(wait())


# Out of a task.


def test_a_panic_that_no_coroutine_catches_is_the_exception_of_its_task(loop: Loop) -> None:
    async def inner() -> None:
        await rust.panic("uncaught")

    async def main() -> None:
        await inner()

    error = outcome(loop, main())
    assert (type(error).__name__, str(error)) == ("PanicException", "uncaught")
    names, traceback = [], error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names == ["main", "inner"]


def test_the_very_exception_ends_the_task(loop: Loop) -> None:
    panic = panicked()

    async def raises() -> None:
        await asyncio.sleep(0)
        raise panic

    assert outcome(loop, raises()) is panic


def test_a_panic_passes_through_futures_tasks_and_generators(loop: Loop) -> None:
    panic = panicked()

    async def items() -> AsyncIterator[int]:
        yield 1
        raise panic

    async def iterates() -> None:
        async for _ in items():
            await asyncio.sleep(0)

    async def awaits_a_future() -> None:
        future = loop.create_future()
        loop.call_soon(future.set_exception, panic)
        await future

    async def awaits_a_task() -> None:
        await asyncio.create_task(iterates())

    for main in (iterates, awaits_a_future, awaits_a_task):
        assert outcome(loop, main()) is panic


def test_a_panic_answers_a_cancellation(loop: Loop) -> None:
    panic = panicked()

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise panic from None

    async def cancels() -> None:
        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        task.cancel()
        await task

    assert outcome(loop, cancels()) is panic


def test_a_panic_of_an_awaitable_that_is_no_coroutine_of_pythons(loop: Loop) -> None:
    panic = panicked()

    class Throws:
        """Its own `throw`, as Cython's coroutines have."""

        def __await__(self) -> Generator[Any, Any, None]:
            return self  # type: ignore[return-value]

        def __iter__(self) -> Throws:
            return self

        def __next__(self) -> None:
            return None

        def send(self, value: None) -> None:
            return None

        def throw(self, *error: Any) -> None:
            raise panic

    async def awaits(awaitable: Any) -> None:
        await awaitable

    async def cancels() -> None:
        task = asyncio.create_task(awaits(Throws()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    assert outcome(loop, cancels()) is panic


def test_an_object_that_panics_when_a_task_looks_at_it_is_reported(
    loop: Loop, handled: list[Context]
) -> None:
    panic = panicked()

    class Yielded:
        @property
        def _asyncio_future_blocking(self) -> bool:
            raise panic

    class Awaitable:
        def __await__(self) -> Generator[Any, Any, None]:
            yield Yielded()

    async def main() -> None:
        await Awaitable()

    task = loop.create_task(main())
    loop.run_until_complete(asyncio.sleep(0))
    assert [context["exception"] for context in handled] == [panic]
    # As in asyncio, the task has not heard of it, and nothing wakes it any more.
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def test_an_eager_task_panics(loop: Loop) -> None:
    panic = panicked()

    async def raises() -> None:
        raise panic

    async def main() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        await asyncio.create_task(raises())

    assert outcome(loop, main()) is panic


def test_the_run_of_a_panicking_main_raises_it_and_leaves_the_loop_whole(loop: Loop) -> None:
    async def main() -> None:
        await rust.panic("the main")

    with pytest.raises(BaseException, match=r"^the main$") as caught:
        loop.run_until_complete(main())
    assert type(caught.value).__name__ == "PanicException"
    assert not loop.is_running()
    assert loop.run_until_complete(rust.yield_once(1)) == 1


def test_a_program_whose_main_panics_ends_and_says_why(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import os
from pyloop import _native
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where Rust says that there was a panic

async def waits():
    await asyncio.sleep(3600)

async def main():
    asyncio.create_task(waits())
    await asyncio.sleep(0)
    await _native._testing.panic("the main")

try:
    asyncio.run(main(), loop_factory=new_event_loop)
except BaseException as error:
    print(type(error).__name__, error)
""",
    )
    assert printed == "PanicException the main\n"


def test_an_exception_that_a_panic_has_become_is_no_new_panic(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import os, tempfile
from pyloop import _native
errors = tempfile.TemporaryFile()
os.dup2(errors.fileno(), 2)

async def panics():
    await _native._testing.panic("once")

async def main():
    task = asyncio.create_task(panics())
    await asyncio.wait([task])
    asyncio.get_running_loop().call_exception_handler({"message": "m", "exception": task.exception()})

asyncio.run(main(), loop_factory=new_event_loop)
errors.seek(0)
said = errors.read().decode()
print(said.count("panicked at"), "PyO3" in said)
""",
        RUST_BACKTRACE="0",
    )
    assert printed == "1 False\n"


# Out of callbacks.

Schedule = Callable[[Loop, Callable[..., None]], object]


def _done_callback(loop: Loop, callback: Callable[..., None]) -> None:
    future = loop.create_future()
    future.add_done_callback(callback)
    future.set_result(None)


def _done_callback_of_a_task(loop: Loop, callback: Callable[..., None]) -> None:
    loop.create_task(asyncio.sleep(0)).add_done_callback(callback)


def _from_a_thread(loop: Loop, callback: Callable[..., None]) -> None:
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(callback,))
    thread.start()
    thread.join()


SCHEDULE: dict[str, Schedule] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon with a context": lambda loop, callback: loop.call_soon(callback, context=None),
    "call_later": lambda loop, callback: loop.call_later(0, callback),
    "call_soon_threadsafe": _from_a_thread,
    "a done callback": _done_callback,
    "a task's done callback": _done_callback_of_a_task,
}


@pytest.mark.parametrize("schedule", SCHEDULE.values(), ids=SCHEDULE.keys())
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_a_panic_of_a_callback_is_for_the_exception_handler(
    loop: Loop, handled: list[Context], schedule: Schedule, debug: bool
) -> None:
    loop.set_debug(debug)
    panic, after = panicked(), list[int]()

    def callback(*_: Any) -> None:
        raise panic

    schedule(loop, callback)
    loop.call_later(0.002, after.append, 1)
    loop.run_until_complete(asyncio.sleep(0.004))
    assert [context["exception"] for context in handled] == [panic]
    assert handled[0]["message"].startswith("Exception in callback ")
    assert after == [1]


def test_a_panic_of_a_descriptors_callback_is_for_the_exception_handler(
    loop: Loop, handled: list[Context]
) -> None:
    panic = panicked()
    ours, theirs = socket.socketpair()

    def readable() -> None:
        ours.recv(1)
        raise panic

    with ours, theirs:
        loop.add_reader(ours, readable)
        for _ in range(2):
            theirs.send(b"x")
            loop.run_until_complete(asyncio.sleep(0.002))
        assert [context["exception"] for context in handled] == [panic, panic]
        loop.remove_reader(ours)


def test_a_panic_of_a_signals_callback_is_for_the_exception_handler(
    loop: Loop, handled: list[Context]
) -> None:
    panic = panicked()

    def on_signal() -> None:
        loop.call_soon(loop.stop)
        raise panic

    loop.add_signal_handler(signal.SIGUSR1, on_signal)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert [context["exception"] for context in handled] == [panic]
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_panic_of_pythons_signal_handler_is_raised_where_the_program_is(
    loop: Loop, handled: list[Context]
) -> None:
    """In a callback, as any exception of it; while the loop sleeps, by the run, as in asyncio."""
    panic = panicked()

    def on_signal(*_: object) -> None:
        raise panic

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:

        def kill() -> None:
            os.kill(os.getpid(), signal.SIGUSR1)

        loop.call_soon(kill)
        loop.run_until_complete(asyncio.sleep(0))
        assert [context["exception"] for context in handled] == [panic]
        with pytest.raises(type(panic)) as caught:
            killer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
            killer.start()
            loop.run_until_complete(asyncio.sleep(3600))
        assert caught.value is panic
        killer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert loop.run_until_complete(asyncio.sleep(0.001, "still running")) == "still running"
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_an_exception_handler_that_panics_is_logged(loop: Loop, logged: list[Any]) -> None:
    panic = panicked()

    def handler(_loop: Any, _context: Context) -> None:
        raise panic

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(asyncio.sleep(0))
    assert [record.exc_info[1] for record in logged] == [panic]


def test_a_loops_own_exception_handler_that_panics_ends_the_run(loop: Loop) -> None:
    """What an overridden `call_exception_handler` raises comes out of the run, whatever it is."""
    panic, made = panicked(), type(loop)

    class Own(made):  # type: ignore[valid-type, misc]
        def call_exception_handler(self, context: Context) -> None:
            raise panic

    own = Own()
    try:
        own.call_soon(lambda: 1 / 0)
        with pytest.raises(type(panic)) as caught:
            own.run_until_complete(asyncio.sleep(0))
        assert caught.value is panic
        assert own.run_until_complete(asyncio.sleep(0, "still running")) == "still running"
    finally:
        own.close()


def test_a_panic_in_a_reports_repr_does_not_end_the_run(loop: Loop, handled: list[Context]) -> None:
    panic = panicked()

    class Argument:
        def __repr__(self) -> str:
            raise panic

    loop.call_soon(lambda _: 1 / 0, Argument())
    loop.call_soon(loop.stop)
    try:
        loop.run_forever()
    except BaseException as error:
        # Where asyncio's own report fails, so does this one. The stop is still to come.
        assert error is panic
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "still running")) == "still running"


# pyloop's own.


def test_a_panic_of_the_turn_itself_is_reported_and_takes_no_message_with_it(
    pyloop_loop: Loop, handled: list[Context]
) -> None:
    async def main() -> list[Any]:
        waiting = [asyncio.create_task(rust.woken_from_thread(0.0, index)) for index in range(3)]
        rust.panic_in_turn(pyloop_loop, "first")
        await asyncio.sleep(0)
        rust.panic_in_turn(pyloop_loop, "second")
        return await asyncio.gather(*waiting)

    assert pyloop_loop.run_until_complete(main()) == [0, 1, 2]
    assert [(context["message"], str(context["exception"])) for context in handled] == [
        ("Panic in the event loop", "first"),
        ("Panic in the event loop", "second"),
    ]


@pytest.mark.parametrize("ends", ["finish", "run"])
def test_a_panic_in_a_batch_is_reported_and_takes_no_callback_with_it(
    pyloop_loop: Loop, handled: list[Context], ends: str
) -> None:
    seen: list[object] = []
    variable = ContextVar("variable", default="nothing")
    loop = pyloop_loop

    async def ended() -> str:
        seen.append("step")
        variable.set("the step's")
        return "its result"

    def look() -> None:
        # Of the step that panicked nothing is left: no current task, no context of its.
        seen.append((asyncio.current_task(loop), variable.get()))

    def leave() -> None:
        raise KeyboardInterrupt

    loop.call_soon(seen.append, "before")
    task = loop.create_task(ended())
    rust.panic_in_batch(task, "on purpose")
    loop.call_soon(look)
    if ends == "run":
        loop.call_soon(leave)
    else:
        loop.call_soon(loop.stop)
    loop.call_soon(loop.call_soon, seen.append, "next batch")
    with pytest.raises(KeyboardInterrupt) if ends == "run" else nullcontext():
        loop.run_forever()
    assert seen == ["before", "step", (None, "nothing")]
    assert task.result() == "its result"
    [context] = handled
    if pyloop.accelerations()["direct_calls"] == "on":
        assert context["message"] == "Panic in the event loop"
    else:  # a step that goes by name is a callback
        assert context["message"].startswith("Exception in callback ")
    assert (type(context["exception"]).__name__, str(context["exception"])) == (
        "PanicException",
        "on purpose",
    )
    assert loop.run_until_complete(asyncio.sleep(0.001, "whole")) == "whole"
    assert seen[3:] == ["next batch"]


def test_a_panic_of_what_a_task_of_ours_on_asyncios_loop_awaits(guard: Any) -> None:
    panic = panicked()
    loop = asyncio.SelectorEventLoop()

    async def raises() -> None:
        await asyncio.sleep(0)
        raise panic

    try:
        for main in (raises(), rust.panic("bare")):
            task = pyloop.Task(main, loop=loop)
            loop.run_until_complete(asyncio.wait([task]))
            assert task.exception() is panic or str(task.exception()) == "bare"
    finally:
        loop.close()


def test_run_in_thread_raises_the_panic(loop_kind: str) -> None:
    async def main() -> None:
        await rust.panic("in the helper thread")

    with pytest.raises(BaseException, match=r"^in the helper thread$") as caught:
        pyloop.run_in_thread(main())
    assert type(caught.value).__name__ == "PanicException"
