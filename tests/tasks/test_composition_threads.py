"""Between threads: wrap_future, run_coroutine_threadsafe, executors, and futures resolved from afar."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support import making
from support.coroutines import give
from support.loops import Loop, turn
from support.making import MakeFuture, Spawn

pytest_generate_tests = making.parametrize

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


@contextmanager
def elsewhere(work: Callable[[], object]) -> Iterator[None]:
    """Does `work` in another thread while the block runs."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_wrapped_future_is_a_future_of_the_loop(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        source = concurrent.futures.Future[str]()
        wrapped = asyncio.wrap_future(source)
        assert isinstance(wrapped, asyncio.Future)
        assert wrapped.get_loop() is loop
        with elsewhere(lambda: source.set_result("from afar")):
            assert await wrapped == "from afar"

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_wrapped_future_that_failed_raises_its_error(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        source, error = concurrent.futures.Future[str](), ValueError("from afar")
        wrapped = asyncio.wrap_future(source)
        with elsewhere(lambda: source.set_exception(error)):
            with pytest.raises(ValueError, match=r"^from afar$") as caught:
                await wrapped
        assert caught.value is error

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_a_wrapped_future_cancels_its_source(loop: Loop, spawn: Spawn) -> None:
    async def wait(wrapped: asyncio.Future[str]) -> str:
        return await wrapped

    async def main() -> None:
        source = concurrent.futures.Future[str]()
        task = spawn(wait(asyncio.wrap_future(source)), loop=loop)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert source.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_cancelling_the_source_cancels_the_wrapped_future(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        source = concurrent.futures.Future[str]()
        wrapped = asyncio.wrap_future(source)
        with elsewhere(source.cancel):
            with pytest.raises(asyncio.CancelledError):
                await wrapped

    loop.run_until_complete(spawn(main(), loop=loop))


def test_a_result_that_comes_after_the_cancellation_is_no_error(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        source = concurrent.futures.Future[str]()
        assert source.set_running_or_notify_cancel()
        wrapped = asyncio.wrap_future(source)
        wrapped.cancel()
        with elsewhere(lambda: source.set_result("too late")):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wrapped.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_another_thread_runs_a_coroutine_and_gets_its_result(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    results = list[Any]()

    async def main() -> None:
        future = make_future(loop)

        async def remote() -> str:
            VAR.set("remote")
            loop.call_soon(future.set_result, asyncio.current_task())
            await future
            return f"ran in {threading.current_thread().name}"

        def ask() -> None:
            results.append(asyncio.run_coroutine_threadsafe(remote(), loop).result())
            loop.call_soon_threadsafe(finished.set)

        finished = asyncio.Event()
        with elsewhere(ask):
            await finished.wait()
        assert isinstance(future.result(), asyncio.Task)

    loop.run_until_complete(spawn(main(), loop=loop))
    assert results == [f"ran in {threading.current_thread().name}"]


def test_another_thread_gets_the_error_of_its_coroutine(loop: Loop, spawn: Spawn) -> None:
    errors = list[BaseException | None]()

    async def remote() -> None:
        await asyncio.sleep(0)
        raise ValueError("remote")

    async def main() -> None:
        def ask() -> None:
            errors.append(asyncio.run_coroutine_threadsafe(remote(), loop).exception())
            loop.call_soon_threadsafe(finished.set)

        finished = asyncio.Event()
        with elsewhere(ask):
            await finished.wait()

    loop.run_until_complete(spawn(main(), loop=loop))
    assert [str(error) for error in errors] == ["remote"]


def test_another_thread_cancels_its_coroutine(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def main() -> None:
        waited, cancelled, began = make_future(loop), asyncio.Event(), threading.Event()

        async def remote() -> None:
            began.set()
            try:
                await waited
            finally:
                cancelled.set()

        def ask() -> None:
            future = asyncio.run_coroutine_threadsafe(remote(), loop)
            began.wait()
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(0.001)
            assert future.cancel()

        with elsewhere(ask):
            await cancelled.wait()
        assert waited.cancelled()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_run_coroutine_threadsafe_takes_coroutines_alone(loop: Loop) -> None:
    wrong: Any = loop.create_future()
    with pytest.raises(TypeError, match=r"^A coroutine object is required$"):
        asyncio.run_coroutine_threadsafe(wrong, loop)
    wrong.cancel()


def test_a_thread_of_the_executor_keeps_the_context(loop: Loop, spawn: Spawn) -> None:
    async def main() -> None:
        VAR.set("of the task")
        assert await asyncio.to_thread(VAR.get) == "of the task"
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()

    loop.run_until_complete(spawn(main(), loop=loop))


def test_work_of_the_executor_is_gathered_with_the_rest(
    loop: Loop, spawn: Spawn, make_future: MakeFuture
) -> None:
    async def main() -> Any:
        future = make_future(loop)
        loop.call_soon(future.set_result, "future")
        work = loop.run_in_executor(None, lambda: "executor")
        return await asyncio.gather(work, future, asyncio.to_thread(lambda: "thread"), give("task"))

    assert loop.run_until_complete(spawn(main(), loop=loop)) == ["executor", "future", "thread", "task"]


def test_many_threads_resolve_many_futures(loop: Loop, spawn: Spawn, make_future: MakeFuture) -> None:
    async def wait(future: asyncio.Future[int]) -> int:
        return await future

    async def main() -> list[int]:
        futures = [make_future(loop) for _ in range(400)]
        tasks = [spawn(wait(future), loop=loop) for future in futures]

        def resolve(start: int) -> None:
            for number in range(start, 400, 4):
                loop.call_soon_threadsafe(futures[number].set_result, number)

        threads = [threading.Thread(target=resolve, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        results = await asyncio.gather(*tasks)
        for thread in threads:
            thread.join()
        return results

    assert loop.run_until_complete(spawn(main(), loop=loop)) == list(range(400))


def test_a_future_passes_between_two_loops_in_two_threads(
    loop: Loop, loop_factory: Any, spawn: Spawn
) -> None:
    other: Loop = loop_factory()
    answers = list[str]()

    def serve() -> None:
        other.run_forever()

    async def remote(question: str) -> str:
        await asyncio.sleep(0)
        return f"answer to {question}"

    async def main() -> None:
        for number in range(5):
            asked = asyncio.run_coroutine_threadsafe(remote(str(number)), other)
            answers.append(await asyncio.wrap_future(asked))

    with elsewhere(serve):
        loop.run_until_complete(spawn(main(), loop=loop))
        other.call_soon_threadsafe(other.stop)
    turn(other)
    other.close()
    assert answers == [f"answer to {number}" for number in range(5)]
