"""A guard on speed: how many instructions an operation takes, beside a baseline that is kept with the source.

    make bench-check                     compares; more than 3 % above the baseline fails
    make bench-check ARGS=--update       writes the baseline of each Python anew
    make bench-check ARGS=sleep0         some workloads only

Instructions, not time: valgrind counts as many of them on a busy machine, and nearly as many each time. A
change for speed is judged by `make bench`; this is there so that none is lost unnoticed. What is counted is
the release build.

A baseline is of one Python, one compiler and one C library. Elsewhere its numbers mean little: there the
check says what differs, and counts nothing.
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
TOLERANCE = 0.03
SEEDS = (0, 1, 2)
# glibc's malloc keeps seven freed blocks of a size at hand; what comes after them takes a longer way, and how
# many there are is history.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=2000"}


@dataclass(frozen=True)
class Counts:
    """Instructions for one operation of each workload, and what they were counted with."""

    made_with: dict[str, str]
    instructions: dict[str, float]

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
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "rustc": says("rustc", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "valgrind": says("valgrind", "--version"),
    }


def count(names: list[str], seed: int) -> dict[str, float]:
    """Runs these workloads under callgrind. Strings are hashed by the seed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = ["valgrind", "--quiet", "--tool=callgrind", "--dump-before=getpgid"]
        words += [f"--callgrind-out-file={out}", sys.executable, str(HERE / "counted.py"), *names]
        env = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"} | MALLOC
        ran = subprocess.run([*_without_aslr(), *words], env=env)
        if ran.returncode:
            sys.exit(f"the workloads ended with {ran.returncode}")
        # The first part is what came before the first mark, and so on.
        parts = [_total(out.with_name(f"out.{number + 1}")) for number in range(MARKS * len(names))]
    found = {}
    for number, name in enumerate(names):
        work = COUNTED[name]
        _, few, _, many = parts[MARKS * number : MARKS * (number + 1)]
        found[name] = round((many - few) / ((work.many - work.few) * work.operations), 1)
    return found


def least(names: list[str], found: dict[str, float]) -> dict[str, float]:
    """Counts these in two more ways. CPython's cache of methods is indexed by addresses: what falls together
    in it costs up to one instruction in a hundred, and changes with anything.
    """
    others = [count(names, seed) for seed in SEEDS[1:]]
    return found | {name: min(found[name], *(other[name] for other in others)) for name in names}


def _total(path: Path) -> int:
    found = re.search(r"^totals: (\d+)", path.read_text(), re.M)
    assert found, f"{path.name} has no totals"
    return int(found[1])


def _without_aslr() -> list[str]:
    """Addresses decide the order of some sets. Not each container lets a process choose."""
    words = ["setarch", "-R"]
    if not shutil.which(words[0]) or subprocess.run([*words, "true"], capture_output=True).returncode:
        return []
    return words


def verdict(found: dict[str, float], known: dict[str, float]) -> tuple[list[str], int]:
    """The lines of the table, and how many of them are slower."""
    lines, slower = [f"{'instructions for one operation':32}{'baseline':>10}{'now':>10}"], 0
    for name, now in found.items():
        before = known.get(name)
        if before is None:
            lines.append(f"{name:32}{'':10}{now:10.1f}     new")
            continue
        word = ""
        if now > before * (1 + TOLERANCE):
            slower, word = slower + 1, "  SLOWER"
        elif now < before * (1 - TOLERANCE):
            word = "  faster: make bench-check ARGS=--update keeps it"
        lines.append(f"{name:32}{before:10.1f}{now:10.1f}{now / before - 1:+8.1%}{word}")
    return lines, slower


def update(names: list[str], here: dict[str, str]) -> None:
    known = Counts.load(BASELINE) if BASELINE.exists() else Counts(here, {})
    found = least(names, count(names, SEEDS[0]))
    print("\n".join(verdict(found, known.instructions)[0]))
    kept = known.instructions if known.made_with == here else {}
    Counts(here, {name: (kept | found)[name] for name in COUNTED if name in kept | found}).save(BASELINE)
    print(f"\n{BASELINE.relative_to(HERE.parent)} has what was found")


def compare(names: list[str], here: dict[str, str]) -> int:
    known = Counts.load(BASELINE) if BASELINE.exists() else Counts({}, {})
    if known.made_with != here:
        print("The baseline is of something else:" if known.made_with else "There is no baseline.")
        for key, value in here.items():
            if known.made_with and known.made_with.get(key) != value:
                print(f"  {key}: {known.made_with.get(key)}, and {value} here")
        print(f"\n0 passed, 0 failed, {len(names)} skipped")
        return 0
    found = count(names, SEEDS[0])
    lines, slower = verdict(found, known.instructions)
    if slower:
        high = [name for name in names if verdict({name: found[name]}, known.instructions)[1]]
        lines, slower = verdict(found := least(high, found), known.instructions)
    print("\n".join(lines))
    print(f"\n{len(found) - slower} passed, {slower} failed")
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
