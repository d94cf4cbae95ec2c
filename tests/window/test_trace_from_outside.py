"""`python -m pyloop trace PID`: a timeline of another process, which is left as it was. A second in all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.loops import Loop, turn
from support.patience import patient
from support.process import environment


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's runtime folder. A socket's path is short: not below pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


@pytest.fixture
def window(folder: Path, pyloop: ModuleType) -> Iterator[Any]:
    with pyloop.open_window() as window:
        yield window


@pytest.fixture
def client(pyloop: ModuleType) -> ModuleType:
    from pyloop import _window_client

    return _window_client


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


class Peer:
    """Asks this process's window for a trace, in its own words."""

    def __init__(self, path: str, **how: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(patient(5))
        self.sock.connect(path)
        self.lines = self.sock.makefile("rb")
        self.sock.sendall(json.dumps({"ask": "trace", **how}).encode() + b"\n")

    def line(self) -> Any:
        return json.loads(self.lines.readline())

    def go(self) -> None:
        """Close the connection, as the kernel does for a process that is killed."""
        self.lines.close()
        self.sock.close()


def peer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pyloop-window-peer"]


def assert_no_trace_is_taken(pyloop: ModuleType, folder: Path) -> None:
    for thread in peer_threads():
        thread.join(patient(5))
    assert peer_threads() == []
    with pyloop.trace(folder / "another.json"):
        pass


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return found


def trace(client: ModuleType, *words: str | Path) -> Any:
    return asyncio.to_thread(client.trace, [str(os.getpid()), *map(str, words)])


@pytest.mark.acceleration("direct_calls")
def test_it_writes_what_the_loops_did(
    client: ModuleType, pyloop_loop: Loop, window: Any, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    async def main() -> int:
        task = asyncio.create_task(busy())
        status: int = await trace(client, "--seconds", "0.05", "-o", out, "--limit", "50")
        task.cancel()
        return status

    out.write_text("what was there before")
    assert pyloop_loop.run_until_complete(main()) == 0
    steps = [event for event in events(out) if event["name"] == busy.__qualname__]
    assert 0 < len(steps) <= 50 and {event["pid"] for event in steps} == {os.getpid()}
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"recording process {os.getpid()} for 0.05 s"
    assert f"{out}: 50 records, the last of " in last


def test_a_loop_that_sleeps_all_the_time_is_there(
    client: ModuleType, pyloop_loop: Loop, window: Any, out: Path
) -> None:
    assert pyloop_loop.run_until_complete(trace(client, "--seconds", "0.05", "-o", out)) == 0
    longest = max((event["dur"] for event in events(out) if event["name"] == "park"), default=0)
    assert longest > 40_000


def test_a_long_one_arrives_whole(client: ModuleType, pyloop_loop: Loop, window: Any) -> None:
    pieces = list[bytes]()
    with client.connect(os.getpid()) as peer:
        peer.begin_trace(3600, 10_000)
        for _ in range(10_001):
            pyloop_loop.call_soon(int)
        turn(pyloop_loop)
        peer.end_trace()
        told = peer.receive_trace(pieces.append)
    assert len(pieces) > 1
    document = json.loads(b"".join(pieces))
    records = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert len(records) == told["records"] == 10_000
    assert told["dropped"] == document["otherData"]["dropped"] > 0


BAD = {"seconds": [0, -1, "long", float("nan"), 1e9], "limit": [0, "all", 10**12]}


def test_what_is_wrong_is_told_and_no_trace_is_begun(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path
) -> None:
    for name, values in BAD.items():
        for value in values:
            peer = Peer(window.path, **{name: value})
            assert name in peer.line()["error"], value
            peer.go()
    with pyloop.trace(folder / "own.json"):
        peer = Peer(window.path, seconds=60)
        assert "being taken already" in peer.line()["error"]
        peer.go()
    assert_no_trace_is_taken(pyloop, folder)


def test_a_process_without_a_loop_says_so(
    pyloop: ModuleType, window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyloop import _window_server

    monkeypatch.setattr(_window_server, "known_loops", list)
    peer = Peer(window.path)
    assert peer.line()["error"] == "RuntimeError: it has no loop of pyloop's"
    peer.go()


def test_the_command_says_what_is_wrong_and_leaves_no_file(
    pyloop: ModuleType,
    client: ModuleType,
    pyloop_loop: Loop,
    window: Any,
    folder: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def says(*words: str | Path) -> str:
        assert pyloop_loop.run_until_complete(trace(client, *words)) == 1
        return capsys.readouterr().err

    assert client.trace([str(2**22 + 1), "-o", str(out)]) == 1
    assert "no process" in capsys.readouterr().err
    assert "No such file or directory" in says("-o", out / "no" / "folder")
    assert "limit" in says("-o", out, "--limit", "0")
    with pyloop.trace(folder / "own.json"):
        assert "being taken already" in says("-o", out)
    assert "No space left on device" in says("-o", "/dev/full", "--seconds", "0.01")
    assert not out.exists()
    for seconds in ("0", "-1", "nan", "soon", "1e9"):
        with pytest.raises(SystemExit) as left:
            client.trace([str(os.getpid()), f"--seconds={seconds}"])
        assert left.value.code == 2 and "above 0" in capsys.readouterr().err
    assert_no_trace_is_taken(pyloop, folder)


def test_a_peer_that_goes_ends_its_trace(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path
) -> None:
    peer = Peer(window.path, seconds=3600)
    assert peer.line() == {"recording": 3600}
    with pytest.raises(RuntimeError, match="being taken already"):
        with pyloop.trace(folder / "own.json"):
            pytest.fail("two at once")
    peer.go()
    assert_no_trace_is_taken(pyloop, folder)


def test_a_peer_that_goes_while_it_is_sent_leaves_nothing(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path
) -> None:
    peer = Peer(window.path, seconds=3600)
    assert "recording" in peer.line()
    for _ in range(10_000):
        pyloop_loop.call_soon(int)
    pyloop_loop.run_until_complete(asyncio.sleep(0))
    peer.sock.shutdown(socket.SHUT_WR)
    assert peer.line()["piece"] > 100_000
    peer.go()
    assert_no_trace_is_taken(pyloop, folder)


def test_a_window_that_is_closed_ends_its_trace(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path
) -> None:
    peer = Peer(window.path, seconds=3600)
    assert "recording" in peer.line()
    window.close()
    assert peer.lines.read() in (b"", b'{"answer": {"records": 0, "dropped": 0}}\n')
    peer.go()
    assert_no_trace_is_taken(pyloop, folder)


def test_a_forked_child_takes_no_trace(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path
) -> None:
    peer = Peer(window.path, seconds=3600)
    assert "recording" in peer.line()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with pyloop.trace(folder / "child.json"):
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    peer.sock.shutdown(socket.SHUT_WR)
    assert "piece" in peer.line()
    peer.go()
    assert_no_trace_is_taken(pyloop, folder)


async def asked_by_a_process(out: Path, then: Callable[[subprocess.Popen[str]], object]) -> tuple[int, str]:
    """Another process takes a long trace of this one, and has that done to it; its exit code, its words."""
    command = [sys.executable, "-m", "pyloop", "trace", str(os.getpid()), "--seconds", "3600", "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stderr is not None
            said = await asyncio.to_thread(process.stderr.readline)
            assert said.startswith("recording process"), said
            then(process)
            rest = await asyncio.to_thread(process.stderr.read)
        except BaseException:
            process.kill()
            raise
    return process.returncode, rest


def test_who_asks_may_be_killed(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path, out: Path
) -> None:
    killed = asked_by_a_process(out, lambda process: process.kill())
    assert pyloop_loop.run_until_complete(killed) == (-signal.SIGKILL, "")
    assert_no_trace_is_taken(pyloop, folder)


def test_control_c_ends_it_and_has_it_written(
    pyloop: ModuleType, pyloop_loop: Loop, window: Any, folder: Path, out: Path
) -> None:
    interrupted = asked_by_a_process(out, lambda process: process.send_signal(signal.SIGINT))
    status, said = pyloop_loop.run_until_complete(interrupted)
    assert status == 0 and said.startswith(f"{out}: ")
    assert any(event["name"] == "park" for event in events(out))
    assert_no_trace_is_taken(pyloop, folder)


BUSY = """
import asyncio, pyloop

async def busy():
    print("ready", flush=True)
    while True:
        await asyncio.sleep(0)

pyloop.run(busy())
"""


@pytest.mark.since(3, 14)
def test_a_process_that_has_prepared_nothing_is_traced(folder: Path, pyloop: ModuleType, out: Path) -> None:
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            asks = [
                sys.executable,
                "-m",
                "pyloop",
                "trace",
                str(process.pid),
                "--seconds=0.05",
                "-o",
                str(out),
            ]
            ran = subprocess.run(asks, capture_output=True, text=True, env=environment(), timeout=patient(9))
        finally:
            process.kill()
    if "may not look into process" in ran.stderr:
        pytest.skip("the system does not let a process look into another")
    assert ran.returncode == 0, ran.stderr
    assert {event["pid"] for event in events(out)} == {process.pid}
    assert any(event["name"] == "busy" for event in events(out))
