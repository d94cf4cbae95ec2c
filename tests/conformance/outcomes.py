"""What a test, a test class and a whole run came to.

Owns the vocabulary that the worker writes, the pool completes and the report reads. A record is one line of
JSON in the worker's record file, so that a worker which dies leaves behind everything it had finished.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.StrEnum):
    """How one test ended. An expected failure (``unittest.expectedFailure``) that fails is a pass."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test: how it ended, how long it took, and the traceback or the reason of the skip."""

    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"outcome": str(self.outcome), "seconds": round(self.seconds, 3), "detail": self.detail}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TestResult:
        return cls(Outcome(data["outcome"]), float(data["seconds"]), str(data["detail"]))


@dataclass(frozen=True, slots=True, order=True)
class ClassId:
    """A test class: the short name of its module (``test_tasks``) and its own name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> ClassId:
        module, _, name = text.partition(".")
        return cls(module, name)


@dataclass(slots=True)
class ClassResult:
    """One run of one class.

    ``tests`` also holds what is not a test but can fail: a fixture (``(setUpClass)``) or the end of the
    interpreter (``(exit)``). ``accident`` says in one line why the interpreter did not end well, ``tail``
    is what it printed at its beginning and its end, ``culprit`` the test that it happened in.
    """

    tests: dict[str, TestResult] = field(default_factory=dict)
    seconds: float = 0.0
    accident: str = ""
    tail: str = ""
    culprit: str = ""

    def add(self, further: ClassResult) -> None:
        """Takes over what a second run of some of the tests came to."""
        self.tests |= further.tests
        self.seconds += further.seconds
        self.accident = "; ".join(filter(None, (self.accident, further.accident)))
        self.tail += further.tail

    def names(self, *outcomes: Outcome) -> list[str]:
        """The tests which ended in one of ``outcomes``."""
        return [name for name, result in self.tests.items() if result.outcome in outcomes]

    def to_json(self) -> dict[str, Any]:
        tests = {name: result.to_json() for name, result in self.tests.items()}
        head = {"seconds": round(self.seconds, 2), "accident": self.accident, "tail": self.tail}
        return head | {"tests": tests}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassResult:
        tests = {name: TestResult.from_json(result) for name, result in data["tests"].items()}
        return cls(tests, float(data["seconds"]), str(data["accident"]), str(data["tail"]))


Run = dict[ClassId, ClassResult]


def is_fixture(name: str) -> bool:
    """Whether this name in ``ClassResult.tests`` is that of a fixture or of the interpreter's end."""
    return name.startswith("(")


def add_not_run(run: Run, wanted: Mapping[ClassId, list[str]]) -> None:
    """The tests that were wanted and left out have failed."""
    for class_id, tests in wanted.items():
        known = run.setdefault(class_id, ClassResult()).tests
        for test in tests:
            known.setdefault(test, TestResult(Outcome.FAILED, detail="not run: it would wait for ever"))


def not_passed(run: Run) -> dict[ClassId, list[str]]:
    """The tests that failed or were skipped; all of a class in which a fixture broke."""
    found: dict[ClassId, list[str]] = {}
    for class_id, result in run.items():
        names = result.names(Outcome.FAILED, Outcome.SKIPPED)
        if any(map(is_fixture, names)):
            names = [name for name in result.tests if not is_fixture(name)]
        if names:
            found[class_id] = names
    return found


def from_records(records: Iterable[Mapping[str, Any]], expected: Iterable[str], accident: str) -> ClassResult:
    """Builds a class's result out of its worker's records.

    A test of ``expected`` without a record had not finished: it is skipped if a fixture asked for that, and
    failed otherwise, by the accident or by the fixture that broke.
    """
    result = ClassResult(accident=accident)
    running = ""
    broken = ""
    skipped = ""
    done = False
    for record in records:
        match record["event"]:
            case "done":
                done = True
            case "start":
                running = record["test"]
            case "end":
                running = ""
                result.tests[record["test"]] = TestResult.from_json(record)
            case "fixture":
                fixture = TestResult.from_json(record)
                if fixture.outcome is Outcome.SKIPPED:
                    skipped = fixture.detail
                else:
                    broken = fixture.detail
                    result.tests[f"({record['test']})"] = fixture
    if not done and not accident:
        result.accident = accident = "the interpreter left without a word"
    unfinished = [name for name in expected if name not in result.tests]
    if unfinished and accident and running:
        result.culprit = running
    for name in unfinished:
        if skipped:
            result.tests[name] = TestResult(Outcome.SKIPPED, detail=skipped)
        elif broken and not accident:
            result.tests[name] = TestResult(Outcome.FAILED, detail=broken)
        else:
            before = running or "a fixture"
            why = f"{accident} in this test" if name == running else f"not run: {accident} in {before}"
            result.tests[name] = TestResult(Outcome.FAILED, detail=why)
    if accident and not unfinished:
        result.tests["(exit)"] = TestResult(Outcome.FAILED, detail=f"{accident} after the last test")
    return result
