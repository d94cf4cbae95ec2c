"""A clock that jumps when everything waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop, LoopFactory

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def testing(pyloop_factory: LoopFactory) -> ModuleType:
    from pyloop import testing

    return testing


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30, "virtual time took real time"


def test_sleeps_of_days_take_no_time_and_end_in_their_order(testing: ModuleType) -> None:
    async def sleeper(delay: float, seen: list[Any]) -> None:
        await asyncio.sleep(delay)
        seen.append((delay, asyncio.get_running_loop().time()))

    async def main() -> list[Any]:
        seen: list[Any] = []
        delays = (3 * DAY, 0.0005, DAY, 0.1, 1e-9)
        await asyncio.gather(*[sleeper(delay, seen) for delay in delays])
        return seen

    assert testing.run(main(), virtual_time=True) == [(at, at) for at in (1e-9, 0.0005, 0.1, DAY, 3 * DAY)]


def test_the_clock_shows_the_deadline_itself(testing: ModuleType) -> None:
    async def main() -> float:
        for _ in range(3):
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time()

    assert testing.run(main(), virtual_time=True) == 0.1 + 0.1 + 0.1


def test_timers_of_python_and_pyloop_sleep_have_one_clock(testing: ModuleType) -> None:
    import pyloop

    async def sleeper(sleep: Callable[[float], Any], delay: float, seen: list[float]) -> None:
        await sleep(delay)
        seen.append(asyncio.get_running_loop().time())

    async def main() -> list[float]:
        seen: list[float] = []
        async with asyncio.TaskGroup() as group:
            for delay in (5, 1, 3):
                group.create_task(sleeper(pyloop.sleep, delay * HOUR, seen))
            for delay in (4, 2):
                group.create_task(sleeper(asyncio.sleep, delay * HOUR, seen))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pyloop.sleep(HOUR), 60)
        seen.append(asyncio.get_running_loop().time() - 5 * HOUR)
        return seen

    assert testing.run(main(), virtual_time=True) == [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR, 60]


def test_the_clock_does_not_jump_while_anything_is_ready(testing: ModuleType) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1, print, "never")
        for _ in range(2000):
            await asyncio.sleep(0)
        assert loop.time() == 0

    testing.run(main(), virtual_time=True)


def test_a_cancelled_timer_is_not_jumped_to(testing: ModuleType) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(HOUR, print).cancel()
        ready = asyncio.Event()
        timer = threading.Timer(0.01, loop.call_soon_threadsafe, (ready.set,))
        timer.start()
        await ready.wait()
        timer.join()
        return loop.time()

    assert testing.run(main(), virtual_time=True) == 0


def test_a_block_of_virtual_time_ends_with_real_time_from_there_on(pyloop_loop: Loop) -> None:
    from pyloop import testing

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began, real = loop.time(), time.monotonic()
        with testing.virtual_time() as clock:
            inside = clock.time()
            late = loop.call_later(DAY + 0.01, seen.append, "late")
            await asyncio.sleep(DAY)
            assert clock.time() == inside + DAY
            assert clock.jumps == 1
            with pytest.raises(RuntimeError, match="already"), testing.virtual_time():
                pass
        assert repr(clock).startswith("<Clock real ")
        await asyncio.sleep(0.02)
        assert seen == ["late"] and late.when() <= loop.time()
        took = time.monotonic() - real
        assert DAY + 0.02 <= loop.time() - began <= DAY + took + 0.01

    seen: list[str] = []
    pyloop_loop.run_until_complete(main())


def test_advance_moves_the_clock_and_makes_timers_due(testing: ModuleType) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        with testing.virtual_time(autojump_threshold=HOUR) as clock:
            loop.call_later(20, seen.append, "second")
            loop.call_later(10, seen.append, "first")
            clock.advance(15)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(str(clock.jumps))
            clock.advance(5)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(ValueError, match="forward"):
                clock.advance(-1)
        with pytest.raises(RuntimeError, match="no virtual time"):
            clock.advance(1)
        return seen

    assert testing.run(main()) == ["first", "0", "second"]


def test_a_job_in_a_thread_takes_real_time(testing: ModuleType) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HOUR):
            await asyncio.to_thread(time.sleep, 0.005)
        took = loop.time()
        end = threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):  # the job is bounded in real time, too
                await asyncio.to_thread(end.wait)
        end.set()
        await asyncio.sleep(DAY)
        return took

    assert testing.run(main(), virtual_time=True) < 10


def test_files_take_real_time(testing: ModuleType, tmp_path: Any) -> None:
    from pyloop import fs

    async def main() -> float:
        async with asyncio.timeout(HOUR):
            async with await fs.open(tmp_path / "file", "wb") as file:
                await file.write(b"x" * 1000)
            assert len(await fs.read(tmp_path / "file")) == 1000
        return asyncio.get_running_loop().time()

    assert testing.run(main(), virtual_time=True) < 10


def test_a_child_process_takes_real_time(testing: ModuleType) -> None:
    async def main() -> float:
        child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "print('hello')", stdout=-1)
        async with asyncio.timeout(HOUR):
            assert (await child.communicate())[0] == b"hello\n"
        await asyncio.sleep(DAY)
        return asyncio.get_running_loop().time()

    assert DAY < testing.run(main(), virtual_time=True) < DAY + 10


def test_connections_within_the_process_are_not_overtaken_by_timeouts(testing: ModuleType) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(HOUR)
            writer.write(line)
        writer.close()

    async def main() -> tuple[float, int]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(5):
                writer.write(b"line\n")
                async with asyncio.timeout(HOUR + 1):
                    assert await reader.readline() == b"line\n"
            writer.close()
            await writer.wait_closed()
        return asyncio.get_running_loop().time(), 5

    assert testing.run(main(), virtual_time=True) == (5 * HOUR, 5)


def test_the_threshold_waits_for_what_comes_from_elsewhere(testing: ModuleType) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            sender = threading.Timer(0.01, theirs.send, (b"x",))
            sender.start()
            async with asyncio.timeout(HOUR):
                assert await loop.sock_recv(ours, 10) == b"x"
            sender.join()
        assert loop.time() == 0
        await asyncio.sleep(HOUR)
        return "ended"

    assert testing.run(main(), virtual_time=True, autojump_threshold=0.1) == "ended"


def test_a_loop_of_somebody_else_is_refused(testing: ModuleType) -> None:
    async def main() -> None:
        with testing.virtual_time():
            pass

    with pytest.raises(RuntimeError, match="needs a loop of pyloop's"):
        asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf")])
def test_a_threshold_that_is_no_time_is_refused(testing: ModuleType, threshold: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        testing.new_event_loop(virtual_time=True, autojump_threshold=threshold)


def test_a_runner_takes_the_factory(testing: ModuleType) -> None:
    with asyncio.Runner(loop_factory=lambda: testing.new_event_loop(virtual_time=True)) as runner:
        runner.run(asyncio.sleep(DAY))
        runner.run(asyncio.sleep(DAY))
        assert runner.get_loop().time() == 2 * DAY


def test_a_timer_that_is_never_due_is_not_jumped_to(testing: ModuleType) -> None:
    loop = testing.new_event_loop(virtual_time=True)
    with contextlib.closing(loop):
        loop.call_at(float("inf"), print)
        waker = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
        waker.start()
        loop.run_forever()
        waker.join()
        assert loop.time() == 0
