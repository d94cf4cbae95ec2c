"""The command line."""

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loops import NET_LOOPS, installed
from net import load
from net.process import BARE, Missing, cores, has, measure, serve_here, work_here
from net.report import Results, Series, cost_table, left_out, pace_table, ratio
from net.rows import ROWS, Served
from record import about, processor, save
from tables import chosen, progress, text

ABOUT = """The network on pyloop beside other loops: processor time a message, rate, p50 and p99.

A server and its load are processes on two cores. In each round the loops take turns, in the other direction
every second time. The first table has the median of each loop's processor time a message, in microseconds,
and the median of its ratio to uvloop's in the same round; the second the median rate and quantiles. A loop
that is not installed or has no such thing is shown as "-".
"""


def compare(loops: Sequence[str], names: Sequence[str], rounds: int, seconds: float) -> Results:
    """Measure everything, in turn."""
    on = cores()
    results = {name: {loop: Series() for loop in loops} for name in names}
    for turn in range(rounds):
        for name in names:
            row = list(results[name].items())
            for loop, series in row if turn % 2 == 0 else reversed(row):
                progress(f"round {turn + 1} of {rounds}: {ROWS[name].title}, {loop}")
                sample = None
                if has(loop, ROWS[name]) and not series.why:
                    try:
                        sample = measure(ROWS[name], loop, seconds, on)
                    except Missing as missing:
                        series.why = str(missing)
                series.samples.append(sample)
    progress("")
    return results


def as_json(results: Results) -> dict[str, Any]:
    """Every single sample, one for each round."""
    return {
        name: {
            "title": ROWS[name].title,
            "aim": ROWS[name].aim,
            "loops": {
                loop: {
                    "samples": [sample and vars(sample) for sample in series.samples],
                    "ratio": ratio(series, row.get("uvloop")),
                    "why": series.why,
                }
                for loop, series in row.items()
            },
        }
        for name, row in results.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python benches/net", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*NET_LOOPS, BARE]
    parser.add_argument("--loops", default=",".join(every), help="which loops, in which order")
    parser.add_argument("--only", default=",".join(ROWS), help="which rows", metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each is measured in a round")
    parser.add_argument("--json", type=Path, help="every single sample into this file", metavar="FILE")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--list", action="store_true", help="the rows and their aims, nothing is run")
    parser.add_argument("--no-build", action="store_true", help="take the load generator as it is")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve_here(*options.serve)
    if options.inside:
        return work_here(*options.inside)
    names = chosen(options.only, list(ROWS))
    if options.list:
        for name in names:
            aim = ROWS[name].aim
            print(f"{name:18} {f'{aim:.2f}x' if aim else '':6} {ROWS[name].title}")
        return None
    loops = chosen(options.loops, every)
    found, words = installed([loop for loop in loops if loop != BARE])
    if any(isinstance(ROWS[name], Served) for name in names):
        load.ready(build=not options.no_build)
    try:
        results = compare(
            [loop for loop in loops if loop in (*found, BARE)], names, options.rounds, options.seconds
        )
    except Missing as missing:
        sys.exit(f"benches/net {missing}")
    for row in results.values():
        row |= {loop: Series() for loop in loops if loop not in row}
    versions = list(words)
    words += [f"{platform.system()} {platform.machine()}, {processor()}"]
    words += [f"medians of {options.rounds} round{'s'[: options.rounds > 1]} of {options.seconds:g} s"]
    print("; ".join(words))
    print()
    print(text(cost_table(results, ROWS, loops, aims=not options.markdown), options.markdown))
    print()
    print(text(pace_table(results, ROWS, loops), options.markdown))
    for line in left_out(results):
        print(line, file=sys.stderr)
    if options.json:
        head = about(versions, rounds=options.rounds, seconds=options.seconds)
        save(options.json, head, as_json(results))
    return None
