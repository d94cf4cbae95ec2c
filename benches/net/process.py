"""One measurement: the processes, the cores that they are on, and what came of it."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from loops import new_event_loop
from net import load
from net.inside import WORK
from net.report import Sample
from net.rows import Inside, Row, Served
from net.servers import serve

BARE = "tokio"  # the loop that is none: the server without Python
PATIENCE = 30.0  # seconds, after which a process that has not answered is stuck
_HERE = Path(__file__).resolve().parent
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


class Missing(Exception):
    """What cannot be measured, and why."""


# ---- cores -------------------------------------------------------------------------------------------------


def two_cores(allowed: Collection[int], siblings: Callable[[int], Collection[int]]) -> tuple[int, int]:
    """One for the server and one for the load: not two threads of one core, where that can be had."""
    if len(allowed) < 2:
        raise Missing(
            f"needs 2 cores, one for the server and one for the load; this process may use {len(allowed)}"
        )
    first, *others = sorted(allowed)
    return first, next((core for core in others if core not in siblings(first)), others[0])


def cores() -> tuple[int, int]:
    """The cores of this machine."""
    if sys.platform != "linux":
        raise Missing("needs os.sched_setaffinity, which this system has not")
    return two_cores(os.sched_getaffinity(0), _siblings)


def _siblings(core: int) -> set[int]:
    """The processors on the core of this one: "0-1" or "0,64"; none where the system does not say."""
    try:
        text = Path(_SIBLINGS.format(core)).read_text().strip()
    except OSError:
        return set()
    ends = [part.split("-") for part in text.split(",")]
    return {number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)}


def _on(*which: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, which)


# ---- in the process that compares --------------------------------------------------------------------------


def has(loop: str, row: Row) -> bool:
    """Without Python there are only some of the servers; whether a loop has a row, its process will say."""
    return loop != BARE or (isinstance(row, Served) and row.bare)


def measure(row: Row, loop: str, seconds: float, on: tuple[int, int]) -> Sample:
    """One row once on one loop, in a fresh process."""
    match row:
        case Served():
            return _served(row, loop, seconds, on)
        case Inside():
            # On both: a child may run beside the loop.
            return _answer([*_self("--inside"), loop, row.name, str(seconds)], seconds, on)


def _served(row: Served, loop: str, seconds: float, on: tuple[int, int]) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        command = load.serve(row.server, Path(folder))
        if loop != BARE:
            command = [*_self("--serve"), loop, row.server, folder]
        with _server(command, on[0]) as (pid, address):
            return _answer(load.drive(row.load, address, seconds, pid), seconds, (on[1],))


def _self(option: str) -> list[str]:
    return [sys.executable, os.fspath(_HERE), option]


@contextmanager
def _server(command: list[str], core: int) -> Iterator[tuple[int, str]]:
    """Its process and its address; what it says before it fails is the reason."""
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, preexec_fn=_on(core)
        )
        try:
            assert process.stdout
            if not (address := process.stdout.readline().strip()):
                process.wait(PATIENCE)
                words.seek(0)
                raise Missing(_last(words.read()))
            try:
                yield process.pid, address
            except Missing as load_failed:
                words.seek(0)
                raise Missing(_last(words.read(), str(load_failed))) from None
        finally:
            process.kill()
            process.communicate()


def _answer(command: list[str], seconds: float, on: tuple[int, ...]) -> Sample:
    """The sample that a process prints."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE + 2 * seconds, preexec_fn=_on(*on)
        )
    except subprocess.TimeoutExpired:
        raise Missing("no answer from it") from None
    if done.returncode:
        raise Missing(_last(done.stderr, f"exit code {done.returncode}"))
    return Sample(**json.loads(done.stdout))


def _last(words: str, otherwise: str = "no word from it") -> str:
    return next((line for line in reversed(words.splitlines()) if line.strip()), otherwise)


# ---- in a process that is measured -------------------------------------------------------------------------


def _fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> NoReturn:
    """What did not do its work has no rate."""
    print(f"unhandled: {context}", file=sys.stderr, flush=True)
    os._exit(1)


def serve_here(loop: str, server: str, folder: str) -> None:
    """Be the server."""
    with asyncio.Runner(loop_factory=lambda: new_event_loop(loop)) as runner:
        runner.get_loop().set_exception_handler(_fail)
        runner.run(serve(server, Path(folder)))


def work_here(loop: str, name: str, seconds: str) -> None:
    """Do the work, and print what was measured."""
    runner = asyncio.Runner(loop_factory=lambda: new_event_loop(loop))
    runner.get_loop().set_exception_handler(_fail)

    async def run() -> Sample:
        return await WORK[name](float(seconds))

    print(json.dumps(vars(runner.run(run()))), flush=True)
    os._exit(0)  # how a loop ends is no part of it
