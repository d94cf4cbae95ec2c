"""pyloop beside asyncio, uvloop and rloop: the same Python code on each loop, in turn.

    python benches/compare.py [--loops asyncio,uvloop,rloop,pyloop] [--only NAME,...] [--rounds 5]
                              [--clock wall|cpu] [--json FILE] [--markdown] [--list]

In every round each workload (workloads.py) gets a fresh process on each loop. The processes are warmed up
and then work in turn, never two at once: SLICES times about SECONDS each, with the number of iterations that
was found once. A machine's speed drifts by the second (frequency, neighbours), and turns this short let the
drift hit all loops alike. Shown is the median rate of each loop, and the median of its ratio to uvloop's rate
in the same turn. The garbage collector is left on. On a busy machine a ratio still moves by 10%: the await of
a native coroutine, which no loop has a part in, shows by how much. Where others compute on the same machine,
`--clock cpu` takes the processor time of the process, all threads and the kernel's part included, instead of
the time on the wall; a loop that waits where it should work then looks better than it is. The network has a
benchmark of its own: `python benches/net`.
"""

import argparse
import asyncio
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Timer
from time import perf_counter, process_time
from typing import Any

import workloads
from loops import LOOPS, installed, new_event_loop
from record import about, save
from tables import chosen, progress, rate_text, text
from workloads import WORKLOADS, Workload

BASE = "uvloop"
SLICES = 6
SECONDS = 0.12
CLOCKS = {"wall": perf_counter, "cpu": process_time}
PATIENCE = 30.0  # a process that takes longer than this for an answer is stuck


# ---- in a process that measures ----------------------------------------------------------------------------


async def calibrate(work: Workload) -> int:
    """How many iterations take SECONDS, from ever longer trials."""
    n = 1
    while (elapsed := await work.run(n)) < SECONDS / 4:
        n *= 2 if elapsed > SECONDS / 40 else 8
    return max(1, round(n * SECONDS / elapsed))


def worker(loop: str, name: str, clock: str) -> None:
    """Answer each line of the input, a number of iterations (0: find it), with a line of JSON."""
    work = WORKLOADS[name]
    workloads.clock = CLOCKS[clock]
    unhandled: list[str] = []
    with asyncio.Runner(loop_factory=lambda: new_event_loop(loop)) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: unhandled.append(repr(context)))
        for line in sys.stdin:
            count = int(line) or runner.run(calibrate(work))
            rate = count * work.ops / runner.run(work.run(count))
            if unhandled:
                raise RuntimeError(unhandled[0])  # what did not do its work has no rate
            print(json.dumps({"count": count, "rate": rate}), flush=True)


# ---- in the process that compares --------------------------------------------------------------------------


@dataclass
class Series:
    """One workload on one loop, over all rounds."""

    loop: str
    name: str
    clock: str
    count: int = 0  # iterations in one slice, once they are known
    rates: list[float] = field(default_factory=list)  # one for each slice
    why: str = ""  # why it is not measured, or no longer

    def start(self) -> None:
        """A fresh process, warmed up."""
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", self.loop, self.name, self.clock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ask()

    def ask(self) -> float:
        """The rate of one slice; 0 and a reason in `why` if there is none."""
        if self.why:
            return 0.0
        process = self.process
        assert process.stdin and process.stdout and process.stderr
        patience = Timer(PATIENCE, process.kill)
        patience.start()
        try:
            print(self.count, file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            last = process.stderr.read().strip().splitlines()[-1:] or ["no word from it"]
            self.why = f"{last[0]} (exit code {process.wait()})"
            return 0.0
        finally:
            patience.cancel()
        self.count = answer["count"]
        rate: float = answer["rate"]
        return rate

    def end(self) -> None:
        """No more from this process."""
        self.process.communicate()


Results = dict[str, dict[str, Series]]  # by workload, by loop


def compare(loops: Sequence[str], names: Sequence[str], rounds: int, clock: str) -> Results:
    """Measure everything, in turn."""
    results = {name: {loop: Series(loop, name, clock) for loop in loops} for name in names}
    for turn in range(rounds):
        for name in names:
            progress(f"round {turn + 1} of {rounds}: {WORKLOADS[name].title}")
            measure(
                [s for s in results[name].values() if WORKLOADS[name].only in (None, s.loop) and not s.why]
            )
    progress("")
    return results


def measure(row: Sequence[Series]) -> None:
    """One round of one workload."""
    for series in row:
        series.start()
    for turn in range(SLICES):
        for series in row if turn % 2 == 0 else reversed(row):
            if rate := series.ask():
                series.rates.append(rate)
    for series in row:
        series.end()


def ratio(row: dict[str, Series], loop: str) -> float | None:
    """The median, over all turns, of this loop's rate as a multiple of BASE's."""
    if loop not in row or BASE not in row:
        return None
    pairs = list(zip(row[loop].rates, row[BASE].rates, strict=False))
    return median(rate / base for rate, base in pairs) if pairs else None


def table(results: Results, loops: Sequence[str], targets: bool = True) -> list[list[str]]:
    """Rows of text, the first one the heading; `targets`: with what pyloop is to reach."""
    rows = [["operations a second", *loops, *(["target", ""] if targets else [])]]
    for name, row in results.items():
        cells = []
        for loop in loops:
            if not row[loop].rates:
                cells.append("-")
                continue
            times = ratio(row, loop)
            shown = f"  {times:5.2f}x" if times is not None and loop != BASE else ""
            cells.append(rate_text(median(row[loop].rates)) + shown)
        target, reached = WORKLOADS[name].target, ratio(row, "pyloop")
        verdict = "" if target is None or reached is None else "met" if reached >= target else "BELOW"
        row_targets = [f"{target:g}x" if target else "", verdict] if targets else []
        rows.append([WORKLOADS[name].title, *cells, *row_targets])
    return rows


def as_json(results: Results) -> dict[str, Any]:
    """Every single rate, in operations a second; one for each slice."""
    return {
        name: {
            "title": WORKLOADS[name].title,
            "target": WORKLOADS[name].target,
            "loops": {
                loop: {
                    "rates": [float(f"{rate:.5g}") for rate in s.rates],
                    "ratio": ratio(row, loop),
                    "why": s.why,
                }
                for loop, s in row.items()
            },
        }
        for name, row in results.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loops", default=",".join(LOOPS), help="which loops, in which order")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="which workloads", metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu is for a busy machine")
    parser.add_argument("--json", type=Path, help="every single rate into this file", metavar="FILE")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--list", action="store_true", help="the workloads and their targets, nothing is run")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(*options.worker)
    names = chosen(options.only, list(WORKLOADS))
    if options.list:
        for name in names:
            target = WORKLOADS[name].target
            print(f"{name:22} {f'{target:g}x' if target else '':5} {WORKLOADS[name].title}")
        return None
    loops, words = installed(chosen(options.loops, LOOPS))
    results = compare(loops, names, options.rounds, options.clock)
    versions = list(words)
    words += [
        f"{platform.system()} {platform.machine()}",
        f"{options.clock} clock",
        f"{options.rounds} rounds",
    ]
    print("; ".join(words))
    print()
    print(text(table(results, loops, targets=not options.markdown), options.markdown))
    words = [
        f"{s.loop} left out of {s.name}: {s.why}" for row in results.values() for s in row.values() if s.why
    ]
    print("\n".join(["", *words]) if words else "")
    if options.json:
        head = about(versions, clock=options.clock, rounds=options.rounds, slices=SLICES, seconds=SECONDS)
        save(options.json, head, as_json(results))
    return None


if __name__ == "__main__":
    main()
