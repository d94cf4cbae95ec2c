"""Subprocesses through the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Loop, LoopFactory, Run
from support.process import output

MEGABYTE = os.urandom(2**20)
FOREVER = ("sleep", "3600")


async def outputs(process: Process, given: bytes | None = None) -> tuple[Any, Any]:
    """What communicate() says; typeshed does not know that either may be None."""
    return await process.communicate(given)


async def sh(script: str, **more: Any) -> Process:
    return await asyncio.create_subprocess_exec("sh", "-c", script, **more)


async def ended(process: Process) -> int:
    """Kills it and waits for it."""
    process.kill()
    return await process.wait()


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_wait_gives_the_exit_code(run: Run, code: int) -> None:
    async def main() -> None:
        process = await sh(f"exit {code}")
        assert isinstance(process.pid, int)
        assert await process.wait() == code
        assert process.returncode == code
        assert await process.wait() == code

    run(main())


def test_communicate_sends_and_collects(run: Run) -> None:
    async def main() -> None:
        process = await sh("cat; echo errors >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await process.communicate(b"input") == (b"input", b"errors\n")
        assert process.returncode == 0

    run(main())


def test_megabytes_go_through_a_process(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(MEGABYTE * 3)
        assert out == MEGABYTE * 3
        assert err is None

    run(main())


def test_a_process_is_talked_to_line_by_line(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdin
        assert process.stdout
        for i in range(20):
            process.stdin.write(b"line %d\n" % i)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"line %d\n" % i
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0

    run(main())


def test_a_shell_runs_a_line(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("echo $((6 * 7)); exit 5", stdout=PIPE)
        assert await outputs(process) == (b"42\n", None)
        assert process.returncode == 5

    run(main())


def test_outputs_are_joined_or_dropped(run: Run) -> None:
    async def main() -> None:
        process = await sh("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
        assert await outputs(process) == (b"out\nerr\n", None)
        process = await sh("cat; echo out; echo err >&2", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        assert await outputs(process) == (b"out\n", None)

    run(main())


@pytest.mark.parametrize("how", ["kill", "terminate", "send_signal"])
def test_a_signal_ends_a_process(run: Run, how: str) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER)
        if how == "send_signal":
            process.send_signal(signal.SIGHUP)
        else:
            getattr(process, how)()
        number = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "send_signal": signal.SIGHUP}[how]
        assert await process.wait() == -number

    run(main())


def test_a_signal_to_a_process_that_is_gone_is_an_error(run: Run) -> None:
    async def main() -> None:
        process = await sh("exit 0")
        await process.wait()
        for _ in range(2):
            await asyncio.sleep(0)  # the transport lets go of it
        for act in process.kill, process.terminate, lambda: process.send_signal(signal.SIGHUP):
            with pytest.raises(ProcessLookupError):
                act()

    run(main())


def test_many_processes_run_at_once(run: Run) -> None:
    async def one(i: int) -> None:
        process = await sh(f"cat; exit {i}", stdin=PIPE, stdout=PIPE)
        assert await outputs(process, b"%d" % i) == (b"%d" % i, None)
        assert process.returncode == i

    async def main() -> None:
        await asyncio.gather(*(one(i) for i in range(20)))

    run(main())


def test_many_may_wait_for_one_process(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER)
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        process.kill()
        assert await asyncio.gather(*waiting) == [-9] * 5

    run(main())


def test_a_cancelled_wait_leaves_the_process(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*FOREVER)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.005)
        assert process.returncode is None
        assert await ended(process) == -9

    run(main())


def test_a_cancelled_communicate_leaves_the_process(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdout
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.stdout.read(), 0.005)
        assert await outputs(process, b"late") == (b"late", None)

    run(main())


@pytest.mark.parametrize("turns", range(8))
def test_starting_a_process_may_be_cancelled_at_each_of_its_turns(
    run: Run, turns: int, unraisable: list[str]
) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.create_subprocess_exec(*FOREVER, stdin=PIPE, stdout=PIPE))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            for _ in range(10):
                await asyncio.sleep(0.001)
        else:
            process.kill()
            await process.communicate()

    run(main())


def test_a_program_that_is_missing_is_an_error_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        before = descriptors()
        for _ in range(5):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec(
                    str(tmp_path / "missing"), stdin=PIPE, stdout=PIPE, stderr=PIPE
                )
        (tmp_path / "file").touch(0o644)
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec(str(tmp_path / "file"), stdin=PIPE, stdout=PIPE)
        assert descriptors() == before

    run(main())


def test_the_directory_and_the_environment_are_given_to_the_process(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        process = await sh("pwd; echo $WORD", stdout=PIPE, cwd=tmp_path, env={"WORD": "given"})
        assert await outputs(process) == (f"{tmp_path.resolve()}\ngiven\n".encode(), None)

    run(main())


def test_descriptors_are_given_to_the_process(run: Run) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        process = await sh(f"echo given >/dev/fd/{writing}", pass_fds=[writing])
        os.close(writing)
        assert await process.wait() == 0
        assert os.read(reading, 100) == b"given\n"
        os.close(reading)

    run(main())


def test_a_process_inherits_no_descriptor_by_accident(run: Run) -> None:
    async def main() -> None:
        with socket.socket():
            process = await sh("ls /proc/self/fd | wc -l", stdout=PIPE)
            out, _ = await process.communicate()
        assert int(out) == 4  # three, and the one that lists

    run(main())


def test_a_session_of_its_own_and_more_are_passed_on(run: Run) -> None:
    async def main() -> None:
        process = await sh("ps -o sid= -p $$", stdout=PIPE, start_new_session=True)
        out, _ = await process.communicate()
        assert int(out) == process.pid
        seen = await sh("umask", stdout=PIPE, umask=0o27)
        assert (await seen.communicate())[0].strip() == b"0027"

    run(main())


def test_standard_input_and_output_can_be_opened_again_by_name(run: Run) -> None:
    """They are pipes: a socket cannot be opened through /dev/stdin."""

    async def main() -> None:
        script = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr"
        process = await sh(script, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        assert await process.communicate() == (b"", b"err\n")
        assert process.returncode == 0

    run(main())


def test_files_may_be_standard_input_and_output(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "in").write_bytes(b"from a file")
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
            process = await asyncio.create_subprocess_exec("cat", stdin=source, stdout=target)
            assert process.stdin is None
            assert process.stdout is None
            assert await process.wait() == 0
        assert (tmp_path / "out").read_bytes() == b"from a file"

    run(main())


def test_input_to_a_process_that_does_not_read_is_no_error(run: Run) -> None:
    async def main() -> None:
        process = await sh("exit 0", stdin=PIPE)
        await process.communicate(MEGABYTE)
        assert process.returncode == 0

    run(main())


def test_text_and_buffering_are_refused(run: Run) -> None:
    async def main() -> None:
        wrong: list[dict[str, Any]] = [
            {"universal_newlines": True},
            {"text": True},
            {"encoding": "utf-8"},
            {"errors": "strict"},
            {"bufsize": 1},
            {"shell": True},
        ]
        for more in wrong:
            with pytest.raises(ValueError, match="must be"):
                await asyncio.create_subprocess_exec("true", **more)

    run(main())


class Events(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.seen: list[object] = []
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.seen.append((fd, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.seen.append(("lost", fd))

    def process_exited(self) -> None:
        self.seen.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append("lost")
        self.done.set_result(None)


def test_a_subprocess_protocol_is_told_everything(loop: Loop, run: Run) -> None:
    async def main() -> None:
        transport, protocol = await loop.subprocess_exec(
            Events, "sh", "-c", "cat; echo err >&2; exit 4", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_returncode() is None
        assert isinstance(transport.get_extra_info("subprocess"), subprocess.Popen)
        stdin: Any = transport.get_pipe_transport(0)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        stdin.write(b"in")
        stdin.write_eof()
        await protocol.done
        assert transport.get_returncode() == 4
        assert protocol.seen[0] == "made"
        assert protocol.seen[-1] == "lost"
        assert set(protocol.seen[1:-1]) == {
            (1, b"in"), (2, b"err\n"), ("lost", 0), ("lost", 1), ("lost", 2), "exited",
        }  # fmt: skip
        transport.close()

    run(main())


@pytest.mark.parametrize(
    "name",
    ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"],
)
def test_a_protocol_that_raises_is_reported_and_hears_the_rest(
    loop: Loop, run: Run, handled: list[dict[str, Any]], name: str
) -> None:
    usual = getattr(Events, name)

    def method(self: Events, *args: Any) -> None:
        usual(self, *args)
        raise ZeroDivisionError(name)

    async def main() -> None:
        make = type("Raising", (Events,), {name: method})
        transport, protocol = await loop.subprocess_exec(make, "sh", "-c", "echo out; exit 4", stderr=None)
        await protocol.done
        await asyncio.sleep(0)
        assert transport.get_returncode() == 4
        assert protocol.seen[0] == "made" and protocol.seen[-1] == "lost"
        assert set(protocol.seen[1:-1]) == {(1, b"out\n"), ("lost", 0), ("lost", 1), "exited"}
        transport.close()

    run(main())
    assert handled and {str(each["exception"]) for each in handled} == {name}
    assert all(each["message"].startswith("Exception in callback ") for each in handled)


def test_closing_the_transport_kills_the_process(loop: Loop, run: Run) -> None:
    async def main() -> None:
        transport, protocol = await loop.subprocess_exec(Events, *FOREVER)
        transport.close()
        await protocol.done
        assert transport.get_returncode() == -9

    run(main())


def test_a_sigchld_handler_of_the_program_stays(run: Run) -> None:
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)

    async def main() -> None:
        process = await sh("exit 3")
        assert await process.wait() == 3
        assert signal.getsignal(signal.SIGCHLD) is handler

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert seen == [signal.SIGCHLD]


def test_children_of_the_program_itself_are_left_alone(run: Run) -> None:
    async def main() -> None:
        with subprocess.Popen(["sh", "-c", "exit 6"]) as own:
            assert await (await sh("exit 3")).wait() == 3
            assert own.wait() == 6

    run(main())


def test_a_process_may_end_before_anyone_looks(run: Run) -> None:
    async def main() -> None:
        process = await sh("echo out", stdout=PIPE)
        while process.returncode is None:
            await asyncio.sleep(0.001)
        assert await outputs(process) == (b"out\n", None)
        assert process.returncode == 0

    run(main())


def test_the_current_interpreter_runs_as_a_process(run: Run) -> None:
    async def main() -> None:
        script = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", script, stdin=PIPE, stdout=PIPE
        )
        assert await outputs(process, b"word") == (b"WORD", None)

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
def test_a_spawn_that_is_cancelled_ends_and_leaves_nothing(pyloop_factory: LoopFactory, turns: int) -> None:
    printed = output(
        "pyloop",
        f"""
import os
before = len(os.listdir("/dev/fd"))

async def main():
    pipe = asyncio.subprocess.PIPE
    start = asyncio.create_subprocess_exec("sleep", "60", stdin=pipe, stdout=pipe, stderr=pipe)
    spawn = asyncio.create_task(start)
    for _ in range({turns}):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {{asyncio.current_task()}}:
        task.cancel()
    await asyncio.gather(spawn, return_exceptions=True)
    print(spawn.cancelled())

asyncio.run(main(), loop_factory=new_event_loop)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
print(len(os.listdir("/dev/fd")) - before)
""",
    )
    assert printed == "True\nno child is left\n0\n"


def test_a_loop_that_closes_lets_go_of_the_children_it_waits_for(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import os, signal
before = len(os.listdir("/dev/fd"))
loop = new_event_loop()
child = loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "60"))
loop.close()
os.kill(child.pid, signal.SIGKILL)
child._transport._proc.wait()
child._transport._closed = True
print(len(os.listdir("/dev/fd")) - before)
""",
    )
    assert printed == "0\n"
