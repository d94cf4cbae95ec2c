"""Async functions and methods of an extension by one attribute, on asyncio's loop, uvloop and ours."""

from __future__ import annotations

import asyncio
import errno
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import making
from support.extension import ext, until
from support.loops import Loop, LoopFactory
from support.threads import in_thread

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "nothing_left"), making.on_every_host]


# What Python sees of them.


def test_arguments_are_as_the_signature_says(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.greets("you") == "hello you"
        assert await ext.greets("you", "bye", times=2) == "bye you, bye you"
        assert await ext.async_all() == ((), None)
        assert await ext.async_all(1, "two", three=3) == ((1, "two"), {"three": 3})
        assert await ext.async_halved(14) == 7
        assert await ext.Counter().add() == 1
        assert await ext.Counter().add(n=2) == 2

    loop.run_until_complete(main())


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: ext.greets(), r"missing 1 required positional argument: 'name'$"),
    "keyword": (lambda: ext.greets(name="you"), r"positional-only|missing 1 required"),
    "text": (lambda: ext.greets(1), r"^'int' object is not an instance of 'str'\nwhile processing 'name'$"),
    "number": (lambda: ext.greets("you", times="no"), r"an integer\nwhile processing 'times'$"),
    "method's": (lambda: ext.Counter().add("no"), r"an integer\nwhile processing 'n'$"),
    "receiver": (lambda: ext.Counter.add(7), r"doesn't apply to a 'int' object$"),
}


@pytest.mark.parametrize(("call", "text"), list(WRONG.values()), ids=list(WRONG))
def test_a_wrong_argument_is_refused_by_the_call(loop: Loop, call: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call()


NAMES: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (lambda: ext.greets("you"), "greets"),
    "named function": (lambda: ext.async_ready(1), "async_ready"),
    "method": (lambda: ext.Counter().add(), "Counter.add"),
    "named method": (lambda: ext.Counter().renamed(), "Counter.renamed"),
    "named class": (lambda: ext.Rows(1, []).__anext__(), "Rows.__anext__"),
    "static method": (lambda: ext.Counter.made(1), "Counter.made"),
    "class method": (lambda: ext.Counter.of_class(), "Counter.of_class"),
    "spawned": (lambda: ext.async_spawned(), "async_spawned"),
    "blocking": (lambda: ext.Counter().blocking(), "Counter.blocking"),
    "shielded": (lambda: ext.async_shielded(1, []), "async_shielded"),
    "local": (lambda: ext.async_local(), "async_local"),
}


@pytest.mark.parametrize(("make", "name"), list(NAMES.values()), ids=list(NAMES))
def test_the_names_are_a_coroutines(loop: Loop, make: Callable[[], Any], name: str) -> None:
    awaitable = make()
    assert inspect.iscoroutine(awaitable)
    assert awaitable.__qualname__ == name
    assert awaitable.__name__ == name.rpartition(".")[2]
    assert repr(awaitable) == f"<RustFuture {name} created>"
    awaitable.close()


def test_one_that_is_never_awaited_says_so_and_has_borrowed_nothing(loop: Loop) -> None:
    counter = ext.Counter()
    with pytest.warns(RuntimeWarning, match=r"^coroutine 'Counter.keeps' was never awaited$"):
        counter.keeps()
    assert loop.run_until_complete(counter.add()) == 1


# What they give.


def test_values_are_converted(loop: Loop) -> None:
    async def main() -> None:
        value = object()
        assert await ext.async_ready(value) is value
        assert await ext.async_plain() == 7
        assert await ext.async_nothing() is None
        assert await ext.async_local() == 7
        assert await ext.AtHome().number() == 7
        made = await ext.Counter.made(3)
        assert isinstance(made, ext.Counter) and made.count == 3
        assert isinstance(await ext.Counter.of_class(), ext.Counter)

    loop.run_until_complete(main())


def test_errors_are_converted(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"^mine$"):
            await ext.async_fails("mine")
        with pytest.raises(FileNotFoundError) as failed:
            await ext.async_fails_with(errno.ENOENT)
        assert (failed.value.errno, failed.value.strerror) == (errno.ENOENT, "No such file or directory")
        with pytest.raises(BaseException, match=r"^in it$") as panicked:
            await ext.async_panics("in it")
        assert type(panicked.value).__name__ == "PanicException"
        with pytest.raises(PermissionError) as refused:
            await anext(ext.Rows(errno.EACCES, []))
        assert refused.value.errno == errno.EACCES

    loop.run_until_complete(main())


def test_a_method_calls_another_in_rust(loop: Loop) -> None:
    assert loop.run_until_complete(ext.Counter().add_twice(4)) == 8


# Where they run.


def test_each_way_runs_where_it_should(loop: Loop) -> None:
    async def main() -> None:
        counter = ext.Counter()
        assert await ext.async_spawned() == "pyloop-background"
        assert await counter.spawned() == (1, "pyloop-background")
        assert await counter.blocking() == (2, "pyloop-background")
        turns = 0
        blocking = asyncio.ensure_future(ext.async_blocking(0.002))
        while not blocking.done():
            turns += 1
            await asyncio.sleep(0)
        assert blocking.result() == "pyloop-background"
        assert turns > 1

    loop.run_until_complete(main())


def test_made_on_one_thread_it_is_awaited_on_another(loop: Loop) -> None:
    counter = ext.Counter()
    makes: list[Callable[[], Any]] = [ext.async_plain, counter.add, lambda: ext.async_sleep(0.001)]
    made: list[Any] = [in_thread(make) for make in makes]

    async def main() -> list[Any]:
        return [await each for each in made]

    assert loop.run_until_complete(main()) == [7, 1, 0.001]


def test_one_that_is_not_send_stays_on_its_thread(loop: Loop) -> None:
    at_home = ext.AtHome()
    made: list[Any] = [in_thread(ext.async_local), at_home.number()]

    async def wait(awaitable: Any) -> Any:
        return await awaitable

    with pytest.raises(RuntimeError, match="not Send was awaited on another thread"):
        loop.run_until_complete(wait(made[0]))
    assert loop.run_until_complete(wait(made[1])) == 7


def test_each_thread_has_a_runtime(loop: Loop, loop_factory: LoopFactory) -> None:
    def run() -> None:
        theirs = loop_factory()
        try:
            assert theirs.run_until_complete(ext.async_sleep(0.001)) == 0.001
            assert theirs.run_until_complete(ext.async_local()) == 7
        finally:
            theirs.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    loop.run_until_complete(ext.async_sleep(0.001))
    for thread in threads:
        thread.join()


def test_a_million_ready_awaits_give_way(loop: Loop) -> None:
    async def main() -> None:
        turns = 0
        draining = asyncio.create_task(ext.async_drains(1_000_000))
        while not draining.done():
            turns += 1
            await asyncio.sleep(0)
        assert draining.result() >= 1_000_000 // 128
        assert turns > 100

    loop.run_until_complete(main())


# How they end.


async def cancelled(awaitable: Any) -> None:
    task = asyncio.create_task(awaitable)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_cancelled_it_is_dropped(loop: Loop) -> None:
    async def main() -> None:
        before, counter = ext.live(), ext.Counter()
        await cancelled(ext.async_never())
        await cancelled(counter.waits())
        await cancelled(counter.keeps())
        assert ext.live() == before
        # And what it had borrowed is given back.
        assert await counter.add() == 1
        await cancelled(ext.async_spawned_never())
        await until(lambda: ext.live() == before)

    loop.run_until_complete(main())


def test_shielded_it_goes_on_and_is_told(loop: Loop) -> None:
    async def main() -> None:
        log, counter = list[str](), ext.Counter()
        assert await ext.async_shielded(0.001, log) == "done"
        await cancelled(ext.async_shielded(3600, log))
        await until(lambda: len(log) == 2)
        assert log == ["done", "told"]
        await cancelled(counter.shielded())
        while True:
            try:
                assert counter.count in (0, 1)
            except RuntimeError:
                await asyncio.sleep(0)  # it is borrowed
                continue
            if counter.count:
                break
            await asyncio.sleep(0)

    loop.run_until_complete(main())


# What is borrowed.


def test_many_share_it_and_one_has_it_for_itself(loop: Loop) -> None:
    async def main() -> None:
        counter = ext.Counter()
        sharing = [asyncio.create_task(counter.waits()) for _ in range(2)]
        await asyncio.sleep(0)
        assert counter.count == 0
        with pytest.raises(RuntimeError, match=r"^Already borrowed$"):
            await counter.add()
        for task in sharing:
            counter.open()
            await asyncio.wait([task])

        keeping = asyncio.create_task(counter.keeps())
        await asyncio.sleep(0)
        # The call borrows nothing, so it is not refused.
        second = counter.add()
        with pytest.raises(RuntimeError, match=r"^Already borrowed$"):
            await second
        with pytest.raises(RuntimeError, match=r"^Already mutably borrowed$"):
            await counter.waits()
        with pytest.raises(RuntimeError, match=r"^Already mutably borrowed$"):
            _ = counter.count
        with pytest.raises(RuntimeError, match=r"^Already borrowed$"):
            await counter.blocking()
        with pytest.raises(RuntimeError, match=r"^Already borrowed$"):
            await counter.spawned()
        keeping.cancel()
        await asyncio.wait([keeping])
        with pytest.raises(ValueError, match=r"^as told$"):
            await counter.add(fails=True)
        count = counter.count
        assert await counter.add() == count + 1

    loop.run_until_complete(main())


def test_it_is_alive_as_long_as_it_is_awaited(loop: Loop) -> None:
    async def main() -> None:
        assert await ext.Counter().add() == 1
        counter = ext.Counter()
        waiting = asyncio.create_task(counter.waits())
        await asyncio.sleep(0)
        counter.open()
        del counter
        assert await waiting == 0

    loop.run_until_complete(main())


# What `async with` and `async for` call.


def test_it_is_entered_iterated_and_left(loop: Loop) -> None:
    async def main() -> None:
        log = list[str]()
        async with ext.Rows(4, log) as rows:
            assert isinstance(rows, ext.Rows)
            assert [row async for row in rows] == [3, 2, 1]
            assert await anext(rows, "default") == "default"
            with pytest.raises(StopAsyncIteration):
                await anext(rows)
            await rows.aclose()
        assert log == ["entered", "closed", "exited"]

        async def leave(raised: Exception) -> None:
            async with ext.Rows(4, log):
                raise raised

        await leave(ValueError("swallowed"))
        with pytest.raises(KeyError):
            await leave(KeyError())

    loop.run_until_complete(main())
