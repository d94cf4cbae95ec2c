"""A guard on speed: how many instructions an operation takes, beside a baseline that is kept with the source.

    make bench-check                     compares; too much above the baseline fails
    make bench-check ARGS=--update       writes the baseline of each Python anew
    make bench-check ARGS=sleep0         some workloads only

Instructions, not time: valgrind counts as many of them on a busy machine, and nearly as many each time. A
change for speed is judged by `make bench`; this is there so that none is lost unnoticed. What is counted is
the release build.

Two numbers are kept of each workload. What pyloop's own module does depends on nothing but its source and
the compiler: 3 % more of it fails. All that the process does is another matter. CPython's cache of
methods is indexed by addresses, and what falls together in it costs a few instructions in a hundred,
which change with the place that Python is installed at. So 6 % more fails (a Python function in the way
of a system call is 7 %), and only where Python, the C library, valgrind and the processor's vector
instructions, by which the C library chooses its functions, are those of the baseline. With another
compiler or another Python nothing is counted: the check says what differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from counted import COUNTED, MARKS

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline" / f"{sys.version_info[0]}.{sys.version_info[1]}.json"
TOLERANCE = {"own": 0.03, "all": 0.06}
# What the module's own instructions depend on.
OWN_MADE_WITH = ("python", "rustc", "machine")
SEEDS = (0, 1, 2)
# How a line with a cost begins in callgrind's files: with a number, or a distance from the last one.
POSITION = frozenset("0123456789+-*")
# glibc's malloc keeps seven freed blocks of a size at hand; what comes after them takes a longer way, and how
# many there are is history.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=2000"}


@dataclass(frozen=True)
class Counts:
    """Instructions for one operation of each workload (`own`: in the module), and what counted them."""

    made_with: dict[str, str]
    instructions: dict[str, dict[str, float]]

    @staticmethod
    def load(path: Path) -> Counts:
        return Counts(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(vars(self), indent=2) + "\n")


def made_with() -> dict[str, str]:
    def says(*words: str) -> str:
        try:
            return subprocess.run(words, capture_output=True, text=True).stdout.strip()
        except OSError:
            return "none"

    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "rustc": says("rustc", "--version"),
        "machine": platform.machine(),
        "interpreter": f"{platform.python_version()} {platform.python_compiler()}",
        "libc": " ".join(platform.libc_ver()),
        "valgrind": says("valgrind", "--version"),
        "vectors": _vectors(),
    }


def _vectors() -> str:
    """valgrind shows programs one of few processors, by what the real one has of these."""
    try:
        flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    except OSError:
        return "unknown"
    return " ".join(sorted(flags & {"avx", "avx2", "sse4_2"}))


def count(names: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Runs these workloads under callgrind. Strings are hashed by the seed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = ["valgrind", "--quiet", "--tool=callgrind", "--dump-before=getpgid", "--compress-strings=no"]
        words += [f"--callgrind-out-file={out}", sys.executable, str(HERE / "counted.py"), *names]
        env = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"} | MALLOC
        ran = subprocess.run([*_without_aslr(), *words], env=env)
        if ran.returncode:
            sys.exit(f"the workloads ended with {ran.returncode}")
        # The first part is what came before the first mark, and so on.
        parts = [_totals(out.with_name(f"out.{number + 1}")) for number in range(MARKS * len(names))]
    found = {}
    for number, name in enumerate(names):
        work = COUNTED[name]
        _, few, _, many = parts[MARKS * number : MARKS * (number + 1)]
        operations = (work.many - work.few) * work.operations
        found[name] = {kind: round((many[kind] - few[kind]) / operations, 1) for kind in TOLERANCE}
    return found


def least(names: list[str], found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Counts these in two more ways, and takes the smallest numbers."""
    ways = [found, *(count(names, seed) for seed in SEEDS[1:])]
    return found | {
        name: {kind: min(way[name][kind] for way in ways) for kind in TOLERANCE} for name in names
    }


def _totals(path: Path) -> dict[str, int]:
    """All that callgrind counted, and what of it was in the module."""
    total, own, is_own, is_call = 0, 0, False, False
    for line in path.read_text().splitlines():
        if line.startswith("ob="):
            is_own = "/_native." in line
        elif line.startswith("calls="):
            is_call = True
        elif line.startswith("totals: "):
            total = int(line.split()[1])
        elif line[:1] in POSITION:
            # The line after `calls=` has what the called function took.
            if is_own and not is_call:
                own += int(line.split()[1])
            is_call = False
    assert total and own, f"{path.name} has no totals"
    return {"own": own, "all": total}


def _without_aslr() -> list[str]:
    """Addresses decide the order of some sets. Not each container lets a process choose."""
    words = ["setarch", "-R"]
    if not shutil.which(words[0]) or subprocess.run([*words, "true"], capture_output=True).returncode:
        return []
    return words


def verdict(
    found: dict[str, dict[str, float]], known: dict[str, dict[str, float]], kinds: list[str]
) -> tuple[list[str], list[str]]:
    """The lines of the table, and the workloads that are slower."""
    lines, slower = [f"{'instructions for one operation':32}{'baseline':>10}{'now':>10}"], []
    for name, both in found.items():
        for kind in kinds:
            before, now = known.get(name, {}).get(kind), both[kind]
            title = f"{name}, {kind}"
            if before is None:
                lines.append(f"{title:32}{'':10}{now:10.1f}     new")
                continue
            word = ""
            if now > before * (1 + TOLERANCE[kind]):
                word = "  SLOWER"
                slower.append(name)
            elif now < before * (1 - TOLERANCE[kind]):
                word = "  faster: make bench-check ARGS=--update keeps it"
            lines.append(f"{title:32}{before:10.1f}{now:10.1f}{now / before - 1:+8.1%}{word}")
    return lines, list(dict.fromkeys(slower))


def update(names: list[str], here: dict[str, str]) -> None:
    known = Counts.load(BASELINE) if BASELINE.exists() else Counts(here, {})
    found = least(names, count(names, SEEDS[0]))
    print("\n".join(verdict(found, known.instructions, list(TOLERANCE))[0]))
    kept = known.instructions if known.made_with == here else {}
    Counts(here, {name: (kept | found)[name] for name in COUNTED if name in kept | found}).save(BASELINE)
    print(f"\n{BASELINE.relative_to(HERE.parent)} has what was found")


def compare(names: list[str], here: dict[str, str]) -> int:
    known = Counts.load(BASELINE) if BASELINE.exists() else Counts({}, {})
    different = [key for key in here if known.made_with.get(key) != here[key]]
    if different:
        print("The baseline is of something else:" if known.made_with else "There is no baseline.")
        for key in different if known.made_with else []:
            print(f"  {key}: {known.made_with.get(key)}, and {here[key]} here")
        if "none" in here.values() or any(key in different for key in OWN_MADE_WITH):
            print(f"\n0 passed, 0 failed, {len(names)} skipped")
            return 0
        print("Only the module's own instructions are compared.\n")
    kinds = ["own"] if different else list(TOLERANCE)
    found = count(names, SEEDS[0])
    lines, slower = verdict(found, known.instructions, kinds)
    if slower:
        lines, slower = verdict(found := least(slower, found), known.instructions, kinds)
    print("\n".join(lines))
    print(f"\n{len(found) - len(slower)} passed, {len(slower)} failed")
    return 1 if slower else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Instructions for each operation, beside the baseline.")
    parser.add_argument("names", nargs="*", metavar="workload", help="these, instead of all")
    parser.add_argument("--update", action="store_true", help="write what is found to the baseline")
    arguments = parser.parse_args()
    names = arguments.names or list(COUNTED)
    if unknown := [name for name in names if name not in COUNTED]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(COUNTED)}")
    here = made_with()
    if arguments.update:
        update(names, here)
        return 0
    return compare(names, here)


if __name__ == "__main__":
    sys.exit(main())
