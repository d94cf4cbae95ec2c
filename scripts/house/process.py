"""One command: the environment it gets, its output as it comes, its end with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from house.settings import CI, ROOT

# What a developer's shell may say and a test must not hear.
UNWANTED = {
    *("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTEST_ADDOPTS"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "PYO3_PYTHON", "PYO3_CONFIG_FILE"),
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS", "PYTHON", "PYLOOP_ACCEL"),
}

_children = set[subprocess.Popen[str]]()


def environment(extra: dict[str, str]) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in UNWANTED}
    env.setdefault("CARGO_TERM_COLOR", "never" if CI else "auto")
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    return env | extra


def tee(
    words: list[str], env: dict[str, str], log: Path | None, minutes: float, show: bool
) -> tuple[int | None, str]:
    """The exit code (None: it took too long) and what the command printed, which is shown as it comes."""
    try:
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        print(error)
        return 127, str(error)
    _children.add(child)
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(child)

    timer = threading.Timer(minutes * 60, stop)
    timer.start()
    lines = []
    if log:
        log.parent.mkdir(exist_ok=True)
    file = log.open("w", buffering=1) if log else contextlib.nullcontext(None)
    try:
        with file as kept:
            assert child.stdout is not None
            for line in child.stdout:
                lines.append(line)
                if kept:
                    kept.write(line)
                if show:
                    sys.stdout.write(line)
                    sys.stdout.flush()
        code = child.wait()
    finally:
        timer.cancel()
        _end(child)
        _children.discard(child)
    return (None if late.is_set() else code), "".join(lines)


def _end(child: subprocess.Popen[str]) -> None:
    """Ends the command with all its children: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def end_all_with_this_process() -> None:
    """Has Ctrl-C and SIGTERM end the commands: they are in process groups of their own, nothing else does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(*_: object) -> None:
    for child in list(_children):
        _end(child)
    os._exit(130)
