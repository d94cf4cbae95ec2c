"""Fails a pytest run on a skip or an xfail that tests/allowed_skips.txt does not list with a reason.

A skipped test proves nothing, and nobody reads the `s` in a row of dots: here it is explained or an error.
Loaded by pyproject.toml for every run. The same file and rule serve the Rust tests (scripts/house).
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ALLOWED = Path(__file__).resolve().parent.parent / "tests" / "allowed_skips.txt"


def read_allowed(path: Path = ALLOWED) -> list[tuple[str, str]]:
    """The (pattern, reason) pairs; a line without a reason is an error."""
    pairs = []
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        if len(parts) != 2:
            raise ValueError(
                f"{path.name}:{number}: want '<pattern>  <reason>', two spaces between: {line!r}"
            )
        pairs.append((parts[0], parts[1]))
    return pairs


def is_allowed(test: str, pairs: list[tuple[str, str]]) -> bool:
    # In an id, [ ] are parameters, in a file pattern a set of characters: take them literally.
    return any(fnmatchcase(test, pattern.replace("[", "[[]")) for pattern, _ in pairs)


class Skips:
    def __init__(self) -> None:
        self.unlisted: list[tuple[str, str]] = []
        self.allowed = read_allowed()

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or is_allowed(report.nodeid, self.allowed):
            return
        why = getattr(report, "wasxfail", None)
        if why is None:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.unlisted.append((report.nodeid, why))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unlisted:
            terminalreporter.section("skipped without a reason in tests/allowed_skips.txt", red=True)
            for test, why in self.unlisted:
                terminalreporter.write_line(f"{test}: {why}")
            terminalreporter.write_line(f"{len(self.unlisted)} unlisted skips", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips(), "pyloop-skips")
