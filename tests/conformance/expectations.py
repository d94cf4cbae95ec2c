"""The tests that stock asyncio passes and pyloop is known not to, each with its reason.

Owns the reading of ``expectations.toml``. An entry is a promise in both directions: a failure that no entry
names fails the run, and an entry whose test passes is reported as stale. One that says ``hangs`` is not run.
"""

from __future__ import annotations

import fnmatch
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("expectations.toml")


@dataclass(slots=True)
class Entry:
    """Patterns of tests (``module.Class.test``, with ``*`` as in a shell) which fail for one reason.

    ``since`` and ``until`` bound the Pythons that it is for, the second one excluded. ``hangs``: they would
    wait until the time limit, and keep the rest of their class from being run.
    """

    reason: str
    tests: list[str]
    since: tuple[int, ...]
    until: tuple[int, ...]
    hangs: bool = False
    matched: set[str] = field(default_factory=set)

    def applies(self) -> bool:
        return self.since <= tuple(sys.version_info[:3]) < self.until


class Expectations:
    """The entries for this Python, and which of their patterns were needed."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = [entry for entry in entries if entry.applies()]

    def reason(self, test: str) -> str | None:
        """Why this test may fail; ``None`` if it may not."""
        for entry in self._entries:
            for pattern in entry.tests:
                if fnmatch.fnmatchcase(test, pattern):
                    entry.matched.add(pattern)
                    return entry.reason
        return None

    def hangs(self, test: str) -> bool:
        """Whether this test is not to be run."""
        hanging = (entry for entry in self._entries if entry.hangs)
        return any(fnmatch.fnmatchcase(test, pattern) for entry in hanging for pattern in entry.tests)

    def unmatched(self) -> list[str]:
        """The patterns that ``reason`` was never asked about: they name no test of this run."""
        return [pattern for entry in self._entries for pattern in entry.tests if pattern not in entry.matched]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _entry(data: dict[str, Any]) -> Entry:
    unknown = set(data) - {"reason", "tests", "since", "until", "hangs"}
    if unknown or not data.get("reason") or not data.get("tests"):
        raise ValueError(f"{FILE.name}: an exception has a reason, tests, since, until and hangs, not {data}")
    since, until = (_version(data.get(key, default)) for key, default in (("since", "3"), ("until", "4")))
    return Entry(data["reason"], data["tests"], since, until, data.get("hangs", False))


def load() -> Expectations:
    """Reads the file."""
    data = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return Expectations(_entry(entry) for entry in data.get("exception", []))


def none() -> Expectations:
    """No exceptions: for the loops that are not ours."""
    return Expectations(())
