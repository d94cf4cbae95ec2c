"""The command line: `python -m tests.fuzz`. Exit status 1 if a program does not do what it does on asyncio.

Ten thousand programs, always the same ones, unless it is told otherwise:

    make fuzz ARGS="--start 1000000 --count 500000 --jobs 2"      others, and many
    make fuzz ARGS="--seed 4711"                                  one, and what happened in it
"""

from __future__ import annotations

import argparse
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import grammar, play
from .grammar import Program
from .shrink import shrink
from .worker import Failure, beside, quiet

PACKAGE = __package__ or "fuzz"
# So that `-m` finds the package whatever it is called here.
TOP = Path(__file__).resolve().parents[len(PACKAGE.split("."))]
WORKER = (sys.executable, "-m", f"{PACKAGE}.worker")
PATIENCE = 60.0  # seconds for one program


@dataclass
class Fuzz:
    """Programs, some at a time in a worker, and what came of them."""

    jobs: int = 1
    worker: tuple[str, ...] = WORKER
    chunk: int = 1000
    patience: float = PATIENCE
    shrinking: float = 60.0  # seconds for a program that ends its process: each trial needs a new one
    most: int = 5  # failures, then it is enough
    report: Callable[[Failure], None] = lambda _failure: None
    failures: list[Failure] = field(default_factory=list)
    ran: int = 0

    def run(self, start: int, count: int) -> None:
        stop = start + count
        chunks = [(at, min(stop, at + self.chunk)) for at in range(start, stop, self.chunk)]
        with ThreadPoolExecutor(self.jobs) as pool:
            for done in [pool.submit(self._chunk, *chunk) for chunk in chunks]:
                done.result()

    def _chunk(self, start: int, stop: int) -> None:
        while start < stop and len(self.failures) < self.most:
            begun, start = start, self._work(start, stop)
            self.ran += start - begun

    def _work(self, start: int, stop: int) -> int:
        """One worker: the seed after the last that it has dealt with."""
        with tempfile.NamedTemporaryFile() as at:
            at.write(b"%-20d" % start)
            at.flush()
            child = subprocess.Popen(
                [*self.worker, "range", str(start), str(stop), at.name],
                cwd=TOP,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            output, errors, hung = self._watch(child, Path(at.name))
            for line in output.splitlines():
                self._failed(Failure.parse(line))
            if child.returncode == 0:
                return stop
            seed = int(Path(at.name).read_text())
        self._failed(self._died(seed, child.returncode, hung, errors))
        return seed + 1

    def _watch(self, child: subprocess.Popen[str], at: Path) -> tuple[str, str, bool]:
        """What it prints until it ends; True: it was ended, because it was at one seed for too long."""
        seed, since, hung = b"", time.monotonic(), False
        while True:
            try:
                return (*child.communicate(timeout=self.patience / 10), hung)
            except subprocess.TimeoutExpired:
                if (now := at.read_bytes()) != seed:
                    seed, since = now, time.monotonic()
                elif time.monotonic() - since > self.patience:
                    hung = True
                    child.kill()

    def _died(self, seed: int, code: int, hung: bool, errors: str) -> Failure:
        why = f"hangs for {self.patience:g} s" if hung else f"ends the process: {_exit(code)}"
        patience = min(self.patience, 5.0)

        def still(program: Program) -> bool:
            words = [*self.worker, "program"]
            try:
                ran = subprocess.run(
                    words, cwd=TOP, input=pickle.dumps(program), capture_output=True, timeout=patience
                )
            except subprocess.TimeoutExpired:
                return hung
            return not hung and ran.returncode == code

        program = grammar.make(seed)
        smallest = shrink(program, still, self.shrinking)
        return Failure(seed, why, f"{smallest.text()}\n\n{errors[-4000:]}")

    def _failed(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.report(failure)


def _exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _print(failure: Failure) -> None:
    print(f"\n--- seed {failure.seed} {failure.why}\n{failure.text}\n")
    print(f'run it alone: make fuzz ARGS="--seed {failure.seed}"', flush=True)


def _show(seed: int) -> int:
    program = grammar.make(seed)
    print(program.text() + "\n", flush=True)
    quiet()
    theirs, ours = play.both(program)
    print(beside(theirs, ours))
    return theirs != ours


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Random programs on asyncio's loop and on pyloop's."
    )
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=10_000, help="how many programs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seed", type=int, help="run this one here, and print what happens in it")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _show(arguments.seed)
    began = time.monotonic()
    fuzz = Fuzz(arguments.jobs, report=_print)
    fuzz.run(arguments.start, arguments.count)
    if fuzz.ran < arguments.count:
        print(f"\n{fuzz.ran} of {arguments.count} programs: that many failures are enough")
    seeds = f"seeds {arguments.start} to {arguments.start + fuzz.ran - 1}"
    print(f"\n{seeds}, {os.cpu_count()} cores, {time.monotonic() - began:.0f} s")
    print(f"{fuzz.ran - len(fuzz.failures)} passed, {len(fuzz.failures)} failed")
    return 1 if fuzz.failures else 0


if __name__ == "__main__":
    sys.exit(main())
