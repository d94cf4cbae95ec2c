"""The program's own wake-up descriptor for signals (`signal.set_wakeup_fd`) beside a loop's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.loops import Loop, LoopFactory, Run
from support.threads import until_asleep

NUMBER = signal.SIGUSR1


class Program:
    """A program that has a wake-up descriptor."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.handled = 0

    def set(self) -> None:
        signal.set_wakeup_fd(self.ours.fileno())

    def is_set(self) -> bool:
        before = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(before)
        return before == self.ours.fileno()

    def received(self) -> list[int]:
        try:
            return list(self.theirs.recv(100))
        except BlockingIOError:
            return []

    def on_signal(self, *_: object) -> None:
        self.handled += 1


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    before = signal.signal(NUMBER, program.on_signal)
    yield program
    signal.set_wakeup_fd(-1)
    signal.signal(NUMBER, before)
    program.ours.close()
    program.theirs.close()


def send() -> None:
    os.kill(os.getpid(), NUMBER)


async def first_byte(loop: Loop, program: Program) -> bytes:
    return await asyncio.wait_for(loop.sock_recv(program.theirs, 100), 5)


def test_it_hears_of_signals_while_a_loop_runs_and_is_there_after_it(
    loop: Loop, run: Run, program: Program
) -> None:
    async def main() -> bytes:
        send()
        return await first_byte(loop, program)

    program.set()
    assert run(main()) == bytes([NUMBER])
    assert program.handled == 1
    assert program.is_set()
    send()
    assert program.received() == [NUMBER]


def test_it_hears_of_a_signal_that_comes_with_the_end_of_the_run(loop: Loop, program: Program) -> None:
    program.set()
    loop.call_soon(loop.stop)
    loop.call_soon(send)
    loop.run_forever()
    assert program.received() == [NUMBER]


def test_one_that_is_set_in_the_run_stays(loop: Loop, run: Run, program: Program) -> None:
    async def main() -> bytes:
        program.set()
        send()
        return await first_byte(loop, program)

    assert run(main()) == bytes([NUMBER])
    assert program.is_set()


def test_handlers_run_at_once_when_another_is_set_in_the_run(loop: Loop, program: Program) -> None:
    """The loop's own descriptor is not told, but a system call that sleeps is interrupted."""
    main_thread = threading.main_thread().native_id
    assert main_thread is not None

    def other() -> None:
        until_asleep(main_thread)
        signal.pthread_kill(threading.main_thread().ident or 0, NUMBER)

    def on_signal(*_: object) -> None:
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(NUMBER, on_signal)
    loop.call_soon(program.set)
    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()


def test_what_such_a_handler_raises_leaves_the_run(loop: Loop, program: Program) -> None:
    class Raised(Exception):
        pass

    main_thread = threading.main_thread().native_id
    assert main_thread is not None

    def other() -> None:
        until_asleep(main_thread)
        signal.pthread_kill(threading.main_thread().ident or 0, NUMBER)

    def on_signal(*_: object) -> None:
        raise Raised

    signal.signal(NUMBER, on_signal)
    loop.call_soon(program.set)
    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(Raised):
        loop.run_forever()
    thread.join()


def test_a_loop_that_runs_inside_another_gives_the_signals_back(
    loop_factory: LoopFactory, program: Program
) -> None:
    async def outer() -> int:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[int] = loop.create_future()
        loop.add_signal_handler(NUMBER, heard.set_result, 1)
        # From CPython 3.14 on the current task is the thread's, too.
        task = asyncio.tasks._swap_current_task(loop, None)  # type: ignore[attr-defined]
        asyncio._set_running_loop(None)
        inner = loop_factory()
        inner.run_until_complete(asyncio.sleep(0))
        inner.close()
        asyncio._set_running_loop(loop)
        asyncio.tasks._swap_current_task(loop, task)  # type: ignore[attr-defined]
        send()
        try:
            return await asyncio.wait_for(heard, 5)
        finally:
            loop.remove_signal_handler(NUMBER)

    loop = loop_factory()
    assert loop.run_until_complete(outer()) == 1
    loop.close()


def test_a_handler_of_the_loop_and_the_program_hear_of_the_same_signal(
    pyloop_loop: Loop, program: Program
) -> None:
    async def main() -> bytes:
        heard = asyncio.Event()
        pyloop_loop.add_signal_handler(NUMBER, heard.set)
        send()
        await heard.wait()
        return await first_byte(pyloop_loop, program)

    program.set()
    assert pyloop_loop.run_until_complete(main()) == bytes([NUMBER])
    # Between two runs the loop with a handler keeps it, and gives it back with the handler.
    assert not program.is_set()
    pyloop_loop.remove_signal_handler(NUMBER)
    assert program.is_set()


def test_loops_with_handlers_do_not_echo_each_other(pyloop_factory: LoopFactory, program: Program) -> None:
    loops = [pyloop_factory() for _ in range(3)]
    heard: list[int] = []
    program.set()
    for i, loop in enumerate(loops):
        loop.add_signal_handler(NUMBER, heard.append, i)
    send()
    for _ in range(3):
        for loop in loops:
            loop.run_until_complete(asyncio.sleep(0.001))
    assert sorted(heard) == [0, 1, 2]
    assert program.received() == [NUMBER]
    # Whichever goes first, the others and the program are left.
    loops[1].close()
    heard.clear()
    signal.signal(NUMBER, program.on_signal)
    send()
    for loop in (loops[2], loops[0]):
        loop.run_until_complete(asyncio.sleep(0.001))
    assert sorted(heard) == [0, 2]
    assert program.received() == [NUMBER]
    loops[2].close()
    loops[0].close()
    assert program.is_set()


def test_one_that_is_closed_in_the_run_is_not_set_again(pyloop_loop: Loop, program: Program) -> None:
    program.set()
    pyloop_loop.call_soon(program.ours.close)
    pyloop_loop.call_soon(send)
    pyloop_loop.call_soon(pyloop_loop.stop)
    pyloop_loop.run_forever()
    assert signal.set_wakeup_fd(-1) == -1


def test_another_file_with_its_number_is_not_written_to(
    pyloop_loop: Loop, run_dir: Any, program: Program
) -> None:
    path = run_dir / "file"
    program.set()
    files = []

    def replace() -> None:
        number = program.ours.fileno()
        program.ours.close()
        files.append(path.open("wb"))
        assert files[0].fileno() == number

    async def main() -> None:
        replace()
        send()
        await asyncio.sleep(0.01)

    pyloop_loop.run_until_complete(main())
    files[0].close()
    assert path.read_bytes() == b""
    assert program.handled == 1
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def run_dir(tmp_path: Any) -> Any:
    return tmp_path


def test_a_full_one_holds_nobody_up(loop: Loop, run: Run, program: Program) -> None:
    async def main() -> None:
        signal.set_wakeup_fd(program.ours.fileno(), warn_on_full_buffer=False)
        await asyncio.sleep(0)

    signal.set_wakeup_fd(program.ours.fileno(), warn_on_full_buffer=False)
    with pytest.raises(BlockingIOError):
        while True:
            program.ours.send(b"x" * 1000)
    for _ in range(3):
        loop.call_soon(send)
    run(asyncio.sleep(0.01))
    assert program.handled == 3
    assert program.is_set()


def test_run_in_thread_passes_signals_on_and_leaves_what_is_set_meanwhile(
    pyloop: Any, program: Program
) -> None:
    other = Program()

    async def main() -> None:
        await asyncio.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, NUMBER)
        await asyncio.sleep(0.01)

    program.set()
    pyloop.run_in_thread(main())
    assert program.received() == [NUMBER]
    assert program.is_set()

    signal.signal(NUMBER, lambda *_: other.set())
    pyloop.run_in_thread(main())
    assert other.is_set()
    signal.set_wakeup_fd(-1)
    other.ours.close()
    other.theirs.close()
