"""Rust futures of another extension module, awaited on asyncio's loop, uvloop and ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import making
from support.extension import ENDING, SENT, ext
from support.loops import Loop, LoopFactory, turn
from support.rust import pyloop, rust
from support.threads import in_thread

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")

Make = Callable[[], Any]

each_kind = pytest.mark.parametrize(("make", "value"), list(ENDING.values()), ids=list(ENDING))
each_sent = pytest.mark.parametrize(("make", "value"), [ENDING[name] for name in SENT], ids=SENT)


# Every kind, in every combination.


@each_kind
def test_await_gives_the_value(loop: Loop, make: Make, value: Any) -> None:
    async def main() -> Any:
        return await make()

    assert loop.run_until_complete(main()) == value


@each_kind
def test_a_task_takes_it(loop: Loop, make: Make, value: Any) -> None:
    async def main() -> Any:
        made = asyncio.create_task(make(), name="rusty")
        assert isinstance(made, asyncio.Task)
        assert not made.done()
        ensured = asyncio.ensure_future(make())
        return [await made, await ensured]

    assert loop.run_until_complete(main()) == [value] * 2


@each_kind
def test_the_loop_runs_it_directly(loop: Loop, make: Make, value: Any) -> None:
    assert loop.run_until_complete(make()) == value


@each_kind
def test_asyncio_run_takes_it(loop_factory: LoopFactory, make: Make, value: Any) -> None:
    assert asyncio.run(make(), loop_factory=loop_factory) == value


@each_kind
def test_gather_wait_and_as_completed_take_it(loop: Loop, make: Make, value: Any) -> None:
    async def main() -> list[Any]:
        gathered = await asyncio.gather(make(), make())
        done, pending = await asyncio.wait([asyncio.ensure_future(make())])
        assert not pending
        completed = [await each for each in asyncio.as_completed([make(), make()])]
        return [*gathered, *(task.result() for task in done), *completed]

    assert loop.run_until_complete(main()) == [value] * 5


@each_kind
def test_wait_for_shield_and_timeout_take_it(loop: Loop, make: Make, value: Any) -> None:
    async def main() -> list[Any]:
        async with asyncio.timeout(60):
            return [await asyncio.wait_for(make(), 60), await asyncio.shield(make()), await make()]

    assert loop.run_until_complete(main()) == [value] * 3


@each_kind
def test_a_task_group_takes_it(loop: Loop, make: Make, value: Any) -> None:
    async def main() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(make()) for _ in range(3)]
        return [task.result() for task in tasks]

    assert loop.run_until_complete(main()) == [value] * 3


@each_kind
def test_stock_tasks_and_ours_await_it_on_any_loop(loop: Loop, make: Make, value: Any) -> None:
    async def wait() -> Any:
        return await make()

    async def main() -> list[Any]:
        direct = [asyncio.Task(make()), pyloop.Task(make())]
        return list(await asyncio.gather(asyncio.Task(wait()), pyloop.Task(wait()), *direct))

    assert loop.run_until_complete(main()) == [value] * 4


@each_kind
def test_an_eager_task_awaits_it(loop: Loop, make: Make, value: Any) -> None:
    async def wait() -> Any:
        return await make()

    async def main() -> list[Any]:
        eager: list[Any] = [cls(wait(), loop=loop, eager_start=True) for cls in (asyncio.Task, pyloop.Task)]
        return list(await asyncio.gather(*eager))

    assert loop.run_until_complete(main()) == [value] * 2


@each_sent
def test_another_thread_hands_it_to_the_loop(loop: Loop, make: Make, value: Any) -> None:
    def other() -> Any:
        return asyncio.run_coroutine_threadsafe(make(), loop).result(10)

    async def main() -> Any:
        return await loop.run_in_executor(None, other)

    assert loop.run_until_complete(main()) == value
    loop.run_until_complete(loop.shutdown_default_executor())


def test_one_that_is_not_send_is_refused_on_another_thread_and_dropped_at_home(loop: Loop) -> None:
    seen = list[bool]()
    home = threading.get_ident()

    def dropped() -> None:
        seen.append(threading.get_ident() == home)

    held = [ext.calls_when_dropped(dropped)]

    def other() -> None:
        async def main() -> None:
            with pytest.raises(RuntimeError, match="not Send was awaited on another thread"):
                await held[0]

        asyncio.run(main(), loop_factory=making.HOSTS["pyloop"])
        held.clear()

    in_thread(other)
    ext.ready(None).close()
    turn(loop, 2)
    assert seen == [True]


def test_the_awaiting_task_of_another_thread_hears_what_is_wrong(loop: Loop) -> None:
    def other() -> None:
        with pytest.raises(RuntimeError, match="not Send was awaited on another thread"):
            asyncio.run_coroutine_threadsafe(ext.local(), loop).result(10)
        ext.ready(None).close()

    async def main() -> None:
        await loop.run_in_executor(None, other)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


# Lazy, like a coroutine.


def test_nothing_runs_before_the_await(loop: Loop) -> None:
    log = list[Any]()
    made = [ext.calls(log.append, 1), ext.shielded(0, log)]
    turn(loop, 3)
    assert log == []

    async def main() -> None:
        for each in made:
            await each

    loop.run_until_complete(main())
    assert log == [0, "done"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("basics.sleep", lambda: ext.sleep(1)),
        ("basics.never", lambda: ext.never()),
        ("basics.local", lambda: ext.local()),
        ("basics.spawned", lambda: ext.spawned()),
        ("basics.blocking", lambda: ext.blocking(1)),
        ("basics.shielded", lambda: ext.shielded(1, [])),
    ],
)
def test_what_is_never_awaited_is_told_of_by_name(loop: Loop, name: str, make: Make) -> None:
    future = make()
    with pytest.warns(RuntimeWarning, match=rf"^coroutine 'pyloop_extension\.{name}' was never awaited$"):
        del future


def test_it_has_the_name_of_its_function_or_its_own(loop: Loop) -> None:
    named = ext.slow(0)
    assert (named.__name__, named.__qualname__) == ("slow", "extension.slow")
    never = ext.never()
    assert (never.__name__, never.__qualname__) == ("never", "pyloop_extension.basics.never")
    assert repr(never) == "<RustFuture pyloop_extension.basics.never created>"
    task = loop.create_task(never, name="rusty")
    turn(loop, 2)
    assert repr(never) == "<RustFuture pyloop_extension.basics.never pending>"
    (dumped,) = [repr(each) for each in asyncio.all_tasks(loop)]
    assert dumped.startswith("<Task pending name='rusty' coro=<")
    assert "pyloop_extension.basics.never" in dumped
    task.cancel()
    turn(loop, 2)
    named.close()


# The task, its context, the runtime.


def test_context_variables_are_current_in_each_poll(loop: Loop) -> None:
    def look(number: int) -> tuple[str, Any]:
        before = VAR.get()
        VAR.set(f"set by poll {number}")
        return before, asyncio.current_task()

    async def main() -> None:
        VAR.set("set by the task")
        me = asyncio.current_task()
        wanted = ["set by the task", "set by poll 0", "set by poll 1"]
        assert await ext.calls(look, 3) == [(value, me) for value in wanted]
        assert VAR.get() == "set by poll 2"

    loop.run_until_complete(main())
    assert VAR.get() == "none"


@pytest.mark.parametrize("stock", [False, True])
def test_iterated_instead_of_awaited_it_ends_with_asyncios_error(loop: Loop, stock: bool) -> None:
    async def main() -> None:
        for awaitable in (ext.never(), ext.sleep(3600)):
            with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
                list(awaitable)
            awaitable.close()

    loop.run_until_complete(asyncio.Task(main(), loop=loop) if stock else main())


def test_two_tasks_have_each_their_own_context(loop: Loop) -> None:
    async def one(name: str) -> list[str]:
        VAR.set(name)
        seen: list[str] = await ext.calls(lambda _: VAR.get(), 5)
        return seen

    async def main() -> list[list[str]]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert loop.run_until_complete(main()) == [["a"] * 5, ["b"] * 5]


def test_a_future_that_is_the_whole_task_has_the_tasks_context(loop: Loop) -> None:
    context = contextvars.copy_context()
    context.run(VAR.set, "of the task")
    task = loop.create_task(ext.calls(lambda _: VAR.get(), 3), context=context)
    assert loop.run_until_complete(task) == ["of the task"] * 3


def test_the_runtime_is_the_same_in_every_poll(loop: Loop) -> None:
    async def main() -> set[str]:
        return {await ext.runtime(), *await asyncio.gather(ext.runtime(), ext.runtime())}

    assert len(loop.run_until_complete(main())) == 1


def test_tokios_sockets_and_python_servers_meet_on_one_loop(loop: Loop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        # A socket of its own: to look an address up uvloop starts threads.
        sock = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(echo, sock=sock)
        port = sock.getsockname()[1]
        messages = [bytes([number]) * 100_000 for number in range(10)]
        answers = await asyncio.gather(*(ext.round_trip(port, message) for message in messages))
        assert [bytes(answer) for answer in answers] == messages
        server.close()
        await server.wait_closed()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.parametrize("first", [True, False])
def test_pyo3s_own_async_functions_are_awaited_beside_it(loop: Loop, first: bool) -> None:
    async def main() -> list[Any]:
        if first:
            await ext.yield_once()
        return [
            await ext.pyo3_ready(),
            await ext.pyo3_yield_once(),
            await asyncio.wait_for(ext.pyo3_yield_once(), 9),
        ]

    assert loop.run_until_complete(main()) == [7, None, None]


def test_pyo3s_async_functions_find_the_runtime_of_this_thread(loop: Loop) -> None:
    async def main() -> None:
        await ext.yield_once()
        assert ext.is_inside_runtime()
        await asyncio.gather(ext.pyo3_sleep(0.001), ext.pyo3_sleep(0.001))

    loop.run_until_complete(main())


def test_block_on_of_the_runtime_does_not_block_a_loop(loop: Loop) -> None:
    async def main() -> int:
        with pytest.raises(BaseException, match=r"^RuntimeError: this would stop the event loop"):
            ext.blocks_on_the_runtime()
        return await asyncio.to_thread(ext.blocks_on_the_runtime)

    assert ext.blocks_on_the_runtime() == 7
    assert loop.run_until_complete(main()) == 7


def test_it_is_awaited_beside_the_loops_own_futures(loop: Loop) -> None:
    async def main() -> list[Any]:
        theirs = [make() for make, _ in ENDING.values()]
        ours = [rust.yield_once(1), rust.woken_from_thread(0.001, 2), pyloop.sleep(0.001, 3)]
        return list(await asyncio.gather(*theirs, *ours))

    assert loop.run_until_complete(main()) == [value for _, value in ENDING.values()] + [1, 2, 3]


# Turns.


def test_what_is_ready_takes_no_turn(loop: Loop) -> None:
    async def main() -> None:
        seen = list[str]()
        loop.call_soon(seen.append, "turn")
        for _ in range(1000):
            await ext.ready(None)
        assert seen == []

    loop.run_until_complete(main())


def test_others_run_while_it_is_pending(loop: Loop) -> None:
    async def main() -> None:
        seen = list[str]()
        loop.call_soon(seen.append, "turn")
        await ext.yield_once()
        assert seen == ["turn"]

    loop.run_until_complete(main())


def test_a_thousand_at_once(loop: Loop) -> None:
    async def main() -> list[Any]:
        return list(await asyncio.gather(*(ext.sleep(0.001 * (number % 7)) for number in range(1000))))

    assert loop.run_until_complete(main()) == [None] * 1000


# Going away.


def test_dropping_the_last_reference_drops_the_future(loop: Loop) -> None:
    async def main() -> None:
        before = ext.live()

        async def wait() -> None:
            await ext.never()

        coroutine = wait()
        task: Any = asyncio.create_task(coroutine)
        await asyncio.sleep(0)
        assert ext.live() == before + 1
        task.cancel()
        del coroutine
        await asyncio.wait([task])
        assert ext.live() == before

    loop.run_until_complete(main())


def test_a_coroutine_that_is_dropped_while_it_waits_drops_the_future(loop: Loop) -> None:
    before = ext.live()

    async def wait() -> None:
        await ext.never()

    async def main() -> None:
        coroutine = wait()
        coroutine.send(None)
        assert ext.live() == before + 1
        del coroutine
        gc.collect()
        assert ext.live() == before

    loop.run_until_complete(main())


def test_a_future_that_any_thread_may_have_is_dropped_where_it_is_let_go(loop: Loop) -> None:
    future = [ext.sleep(3600)]
    with pytest.warns(RuntimeWarning, match="never awaited"):
        in_thread(future.clear)
