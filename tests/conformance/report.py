"""Judges a run against the baseline and prints it: failures, table, closing line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .expectations import Expectations
from .outcomes import ClassId, ClassResult, Outcome, Run, is_fixture
from .plan import MODULES, Plan

_DETAIL_LINES = 25


@dataclass(slots=True)
class Verdict:
    """What became of the tests, and of what stock asyncio skips or fails. Names are ``module.Class.test``."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    excepted: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def judge(run: Run, baseline: Run, expectations: Expectations) -> Verdict:
    """Holds what did not pass in ``run`` to ``baseline``.

    A skip of what stock asyncio passes is a failure; so is a broken fixture or end of the interpreter that
    stock asyncio does not have. What stock asyncio skips or fails, too, is not judged.
    """
    verdict = Verdict()
    for class_id, result in run.items():
        for name, test in result.tests.items():
            full = f"{class_id}.{name}"
            reason = expectations.reason(full)
            if test.outcome is Outcome.PASSED:
                verdict.passed.append(full)
                if reason is not None:
                    verdict.stale.append(full)
                continue
            measure = baseline[class_id].tests.get(name)
            if is_fixture(name):
                if measure is None:
                    verdict.failed[full] = test.detail
            elif measure is None or measure.outcome is not Outcome.PASSED:
                verdict.skipped[full] = f"stock asyncio: {measure.outcome if measure else 'unknown'}"
            elif reason is not None:
                verdict.excepted[full] = reason
            else:
                skip = "skipped, stock asyncio passes it: " if test.outcome is Outcome.SKIPPED else ""
                verdict.failed[full] = skip + test.detail
    return verdict


def take(run: Run) -> Verdict:
    """The verdict on stock asyncio itself, which is held to nothing but its own outcomes."""
    verdict = Verdict()
    for class_id, result in run.items():
        for name, test in result.tests.items():
            full = f"{class_id}.{name}"
            if test.outcome is Outcome.PASSED:
                verdict.passed.append(full)
            elif test.outcome is Outcome.FAILED:
                verdict.failed[full] = test.detail
            else:
                verdict.skipped[full] = test.detail
    return verdict


def print_progress(class_id: ClassId, result: ClassResult) -> None:
    failed = len(result.names(Outcome.FAILED))
    ended = f"{failed} failed" if failed else "ok"
    accident = f" ({result.accident})" if result.accident else ""
    print(f"  {result.seconds:6.1f} s  {class_id}: {len(result.tests)} tests, {ended}{accident}", flush=True)


def print_failures(verdict: Verdict, run: Run) -> None:
    """Each failure with the end of its traceback, and the output of interpreters that did not end well."""
    for full, detail in verdict.failed.items():
        print(f"\nFAILED {full}")
        lines = detail.splitlines()
        if len(lines) > _DETAIL_LINES:
            lines = ["[...]", *lines[-_DETAIL_LINES:]]
        print("\n".join(f"    {line}" for line in lines))
    for class_id, result in run.items():
        if result.accident:
            print(f"\nACCIDENT {class_id}: {result.accident}; what it printed:")
            print("\n".join(f"    {line}" for line in result.tail.splitlines()))


def print_expectations(verdict: Verdict, unmatched: list[str]) -> None:
    reasons: dict[str, list[str]] = {}
    for full, reason in verdict.excepted.items():
        reasons.setdefault(reason, []).append(full)
    for reason, tests in reasons.items():
        print(f"\nlisted as an exception, {reason}:")
        print("\n".join(f"    {full}" for full in tests))
    if verdict.stale:
        print("\nSTALE in expectations.toml, these pass:")
        print("\n".join(f"    {full}" for full in verdict.stale))
    if unmatched:
        print("\nSTALE in expectations.toml, these name no test that stock asyncio passes:")
        print("\n".join(f"    {pattern}" for pattern in unmatched))


def print_table(verdict: Verdict, run: Run, plan: Plan) -> None:
    """A line for each module and the closing line, which is alone on its line."""
    groups = (verdict.passed, verdict.failed, verdict.excepted, verdict.skipped)
    counts: dict[str, list[int]] = {}
    for column, group in enumerate(groups):
        for full in group:
            counts.setdefault(full.partition(".")[0], [0, 0, 0, 0])[column] += 1
    print(f"\n{'module':26}{'passed':>8}{'failed':>8}{'listed':>8}{'skipped':>9}{'seconds':>9}")
    for module in MODULES:
        if module in plan.missing:
            print(f"{module:26}  not run: {plan.missing[module]}")
        elif module in counts:
            passed, failed, excepted, skipped = counts[module]
            spent = sum(result.seconds for class_id, result in run.items() if class_id.module == module)
            print(f"{module:26}{passed:8}{failed:8}{excepted:8}{skipped:9}{spent:9.1f}")
    if verdict.excepted or verdict.stale:
        print(f"\n{len(verdict.excepted)} listed in expectations.toml, {len(verdict.stale)} stale there")
    skipped_part = f", {len(verdict.skipped)} skipped" if verdict.skipped else ""
    print(f"\n{len(verdict.passed)} passed, {len(verdict.failed)} failed{skipped_part}")


def to_json(verdict: Verdict, run: Run, *, loop: str, python: str) -> dict[str, Any]:
    return {
        "loop": loop,
        "python": python,
        "passed": len(verdict.passed),
        "failed": verdict.failed,
        "excepted": verdict.excepted,
        "stale": verdict.stale,
        "skipped": verdict.skipped,
        "classes": {str(class_id): result.to_json() for class_id, result in run.items()},
    }
