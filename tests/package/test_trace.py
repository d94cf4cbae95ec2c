"""`pyloop.trace`: what a loop does, as a timeline that Perfetto opens. A third of a second in all."""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import itertools
import json
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop, turn


class Timeline:
    def __init__(self, path: Path) -> None:
        self.document = json.loads(path.read_text())
        events = self.document["traceEvents"]
        self.threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.events = [event for event in events if event["ph"] == "X"]
        assert len(self.events) == self.document["otherData"]["records"]
        assert {event["pid"] for event in events} <= {os.getpid()}
        assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in self.events)

    def named(self, name: str, category: str) -> list[dict[str, Any]]:
        return [event for event in self.events if (event["name"], event["cat"]) == (name, category)]

    def categories(self) -> set[str]:
        return {event["cat"] for event in self.events}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


def contains(outer: dict[str, Any], inner: dict[str, Any]) -> bool:
    # Each is rounded to a nanosecond.
    end, within = outer["ts"] + outer["dur"], inner["ts"] + inner["dur"]
    return bool(outer["ts"] - 0.002 <= inner["ts"] and within <= end + 0.002 and outer["tid"] == inner["tid"])


def plain_callback() -> None: ...


class Owner:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.acceleration("direct_calls")
def test_callbacks_and_steps_have_the_names_of_their_code(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    loop, owner = pyloop_loop, Owner()

    async def coroutine() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    with pyloop.trace(path) as trace:
        loop.call_soon(plain_callback)
        loop.call_soon(owner.method)
        loop.call_soon(owner)
        loop.call_soon(functools.partial(functools.partial(plain_callback)))
        loop.call_soon(list[int]().append, 1)
        for _ in range(2):
            loop.call_soon(lambda: None)
        loop.run_until_complete(coroutine())
    seen = Timeline(path)
    assert trace.records == len(seen.events) and trace.dropped == 0
    assert list(seen.threads.values()) == [f"event loop {seen.events[0]['tid']}"]
    test = test_callbacks_and_steps_have_the_names_of_their_code.__name__
    counts = {
        "plain_callback": 2,
        "Owner.method": 1,
        f"{__name__}.Owner": 1,
        "list.append": 1,
        f"{test}.<locals>.<lambda>": 2,
    }
    assert {name: len(seen.named(name, "callback")) for name in counts} == counts
    steps = seen.named(f"{test}.<locals>.coroutine", "step")
    assert len(steps) == 4
    line = coroutine.__code__.co_firstlineno
    assert steps[0]["args"] == {"source": f"{coroutine.__code__.co_filename}:{line}"}
    # One after the other.
    steps.sort(key=lambda event: event["ts"])
    assert all(a["ts"] + a["dur"] <= b["ts"] + 0.002 for a, b in itertools.pairwise(steps))


@pytest.mark.acceleration("direct_calls")
def test_a_poll_of_a_rust_future_is_inside_of_its_step(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    async def waits() -> None:
        await pyloop.sleep(0.001)

    with pyloop.trace(path):
        pyloop_loop.run_until_complete(waits())
    seen = Timeline(path)
    polls = seen.named("sleep", "rust")
    steps = seen.named(f"{waits.__qualname__}", "step")
    assert len(polls) == len(steps) == 2
    assert all(any(contains(step, poll) for step in steps) for poll in polls)
    (park,) = (event for event in seen.named("park", "park") if event["dur"] > 500)
    assert not any(contains(step, park) for step in steps)


def test_what_a_connection_receives_and_sends_is_there_with_its_size(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)  # type: ignore[attr-defined]

    async def main() -> None:
        server = await pyloop_loop.create_server(Echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pyloop.trace(path):
            await asyncio.sleep(0)
            writer.write(b"x" * 123)
            assert await reader.readexactly(123) == b"x" * 123
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    pyloop_loop.run_until_complete(main())
    seen = Timeline(path)
    assert [event["args"] for event in seen.named("send", "io")] == [{"bytes": 123}] * 2
    received = [event for event in seen.named("receive", "io") if event["args"]["bytes"]]
    assert [event["args"] for event in received] == [{"bytes": 123}] * 2
    (echoes,) = seen.named(f"{__name__}.{Echo.__qualname__}", "callback")
    assert sum(contains(echoes, event) for event in seen.named("send", "io")) == 1
    assert sum(contains(echoes, event) for event in received) == 1


def test_a_wait_for_the_gil_after_a_sleep_is_there(pyloop: ModuleType, pyloop_loop: Loop, path: Path) -> None:
    over = threading.Event()

    def compete() -> None:
        while not over.is_set():
            sum(range(10_000))

    thread = threading.Thread(target=compete)
    with pyloop.trace(path):
        thread.start()
        try:
            pyloop_loop.run_until_complete(asyncio.sleep(0.01))
        finally:
            over.set()
            thread.join()
    assert max(event["dur"] for event in Timeline(path).named("wait for the GIL", "gil")) >= 1_000


def test_more_than_the_limit_keeps_the_last_and_says_so(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    with pyloop.trace(path, limit=10) as trace:
        for _ in range(100):
            pyloop_loop.call_soon(plain_callback)
        turn(pyloop_loop)
        pyloop_loop.call_soon(int)
        turn(pyloop_loop)
    seen = Timeline(path)
    told = seen.document["otherData"]
    assert (told["records"], told["limit"]) == (10, 10)
    assert trace.records == 10 and trace.dropped == told["dropped"] > 90
    assert len(seen.named(f"{builtin_name(int)}", "callback")) == 1


def builtin_name(what: type) -> str:
    # A class that is called is named as the class of the object: `type`.
    return type(what).__qualname__


def test_a_trace_inside_of_another_is_refused_and_the_other_goes_on(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "inner.json"
    with pyloop.trace(path):
        with pytest.raises(RuntimeError, match="being taken already"):
            with pyloop.trace(inner):
                pytest.fail("two at once")
        pyloop_loop.call_soon(plain_callback)
        turn(pyloop_loop)
    assert not inner.exists()
    assert Timeline(path).named("plain_callback", "callback")


def test_what_the_block_raises_comes_out_of_it_and_the_file_is_written(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    with pytest.raises(KeyError, match="mine"):
        with pyloop.trace(path):
            pyloop_loop.call_soon(plain_callback)
            turn(pyloop_loop)
            raise KeyError("mine")
    assert Timeline(path).named("plain_callback", "callback")


def test_a_file_that_cannot_be_written_hides_no_exception_of_the_block(
    pyloop: ModuleType, pyloop_loop: Loop, tmp_path: Path
) -> None:
    full = "/dev/full"
    with pytest.raises(KeyError, match="mine") as caught:
        with pyloop.trace(full):
            raise KeyError("mine")
    assert "could not write '/dev/full'" in caught.value.__notes__[0]
    with pytest.raises(OSError) as refused:
        with pyloop.trace(full):
            pass
    assert refused.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError):
        with pyloop.trace(tmp_path / "no" / "folder"):
            pytest.fail("there is no such folder")
    # None of them is left.
    with pyloop.trace(tmp_path / "after.json"):
        pass


def test_it_ends_in_the_middle_of_a_callback(pyloop: ModuleType, pyloop_loop: Loop, path: Path) -> None:
    trace = pyloop.trace(path)
    pyloop_loop.call_soon(trace.__enter__)
    turn(pyloop_loop)
    pyloop_loop.call_soon(plain_callback)
    pyloop_loop.call_soon(trace.__exit__, None, None, None)
    pyloop_loop.call_soon(plain_callback)
    turn(pyloop_loop)
    assert len(Timeline(path).named("plain_callback", "callback")) == 1


def test_a_callback_that_ends_a_trace_and_begins_another_is_in_neither(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path, tmp_path: Path
) -> None:
    first, second = pyloop.trace(path), pyloop.trace(tmp_path / "second.json")

    def change() -> None:
        first.__exit__(None, None, None)
        second.__enter__()

    pyloop_loop.call_soon(first.__enter__)
    turn(pyloop_loop)
    pyloop_loop.call_soon(Owner().method)
    pyloop_loop.call_soon(change)
    pyloop_loop.call_soon(plain_callback)
    turn(pyloop_loop)
    second.__exit__(None, None, None)
    before, after = Timeline(path), Timeline(tmp_path / "second.json")
    for seen in (before, after):
        assert not seen.named(change.__qualname__, "callback")
    assert len(before.named("Owner.method", "callback")) == 1
    assert len(after.named("plain_callback", "callback")) == 1
    assert not after.named("Owner.method", "callback")


def test_nothing_of_what_was_traced_is_kept(pyloop: ModuleType, pyloop_loop: Loop, path: Path) -> None:
    def make() -> Callable[[], None]:
        scope: dict[str, Any] = {}
        exec("def function(): pass", scope)
        function: Callable[[], None] = scope["function"]
        return function

    function = make()
    code = weakref.ref(function.__code__)
    with pyloop.trace(path):
        pyloop_loop.call_soon(function)
        turn(pyloop_loop)
        del function
        gc.collect()
        assert code()
    assert not code()
    assert Timeline(path).named("function", "callback")


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug mode"])
def test_exceptions_go_their_usual_way(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path, handled: list[dict[str, Any]], debug: bool
) -> None:
    pyloop_loop.set_debug(debug)

    def fails() -> None:
        raise ValueError("mine")

    def leaves() -> None:
        raise SystemExit("mine")

    with pyloop.trace(path):
        pyloop_loop.call_soon(fails)
        turn(pyloop_loop)
        pyloop_loop.call_soon(leaves)
        with pytest.raises(SystemExit, match="mine"):
            pyloop_loop.run_forever()
    assert [str(context["exception"]) for context in handled] == ["mine"]
    seen = Timeline(path)
    assert len(seen.named(fails.__qualname__, "callback")) == 1
    assert len(seen.named(leaves.__qualname__, "callback")) == 1


def test_a_forked_child_leaves_the_file_to_its_parent(
    pyloop: ModuleType, pyloop_loop: Loop, path: Path
) -> None:
    with pyloop.trace(path) as trace:
        pyloop_loop.call_soon(plain_callback)
        turn(pyloop_loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
            child = os.fork()
        if child == 0:
            try:
                trace.__exit__(None, None, None)
            finally:
                os._exit(path.stat().st_size != 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Timeline(path).named("plain_callback", "callback")


def test_a_limit_below_one_is_refused(pyloop: ModuleType, path: Path) -> None:
    with pytest.raises(ValueError, match="limit must be 1 or more, not 0"):
        pyloop.trace(path, limit=0)
    with pytest.raises(MemoryError):
        with pyloop.trace(path, limit=2**60):
            pass
    assert not path.exists()
