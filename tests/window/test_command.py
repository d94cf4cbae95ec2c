"""`python -m pyloop ps` and `top`: what they print, and what they say when they cannot look."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.coroutines import end, wait_for_ever
from support.loops import Loop, turn
from support.patience import patient
from support.process import environment


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's runtime folder. A socket's path is short: not below pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.fixture
def client(pyloop: ModuleType) -> ModuleType:
    from pyloop import _window_client

    return _window_client


def look(loop: Loop, client: ModuleType, *words: str) -> int:
    """`ps` of this process, while the loop runs; the exit status."""
    status: int = loop.run_until_complete(asyncio.to_thread(client.ps, [str(os.getpid()), *words]))
    return status


def test_ps_prints_a_tree_or_json(
    folder: Path,
    pyloop: ModuleType,
    pyloop_loop: Loop,
    client: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = [pyloop_loop.create_task(wait_for_ever(), name=f"t{number}") for number in range(4)]
    with pyloop.open_window():
        assert look(pyloop_loop, client) == 0
        text = capsys.readouterr().out
        assert look(pyloop_loop, client, "--json", "--limit", "2") == 0
        given = json.loads(capsys.readouterr().out)
    assert text.startswith(f"process {os.getpid()}: CPython ")
    assert "t0: waiting" in text and "3 more like it" in text
    (loop,) = [each for each in given["loops"] if each["id"] == id(pyloop_loop)]
    assert (len(loop["tasks"]), loop["left_out"]) == (2, 3)
    end(pyloop_loop, *tasks)


def test_ps_says_what_is_wrong(
    folder: Path, client: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys, "remote_exec", raising=False)
    assert client.ps([str(os.getpid())]) == 1
    assert "PYLOOP_WINDOW=1" in capsys.readouterr().err
    assert client.ps([str(2**22 + 1)]) == 1
    assert "no process" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        client.ps(["mine"])
    assert left.value.code == 2


def test_ps_says_why_python_may_not_look_in(
    folder: Path, client: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(pid: int, script: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sys, "remote_exec", refuses, raising=False)
    assert client.ps([str(os.getpid())]) == 1
    assert "Operation not permitted" in capsys.readouterr().err


def test_ps_sends_a_script_that_answers_where_the_window_is(
    folder: Path, pyloop: ModuleType, pyloop_loop: Loop, client: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The part of the process that is told, without another process.
    def executes(pid: int, script: str) -> None:
        assert pid == os.getpid()
        exec(Path(script).read_text(), {})

    monkeypatch.setattr(sys, "remote_exec", executes, raising=False)
    assert look(pyloop_loop, client) == 0
    pyloop.open_window().close()
    assert list((folder / "pyloop").iterdir()) == []


def test_ps_takes_back_what_a_process_has_not_run(
    folder: Path, client: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[str]()
    monkeypatch.setattr(sys, "remote_exec", lambda pid, script: sent.append(script), raising=False)
    monkeypatch.setattr(client, "PATIENCE", 0.01)
    assert client.ps([str(os.getpid())]) == 1
    assert "runs no Python code" in capsys.readouterr().err
    exec(Path(sent[0]).read_text(), {})
    assert not Path(sent[0]).parent.exists() and list(folder.iterdir()) == []


SLEEPS = """
import asyncio, pyloop

async def sleeps():
    await pyloop.sleep(3600)

async def main():
    task = asyncio.create_task(sleeps(), name="sleeps")
    print("ready", flush=True)
    await task

pyloop.run(main())
"""


@pytest.mark.since(3, 14)
def test_a_process_that_has_prepared_nothing_is_looked_into_while_it_sleeps(
    folder: Path, pyloop: ModuleType
) -> None:
    command = [sys.executable, "-c", SLEEPS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            ps = [sys.executable, "-m", "pyloop", "ps", str(process.pid)]
            ran = subprocess.run(ps, capture_output=True, text=True, env=environment(), timeout=patient(9))
        finally:
            process.kill()
    if "may not look into process" in ran.stderr:
        pytest.skip("the system does not let a process look into another")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "sleeps: waiting" in ran.stdout


def test_a_file_called_ps_is_run_and_without_one_it_is_the_command(
    tmp_path: Path, pyloop: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyloop import _command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pyloop", "ps"])
    with pytest.raises(SystemExit) as left:
        _command.main()
    assert left.value.code == 2 and "PID" in capsys.readouterr().err
    (tmp_path / "ps").write_text("")
    ran = list[Any]()
    monkeypatch.setattr(_command, "_run_file", lambda *given: ran.append(given))
    _command.main()
    assert ran == [("ps", [])]


def test_top_without_rich_says_what_to_install(
    pyloop: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyloop import _top

    monkeypatch.setitem(sys.modules, "rich.live", None)
    assert _top.top(["1"]) == 1
    assert "pip install 'pyloop-rs[top]'" in capsys.readouterr().err


def test_top_needs_a_terminal(pyloop: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    from pyloop import _top

    assert _top.top(["1"]) == 1
    assert "needs a terminal" in capsys.readouterr().err


def test_top_shows_what_a_loop_did_since_the_last_look(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    from rich.console import Console

    from pyloop import _top, window

    def dump(**statistics: Any) -> Any:
        (loop,) = pyloop.dump(pyloop_loop).loops
        fields = {name: getattr(loop, name) for name in ("id", "kind", "thread", "tasks")}
        return window.of_process([window.LoopInfo(**fields, statistics=statistics)])

    tasks = [pyloop_loop.create_task(wait_for_ever(), name="waits")]
    turn(pyloop_loop, 2)
    spent = {"seconds_busy": 1.0, "seconds_parked": 1.0, "seconds_waiting_for_gil": 0.0}
    more = {"seconds_busy": 2.0, "seconds_parked": 4.0, "seconds_waiting_for_gil": 0.0}
    before = _top.Sample(10.0, dump(steps=100, **spent))
    now = _top.Sample(12.0, dump(steps=6100, ready=3, slowest_callback=["work", 0.25], **more))
    out = io.StringIO()
    Console(file=out, width=60, height=12, color_system=None).print(_top.view(now, before, 60, 12))
    lines = out.getvalue().splitlines()
    assert lines[0].startswith(f"process {os.getpid()}")
    assert lines[1] == "EventLoop not running, 1 task"
    assert lines[2].startswith("  busy █") and lines[2].endswith("25%")
    assert lines[3].startswith("parked █") and lines[3].endswith("75%")
    assert lines[4].strip() == "GIL  0%"
    assert lines[5:8] == ["3.0k steps/s", "3 ready", "slowest callback: work 250 ms"]
    assert lines[8].startswith("waits: waiting")
    assert len(lines) <= 12 and max(map(len, lines)) <= 60
    end(pyloop_loop, *tasks)


def test_top_of_many_lines_has_those_that_fit(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    from rich.console import Console

    from pyloop import _top

    sample = _top.Sample(1.0, pyloop.dump(pyloop_loop))
    tasks = [pyloop_loop.create_task(wait_for_ever(), name="x" * 100)]
    turn(pyloop_loop, 2)
    out = io.StringIO()
    Console(file=out, width=30, height=3, color_system=None).print(
        _top.view(_top.Sample(2.0, pyloop.dump(pyloop_loop)), sample, 30, 3)
    )
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= 30
    end(pyloop_loop, *tasks)
