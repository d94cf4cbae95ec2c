"""How many tests the output of a command speaks of, and the skips that need a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from house.settings import ROOT


@dataclass(frozen=True)
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def count_words(output: str) -> Counts | None:
    """From the last line that counts tests: pytest's closing line, or `N passed, N failed, N skipped`."""
    for line in reversed(output.splitlines()):
        found = {
            word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed)\b", line)
        }
        if "passed" in found or "failed" in found or "error" in found or "errors" in found:
            failed = found.get("failed", 0) + found.get("error", 0) + found.get("errors", 0)
            return Counts(found.get("passed", 0), failed, found.get("skipped", 0) + found.get("xfailed", 0))
    return None


def count_cargo(output: str) -> Counts | None:
    found = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output, re.M)
    return Counts(*(sum(int(row[i]) for row in found) for i in range(3))) if found else None


def judge_pytest(output: str) -> str:
    found = re.search(r"^\d+ unlisted skips$", output, re.M)  # scripts/pytest_skips.py says it
    return found[0] if found else ""


def judge_ignored(output: str) -> str:
    """An ignored Rust test needs its line in tests/allowed_skips.txt too, as `rust:<path>`."""
    allowed = allowed_skips()
    ignored = re.findall(r"^test (.+?) \.\.\. ignored", output, re.M)
    unlisted = [name for name in ignored if not allowed(f"rust:{name}")]
    return f"ignored without a reason in tests/allowed_skips.txt: {', '.join(unlisted)}" if unlisted else ""


def allowed_skips() -> Callable[[str], bool]:
    patterns = [
        line.split()[0]
        for line in (ROOT / "tests" / "allowed_skips.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return lambda name: any(fnmatchcase(name, p.replace("[", "[[]")) for p in patterns)
