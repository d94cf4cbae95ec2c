"""What happens while a child ends, or begins: nothing hangs, nothing is left, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Loop, LoopFactory, Run, turn

MUCH = bytes(2**20)
FOREVER = ("sleep", "3600")


async def talk(process: Process, given: bytes | None = None) -> Any:
    """What communicate() says; typeshed does not know that either may be None."""
    return await process.communicate(given)


async def sh(script: str, **more: Any) -> Process:
    return await asyncio.create_subprocess_exec("sh", "-c", script, **more)


def await_the_end(pid: int) -> None:
    """Returns when the child is dead, whether or not somebody has asked how it died."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def lost() -> set[int]:
    """What may be told in the place of an exit code, by asyncio before CPython 3.13.

    Its watcher does not ask `Popen`, which may have reaped the child before it sent a signal.
    """
    is_asyncios = isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    return {255} if is_asyncios and sys.version_info < (3, 13) else set()


@pytest.mark.parametrize("how", ["kill", "terminate", "send_signal"])
@pytest.mark.parametrize("turns", [0, 2])
def test_a_signal_to_a_child_that_has_just_ended_is_no_error(run: Run, how: str, turns: int) -> None:
    async def main() -> None:
        process = await sh("exit 3", stdout=PIPE)
        await_the_end(process.pid)
        for _ in range(turns):
            await asyncio.sleep(0)
        args = (signal.SIGUSR1,) if how == "send_signal" else ()
        if process.returncode is None:
            getattr(process, how)(*args)
        assert await process.wait() in {3} | lost()
        assert not has_children()

    run(main())


def test_several_signals_at_once(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER)
        waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        process.terminate()
        process.kill()
        process.kill()
        assert set(await asyncio.gather(*waits)) <= {-signal.SIGTERM, -signal.SIGKILL} | lost()

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 3, 5])
def test_a_kill_in_the_middle_of_communicate(run: Run, turns: int) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        talking = asyncio.ensure_future(talk(process, MUCH))  # which it does not read
        for _ in range(turns):
            await asyncio.sleep(0)
        process.kill()
        assert await talking == (b"", b"")
        assert await process.wait() == -signal.SIGKILL

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_communicate_and_wait_at_once_and_one_of_them_cancelled(run: Run, turns: int) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        tasks = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        talking = asyncio.ensure_future(talk(process, MUCH))
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[1].cancel()
        assert await talking == (MUCH, None)
        first, cancelled, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, last) == (0, 0)
        assert isinstance(cancelled, asyncio.CancelledError)

    run(main())


def test_a_writer_that_waits_hears_of_the_end(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER, stdin=PIPE)
        assert process.stdin
        process.stdin.write(MUCH)
        waiting = asyncio.ensure_future(process.stdin.drain())
        await asyncio.sleep(0)
        assert not waiting.done()
        process.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await waiting
        assert await process.wait() == -signal.SIGKILL
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await process.stdin.wait_closed()

    run(main())


def test_a_child_that_writes_more_than_is_read_waits(run: Run) -> None:
    async def main() -> None:
        process = await sh(f"head -c {len(MUCH)} /dev/zero; echo end", stdout=PIPE, limit=1000)
        assert process.stdout
        transport: Any = process.stdout._transport  # type: ignore[attr-defined]
        while transport.is_reading():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert process.returncode is None
        assert await process.stdout.read() == MUCH + b"end\n"
        assert await process.wait() == 0

    run(main())


def test_a_child_that_closes_its_input_goes_on(run: Run) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        script = f"exec <&-; echo closed; read x </dev/fd/{reading}"
        process = await sh(script, stdin=PIPE, stdout=PIPE, pass_fds=[reading])
        os.close(reading)
        assert process.stdin
        assert process.stdout
        assert await process.stdout.readline() == b"closed\n"
        await process.stdin.wait_closed()
        assert process.returncode is None
        os.write(writing, b"go on\n")
        assert await process.wait() == 0
        os.close(writing)

    run(main())


def test_a_grandchild_may_keep_the_output(run: Run) -> None:
    async def main() -> None:
        process = await sh("sleep 3600 & echo $!", stdout=PIPE)
        assert process.stdout
        grandchild = int(await process.stdout.readline())
        while process.returncode is None:
            await asyncio.sleep(0.001)
        rest = asyncio.ensure_future(process.stdout.read())
        await asyncio.sleep(0)
        assert not rest.done()
        os.kill(grandchild, signal.SIGKILL)
        assert await rest == b""
        assert await process.wait() == 0

    run(main())


def test_many_children_leave_no_zombie_and_no_descriptor(run: Run) -> None:
    async def one(number: int) -> None:
        if number % 4 == 3:
            process = await asyncio.create_subprocess_exec(*FOREVER, stdin=PIPE, stdout=PIPE)
            process.kill()
            assert await talk(process, MUCH) == (b"", None)
            assert process.returncode == -signal.SIGKILL
        elif number % 4 == 2:
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0
        else:
            process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            data = b"%d" % number * 10_000
            assert await talk(process, data) == (data, None)

    async def main() -> None:
        before = descriptors()
        await asyncio.gather(*map(one, range(40)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not has_children()
        assert descriptors() == before

    run(main())


class Talks(asyncio.SubprocessProtocol):
    """Calls `then` with the transport when something comes."""

    def __init__(self, then: Any) -> None:
        self.then = then
        self.seen: list[object] = []
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.seen.append((fd, data))
        self.then(self.transport)

    def process_exited(self) -> None:
        self.seen.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


def test_a_transport_may_be_closed_while_data_come(loop: Loop, run: Run) -> None:
    async def main() -> None:
        transport, protocol = await loop.subprocess_exec(
            lambda: Talks(lambda transport: transport.close()), "sh", "-c", "echo out; sleep 3600 <&-"
        )
        await protocol.done
        assert protocol.seen == [(1, b"out\n"), "exited"]
        assert transport.get_returncode() == -signal.SIGKILL

    run(main())


def test_keyboardinterrupt_while_data_come_leaves_the_run_and_hangs_nothing(loop: Loop, run: Run) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    async def start() -> Any:
        return await loop.subprocess_exec(lambda: Talks(interrupt), "sh", "-c", "read x; echo out; exec cat")

    transport, protocol = run(start())
    transport.get_pipe_transport(0).write(b"now\n")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    transport.close()

    async def rest() -> None:
        await protocol.done

    run(rest())
    assert protocol.seen == [(1, b"out\n"), "exited"]


def test_a_loop_in_another_thread_has_children(loop_factory: LoopFactory) -> None:
    failed: list[BaseException] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await talk(process, MUCH) == (MUCH, None)
        for _ in range(3):
            process = await sh("exit 4")
            assert await process.wait() == 4
        process = await asyncio.create_subprocess_exec(*FOREVER)
        process.terminate()
        assert await process.wait() == -signal.SIGTERM

    def run_it() -> None:
        loop = loop_factory()
        try:
            loop.run_until_complete(main())
        except BaseException as error:
            failed.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=run_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 8, 11])
def test_a_spawn_that_is_cancelled_while_others_talk(run: Run, turns: int, unraisable: list[str]) -> None:
    async def start() -> Process:
        return await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)

    async def main() -> None:
        before = descriptors()
        talks = [asyncio.ensure_future(talk(await start(), b"x")) for _ in range(2)]
        spawn = asyncio.ensure_future(start())
        for _ in range(turns):
            await asyncio.sleep(0)
        spawn.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await talk(await spawn)
        assert await asyncio.gather(*talks) == [(b"x", b"")] * 2
        while has_children() or descriptors() != before:
            await asyncio.sleep(0.001)

    run(main())


def test_the_exit_is_known_in_the_turn_that_hears_of_it(loop: Loop, run: Run) -> None:
    process = run(sh("exit 5"))
    await_the_end(process.pid)
    turn(loop, 3)
    if process.returncode is None:  # asyncio on systems without pidfds has a thread that tells
        assert run(process.wait()) == 5
    assert process.returncode == 5
    assert run(process.wait()) == 5
