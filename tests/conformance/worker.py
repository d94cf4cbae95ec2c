"""Runs one test class in this interpreter, or lists the classes of test modules.

Started by ``pool``; its argument is one JSON object, what it finds out goes to the file ``records``, one JSON
object a line, flushed at once. It must not assume that it gets to its end: a test may crash or hang it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import signal
import sys
import time
import unittest
from types import TracebackType
from typing import Any, TextIO

from . import plan, replace
from .outcomes import Outcome, TestResult

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class _Recorder(unittest.TestResult):
    """Writes each test's start and end. A test that fails in several ways (subtests, cleanups) fails once."""

    def __init__(self, records: TextIO) -> None:
        super().__init__()
        self._records = records
        self._details: list[str] = []
        self._outcome: Outcome | None = None
        self._started = 0.0

    def write(self, event: str, test: str = "", result: TestResult | None = None) -> None:
        record = {"event": event, "test": test} | (result.to_json() if result is not None else {})
        self._records.write(json.dumps(record) + "\n")
        self._records.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._details, self._outcome, self._started = [], None, time.perf_counter()
        self.write("start", test._testMethodName)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome = self._outcome
        if outcome is None:
            outcome = Outcome.FAILED
            self._details.append("the test ended without an outcome")
        seconds = time.perf_counter() - self._started
        self.write("end", test._testMethodName, TestResult(outcome, seconds, "\n".join(self._details)))

    def _note(self, test: unittest.TestCase, outcome: Outcome, detail: str = "") -> None:
        if not hasattr(test, "_testMethodName") and not hasattr(test, "test_case"):
            name = test.id().partition(" ")[0]  # a fixture: "setUpClass (module.Class)"
            self.write("fixture", name, TestResult(outcome, detail=detail))
            return
        if detail:
            self._details.append(detail)
        if self._outcome is not Outcome.FAILED and (self._outcome is None or outcome is not Outcome.PASSED):
            self._outcome = outcome

    def _describe(self, test: unittest.TestCase, err: _ExcInfo) -> str:
        without_unittest: str = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        return without_unittest.strip()

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, Outcome.PASSED)

    def addExpectedFailure(self, test: unittest.TestCase, err: _ExcInfo) -> None:
        self._note(test, Outcome.PASSED)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, Outcome.FAILED, "unexpected success")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._note(test, Outcome.SKIPPED, reason)

    def addFailure(self, test: unittest.TestCase, err: _ExcInfo) -> None:
        self._note(test, Outcome.FAILED, self._describe(test, err))

    def addError(self, test: unittest.TestCase, err: _ExcInfo) -> None:
        self._note(test, Outcome.FAILED, self._describe(test, err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: _ExcInfo | None) -> None:
        if err is not None:
            self._note(test, Outcome.FAILED, f"{subtest._subDescription()}: {self._describe(test, err)}")  # type: ignore[attr-defined]


def _classes(module: Any) -> dict[str, type[unittest.TestCase]]:
    """The test classes that a module has of its own, by the names that they are found under."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and value.__module__ == module.__name__
        and unittest.defaultTestLoader.getTestCaseNames(value)
    }


def list_classes(modules: list[str], records: TextIO) -> None:
    """Writes the classes and tests of each module, or why it cannot be run here."""
    for short in modules:
        record: dict[str, Any] = {"module": short}
        try:
            module = importlib.import_module(plan.MODULES[short])
            record["classes"] = {
                name: list(unittest.defaultTestLoader.getTestCaseNames(value))
                for name, value in _classes(module).items()
            }
        except ModuleNotFoundError as error:
            record["missing"] = f"this Python has no {error.name}"
        except unittest.SkipTest as error:
            record["missing"] = f"skipped by itself: {error}"
        records.write(json.dumps(record) + "\n")
        records.flush()


def run_class(module: str, name: str, tests: list[str], records: TextIO) -> None:
    """Runs ``tests`` of one class, with the module's and the class's fixtures."""
    test_class = _classes(importlib.import_module(plan.MODULES[module]))[name]
    suite = unittest.TestSuite(test_class(test) for test in tests)
    recorder = _Recorder(records)
    suite.run(recorder)
    recorder.write("done")


def main(argument: str) -> None:
    """The body of a worker; see ``pool`` for what it is told."""
    order = json.loads(argument)
    sys.argv[1:] = []
    # A shell has it ignored in what it starts in the background: tests that raise it would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["limit"]:
        faulthandler.dump_traceback_later(order["limit"], exit=True)
    candidate = replace.load(order["loop"])
    with open(order["records"], "w", encoding="utf-8") as records, replace.testing(candidate):
        if order["do"] == "list":
            list_classes(order["modules"], records)
            return
        if order["module"] not in plan.ON_STOCK_LOOP:
            replace.install(candidate)
        run_class(order["module"], order["class"], order["tests"], records)
