"""Executors: the loop's own, others, and how they end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, Run, turn

Pool = concurrent.futures.ThreadPoolExecutor


def fail(error: BaseException) -> None:
    raise error


def test_a_function_runs_in_another_thread(loop: Loop, run: Run) -> None:
    async def main() -> None:
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        assert await loop.run_in_executor(None, "{}-{}".format, 1, 2) == "1-2"

    run(main())


def test_the_threads_of_the_loops_own_executor_are_asyncios(loop: Loop, run: Run) -> None:
    async def main() -> str:
        return (await loop.run_in_executor(None, threading.current_thread)).name

    assert run(main()).startswith("asyncio_")


def test_an_exception_comes_back(loop: Loop, run: Run) -> None:
    async def main() -> None:
        error = LookupError("there")
        with pytest.raises(LookupError) as caught:
            await loop.run_in_executor(None, fail, error)
        assert caught.value is error

    run(main())


def test_run_in_executor_gives_a_future_of_the_loop_at_once(loop: Loop, run: Run) -> None:
    async def main() -> None:
        go = threading.Event()
        future = loop.run_in_executor(None, go.wait)
        assert asyncio.isfuture(future)
        assert future.get_loop() is loop
        assert not future.done()
        go.set()
        assert await future is True

    run(main())


def test_many_calls_come_back_each_with_its_own_result(loop: Loop, run: Run) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(loop.run_in_executor(None, pow, i, 2) for i in range(500)))

    assert run(main()) == [i * i for i in range(500)]


def test_a_given_executor_is_used_and_left_alone(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with Pool(1, "given") as pool:
            thread = await loop.run_in_executor(pool, threading.current_thread)
            assert thread.name.startswith("given")
            await loop.shutdown_default_executor()
            assert await loop.run_in_executor(pool, int) == 0

    run(main())


def test_the_default_executor_can_be_replaced(loop: Loop, run: Run) -> None:
    async def main() -> None:
        pool = Pool(1, "mine")
        loop.set_default_executor(pool)
        assert loop._default_executor is pool  # type: ignore[attr-defined]
        assert (await loop.run_in_executor(None, threading.current_thread)).name.startswith("mine")
        assert (await asyncio.to_thread(threading.current_thread)).name.startswith("mine")

    run(main())


def test_a_default_executor_must_be_of_threads(loop: Loop) -> None:
    thing: Any = object()
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(thing)


def test_the_default_executor_is_made_when_it_is_needed(loop: Loop, run: Run) -> None:
    thing: Any = loop
    assert thing._default_executor is None
    run(asyncio.to_thread(int))
    assert isinstance(thing._default_executor, Pool)


def test_shutdown_waits_for_what_runs(loop: Loop, run: Run) -> None:
    done: list[int] = []

    def work() -> None:
        started.set()
        go.wait()
        done.append(1)

    started, go = threading.Event(), threading.Event()

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        started.wait()
        loop.call_later(0.002, go.set)
        await loop.shutdown_default_executor()
        assert done == [1]
        await future

    run(main())


def test_nothing_runs_after_shutdown(loop: Loop, run: Run) -> None:
    async def main() -> None:
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()

    run(main())


@pytest.mark.since(3, 13)  # 3.12.1 waits for ever
def test_a_shutdown_that_takes_too_long_warns_and_goes_on(loop: Loop, run: Run) -> None:
    shutdown: Any = loop.shutdown_default_executor  # typeshed does not know its argument
    started, go = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go.wait()

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        started.wait()
        with pytest.warns(RuntimeWarning, match="The executor did not finishing joining its threads within"):
            await shutdown(timeout=0.01)
        go.set()
        await future

    pool = Pool()
    loop.set_default_executor(pool)
    run(main())
    pool.shutdown()
    for thread in threading.enumerate():
        if "_do_shutdown" in thread.name:  # it calls the loop when it is done
            thread.join()
    turn(loop)


def test_shutdown_takes_a_timeout_that_is_long_enough(loop: Loop, run: Run) -> None:
    shutdown: Any = loop.shutdown_default_executor  # typeshed does not know its argument

    async def main() -> None:
        await asyncio.to_thread(int)
        await shutdown(timeout=10)

    run(main())


def test_a_cancelled_call_that_did_not_begin_never_runs(loop: Loop, run: Run) -> None:
    async def main() -> None:
        go, ran = threading.Event(), list[int]()
        with Pool(1) as pool:
            first = loop.run_in_executor(pool, go.wait)
            second = loop.run_in_executor(pool, ran.append, 1)
            second.cancel()
            await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await second
            go.set()
            await first
        assert ran == []

    run(main())


def test_a_cancelled_call_that_runs_is_left_to_its_end(loop: Loop, run: Run, handled: list[Context]) -> None:
    async def main() -> None:
        started, go = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            go.wait()

        future = loop.run_in_executor(None, work)
        started.wait()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        go.set()
        await loop.shutdown_default_executor()
        assert handled == []

    run(main())


def test_a_result_that_comes_after_the_loop_was_closed_harms_nobody(
    loop_factory: Callable[[], Loop], unraisable: list[str]
) -> None:
    loop = loop_factory()
    go = threading.Event()
    pool = Pool(1)
    future = loop.run_in_executor(pool, go.wait)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    go.set()
    pool.shutdown()
    assert not future.done()
    assert unraisable == []


def test_close_does_not_wait_for_the_executor(loop: Loop) -> None:
    go = threading.Event()
    pool = Pool(1)
    loop.set_default_executor(pool)
    future = loop.run_in_executor(None, go.wait)
    loop.close()
    go.set()
    pool.shutdown()
    del future


@pytest.mark.parametrize("debug", [True, False])
def test_coroutines_are_no_functions_for_an_executor(loop: Loop, run: Run, debug: bool) -> None:
    async def coroutine_function() -> int:
        return 1

    async def main() -> None:
        if debug:
            with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
                await refused(None, coroutine_function)
        else:
            coro = await loop.run_in_executor(None, coroutine_function)
            assert await coro == 1

    refused: Any = loop.run_in_executor
    loop.set_debug(debug)
    run(main())


@pytest.mark.since(3, 13)  # 3.12.1 hangs
def test_a_stop_iteration_does_not_hang(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, fail, StopIteration())

    run(main())


def test_to_thread_takes_keywords_and_the_context(run: Run) -> None:
    async def main() -> None:
        assert await asyncio.to_thread(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]

    run(main())
