"""The steps of one `make`, and what came of them."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from house.counts import Counts
from house.process import environment, tee
from house.settings import CORES, REPORTS, ROOT

LAST_LINES = 40


@dataclass
class Result:
    """What came of one step; as a condition, whether it passed."""

    step: str
    ok: bool
    seconds: float = 0.0
    counts: Counts | None = None
    note: str = ""
    failures: list[str] = field(default_factory=list)  # pytest's lines of what failed
    last: list[str] = field(default_factory=list)  # where there are none: the last lines of the output

    def __bool__(self) -> bool:
        return self.ok


@dataclass
class Run:
    """The steps of one `make` and what came of them."""

    results: list[Result] = field(default_factory=list)

    def step(
        self,
        name: str,
        command: Iterable[object],
        env: dict[str, str] | None = None,
        count: Callable[[str], Counts | None] = lambda _output: None,
        judge: Callable[[str], str] = lambda _output: "",
        minutes: float = 20,
        log: bool = True,
        show: bool = True,
    ) -> Result:
        """Runs one command. `count` reads the tests out of its output; what `judge` says fails the step."""
        words = [str(word) for word in command]
        print(f"\n=== {name}: {' '.join(_short(w) for w in words)}", flush=True)
        began = time.monotonic()
        file = REPORTS / f"{name}.log" if log else None
        code, output = tee(words, environment(env or {}), file, minutes, show)
        note = judge(output)
        if code is None:
            note = f"stopped after {minutes:g} minutes"
        elif code and not note:
            note = f"exit code {code}"
        if not show:
            lines = output.splitlines()
            print(f"\n=== {name}, {'all' if note else 'the end'} of its output:")
            print("\n".join(lines if note else lines[-5:]), flush=True)
        failures = re.findall(r"^(?:FAILED|ERROR) tests/.*", output, re.M)
        seconds = time.monotonic() - began
        # A run that ended before it named what failed: its last lines say where it was.
        last = output.splitlines()[-LAST_LINES:] if note and not failures else []
        result = Result(name, code == 0 and not note, seconds, count(output), note, failures, last)
        self.results.append(result)
        if note:
            print(f"=== {name}: FAILED: {note}", flush=True)
        return result

    def result(self, name: str) -> Result:
        return next(r for r in self.results if r.step == name)

    def together(self, steps: Iterable[Callable[[], object]]) -> None:
        """Runs steps side by side, as many as there are cores."""
        with ThreadPoolExecutor(max_workers=CORES) as pool:
            for done in [pool.submit(step) for step in steps]:
                done.result()

    def missed(self, names: Iterable[str], why: str) -> None:
        self.results += [Result(name, ok=False, note=why) for name in names]

    def summary(self) -> int:
        """Prints what happened; the exit code."""
        width = max(len(r.step) for r in self.results)
        print("\n" + "=" * 78)
        for r in self.results:
            what = str(r.counts) if r.counts else ("ok" if r.ok else "")
            note = f"  {r.note}" if r.note else ""
            print(f"{'ok  ' if r.ok else 'FAIL'}  {r.step:<{width}}  {r.seconds:7.1f} s  {what}{note}")
        bad = [r for r in self.results if not r.ok]
        if bad:
            print(
                "\nFailed: " + ", ".join(r.step for r in bad) + f"  (full output: {REPORTS.name}/<step>.log)"
            )
        for r in self.results:
            print("".join(f"\n{r.step}: {line}" for line in r.failures or r.last), end="")
        passed = sum(r.counts.passed for r in self.results if r.counts)
        # A step that failed without saying how many of its tests did counts as one.
        failed = sum(max(r.counts.failed if r.counts else 0, 0 if r.ok else 1) for r in self.results)
        if passed or failed:
            print(f"\n{passed} passed, {failed} failed")
        else:
            print("\nAll well.")
        return 1 if bad else 0


def _short(word: str) -> str:
    return shlex.quote(word.replace(f"{ROOT}/", ""))
