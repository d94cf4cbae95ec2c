"""The tests in Python: pytest in its variants, random programs, and CPython's own asyncio tests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from house.counts import Counts, allowed_skips, count_words, judge_pytest
from house.pythons import Python
from house.settings import REPORTS
from house.steps import Result, Run

# So many failed tests get a second try, as CPython's own regrtest gives them with --rerun.
SECOND_TRIES = 3
# What is the same for each Python and in each variant, or takes long: with the first one, as a user runs it.
_ONCE = "docs/test_integrations docs/test_rust_main docs/test_rust_library io/test_soak "
# What measures memory and time, tries each acceleration by itself, or is about pytest.
_ONCE += "tasks/test_scale package/test_accelerations testing/test_plugin"
ONCE = ["--ignore=tests/house", *(f"--ignore=tests/{name}.py" for name in _ONCE.split())]
# Programs of others with much traffic, servers and processes: with each Python, but not in each variant.
_LONG = "aiosqlite asyncpg distributed grpc httpx redis tornado uvicorn websockets"
LONG = [f"--ignore=tests/ecosystem/test_with_{name}.py" for name in _LONG.split()]
# The end of a process is tried out six times with each Python, and once in the other variants.
_ENDS = "tests/bridge/test_faults.py::test_a_process_ends_in_silence_whatever_is_pending"
LONG += [f"--deselect={_ENDS}[{time}-" for time in range(1, 6)]


@dataclass(frozen=True)
class Variant:
    """One way to run the whole suite."""

    name: str
    options: tuple[str, ...] = ()  # the interpreter's
    env: Mapping[str, str] = field(default_factory=dict)


USUAL = Variant("pytest")
# asyncio's debug mode is switched on by the variable; -X dev brings the allocator's checks.
DEBUG = Variant("pytest-debug", ("-X", "dev"), {"PYTHONASYNCIODEBUG": "1"})
# Without what pyloop knows of CPython's insides: the plain paths.
PLAIN = Variant("pytest-plain", (), {"PYLOOP_ACCEL": "none"})
# With the extension that is built once for every Python in the place of the one that is built for each.
ONE_WHEEL = Variant("pytest-one-wheel")
# What of the suite is about an extension, and not about the clients of others in it.
_OF_ONE_WHEEL = "bridge cancel ends errors in_runtime native python streams"


def left_out(variant: Variant, is_first: bool) -> list[str]:
    """pytest's options for what does not run in this variant; `is_first`: on the first Python."""
    if variant is not USUAL:
        # The usual suite asks the oracle.
        return [*ONCE, *LONG, "--loops=pyloop"]
    return [] if is_first else ONCE


@dataclass(frozen=True)
class Suite:
    """The suite in one variant on one Python."""

    py: Python
    variant: Variant
    args: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.py.version} {self.variant.name}"

    def run(self, run: Run, show: bool) -> None:
        self._pytest(run, self.name, self.args, show)

    def _pytest(self, run: Run, name: str, args: tuple[str, ...], show: bool) -> Result:
        # What failed last is remembered for each run of its own: several go at a time.
        cache = ["-o", f"cache_dir={REPORTS.name}/cache/{self.name}"]
        command = [self.py.exe, *self.variant.options, "-m", "pytest", "-q", *cache, *args]
        env = self.py.env(**self.variant.env)
        if self.variant is ONE_WHEEL:
            env["PYLOOP_TEST_EXTENSION"] = str(self.py.one_wheel)
        return run.step(name, command, env, count_words, judge_pytest, show=show)

    def second_try(self, run: Run) -> None:
        """Runs a few failed tests again, with nothing beside them: a test of time fails when others are busy.

        What passes now counts as passed, and the summary names it.
        """
        first = run.result(self.name)
        if first.ok or first.note != "exit code 1" or not 0 < len(first.failures) <= SECOND_TRIES:
            return
        second = self._pytest(run, f"{self.name} again", ("--last-failed", *self.args), True)
        run.results.remove(second)
        # A test that failed and left something behind has two lines; one that only left something has
        # passed already.
        tests = {line.split(" - ")[0].split(" ", 1)[1] for line in first.failures}
        failed = sum(line.startswith("FAILED ") for line in first.failures)
        if second.ok and first.counts and second.counts and second.counts.passed == len(tests):
            first.ok, first.note = True, "passed when run again: see below"
            first.counts = Counts(first.counts.passed + failed, 0, first.counts.skipped)
            first.seconds += second.seconds


def one_wheel(py: Python) -> Suite:
    """Its own tests are in the usual suite."""
    return Suite(py, ONE_WHEEL, tuple(f"tests/bridge/test_{name}.py" for name in _OF_ONE_WHEEL.split()))


def fuzz(run: Run, py: Python, args: list[str], plain: bool = False, show: bool = True) -> None:
    """Random programs beside asyncio, ten thousand of them unless `args` say otherwise."""
    env = py.env(**(PLAIN.env if plain else {}))
    command = [py.exe, "-m", "tests.fuzz", *args]
    run.step(f"{py.version} fuzz{'-plain' if plain else ''}", command, env, count_words, show=show)


def conformance(run: Run, py: Python, args: list[str], show: bool = True) -> None:
    if subprocess.run([py.exe, "-c", "import test.test_asyncio"], capture_output=True).returncode:
        allowed = allowed_skips()("conformance:no-test-package")
        why = f"skipped: no test package here (Debian: apt install libpython{py.version}-testsuite)"
        run.results.append(
            Result(f"{py.version} conformance", ok=allowed, counts=Counts(skipped=1), note=why)
        )
        return
    command = [py.exe, "-m", "tests.conformance", *args]
    run.step(f"{py.version} conformance", command, py.env(), count_words, minutes=25, show=show)
