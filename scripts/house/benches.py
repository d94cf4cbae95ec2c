"""The benchmarks, and their tables in README.md; the guard on speed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from house.counts import Counts, count_words
from house.pythons import Python
from house.settings import ARGS, REPORTS, ROOT
from house.steps import Result, Run

# With these a benchmark still measures everything that its table in README.md has.
_WHOLE = {"--rounds", "--seconds"}


@dataclass(frozen=True)
class Bench:
    """A benchmark: what ARGS call it, what is run, and the word of the marks around its table."""

    name: str
    script: str
    mark: str


BENCHES = (Bench("compare", "benches/compare.py", "bench"), Bench("net", "benches/net", "bench-net"))


def bench(run: Run, py: Python) -> int:
    """Runs both, or that which is named first in ARGS with what follows there."""
    chosen = [found for found in BENCHES if not ARGS or found.name == ARGS[0]]
    if not chosen:
        print(f"no benchmark {ARGS[0]!r}: ARGS begins with {' or '.join(known.name for known in BENCHES)}")
        return 2
    if not py.ready(run, "build", "bench"):
        return run.summary()
    for one in chosen:
        _bench(run, py, one, ARGS[1:])
    return run.summary()


def _bench(run: Run, py: Python, one: Bench, args: list[str]) -> None:
    """Unless some rows or loops are picked, its tables go between its marks in README.md."""
    REPORTS.mkdir(exist_ok=True)
    name = f"bench {one.name}"
    command = [py.exe, ROOT / one.script, "--markdown", "--json", REPORTS / f"{name}.json", *args]
    if not run.step(name, command, py.env(), minutes=90):
        return
    options = {arg.split("=")[0] for arg in args if arg.startswith("-")}
    tables = tables_of((REPORTS / f"{name}.log").read_text())
    if tables and options <= _WHOLE:
        readme = ROOT / "README.md"
        readme.write_text(filled(readme.read_text(), one.mark, tables))
        print(f"\nREADME.md has the new table of {one.name}.")


def tables_of(output: str) -> str:
    """From the paragraph before the first table, which says what was compared, to the end of the last."""
    lines = output.strip().splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    return "\n".join(lines[max(0, rows[0] - 2) : rows[-1] + 1]) if rows else ""


def filled(text: str, mark: str, tables: str) -> str:
    """The document with these tables in the place of those between the marks."""
    start, end = f"<!-- {mark}:start -->", f"<!-- {mark}:end -->"
    head, rest = text.split(start)
    tail = rest.split(end)[1]
    return f"{head}{start}\n{tables}\n{end}{tail}"


def bench_check(run: Run, py: Python, args: list[str], show: bool = True) -> None:
    """Counts instructions, where valgrind is there to count them."""
    name = f"{py.version} bench-check"
    if not shutil.which("valgrind"):
        why = "skipped: no valgrind (Debian: apt install valgrind)"
        run.results.append(Result(name, ok=True, counts=Counts(skipped=1), note=why))
        return
    run.step(name, [py.exe, ROOT / "benches" / "check.py", *args], py.env(), count_words, show=show)
