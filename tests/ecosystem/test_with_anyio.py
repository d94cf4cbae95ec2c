"""Small anyio programs: cancel scopes, task groups, streams and threads, as its asyncio backend runs them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from support.loops import LoopFactory
from support.rust import pyloop, rust

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


def run_anyio(factory: LoopFactory, main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": factory})


def test_a_task_group_runs_its_tasks(loop_factory: LoopFactory) -> None:
    async def square(number: int, results: list[int]) -> None:
        await anyio.lowlevel.checkpoint()
        results.append(number * number)

    async def main() -> list[int]:
        results = list[int]()
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(square, number, results)
        return results

    assert run_anyio(loop_factory, main) == [number * number for number in range(10)]


def test_a_task_group_waits_until_a_task_says_it_has_started(loop_factory: LoopFactory) -> None:
    async def serve(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        await anyio.lowlevel.checkpoint()
        task_status.started("ready")
        await anyio.sleep_forever()

    async def main() -> Any:
        async with anyio.create_task_group() as group:
            value = await group.start(serve)
            group.cancel_scope.cancel()
        return value

    assert run_anyio(loop_factory, main) == "ready"


def test_the_first_error_of_a_group_cancels_the_rest(loop_factory: LoopFactory) -> None:
    order = list[str]()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            order.append("cancelled")
            raise

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("first")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(fail)
            group.start_soon(wait)

    with pytest.raises(ExceptionGroup) as caught:
        run_anyio(loop_factory, main)
    assert [str(error) for error in caught.value.exceptions] == ["first"]
    assert order == ["cancelled", "cancelled"]


def test_scopes_time_out_inside_each_other(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.001) as outer:
            with anyio.move_on_after(3600) as inner:
                await anyio.sleep_forever()
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.001):
                await anyio.sleep(3600)
        with anyio.fail_after(3600):
            await anyio.lowlevel.checkpoint()

    run_anyio(loop_factory, main)


def test_a_cancelled_scope_cancels_at_every_checkpoint(loop_factory: LoopFactory) -> None:
    async def main() -> int:
        times = 0
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(3):
                try:
                    await anyio.lowlevel.checkpoint()
                except anyio.get_cancelled_exc_class():
                    times += 1
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        await anyio.lowlevel.checkpoint()
        return times

    assert run_anyio(loop_factory, main) == 3


def test_a_shielded_scope_finishes_its_cleanup(loop_factory: LoopFactory) -> None:
    order = list[str]()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
                order.append("cleaned")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    run_anyio(loop_factory, main)
    assert order == ["cleaned"]


def test_memory_streams_carry_items_with_back_pressure(loop_factory: LoopFactory) -> None:
    async def main() -> list[int]:
        send, receive = anyio.create_memory_object_stream[int](1)

        async def produce() -> None:
            async with send:
                for number in range(100):
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            received = [number async for number in receive]
        return received  # noqa: RET504

    assert run_anyio(loop_factory, main) == list(range(100))


def test_locks_events_and_limiters(loop_factory: LoopFactory) -> None:
    async def main() -> int:
        lock, event, limiter = anyio.Lock(), anyio.Event(), anyio.CapacityLimiter(2)
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            await event.wait()
            async with limiter:
                inside += 1
                most = max(most, inside)
                async with lock:
                    await anyio.lowlevel.checkpoint()
                inside -= 1

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            event.set()
        return most

    assert run_anyio(loop_factory, main) == 2


def test_threads_call_back_into_the_loop(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        here = threading.get_ident()

        def work() -> tuple[int, int, str]:
            async def remote() -> int:
                await anyio.lowlevel.checkpoint()
                return threading.get_ident()

            return threading.get_ident(), anyio.from_thread.run(remote), VAR.get()

        VAR.set("of the task")
        there, back, value = await anyio.to_thread.run_sync(work)
        assert there != here
        assert back == here
        assert value == "of the task"

    run_anyio(loop_factory, main)
    for thread in threading.enumerate():
        if thread.name == "AnyIO worker thread":
            thread.join()  # it has been told to end, and nobody waits for it


def test_tcp_streams_echo(loop_factory: LoopFactory) -> None:
    async def echo(client: anyio.abc.SocketStream) -> None:
        async with client:
            async for chunk in client:
                await client.send(chunk)

    async def main() -> bytes:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                received = b""
                for number in range(10):
                    await stream.send(b"%d" % number * 1000)
                    while len(received) < (number + 1) * 1000:
                        received += await stream.receive()
            group.cancel_scope.cancel()
        return received

    assert run_anyio(loop_factory, main) == b"".join(b"%d" % number * 1000 for number in range(10))


def test_stock_asyncio_and_anyio_share_tasks(loop_factory: LoopFactory) -> None:
    async def main() -> list[Any]:
        async with asyncio.TaskGroup() as stock:
            task = stock.create_task(asyncio.sleep(0, 1))
            with anyio.move_on_after(3600):
                results = await asyncio.gather(
                    asyncio.sleep(0, 2), asyncio.wait_for(asyncio.sleep(0, 3), 3600)
                )
        return [await task, *results]

    assert run_anyio(loop_factory, main) == [1, 2, 3]


def test_the_task_info_is_that_of_the_task(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        info = anyio.get_current_task()
        assert info.name == asyncio.current_task().get_name()  # type: ignore[union-attr]
        assert info.id in {other.id for other in anyio.get_running_tasks()}

    run_anyio(loop_factory, main)


def test_rust_futures_are_cancelled_by_scopes(pyloop_factory: LoopFactory) -> None:
    async def main() -> None:
        before = rust.live()
        with anyio.move_on_after(0.001) as scope:
            await rust.never()
        assert scope.cancelled_caught
        assert rust.live() == before
        async with anyio.create_task_group() as group:
            group.start_soon(pyloop.sleep, 3600)
            group.start_soon(rust.never)
            assert await rust.yield_n(3, "among them") == "among them"
            group.cancel_scope.cancel()
        assert rust.live() == before

    run_anyio(pyloop_factory, main)


def test_rust_futures_in_a_cancelled_scope_do_not_wait(pyloop_factory: LoopFactory) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await rust.never()
        assert scope.cancelled_caught

    run_anyio(pyloop_factory, main)
