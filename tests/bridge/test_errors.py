"""Exceptions and panics on their way between Python and another extension module."""

from __future__ import annotations

import asyncio
import errno
import os
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support import making
from support.extension import ext
from support.loops import Loop, turn

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

Make = Callable[[Any], Any]


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# Out of Rust.


@pytest.mark.parametrize(
    "make",
    [lambda error: ext.raises(error), lambda error: ext.spawned_raises(error)],
    ids=["raises", "spawned"],
)
def test_the_very_exception_is_raised_with_its_cause_and_notes(loop: Loop, make: Make) -> None:
    cause = KeyError("the cause")
    error = ValueError("the error")
    error.__cause__ = cause
    error.add_note("a note")

    async def inner() -> None:
        await make(error)

    async def main() -> None:
        with pytest.raises(ValueError, match="the error") as caught:
            await inner()
        assert caught.value is error
        assert error.__cause__ is cause
        assert error.__notes__ == ["a note"]
        assert frames(error)[-1] == "inner"

    loop.run_until_complete(main())


def test_an_exception_that_was_raised_before_keeps_where(loop: Loop) -> None:
    def somewhere() -> None:
        raise ValueError("from somewhere")

    def raised() -> ValueError:
        try:
            somewhere()
        except ValueError as error:
            return error
        raise AssertionError

    async def main() -> None:
        with pytest.raises(ValueError, match="somewhere") as caught:
            await ext.raises(raised())
        assert "somewhere" in frames(caught.value)

    loop.run_until_complete(main())


def test_what_python_raises_in_a_poll_comes_out_with_its_frames(loop: Loop) -> None:
    def deep(_: int) -> None:
        raise ValueError("in a poll")

    async def main() -> None:
        with pytest.raises(ValueError, match="in a poll") as caught:
            await ext.calls(deep, 1)
        assert frames(caught.value)[-1] == "deep"

    loop.run_until_complete(main())


def test_a_rust_error_becomes_the_exception_that_it_converts_to(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await ext.io_error()
        with pytest.raises(ValueError, match=r"^as it is$"):
            await ext.fails("as it is")

    loop.run_until_complete(main())


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED, errno.ENOSPC, errno.EAGAIN])
def test_an_io_error_has_its_number_and_the_c_librarys_words(loop: Loop, number: int) -> None:
    ways = "future named send holding spawn spawn_blocking shielded stream"
    expected = OSError(number, os.strerror(number))

    async def main() -> None:
        for through in [*ways.split(), "by hand"]:
            with pytest.raises(OSError, match=r".") as caught:
                await ext.fails_with(through, number)
            assert type(caught.value) is type(expected)
            assert caught.value.args == expected.args
            assert (caught.value.errno, caught.value.strerror) == (number, os.strerror(number))
            assert str(caught.value) == str(expected)

    loop.run_until_complete(main())
    with pytest.raises(type(expected)) as caught:
        ext.fails_on(loop, number)
    assert caught.value.args == expected.args


def test_an_io_error_without_a_number_is_what_is_in_it(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionResetError, match=r"^in words$") as caught:
            await ext.fails_without_number(None)
        assert caught.value.errno is None
        error = ZeroDivisionError("inside")
        with pytest.raises(ZeroDivisionError) as inside:
            await ext.fails_without_number(error)
        assert inside.value is error

    loop.run_until_complete(main())


def test_stop_iteration_is_a_runtime_error_as_in_any_coroutine(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await ext.raises(StopIteration(1))
        assert isinstance(caught.value.__cause__, StopIteration)

    loop.run_until_complete(main())


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_run(loop: Loop, leave: type[BaseException]) -> None:
    with pytest.raises(leave, match="now"):
        loop.run_until_complete(ext.raises(leave("now")))
    turn(loop)


def test_a_cancelled_error_of_rusts_cancels_the_task(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.create_task(ext.raises(asyncio.CancelledError("by Rust")))
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(asyncio.CancelledError, match="by Rust"):
            await task

    loop.run_until_complete(main())


# Through Rust and back.


@pytest.mark.parametrize(
    "through",
    [
        lambda coro: ext.awaits(coro),
        lambda coro: ext.awaits_spawned(coro),
        lambda coro: ext.awaits_in_thread(coro),
        lambda coro: ext.awaits(ext.awaits(ext.awaits(coro))),
    ],
    ids=["in place", "spawned", "in a thread", "three times"],
)
def test_an_exception_passes_through_rust_unchanged(loop: Loop, through: Make) -> None:
    raised = list[BaseException]()

    async def deep() -> None:
        await ext.yield_once()
        try:
            raise KeyError("the cause")
        except KeyError as cause:
            error = ValueError("from below")
            error.add_note("a note")
            raised.append(error)
            raise error from cause

    async def main() -> None:
        with pytest.raises(ValueError, match="from below") as caught:
            await through(deep())
        error = caught.value
        assert error is raised[0]
        assert isinstance(error.__cause__, KeyError)
        assert error.__notes__ == ["a note"]
        assert frames(error)[0] == "main"
        assert frames(error)[-1] == "deep"

    loop.run_until_complete(main())


# Panics.


@pytest.mark.parametrize(
    "make",
    [
        lambda text: ext.panics(text),
        lambda text: ext.spawned_panics(text),
        lambda text: ext.blocking_panics(text),
    ],
    ids=["in place", "spawned", "blocking"],
)
def test_a_panic_arrives_with_its_message_and_the_loop_goes_on(loop: Loop, make: Make) -> None:
    async def main() -> None:
        with pytest.raises(BaseException, match=r"^out of order$") as caught:
            await make("out of order")
        assert type(caught.value).__name__ == "PanicException"
        assert not isinstance(caught.value, Exception)
        assert await ext.from_thread() == 42
        # The task that panicked, or the one that awaited it, is ended by it and no other.
        ended = await asyncio.gather(make("again"), ext.yield_once(), ext.spawned(), return_exceptions=True)
        assert [type(each).__name__ for each in ended] == ["PanicException", "NoneType", "str"]

    loop.run_until_complete(main())


def test_a_panic_with_something_else_than_a_message(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(BaseException, match="not a string") as caught:
            await ext.panics_with_a_number()
        assert type(caught.value).__name__ == "PanicException"

    loop.run_until_complete(main())


def test_a_panic_in_a_destructor_stays_inside(loop: Loop, unraisable: list[str]) -> None:
    async def main() -> None:
        task = asyncio.create_task(ext.panics_when_dropped())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await ext.from_thread() == 42

    loop.run_until_complete(main())
    assert len(unraisable) == 1
    assert unraisable[0].startswith("PanicException: in a destructor in ")


def test_a_panic_of_a_stream_ends_it(loop: Loop) -> None:
    async def main() -> list[Any]:
        items = list[Any]()
        with pytest.raises(BaseException, match="no third item") as caught:
            async for item in ext.panicking_stream():
                items.append(item)
        assert type(caught.value).__name__ == "PanicException"
        return items

    assert loop.run_until_complete(main()) == [0, 1]


def panicked() -> BaseException:
    """The exception that a panic of the extension has become."""
    try:
        ext.panics("on purpose").send(None)
    except BaseException as error:
        assert type(error).__name__ == "PanicException"
        return error
    raise AssertionError("it did not panic")


@pytest.mark.parametrize(
    "awaits",
    [lambda main: ext.awaits(main), lambda main: ext.awaits_spawned(main)],
    ids=["in place", "spawned"],
)
@pytest.mark.parametrize("pause", [False, True], ids=["at once", "later"])
def test_rust_that_awaits_a_coroutine_gets_the_very_exception_that_a_panic_has_become(
    loop: Loop, awaits: Make, pause: bool
) -> None:
    panic = panicked()

    async def raises() -> None:
        if pause:
            await asyncio.sleep(0.001)
        raise panic

    async def main() -> None:
        with pytest.raises(type(panic)) as caught:
            await awaits(raises())
        assert caught.value is panic
        assert await ext.from_thread() == 42

    loop.run_until_complete(main())


def test_rust_that_cannot_start_an_awaitable_is_told_of_the_panic(loop: Loop) -> None:
    panic = panicked()

    class Odd(asyncio.Future[None]):
        def done(self) -> bool:
            raise panic

    async def main() -> None:
        for awaits in (ext.awaits, ext.awaits_spawned):
            with pytest.raises(type(panic)) as caught:
                await awaits(Odd())
            assert caught.value is panic

    loop.run_until_complete(main())


def test_rust_that_iterates_a_generator_gets_the_very_exception_that_a_panic_has_become(loop: Loop) -> None:
    panic = panicked()

    async def items() -> AsyncIterator[int]:
        yield 1
        raise panic

    async def main() -> None:
        assert await ext.collects(items(), 9) == [1, panic]

    loop.run_until_complete(main())


def test_a_rust_future_that_runs_on_a_loop_of_its_own_gets_the_panic(loop: Loop) -> None:
    panic = panicked()

    async def raises() -> None:
        raise panic

    def runs() -> BaseException:
        with pytest.raises(type(panic)) as caught:
            ext.runs(raises())
        return caught.value

    assert loop.run_until_complete(asyncio.to_thread(runs)) is panic
