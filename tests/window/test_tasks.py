"""`loop.tasks()`: where each task waits, for what, and for whom. asyncio's tasks give the same picture."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import ModuleType
from typing import Any

import anyio
import pytest

from support.coroutines import end
from support.loops import Loop, new_loop, turn

graphs: Any = asyncio  # typeshed has these names for the Pythons that have them


async def leaf(future: asyncio.Future[Any]) -> None:
    await future


async def middle(future: asyncio.Future[Any]) -> None:
    await leaf(future)


async def outer(future: asyncio.Future[Any]) -> None:
    await middle(future)


def plain(future: asyncio.Future[Any]) -> Generator[Any, None, None]:
    yield from future


class Custom:
    """An awaitable of a library's."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def __await__(self) -> Generator[Any, None, None]:
        yield from plain(self.future)


async def items(future: asyncio.Future[Any]) -> AsyncIterator[int]:
    await leaf(future)
    yield 1


async def iterates(future: asyncio.Future[Any]) -> None:
    async for _ in items(future):
        pass


async def awaits_custom(future: asyncio.Future[Any]) -> None:
    await Custom(future)


async def awaits(task: Awaitable[Any]) -> None:
    await task


async def gathers(*tasks: Awaitable[Any]) -> None:
    await asyncio.gather(*tasks)


async def gathers_in_two(first: Awaitable[Any], second: Awaitable[Any]) -> None:
    await asyncio.gather(asyncio.gather(first), second)


async def waits(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks)


async def waits_for(task: Awaitable[Any]) -> None:
    await asyncio.wait_for(task, 3600)


async def times_out(task: Awaitable[Any]) -> None:
    async with asyncio.timeout(3600):
        await task


async def shields(task: Awaitable[Any]) -> None:
    await asyncio.shield(task)


async def as_they_come(*tasks: Awaitable[Any]) -> None:
    for each in asyncio.as_completed(tasks):
        await each


async def groups(future: asyncio.Future[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(future), name="first")
        group.create_task(middle(future), name="second")


type Picture = dict[str, tuple[str, list[str], list[tuple[str, str]]]]


def picture(loop: Loop, tasks_of: Callable[..., Any]) -> Picture:
    """By name: the state, the names of the stack, and whom it waits for, through what."""
    tasks = tasks_of(loop)
    names = {task.id: task.name for task in tasks}
    return {
        task.name: (
            task.state,
            [frame.name.rpartition(".")[2] for frame in task.stack],
            sorted((names[edge.task], edge.through) for edge in task.awaits),
        )
        for task in tasks
    }


def on(loop: Loop, make: Callable[[Loop, asyncio.Future[Any]], list[asyncio.Task[Any]]], look: Any) -> Any:
    """What `look(loop)` gives when the tasks have begun to wait; they end then."""
    future = loop.create_future()
    tasks = make(loop, future)
    turn(loop, 4)
    found = look(loop)
    future.cancel()
    end(loop, *tasks)
    return found


def spawned(loop: Loop, *named: tuple[str, Any]) -> list[asyncio.Task[Any]]:
    return [loop.create_task(coroutine, name=name) for name, coroutine in named]


def with_two(
    coroutine: Callable[..., Any], *, one: bool = False
) -> Callable[[Loop, asyncio.Future[Any]], list[asyncio.Task[Any]]]:
    """A task that waits for tasks."""

    def make(loop: Loop, future: asyncio.Future[Any]) -> list[asyncio.Task[Any]]:
        tasks = spawned(loop, ("first", leaf(future)), ("second", middle(future)))
        waits_for = tasks[:1] if one else tasks
        return [*tasks, *spawned(loop, ("waiting", coroutine(*waits_for)))]

    return make


def only(coroutine: Callable[..., Any]) -> Callable[[Loop, asyncio.Future[Any]], list[asyncio.Task[Any]]]:
    return lambda loop, future: spawned(loop, ("waiting", coroutine(future)))


def through(how: str, *names: str) -> list[tuple[str, str]]:
    return [(name, how) for name in names or ("first", "second")]


PROGRAMS: dict[str, tuple[Any, list[str] | None, list[tuple[str, str]]]] = {
    "three coroutines": (only(outer), ["outer", "middle", "leaf"], []),
    "a library's awaitable": (only(awaits_custom), ["awaits_custom", "__await__", "plain"], []),
    "an async generator": (only(iterates), ["iterates", "items", "leaf"], []),
    "a task": (with_two(awaits, one=True), ["awaits"], through("await", "first")),
    "gather": (with_two(gathers), ["gathers"], through("gather")),
    "gather in gather": (with_two(gathers_in_two), ["gathers_in_two"], through("gather")),
    "wait": (with_two(waits), ["waits", "wait", "_wait"], through("wait")),
    "wait_for": (with_two(waits_for, one=True), ["waits_for", "wait_for"], through("await", "first")),
    "timeout": (with_two(times_out, one=True), ["times_out"], through("await", "first")),
    "shield": (with_two(shields, one=True), ["shields"], through("shield", "first")),
    "as_completed": (
        with_two(as_they_come),
        ["as_they_come", "_wait_for_one", "get"],
        through("as_completed"),
    ),
    "TaskGroup": (only(groups), None, through("TaskGroup")),
}


@pytest.fixture
def stock() -> Any:
    loop = new_loop("asyncio")
    yield loop
    loop.close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_task_shows_where_it_waits_and_for_whom_as_asyncios_does(
    name: str, pyloop: ModuleType, pyloop_loop: Loop, stock: Loop
) -> None:
    from pyloop.window import tasks_of

    make, stack, edges = PROGRAMS[name]
    ours, theirs = (on(loop, make, lambda it: picture(it, tasks_of)) for loop in (pyloop_loop, stock))
    assert ours == theirs
    state, names, awaits = ours["waiting"]
    assert state == "waiting"
    assert stack is None or names == stack
    assert awaits == edges


@pytest.mark.since(3, 14)
@pytest.mark.parametrize("kind", ["pyloop", "asyncio"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_asyncios_call_graphs_have_the_same_edges(
    name: str, kind: str, pyloop: ModuleType, pyloop_loop: Loop, stock: Loop
) -> None:
    from pyloop.window import tasks_of

    def look(loop: Loop) -> None:
        infos = {info.id: info for info in tasks_of(loop)}
        for task in asyncio.all_tasks(loop):
            graph = graphs.capture_call_graph(task)
            frames = [entry.frame.f_code.co_qualname for entry in graph.call_stack]
            assert [frame.name for frame in infos[id(task)].stack][-len(frames) :][
                ::-1
            ] == frames or name in (
                # It stops at what is neither a coroutine nor an async generator.
                "a library's awaitable",
                "an async generator",
            )
            above = {id(each.future) for each in graph.awaited_by}
            assert above == {
                info.id for info in infos.values() if id(task) in [edge.task for edge in info.awaits]
            }

    on(pyloop_loop if kind == "pyloop" else stock, PROGRAMS[name][0], look)


def test_rust_futures_are_places_like_coroutines(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    sender, receiver = importlib.import_module("pyloop.sync").mpsc(1)

    async def sleeps() -> None:
        await pyloop.sleep(3600)

    async def receives() -> None:
        await receiver.recv()

    async def main() -> Any:
        both = asyncio.gather(sleeps(), receives(), pyloop.sleep(3600))
        for _ in range(3):
            await asyncio.sleep(0)
        found = asyncio.get_running_loop().tasks()  # type: ignore[attr-defined]
        both.cancel()
        await asyncio.wait([asyncio.ensure_future(both)])
        return found

    waiting = [task for task in pyloop_loop.run_until_complete(main()) if task.state == "waiting"]
    stacks = [
        [(frame.name.rpartition(".")[2], frame.file is None) for frame in task.stack] for task in waiting
    ]
    assert stacks == [
        [("sleeps", False), ("sleep", True)],
        [("receives", False), ("recv", True)],
        [("sleep", True)],
    ]
    assert [task.waits_for for task in waiting] == [f"Rust future {task.stack[-1].name}" for task in waiting]
    del sender


def test_a_task_group_of_anyios_is_one(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3600, name="first")
            group.start_soon(anyio.sleep, 3600, name="second")
            await asyncio.sleep(0)
            from pyloop.window import tasks_of

            mine = picture(pyloop_loop, tasks_of)[asyncio.current_task().get_name()]  # type: ignore[union-attr]
            assert mine[2] == through("TaskGroup")
            group.cancel_scope.cancel()

    pyloop_loop.run_until_complete(main())


def test_the_running_task_shows_the_functions_that_it_has_called(
    pyloop: ModuleType, pyloop_loop: Loop
) -> None:
    def look() -> Any:
        return pyloop_loop.tasks()  # type: ignore[attr-defined]

    async def calls() -> Any:
        return look()

    async def main() -> Any:
        return await calls()

    (task,) = pyloop_loop.run_until_complete(main())
    assert task.state == "running"
    assert [frame.name.rpartition(".")[2] for frame in task.stack] == ["main", "calls", "look"]
    assert task.waits_for is None and not task.awaits
    assert task.stack[-1].file == __file__
    assert task.stack[-1].line == look.__code__.co_firstlineno + 1


def test_a_task_that_has_not_begun_or_was_woken_is_ready(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    future = pyloop_loop.create_future()
    (task,) = spawned(pyloop_loop, ("one", leaf(future)))
    tasks: Any = pyloop_loop.tasks  # type: ignore[attr-defined]
    assert [(each.state, each.waited) for each in tasks()] == [("ready", None)]
    turn(pyloop_loop, 2)
    assert [each.state for each in tasks()] == ["waiting"]
    future.set_result(None)
    assert [each.state for each in tasks()] == ["ready"]
    turn(pyloop_loop, 2)
    assert task.done() and tasks() == ()


def test_a_task_tells_how_long_it_waits(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    async def main() -> None:
        tasks: Any = pyloop_loop.tasks  # type: ignore[attr-defined]
        future = pyloop_loop.create_future()
        task = pyloop_loop.create_task(leaf(future), name="waits")
        await asyncio.sleep(0)
        await pyloop.sleep(0.02)
        (waited,) = [each.waited for each in tasks() if each.name == "waits"]
        assert 0.02 <= waited <= time.monotonic() - began
        future.set_result(None)
        await task

    began = time.monotonic()
    pyloop_loop.run_until_complete(main())


def test_a_task_waits_anew_after_each_step(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    async def waits_twice() -> None:
        await asyncio.sleep(0.02)
        await future

    async def main() -> None:
        tasks: Any = pyloop_loop.tasks  # type: ignore[attr-defined]
        task = pyloop_loop.create_task(waits_twice(), name="waits")
        began = time.monotonic()
        await asyncio.sleep(0.03)
        (waited,) = [each.waited for each in tasks() if each.name == "waits"]
        # Its second step comes 0.02 s after the first. The clock was read when the loop woke for it.
        assert waited < time.monotonic() - began - 0.015
        future.set_result(None)
        await task

    future = pyloop_loop.create_future()
    pyloop_loop.run_until_complete(main())


def test_tasks_that_wait_for_each_other_in_a_circle_are_shown_once(
    pyloop: ModuleType, pyloop_loop: Loop
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def next_to(number: int) -> None:
        await asyncio.sleep(0)
        await asyncio.wait([tasks[number]])

    tasks += spawned(pyloop_loop, ("a", next_to(1)), ("b", next_to(2)), ("c", next_to(0)))
    turn(pyloop_loop, 4)
    text = str(pyloop.dump(pyloop_loop))
    assert [text.count(f"{name}: waiting") for name in "abc"] == [2, 1, 1]
    assert text.count("(see above)") == 1
    end(pyloop_loop, *tasks)


def test_futures_that_tell_each_other_in_a_circle_end_the_search(
    pyloop: ModuleType, pyloop_loop: Loop
) -> None:
    tells = vars(asyncio.tasks)["_release_waiter"]
    first, second = pyloop_loop.create_future(), pyloop_loop.create_future()
    first.add_done_callback(functools.partial(tells, second))
    second.add_done_callback(functools.partial(tells, first))
    tasks = spawned(pyloop_loop, ("one", leaf(second)))
    turn(pyloop_loop, 2)
    awaited_by = importlib.import_module("pyloop._awaits").awaited_by
    assert awaited_by(first) == awaited_by(second) == set(tasks)
    end(pyloop_loop, *tasks)
    first.cancel()
    turn(pyloop_loop, 2)


def test_a_limit_leaves_tasks_out_and_says_how_many(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    future = pyloop_loop.create_future()
    tasks = spawned(pyloop_loop, *((f"t{number}", leaf(future)) for number in range(20)))
    turn(pyloop_loop, 2)
    (found,) = pyloop.dump(pyloop_loop, limit=5).loops
    assert (len(found.tasks), found.left_out) == (5, 15)
    assert len(pyloop_loop.tasks(limit=0)) == 0  # type: ignore[attr-defined]
    assert "20 tasks" in str(found) and "15 tasks more" in str(found)
    with pytest.raises(ValueError, match="limit"):
        pyloop.dump(pyloop_loop, limit=-1)
    with pytest.raises(ValueError, match="limit"):
        pyloop_loop.tasks(limit=-1)  # type: ignore[attr-defined]
    future.cancel()
    end(pyloop_loop, *tasks)


def test_a_dump_is_a_tree_and_json_both_ways(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    def look(loop: Loop) -> Any:
        return pyloop.dump(loop)

    found = on(pyloop_loop, with_two(gathers), look)
    assert type(found).from_json(found.to_json()) == found
    assert json.loads(found.to_json(indent=1))["loops"][0]["tasks"][0]["name"] == "first"
    lines = str(found).splitlines()
    assert lines[1] == "EventLoop not running, 3 tasks"
    assert lines[2].startswith("waiting: waiting") and lines[2].endswith("for 2 tasks through gather")
    assert lines[3].startswith("│    gathers  ")
    assert lines[4].startswith("├─ first: waiting") and " for future" in lines[4]
    assert lines[5].startswith("│       leaf  ")
    assert lines[6].startswith("└─ second: waiting")


def test_many_tasks_that_look_alike_are_one_entry(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    def make(loop: Loop, future: asyncio.Future[Any]) -> list[asyncio.Task[Any]]:
        return spawned(
            loop, *((f"t{number}", leaf(future)) for number in range(50)), ("other", outer(future))
        )

    text = str(on(pyloop_loop, make, pyloop.dump))
    assert text.count("leaf  ") == 2
    assert text.count("; 49 more like it") == 1


def test_a_long_chain_of_tasks_is_shown(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    future = pyloop_loop.create_future()
    tasks = spawned(pyloop_loop, ("t0", leaf(future)))
    for number in range(1, 600):
        tasks += spawned(pyloop_loop, (f"t{number}", awaits(tasks[-1])))
    turn(pyloop_loop, 2)
    text = str(pyloop.dump(pyloop_loop))
    assert text.count(": waiting") == 600
    future.set_result(None)
    pyloop_loop.run_until_complete(tasks[-1])


def test_without_a_loop_it_shows_each_that_is_not_closed(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    closed = pyloop.new_event_loop()
    closed.close()
    found = {each.id for each in pyloop.dump().loops}
    assert id(pyloop_loop) in found and id(closed) not in found


def test_in_debug_mode_a_future_tells_where_it_was_made(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    pyloop_loop.set_debug(True)
    future = pyloop_loop.create_future()
    line = test_in_debug_mode_a_future_tells_where_it_was_made.__code__.co_firstlineno + 2
    tasks = spawned(pyloop_loop, ("one", leaf(future)))
    turn(pyloop_loop, 2)
    (task,) = pyloop_loop.tasks()  # type: ignore[attr-defined]
    assert task.waits_for == f"future made at {__file__}:{line}"
    future.cancel()
    end(pyloop_loop, *tasks)
