"""`python -m pyloop`: a program runs as under `python`, and its loops are pyloop's."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from support.patience import patient
from support.process import environment

pytestmark = pytest.mark.usefixtures("pyloop")

# What a program sees of how it was started, and which loops it has.
PROGRAM = """
import asyncio, atexit, pickle, sys

class Mine: ...

def at_exit():
    print("main at exit:", sys.modules["__main__"].__dict__ is globals())

async def main():
    return type(asyncio.get_running_loop()).__module__

print(asyncio.run(main()))
loop = asyncio.new_event_loop()
print(type(loop).__module__)
loop.close()
print(__name__, __doc__, sys.argv, sys.path[0], globals().get("__file__"), globals().get("__package__"))
print(type(pickle.loads(pickle.dumps(Mine()))).__name__)
print(sorted(name for name in globals() if name[:1] != "_"))
atexit.register(at_exit)
"""
LOOPS = {"pyloop": "pyloop._loop\npyloop._loop\n", "python": "asyncio.unix_events\nasyncio.unix_events\n"}


def run(command: str, *words: str, input: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, *(["-m", "pyloop"] if command == "pyloop" else []), *words]
    return subprocess.run(
        start, input=input, capture_output=True, text=True, timeout=patient(9), cwd=cwd, env=environment()
    )


def as_python(cwd: Path, *words: str, input: str = "") -> str:
    """What both print, but for the loops."""
    printed = []
    for command, loops in LOOPS.items():
        ran = run(command, *words, input=input, cwd=cwd)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(loops)
        printed.append(ran.stdout.removeprefix(loops))
    assert printed[0] == printed[1]
    return printed[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    for name in ("script.py", "inner/__main__.py"):
        (tmp_path / name).write_text(PROGRAM)
    (tmp_path / "link.py").symlink_to("inner/__main__.py")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("__main__.py", PROGRAM)
    return tmp_path


@pytest.mark.parametrize("file", ["script.py", "./inner/__main__.py", "link.py", "inner", "packed.zip"])
def test_a_file_runs_as_under_python(file: str, folder: Path) -> None:
    assert "'--one', 'two']" in as_python(folder, file, "--one", "two")


@pytest.mark.parametrize("module", ["script", "inner"])
def test_a_module_runs_as_under_python(module: str, folder: Path) -> None:
    assert "'-m', 'two']" in as_python(folder, "-m", module, "-m", "two")


def test_code_and_the_standard_input_run_as_under_python(folder: Path) -> None:
    assert "['-c', 'one']" in as_python(folder, "-c", PROGRAM, "one")
    assert "['-', 'one']" in as_python(folder, "-", "one", input=PROGRAM)


ENDS = {
    "exit": (["-c", "import sys; sys.exit(7)"], 7, ""),
    "raises": (["-c", "1 / 0"], 1, "ZeroDivisionError: division by zero\n"),
    "no file": (["missing.py"], 2, "can't open file"),
    "no module": (["-m", "missing"], 1, "No module named missing\n"),
    "interrupted": (["-c", "import os; os.kill(os.getpid(), 2)"], -2, "KeyboardInterrupt\n"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_under_python(end: str, tmp_path: Path) -> None:
    words, code, text = ENDS[end]
    for command in LOOPS:
        ran = run(command, *words, cwd=tmp_path)
        assert ran.returncode == code
        assert text in ran.stderr


def test_without_a_program_it_is_asyncios_interactive_interpreter(tmp_path: Path) -> None:
    typed = "await asyncio.sleep(0, type(asyncio.get_running_loop()).__module__)\n"
    ran = run("pyloop", input=typed, cwd=tmp_path)
    assert ran.returncode == 0
    assert "asyncio REPL" in ran.stderr
    assert "'pyloop._loop'" in ran.stdout


def test_it_says_what_it_is_and_what_it_takes(pyloop: ModuleType, tmp_path: Path) -> None:
    version = run("pyloop", "-V", cwd=tmp_path)
    assert version.stdout == f"pyloop {pyloop.__version__}, Python {sys.version.split()[0]}\n"
    usage = run("pyloop", "--help", cwd=tmp_path)
    assert usage.returncode == 0 and usage.stdout.startswith("python -m pyloop [")
    refused = run("pyloop", "--loop", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (2, usage.stdout)
