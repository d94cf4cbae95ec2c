"""examples/rust_main: programs whose main is Rust, from start to exit code. They are built here, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "rust_main"
LIBDIR = sysconfig.get_config_var("LIBDIR") or ""


def has_libpython() -> bool:
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
    return any(os.path.exists(os.path.join(LIBDIR, name + end)) for end in (".so", ".dylib", ".a"))


def environment() -> dict[str, str]:
    # The programs know by themselves where their libpython is.
    unwanted = ("PYTHON", "RUST_BACKTRACE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    kept = {key: text for key, text in os.environ.items() if not key.startswith(unwanted)}
    # PATH finds the standard library: an embedded Python looks for the `python3` that belongs to it.
    return {
        **kept,
        "PATH": os.pathsep.join([os.path.dirname(sys._base_executable), os.environ["PATH"]]),  # type: ignore[attr-defined]
    }


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of the built programs."""
    if not has_libpython():
        pytest.skip("this Python has no libpython to link")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    manifest = str(EXAMPLE / "Cargo.toml")
    command = ["cargo", "build", "--quiet", "--manifest-path", manifest, "--target-dir", str(target)]
    # What scripts/house gives `cargo test`: most of it has been built by that.
    python = os.environ.get("PYLOOP_BASE_PYTHON") or sys._base_executable  # type: ignore[attr-defined]
    env = environment() | {"PYO3_PYTHON": python}
    ran = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return target / "debug"


def start(programs: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [programs / name, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def run(programs: Path, name: str, *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    with start(programs, name, *arguments) as process:
        try:
            printed, errors = process.communicate(timeout=8)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, printed, errors


def test_a_rust_main_serves_a_python_coroutine(programs: Path) -> None:
    assert run(programs, "rust_main") == (0, "hello from Python, 18 bytes\n", "")


def test_a_loop_is_run_by_hand(programs: Path) -> None:
    assert run(programs, "by_hand") == (0, "42\n", "")


def test_all_futures_of_a_program_meet_the_runtime_that_the_loop_is(programs: Path) -> None:
    assert run(programs, "ends", "ok") == (0, "one runtime: true\ndropped\n", "")


def test_a_program_has_its_arguments_and_ends_as_python_does(programs: Path) -> None:
    code, printed, errors = run(programs, "ends", "print", "a")
    assert (code, errors) == (0, "")
    # Rust's output is not buffered as Python's is.
    assert sorted(printed.splitlines()) == ["['print', 'a']", "at exit", "dropped"]


def test_an_error_is_printed_and_is_1(programs: Path) -> None:
    code, printed, errors = run(programs, "ends", "error")
    assert (code, printed) == (1, "dropped\n")
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith("\nValueError: no good\n")


@pytest.mark.parametrize(
    ("arguments", "code", "errors"),
    [
        ([], 0, ""),
        (["0"], 0, ""),
        (["3"], 3, ""),
        (["256"], 0, ""),
        (["-1"], 255, ""),
        (["no good"], 1, "no good\n"),
    ],
)
def test_system_exit_is_as_in_python(arguments: list[str], code: int, errors: str, programs: Path) -> None:
    assert run(programs, "ends", "exit", *arguments) == (code, "dropped\n", errors)


def test_a_panic_ends_the_program_as_any_rust_panic(programs: Path) -> None:
    code, printed, errors = run(programs, "ends", "panic")
    assert (code, printed) == (101, "dropped\n")
    assert "no good" in errors


def test_a_program_that_waits_has_one_thread_and_ctrl_c_ends_it_as_python(programs: Path) -> None:
    with start(programs, "ends", "wait") as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline() != "ready\n":
                pass
            if sys.platform == "linux":
                assert len(os.listdir(f"/proc/{process.pid}/task")) == 1
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=8)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == -signal.SIGINT
    assert printed == "dropped\n"
    assert errors.endswith("\nKeyboardInterrupt\n")
