"""Runs programs in a process of its own, which may crash or hang.

`python -m tests.fuzz.worker range START STOP FILE` runs each seed; FILE always says which one it is at.
`python -m tests.fuzz.worker program` runs the pickled program that comes by the standard input.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import pickle
import signal
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from .grammar import Program, make
from .play import both
from .shrink import shrink

DIFFERS = 3  # exit code of `program`


@dataclass(frozen=True)
class Failure:
    """A program that does not do what it does on asyncio."""

    seed: int
    why: str
    text: str  # the smallest program that does it, and what it does

    def line(self) -> str:
        return json.dumps([self.seed, self.why, self.text])

    @staticmethod
    def parse(line: str) -> Failure:
        seed, why, text = json.loads(line)
        return Failure(int(seed), str(why), str(text))


def compare(program: Program) -> Failure | None:
    """Runs it on both; a program that differs is made smaller."""
    theirs, ours = both(program)
    if theirs == ours:
        return None
    smallest = shrink(program, differs)
    theirs, ours = both(smallest)
    why = f"differs ({program.size()} instructions, {smallest.size()} of them are enough)"
    return Failure(program.seed, why, f"{smallest.text()}\n\n{beside(theirs, ours)}")


def differs(program: Program) -> bool:
    theirs, ours = both(program)
    return theirs != ours


def beside(theirs: list[str], ours: list[str]) -> str:
    """What happened: with = what is the same on both, else what asyncio did and what the other did."""
    lines = []
    for their, our in zip_longest(theirs, ours, fillvalue="(nothing)"):
        lines += [f"  = {their}"] if their == our else [f"asyncio {their}", f"   ours {our}"]
    return "\n".join(lines)


def quiet() -> None:
    """What programs provoke is in what they note."""
    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.collect()
    gc.freeze()


def run_range(start: int, stop: int, at: Path) -> None:
    quiet()
    with at.open("r+b", buffering=0) as file:
        faulthandler.enable()
        for seed in range(start, stop):
            file.seek(0)
            file.write(b"%-20d" % seed)
            if failure := compare(make(seed)):
                print(failure.line(), flush=True)


def main(args: list[str]) -> int:
    if args[0] == "range":
        run_range(int(args[1]), int(args[2]), Path(args[3]))
        return 0
    quiet()
    return DIFFERS if differs(pickle.load(sys.stdin.buffer)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
