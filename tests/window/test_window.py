"""The window: a socket that shows this process's loops to its user, and disturbs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
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

from support.loops import Loop
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
def server(pyloop: ModuleType) -> ModuleType:
    from pyloop import _window_server

    return _window_server


def talk(path: str, *lines: bytes) -> list[Any]:
    """The answers to these lines."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(patient(5))
        sock.connect(path)
        found = []
        for line in lines:
            sock.sendall(line + b"\n")
            found.append(json.loads(answers.readline()))
        return found


def ask(path: str, **request: Any) -> Any:
    return talk(path, json.dumps(request).encode())[0]


def told(path: str) -> Any:
    """What a peer is told that asks nothing."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(patient(5))
        sock.connect(path)
        return json.loads(answers.readline())


def from_elsewhere[T](loop: Loop, function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives that is called in another thread while the loop runs."""
    return loop.run_until_complete(asyncio.to_thread(function, *arguments))


def test_it_shows_the_tasks_of_a_loop_that_runs(pyloop: ModuleType, pyloop_loop: Loop, window: Any) -> None:
    async def rests() -> None:
        await pyloop.sleep(3600)

    async def main() -> Any:
        task = asyncio.create_task(rests(), name="rests")
        await asyncio.sleep(0)
        found = await asyncio.to_thread(ask, window.path, ask="dump", patience=10)
        task.cancel()
        return found

    answer = pyloop_loop.run_until_complete(main())["answer"]
    (loop,) = [each for each in answer["loops"] if each["id"] == id(pyloop_loop)]
    (task,) = [each for each in loop["tasks"] if each["name"] == "rests"]
    assert task["stack"][-1] == {"name": "sleep", "file": None, "line": None}
    assert task["waited"] >= 0
    assert loop["thread"] == threading.current_thread().name
    assert loop["stuck"] is None
    assert loop["statistics"]["turns"] > 0
    assert answer["pid"] == os.getpid()


def test_a_loop_that_is_stuck_shows_where(pyloop: ModuleType, pyloop_loop: Loop, window: Any) -> None:
    asked, found = threading.Event(), []

    def blocks() -> None:
        asked.wait()

    def look() -> None:
        found.append(ask(window.path, ask="dump", patience=0.01))
        asked.set()

    async def main() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        blocks()
        thread.join()

    pyloop_loop.run_until_complete(main())
    (loop,) = [each for each in found[0]["answer"]["loops"] if each["id"] == id(pyloop_loop)]
    assert "blocks" in [frame["name"].rpartition(".")[2] for frame in loop["stuck"]]
    (task,) = loop["tasks"]
    assert task["state"] == "running"
    assert "blocks" in [frame["name"].rpartition(".")[2] for frame in task["stack"]]
    text = str(pyloop.window.Dump.from_dict(found[0]["answer"]))
    assert "it does not answer" in text


BAD = {
    b"": "JSONDecodeError",
    b"dump": "JSONDecodeError",
    b"\xff\xfe": "UnicodeDecodeError",
    b"[]": "an object",
    b"{}": "asks for one of",
    b'{"ask": []}': "TypeError",
    b'{"ask": "everything"}': "asks for one of",
    b'{"ask": "dump", "limit": -1}': "limit",
    b'{"ask": "dump", "limit": "all"}': "limit",
    b'{"ask": "dump", "patience": 1e9}': "patience",
    b'{"ask": "dump", "patience": "long"}': "patience",
    b'{"ask": "dump", "wrong": 1}': "wrong",
    b"[" * 50_000: "Error",
}


def test_a_request_that_is_wrong_gets_an_error_and_the_next_one_its_answer(window: Any) -> None:
    *answers, last = talk(window.path, *BAD, b'{"ask": "hello"}')
    for answer, (line, words) in zip(answers, BAD.items(), strict=True):
        assert words in answer["error"], line[:50]
    assert last["answer"]["pid"] == os.getpid()


def test_a_request_that_is_too_long_ends_the_talk(window: Any) -> None:
    assert "long at most" in talk(window.path, b" " * 70_000)[0]["error"]
    assert "answer" in ask(window.path, ask="hello")


def test_what_the_look_raises_is_for_who_asked(
    pyloop_loop: Loop, window: Any, server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no look")

    monkeypatch.setattr(server, "look", fails)
    assert from_elsewhere(pyloop_loop, lambda: ask(window.path, ask="dump")) == {
        "error": "ValueError: no look"
    }


def test_nobody_but_the_user_can_open_it(folder: Path, window: Any) -> None:
    assert stat.S_IMODE((folder / "pyloop").stat().st_mode) == 0o700
    assert stat.S_IMODE(os.stat(window.path).st_mode) == 0o600


def test_a_peer_that_is_another_users_is_refused(
    window: Any, server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "is_users_own", lambda peer: False)
    assert "another user" in told(window.path)["error"]


def test_a_folder_that_others_may_enter_has_no_window(
    folder: Path, pyloop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for name in ("pyloop", f"pyloop-{os.geteuid()}"):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)
    with pytest.raises(PermissionError, match="0700"):
        pyloop.open_window()


def test_it_is_one_window_however_often_it_is_opened(pyloop: ModuleType, window: Any) -> None:
    assert pyloop.open_window() is window
    assert not window.closed
    window.close()
    window.close()
    assert window.closed and not os.path.exists(window.path)
    with pyloop.open_window() as another:
        assert another is not window and another.path == window.path


def test_closing_it_cuts_off_who_looks_in(window: Any) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(window.path)
        sock.sendall(b'{"ask": "hello"}\n')
        assert sock.recv(10_000)
        window.close()
        assert sock.recv(1) == b""


def test_more_than_a_few_peers_are_told_to_come_later(window: Any, server: ModuleType) -> None:
    socks = [socket.socket(socket.AF_UNIX) for _ in range(server.MOST_PEERS)]
    for sock in socks:
        sock.connect(window.path)
    assert "look in already" in told(window.path)["error"]
    for sock in socks:
        sock.close()


def test_a_socket_that_nobody_serves_gives_way_and_another_processs_does_not(
    folder: Path, pyloop: ModuleType, server: ModuleType
) -> None:
    path = server.socket_in(folder / "pyloop", os.getpid())
    gone = server.socket_in(folder / "pyloop", 2**22 + 1)
    path.parent.mkdir(mode=0o700)
    for each in (path, gone):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(each))
    with pyloop.open_window() as window:
        assert window.path == str(path)
        assert not gone.exists()
        assert "answer" in ask(window.path, ask="hello")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        assert not server.is_stale(path)
        with pytest.raises(FileExistsError):
            server._listen_at(path)
    path.unlink()


def test_a_forked_child_has_no_window_and_leaves_its_parents_alone(window: Any, server: ModuleType) -> None:
    listener = window._listener.fileno()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            window.close()
            closed = False
            try:
                os.fstat(listener)
            except OSError:
                closed = True
            with server.open_window() as own:
                fine = own is not window and own.path != window.path
            status = 0 if closed and fine and os.path.exists(window.path) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ask(window.path, ask="hello")["answer"]["pid"] == os.getpid()


def test_one_that_a_look_has_opened_closes_itself(folder: Path, server: ModuleType) -> None:
    window = server.open_window(0.01)
    window._thread.join(patient(5))
    assert window.closed and not os.path.exists(window.path)


PROGRAM = """
import asyncio, glob, os, threading
import pyloop
from pyloop._window_client import ps

async def rests():
    await pyloop.sleep(3600)

async def main():
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rests(), name="rests")
        print(await asyncio.to_thread(ps, [str(os.getpid())]))
        task.cancel()

pyloop.run(main())
"""


def test_a_process_that_is_started_so_opens_it_with_its_first_loop(folder: Path, pyloop: ModuleType) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=patient(9),
        env=environment(PYLOOP_WINDOW="1"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    *lines, status = ran.stdout.splitlines()
    assert status == "0"
    assert lines[1].endswith("in thread MainThread, 2 tasks")
    assert any("rests: waiting" in line and line.endswith("for Rust future sleep") for line in lines)
    assert list((folder / "pyloop").iterdir()) == []
