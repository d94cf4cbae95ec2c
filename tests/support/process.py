"""Scripts in an interpreter of their own, for what a test cannot have in the interpreter of all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from support.patience import patient

PRELUDE = """
import asyncio
def new_event_loop():
    if {kind!r} == "asyncio":
        return asyncio.SelectorEventLoop()
    import pyloop
    return pyloop.new_event_loop()
"""


def command(kind: str, script: str, flags: Sequence[str] = ()) -> list[str]:
    """The command line that runs `script`, to which `new_event_loop` gives loops of that kind."""
    return [sys.executable, "-W", "error", *flags, "-c", PRELUDE.format(kind=kind) + script]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would change a script's interpreter."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    # The extension out of this folder instead of the one that is installed (conftest.py).
    extension = os.environ.get("PYLOOP_TEST_EXTENSION")
    return {**kept, **({"PYTHONPATH": extension} if extension else {}), **changes}


class Script(subprocess.Popen[str]):
    """A running script, which is waited for as long as everything is."""

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        return super().communicate(input, patient(timeout))


def start(kind: str, script: str, flags: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
    """A running script, with pipes for its input and outputs."""
    return Script(
        command(kind, script, flags),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**env),
    )


def output(kind: str, script: str, flags: Sequence[str] = (), **env: str) -> str:
    """What a script prints that exits with 0 and says nothing on its standard error."""
    with start(kind, script, flags, **env) as process:
        try:
            printed, errors = process.communicate(timeout=15)
        except BaseException:
            process.kill()
            raise
    if process.returncode or errors:
        raise AssertionError(f"exit code {process.returncode}, output {printed!r}, errors:\n{errors}")
    return printed
