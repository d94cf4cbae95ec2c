"""Operations of a project before and after its move, on each loop: latency, processor time, threads.

    python -P scripts/moved/measure.py NAME --before PYTHON --after PYTHON [--rounds 5] [--only read]

NAME.py beside it has a coroutine `operations(folder)`, which gives the operations by their names. Each
interpreter and loop gets a process of its own, in turn, as often as there are rounds. A process makes each
operation one at a time, then 32 at a time, for a third of a second each. What is printed are medians over the
rounds, as a table in Markdown.

(`-P`: the folder has files with the projects' names.)
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOOPS = ("asyncio", "uvloop", "pyloop")
SECONDS = 0.33
AT_A_TIME = (1, 32)

#: By its name, what makes one awaitable of it.
Operations = dict[str, Callable[[], Awaitable[Any]]]


def operations_of(name: str) -> Callable[[Path], Awaitable[Operations]]:
    spec = importlib.util.spec_from_file_location(f"moved_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    operations: Callable[[Path], Awaitable[Operations]] = module.operations
    return operations


def factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module: Any = __import__(loop)
    made: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return made


async def timed(make: Callable[[], Awaitable[Any]], at_a_time: int, seconds: float) -> dict[str, float]:
    """In microseconds; the processor time is that of all threads."""
    took: list[int] = []
    clock = time.perf_counter_ns

    async def client(ends: int) -> None:
        while (began := clock()) < ends:
            await make()
            took.append(clock() - began)

    cpu = time.process_time_ns()
    ends = clock() + int(seconds * 1e9)
    await asyncio.gather(*[client(ends) for _ in range(at_a_time)])
    cpu = time.process_time_ns() - cpu
    took.sort()
    return {
        "median": statistics.median(took) / 1e3,
        "p99": took[len(took) * 99 // 100] / 1e3,
        "cpu": cpu / len(took) / 1e3,
    }


async def measured(name: str, only: str) -> dict[str, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for operation, make in (await operations_of(name)(Path(folder))).items():
            if not operation.startswith(only):
                continue
            for at_a_time in AT_A_TIME:
                await timed(make, at_a_time, SECONDS / 4)  # what is made once
                row = await timed(make, at_a_time, SECONDS)
                row["threads"] = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
                found[f"{operation}, {at_a_time} at a time"] = row
    return found


def child(name: str, loop: str, only: str) -> None:
    with asyncio.Runner(loop_factory=factory(loop)) as runner:
        print(json.dumps(runner.run(measured(name, only))))


def compare(name: str, sides: dict[str, str], rounds: int, only: str) -> None:
    rows: dict[str, dict[tuple[str, str], list[dict[str, float]]]] = {}
    for _ in range(rounds):
        for loop in LOOPS:
            for side, python in sides.items():
                command = [python, "-P", __file__, name, "--loop", loop, "--only", only]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                for operation, figures in json.loads(output).items():
                    rows.setdefault(operation, {}).setdefault((loop, side), []).append(figures)
    print("| operation | loop | median, us | p99, us | processor, us | threads |")
    print("|---" * 6 + "|")
    for operation, by_loop in rows.items():
        for loop in LOOPS:
            cells = [operation, loop]
            for figure in ("median", "p99", "cpu", "threads"):
                before, after = (
                    statistics.median(each[figure] for each in by_loop[loop, side])
                    for side in ("before", "after")
                )
                if figure == "threads":
                    cells.append(f"{before:.0f} → {after:.0f}")
                else:
                    cells.append(f"{before:.0f} → {after:.0f} ({after / before:.2f})")
            print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--before", help="an interpreter that has the original")
    parser.add_argument("--after", help="an interpreter that has the moved one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="operations whose names begin with it")
    parser.add_argument("--loop", choices=LOOPS, help="measure here, and print JSON")
    options = parser.parse_args()
    if options.loop:
        child(options.name, options.loop, options.only)
    else:
        sides = {"before": options.before, "after": options.after}
        compare(options.name, sides, options.rounds, options.only)


if __name__ == "__main__":
    main()
