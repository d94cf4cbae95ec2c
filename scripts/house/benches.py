"""The benchmarks, their tables in README.md, their results and the plots of them; the guard on speed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

from house.counts import Counts, count_words
from house.pythons import Python
from house.settings import ARGS, REPORTS, ROOT
from house.steps import Result, Run

# Has the tables in README.md replaced, the results kept and the plots drawn; not handed on.
UPDATE = "--update"
# Has the plots drawn of the results that there are.
PLOTS = ["plots"]
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
    """Runs both, or that which is named first in ARGS with what follows there; or draws the plots."""
    if ARGS == PLOTS:
        _draw(run)
        return run.summary()
    try:
        chosen, args, update = asked(ARGS)
    except ValueError as refused:
        print(refused)
        return 2
    if not py.ready(run, "build", "bench"):
        return run.summary()
    for one in chosen:
        _bench(run, py, one, args, update)
    return run.summary()


def asked(words: list[str]) -> tuple[list[Bench], list[str], bool]:
    """What ARGS ask for: the benchmarks, their arguments, and whether the project keeps what they find.

    Raises ValueError for what they cannot mean.
    """
    update = UPDATE in words
    words = [word for word in words if word != UPDATE]
    # Without a name: both, as they are or with what fits both.
    named = bool(words) and not words[0].startswith("-")
    chosen = [known for known in BENCHES if not named or known.name == words[0]]
    if not chosen:
        known = " or ".join([*(known.name for known in BENCHES), *PLOTS])
        raise ValueError(f"no benchmark {words[0]!r}: ARGS begins with {known}")
    args = words[1:] if named else words
    picked = {arg.split("=")[0] for arg in args if arg.startswith("-")} - _WHOLE
    if update and picked:
        raise ValueError(f"{UPDATE} is for whole tables, and {', '.join(sorted(picked))} picks from them")
    return chosen, args, update


def _bench(run: Run, py: Python, one: Bench, args: list[str], update: bool) -> None:
    REPORTS.mkdir(exist_ok=True)
    name = f"bench {one.name}"
    report = REPORTS / f"{name}.json"
    command = [py.exe, ROOT / one.script, "--markdown", "--json", report, *args]
    if not run.step(name, command, py.env(), minutes=90):
        return
    tables = tables_of((REPORTS / f"{name}.log").read_text())
    if tables and update:
        readme = ROOT / "README.md"
        readme.write_text(filled(readme.read_text(), one.mark, tables))
        print(f"\nREADME.md has the new table of {one.name}.")
        shutil.copyfile(report, ROOT / "benches" / "results" / f"{one.name}.json")
        _draw(run)


def _draw(run: Run) -> None:
    """The plots in docs/plots, of the results of the project."""
    run.step("bench plots", [sys.executable, ROOT / "benches" / "plots.py"])


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
