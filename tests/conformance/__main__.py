"""The command line: ``python -m tests.conformance``. Exit status 1 if a test fails that is not listed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from . import baseline, expectations, outcomes, plan, replace, report
from .plan import Selection
from .pool import Pool


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Runs CPython's own asyncio tests with another event loop in place of the stock one.",
    )
    parser.add_argument(
        "--loop", choices=replace.LOOPS, default="pyloop", help="the loop to test (default: pyloop)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        type=Selection.parse,
        metavar="MODULE[.CLASS[.TEST]]",
        help="run only this; may be given several times",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="interpreters at a time")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds that one test class may take")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="after a crash or a time-out, run the rest of the class as well; else the rest has failed",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every test's outcome to FILE as well"
    )
    parser.add_argument(
        "--classes",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also run CPython's mixins over the loop's own Task and Future (the modules pyloop_*)",
    )
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()
    stock = Pool("asyncio", arguments.jobs, arguments.timeout)
    modules = plan.module_names(arguments.only, our_classes=arguments.classes)
    wanted = stock.plan(modules).selected(arguments.only)
    if not wanted.classes:
        print("nothing to run: " + "; ".join(f"{module}: {why}" for module, why in wanted.missing.items()))
        return 2
    python = platform.python_version()
    print(f"{arguments.loop} on Python {python}: {len(wanted.classes)} classes", flush=True)

    known = baseline.load()
    expected = expectations.none()
    if arguments.loop == "asyncio":
        run = stock.run(wanted.classes, baseline.seconds(known), report.print_progress)
        verdict = report.take(run)
    else:
        candidate = Pool(arguments.loop, arguments.jobs, arguments.timeout, arguments.resume)
        if arguments.loop == "pyloop":
            expected = expectations.load()
        run = candidate.run(wanted.without(expected.hangs), baseline.seconds(known), report.print_progress)
        outcomes.add_not_run(run, wanted.classes)
        print("stock asyncio, where a test did not pass (kept in .cache):", flush=True)
        known = baseline.complete(known, outcomes.not_passed(run), stock, report.print_progress)
        verdict = report.judge(run, known, expected)

    report.print_failures(verdict, run)
    whole = arguments.classes and not arguments.only
    report.print_expectations(verdict, expected.unmatched() if whole else [])
    if arguments.json:
        data = report.to_json(verdict, run, loop=arguments.loop, python=sys.version)
        arguments.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    print(f"\n{time.monotonic() - started:.0f} s with {arguments.jobs} jobs")
    report.print_table(verdict, run, wanted)
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
