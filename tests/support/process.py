"""What a test cannot do in the interpreter of all tests: scripts and tests in a process of their own."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

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


def forked[**P](test: Callable[P, None]) -> Callable[P, None]:
    """Runs a test in a forked child, so that what it changes in the process is gone afterwards.

    From 3.13 on CPython tells of a thousand changes of a class, and of no more. A test that changes
    `BaseEventLoop` in each of hundreds of cases would leave a slower loop, and traces without names, to all
    later tests.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        ours, theirs = os.pipe()
        with warnings.catch_warnings():
            # Other threads may be running; none of them holds what the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                test(*args, **kwargs)
            except BaseException:
                os.write(theirs, traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.close(theirs)
        try:
            with open(ours) as pipe:
                failed = pipe.read()
        except BaseException:  # the child has no alarm of its own
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(child, 0)
        assert (failed, status) == ("", 0), failed

    return run
