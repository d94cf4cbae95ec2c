"""`asyncio.Handle._run` replaced: each callback of the loop comes by."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest import mock

import pytest

from support.guard import Context
from support.loops import Loop, Run, turn
from support.tracers import Seen, traced


def test_what_a_replaced_run_lets_out_ends_the_run(loop: Loop) -> None:
    called: Seen = []

    def fails(handle: Any) -> None:
        if handle._callback == called.append:
            raise LookupError("lets it out")
        original(handle)

    original = vars(asyncio.Handle)["_run"]
    loop.call_soon(called.append, 1)
    loop.call_soon(int)
    with mock.patch.object(asyncio.Handle, "_run", fails), pytest.raises(LookupError):
        loop.run_forever()
    turn(loop)
    assert called == []


def test_a_replaced_run_need_not_call_the_original(loop: Loop) -> None:
    called: Seen = []
    run = mock.Mock(spec=())
    with mock.patch.object(asyncio.Handle, "_run", run):
        loop.call_soon(called.append, 1)
        loop.call_later(0, called.append, 2)
        turn(loop, 2)
        assert run.mock_calls == [mock.call(), mock.call()]
        with mock.patch.object(
            asyncio.Handle, "_run", property(lambda handle: lambda: called.append(handle._args))
        ):
            loop.call_soon(called.append, 3)
            turn(loop)
    assert called == [(3,)]


def test_an_exception_passes_a_replaced_run_on_its_way_to_the_handler(
    run: Run, loop: Loop, handled: list[Context]
) -> None:
    seen: Seen = []

    def boom(*_: object) -> None:
        raise ValueError("boom")

    async def main() -> None:
        future = loop.create_future()
        future.add_done_callback(boom)
        with traced(loop, "base", ["_run"], seen):
            loop.call_soon(boom, 1)
            loop.call_later(0, boom)
            loop.call_soon_threadsafe(boom)
            future.set_result(None)
            await asyncio.sleep(0.005)

    run(main())
    assert len(handled) == 4
    for context in handled:
        assert repr(context["exception"]) == "ValueError('boom')"
        assert "boom" in context["message"] and "boom" in repr(context["handle"])
    assert [about for _, about, *_ in seen if about == "boom"] == ["boom"] * 4


def test_keyboard_interrupt_passes_a_replaced_run(loop: Loop) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    seen: Seen = []
    with traced(loop, "base", ["_run"], seen):
        loop.call_soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    assert [about for _, about, *_ in seen] == ["interrupt"]


def test_a_cancelled_handle_is_not_given_to_a_replaced_run(run: Run, loop: Loop) -> None:
    seen: Seen = []

    async def main() -> None:
        with traced(loop, "base", ["_run"], seen):
            loop.call_soon(int).cancel()
            loop.call_later(0, int).cancel()
            loop.call_soon_threadsafe(int).cancel()
            await asyncio.sleep(0.002)

    run(main())
    assert "int" not in [about for _, about, *_ in seen]


def test_a_slow_callback_is_named_as_asyncio_names_it(run: Run, loop: Loop) -> None:
    """As aiodebug's `log_slow_callbacks` does it."""
    named: list[str] = []

    def instrumented(handle: Any) -> None:
        original(handle)
        task = getattr(handle._callback, "__self__", None)
        named.append(repr(task.get_coro()) if isinstance(task, asyncio.Task) else repr(handle))

    original = asyncio.Handle._run

    async def main() -> None:
        await asyncio.sleep(0)
        loop.call_soon(print_nothing)
        await asyncio.sleep(0)

    def print_nothing() -> None:
        pass

    with mock.patch.object(asyncio.Handle, "_run", instrumented):
        run(main())
    assert sum("<locals>.main at" in name for name in named) == 3  # a handle's name has its file's path
    assert any("print_nothing" in name and name.startswith("<Handle") for name in named)


def test_a_callback_that_a_thread_schedules_comes_by(run: Run, loop: Loop) -> None:
    seen: Seen = []

    async def main() -> None:
        with traced(loop, "base", ["_run"], seen):
            done = asyncio.Event()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,))
            thread.start()
            await done.wait()
            thread.join()

    run(main())
    assert "set" in [about for _, about, *_ in seen]
