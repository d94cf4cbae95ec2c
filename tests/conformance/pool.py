"""Starts the workers, a few at a time, each in a session and a directory of its own, with a time limit.

Owns the processes: none of them, nor a process that a test left behind, outlives ``Pool.run``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import outcomes
from .outcomes import ClassId, ClassResult, Run
from .plan import Plan

_ROOT = Path(__file__).resolve().parents[len(str(__package__).split("."))]
_MAIN = f"""
import sys
sys.path.append({str(_ROOT)!r})
from {__package__} import worker
worker.main(sys.argv[1])
"""
_GRACE = 10.0  # a worker dumps its stacks and leaves by itself at the limit; this much later it is killed
_HEAD, _TAIL = 3000, 6000  # characters of output that are kept of a worker which did not end well


@dataclass(frozen=True, slots=True)
class _Ended:
    records: list[dict[str, Any]]
    accident: str
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Pool:
    """Runs test classes with one loop. ``limit`` is in seconds and for one class.

    With ``resume``, the tests after one that crashed or hung are run too, in a further interpreter.
    """

    loop: str
    jobs: int
    limit: float
    resume: bool = False

    def plan(self, modules: list[str]) -> Plan:
        """Asks one worker for the classes of ``modules``."""
        ended = self._work({"do": "list", "modules": modules})
        if ended.accident:
            raise RuntimeError(f"the test modules could not be imported ({ended.accident}):\n{ended.output}")
        found = Plan()
        for record in ended.records:
            if "missing" in record:
                found.missing[record["module"]] = record["missing"]
            for name, tests in record.get("classes", {}).items():
                found.classes[ClassId(record["module"], name)] = tests
        return found

    def run(
        self,
        classes: Mapping[ClassId, list[str]],
        expected_seconds: Mapping[ClassId, float],
        progress: Callable[[ClassId, ClassResult], None],
    ) -> Run:
        """Runs the classes, the long ones first so that the last minute is not spent on one of them."""
        longest_first = sorted(classes, key=lambda c: (-expected_seconds.get(c, 0.0), -len(classes[c]), c))
        results: Run = {}
        with ThreadPoolExecutor(self.jobs) as threads:
            running = {threads.submit(self._run_class, c, classes[c]): c for c in longest_first}
            try:
                for future in as_completed(running):
                    results[running[future]] = future.result()
                    progress(running[future], future.result())
            except BaseException:
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return {class_id: results[class_id] for class_id in classes}

    def _run_class(self, class_id: ClassId, tests: list[str]) -> ClassResult:
        result = self._run_once(class_id, tests)
        culprit = result.culprit
        while self.resume and culprit:
            tests = tests[tests.index(culprit) + 1 :]
            further = self._run_once(class_id, tests)
            culprit = further.culprit
            result.add(further)
        return result

    def _run_once(self, class_id: ClassId, tests: list[str]) -> ClassResult:
        ended = self._work({"do": "run", "module": class_id.module, "class": class_id.name, "tests": tests})
        result = outcomes.from_records(ended.records, tests, ended.accident)
        result.seconds = ended.seconds
        if result.accident:
            result.tail = _ends(ended.output)
        return result

    def _work(self, order: dict[str, Any]) -> _Ended:
        with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as directory:
            # Beside the directory that the tests work in, not inside: they make and list files there.
            records, output, scratch = (Path(directory, name) for name in ("records", "output", "scratch"))
            scratch.mkdir()
            order |= {"loop": self.loop, "records": str(records), "limit": self.limit}
            started = time.monotonic()
            with output.open("wb") as sink:
                process = subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", "-c", _MAIN, json.dumps(order)],
                    cwd=scratch,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                try:
                    accident = _wait(process, self.limit)
                finally:
                    _kill_session(process)
            seconds = time.monotonic() - started
            lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
            text = output.read_text(encoding="utf-8", errors="backslashreplace")
        parsed = [json.loads(line) for line in lines if line.endswith("}")]
        return _Ended(parsed, accident, text, seconds)


def _wait(process: subprocess.Popen[bytes], limit: float) -> str:
    """Waits for a worker; an empty answer is a good end."""
    started = time.monotonic()
    try:
        code = process.wait(limit + _GRACE)
    except subprocess.TimeoutExpired:
        return f"killed after {limit + _GRACE:.0f} s"
    if code == 0:
        return ""
    if time.monotonic() - started >= limit:
        return f"timed out after {limit:.0f} s"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _ends(output: str) -> str:
    """The beginning and the end: a panic says first what went wrong, a time-out last where everything was."""
    if len(output) <= _HEAD + _TAIL:
        return output
    return f"{output[:_HEAD]}\n[...]\n{output[-_TAIL:]}"


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a worker's process group: the worker, and children that its tests forgot."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """This process's environment without what would change how the tests' Python behaves."""
    dropped = {"PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONOPTIMIZE"}
    return {name: value for name, value in os.environ.items() if name not in dropped}
