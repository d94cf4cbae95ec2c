"""Debug mode: asked for in four ways, and what it reports."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from asyncio import constants
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.process import output


@pytest.fixture
def debug(loop: Loop) -> Loop:
    """The test's loop in debug mode."""
    loop.set_debug(True)
    return loop


@pytest.fixture
def slow(debug: Loop, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything takes too long."""
    debug.slow_callback_duration = 0.0
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield caplog


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.name == "asyncio"]


def spend(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize(
    ("flags", "variable", "expected"),
    [
        ([], "", False),
        ([], "1", True),
        (["-X", "dev"], "", True),
        (["-E"], "1", False),
    ],
    ids=["neither", "PYTHONASYNCIODEBUG", "-X dev", "-E"],
)
def test_debug_mode_is_asked_for_outside(
    loop_kind: str, flags: list[str], variable: str, expected: bool
) -> None:
    script = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    assert output(loop_kind, script, flags, PYTHONASYNCIODEBUG=variable) == f"{expected}\n"


def test_debug_mode_is_set_and_taken_back(loop: Loop) -> None:
    for debug in True, False, True, False:
        loop.set_debug(debug)
        assert loop.get_debug() is debug


def test_debug_mode_can_be_switched_while_the_loop_runs(loop: Loop) -> None:
    async def main() -> None:
        for debug in True, False, True:
            loop.set_debug(debug)
            await asyncio.sleep(0)
            assert loop.get_debug() is debug

    loop.run_until_complete(main())


def test_a_program_runs_in_debug_mode_as_without(debug: Loop) -> None:
    async def main() -> list[int]:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001, i)) for i in range(10)]
        return [task.result() for task in tasks]

    assert debug.run_until_complete(main()) == list(range(10))


def test_a_slow_callback_is_reported(debug: Loop, caplog: pytest.LogCaptureFixture) -> None:
    debug.slow_callback_duration = 0.005
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug.call_soon(spend, 0.01)
        turn(debug)
    assert len(messages(caplog)) == 1
    assert messages(caplog)[0].startswith("Executing <Handle spend(0.01) at ")
    assert " took 0.0" in messages(caplog)[0]


def test_a_slow_timer_is_reported(slow: pytest.LogCaptureFixture, debug: Loop) -> None:
    debug.call_later(0, spend, 0.0)
    turn(debug)
    assert messages(slow)[0].startswith("Executing <TimerHandle when=")


def test_a_slow_step_of_a_task_is_reported_with_the_task(
    debug: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def coroutine_that_is_slow() -> None:
        spend(0.01)

    debug.slow_callback_duration = 0.005
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug.run_until_complete(debug.create_task(coroutine_that_is_slow(), name="the task's name"))
    assert len(messages(caplog)) == 1
    assert messages(caplog)[0].startswith("Executing <")
    assert "coroutine_that_is_slow" in messages(caplog)[0]
    assert "the task's name" in messages(caplog)[0]
    assert " took 0.0" in messages(caplog)[0]


def test_what_is_fast_is_not_reported(debug: Loop, caplog: pytest.LogCaptureFixture) -> None:
    debug.slow_callback_duration = 60
    debug.call_soon(spend, 0.001)
    turn(debug)
    assert messages(caplog) == []


def test_nothing_is_reported_outside_debug_mode(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(False)
    loop.slow_callback_duration = 0
    loop.call_soon(spend, 0.001)
    turn(loop)
    assert messages(caplog) == []


def test_a_callback_is_slow_from_a_tenth_of_a_second_on(loop: Loop) -> None:
    assert loop.slow_callback_duration == 0.1


def test_a_slow_callback_that_fails_is_reported_twice(
    slow: pytest.LogCaptureFixture, debug: Loop, handled: list[Context]
) -> None:
    def failing() -> None:
        raise LookupError

    debug.call_soon(failing)
    turn(debug)
    assert len(handled) == 1
    assert "failing" in messages(slow)[0]


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_what_cannot_be_called_is_refused_at_once(debug: Loop, name: str) -> None:
    schedule: Callable[..., Any] = getattr(debug, name)
    delay = [] if "soon" in name else [0]
    shown = "call_(at|later)" if name == "call_later" else name  # asyncio shows by which it is done
    with pytest.raises(TypeError, match=rf"a callable object was expected by {shown}\(\), got 1"):
        schedule(*delay, 1)


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_coroutines_are_refused_at_once(debug: Loop, name: str) -> None:
    async def coroutine_function() -> None: ...

    schedule: Callable[..., Any] = getattr(debug, name)
    delay = [] if "soon" in name else [0]
    shown = "call_(at|later)" if name == "call_later" else name  # asyncio shows by which it is done
    coro = coroutine_function()
    for thing in coroutine_function, coro:
        with pytest.raises(TypeError, match=rf"coroutines cannot be used with {shown}\(\)"):
            schedule(*delay, thing)
    coro.close()


def test_coroutines_know_their_origin_while_the_loop_runs(debug: Loop) -> None:
    async def inner() -> None: ...

    async def main() -> Any:
        coro: Any = inner()
        await coro
        return coro.cr_origin

    before = sys.get_coroutine_origin_tracking_depth()
    origin = debug.run_until_complete(main())
    assert origin[0][2] == "main"
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_origins_are_tracked_no_longer_when_debug_mode_is_left_inside(debug: Loop) -> None:
    async def main() -> list[int]:
        found = [sys.get_coroutine_origin_tracking_depth()]
        for value in False, True:
            debug.set_debug(value)
            await asyncio.sleep(0)
            found.append(sys.get_coroutine_origin_tracking_depth())
        return found

    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        depth = constants.DEBUG_STACK_DEPTH
        assert debug.run_until_complete(main()) == [depth, 3, depth]
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(before)


def test_a_task_knows_where_it_was_made(debug: Loop) -> None:
    async def main() -> str:
        return repr(asyncio.current_task())

    shown = debug.run_until_complete(debug.create_task(main()))
    assert f"created at {__file__}:" in shown


def test_a_future_knows_where_it_was_made(debug: Loop) -> None:
    assert " created at " in repr(debug.create_future())


def test_an_exception_that_nobody_fetched_is_reported_with_the_place(
    debug: Loop, handled: list[Context]
) -> None:
    future = debug.create_future()
    future.set_exception(LookupError())
    del future
    assert handled[0]["message"] == "Future exception was never retrieved"
    assert __file__ in [frame.filename for frame in handled[0]["source_traceback"]]


def test_a_blocking_socket_is_refused(debug: Loop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await debug.sock_recv(ours, 1)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await debug.sock_sendall(ours, b"x")
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await debug.sock_recv_into(ours, bytearray(1))

    debug.run_until_complete(main())


def test_a_slow_connection_attempt_or_lookup_is_no_error(debug: Loop) -> None:
    async def main() -> list[Any]:
        return list(await debug.getaddrinfo("127.0.0.1", 80))

    assert debug.run_until_complete(main())


def test_asyncio_run_takes_debug(loop_factory: LoopFactory) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert asyncio.run(main(), loop_factory=loop_factory, debug=True) is True
    assert asyncio.run(main(), loop_factory=loop_factory, debug=False) is False


def test_repr_tells_debug_mode(debug: Loop) -> None:
    assert "debug=True" in repr(debug)


def test_debug_mode_survives_generators_and_frames_of_every_kind(debug: Loop) -> None:
    """Walking the stack for where a handle was made must cope with whatever is on it."""
    seen: list[int] = []

    def generator() -> Iterator[asyncio.Handle]:
        yield debug.call_soon(seen.append, 1)

    class Meta(type):
        def __call__(cls, *given: object) -> asyncio.Handle:
            return debug.call_soon(seen.append, 2)

    class Made(metaclass=Meta): ...

    list(generator())
    Made()
    exec("loop.call_soon(seen.append, 3)", {"loop": debug, "seen": seen})
    eval("[loop.call_soon(seen.append, n) for n in (4,)]", {"loop": debug, "seen": seen})
    sorted([1], key=lambda _: bool(debug.call_soon(seen.append, 5)))
    turn(debug)
    assert seen == [1, 2, 3, 4, 5]
