"""Where a loop sleeps: in its own poller, and in tokio's driver while somebody waits for that."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

import pyloop
from support.process import output

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a loop has two places to sleep on Linux only"
)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with closing(pyloop.new_event_loop()) as made:
        yield made


def nested_pollers() -> int:
    """How many epolls are watched by another one. tokio has its own twice, under two numbers."""
    epolls, watched = set[str](), list[str]()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            if "eventpoll" in str(fd.readlink()):
                epolls.add(fd.name)
                text = Path(f"/proc/self/fdinfo/{fd.name}").read_text()
                watched += [line.split()[1] for line in text.splitlines() if line.startswith("tfd:")]
        except OSError:  # the one that lists the folder
            continue
    return len(epolls & set(watched))


def is_on() -> bool:
    return pyloop.accelerations()["own_sleep"] == "on"


async def rest_a_while() -> None:
    await asyncio.sleep(0.001)


async def receive_from_a_thread() -> bytes:
    """Sleeps until a thread has sent something, and until it has called."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        called = asyncio.Event()

        def send() -> None:
            there.sendall(b"sent")
            loop.call_soon_threadsafe(called.set)

        thread = threading.Thread(target=send)
        thread.start()
        received = await loop.sock_recv(here, 100)
        await called.wait()
        thread.join()
        return received


def test_a_loop_that_no_rust_timer_runs_on_sleeps_in_its_own_poller(loop: asyncio.AbstractEventLoop) -> None:
    before = nested_pollers()
    loop.run_until_complete(rest_a_while())
    assert loop.run_until_complete(receive_from_a_thread()) == b"sent"
    assert nested_pollers() - before == (0 if is_on() else 1)


def test_a_loop_sleeps_in_tokios_driver_for_a_rust_timer(loop: asyncio.AbstractEventLoop) -> None:
    before = nested_pollers()

    async def main() -> bytes:
        slept = asyncio.ensure_future(pyloop.sleep(0.005, "slept"))
        received = await receive_from_a_thread()
        await rest_a_while()
        assert await slept == "slept"
        return received

    assert loop.run_until_complete(main()) == b"sent"
    assert nested_pollers() - before == 1


def test_it_goes_from_one_to_the_other_and_back(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        for _ in range(3):
            await rest_a_while()
            await pyloop.sleep(0.001)
            assert await receive_from_a_thread() == b"sent"
            timer = asyncio.ensure_future(pyloop.sleep(3600))
            assert await receive_from_a_thread() == b"sent"
            await rest_a_while()
            timer.cancel()
            await asyncio.wait([timer])

    loop.run_until_complete(main())


def test_a_rust_timer_from_before_a_run_ends_in_the_next_one_in_another_thread(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def begin() -> asyncio.Task[str]:
        task = asyncio.ensure_future(pyloop.sleep(0.005, "slept"))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(begin())
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(loop.run_until_complete(task)))
    thread.start()
    thread.join()
    assert ended == ["slept"]


def test_a_thread_that_calls_again_and_again_always_ends_the_sleep(loop: asyncio.AbstractEventLoop) -> None:
    count, gone = 300, threading.Semaphore(0)

    def call() -> None:
        for number in range(count):
            loop.call_soon_threadsafe(gone.release if number < count - 1 else loop.stop)
            if number < count - 1:
                gone.acquire()

    async def timers() -> None:
        while True:
            await pyloop.sleep(0)
            await asyncio.sleep(0.0001)
            await pyloop.sleep(0.0001)

    thread = threading.Thread(target=call)
    thread.start()
    task = loop.create_task(timers())
    loop.run_forever()
    thread.join()
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))


def test_a_process_without_a_descriptor_for_the_bell_sleeps_in_tokios_driver() -> None:
    program = """
    import asyncio, os, resource
    import pyloop

    loop = pyloop.new_event_loop()
    # Enough for the runtime that a first run makes, and not for what comes after it.
    for left in range(0, 12):
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for fd in taken[:left]:
            os.close(fd)
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
            print("slept", end=" ")
        except OSError:
            print("refused", end=" ")
        for fd in taken[left:]:
            os.close(fd)
    loop.run_until_complete(pyloop.sleep(0.001))
    loop.close()
    print("closed")
    """
    words = output("pyloop", dedent(program)).split()
    assert words[-1] == "closed"
    assert "slept" in words[:-1]
    assert words == [*sorted(words[:-1]), "closed"]  # once it slept, it sleeps with more, too
