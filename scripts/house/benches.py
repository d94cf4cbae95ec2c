"""The benchmarks, and their table in README.md; the guard on speed."""

from __future__ import annotations

import shutil

from house.counts import Counts, count_words
from house.pythons import Python
from house.settings import ARGS, REPORTS, ROOT
from house.steps import Result, Run

BENCH_START, BENCH_END = "<!-- bench:start -->", "<!-- bench:end -->"


def bench(run: Run, py: Python) -> int:
    """Runs benches/compare.py; without ARGS its table goes between the two marks of README.md."""
    if not py.ready(run, "build", "bench"):
        return run.summary()
    REPORTS.mkdir(exist_ok=True)
    command = [py.exe, ROOT / "benches" / "compare.py", "--markdown", "--json", REPORTS / "bench.json", *ARGS]
    if not run.step("bench", command, py.env(), minutes=90):
        return run.summary()
    # What was compared, an empty line, the table.
    lines = (REPORTS / "bench.log").read_text().strip().splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("|")), None)
    table = "\n".join(lines[max(0, first - 2) :]) if first is not None else ""
    readme = ROOT / "README.md"
    text = readme.read_text()
    if table and not ARGS:
        head, rest = text.split(BENCH_START)
        tail = rest.split(BENCH_END)[1]
        readme.write_text(f"{head}{BENCH_START}\n{table}\n{BENCH_END}{tail}")
        print("\nREADME.md has the new table.")
    return 0


def bench_check(run: Run, py: Python, args: list[str], show: bool = True) -> None:
    """Counts instructions, where valgrind is there to count them."""
    name = f"{py.version} bench-check"
    if not shutil.which("valgrind"):
        why = "skipped: no valgrind (Debian: apt install valgrind)"
        run.results.append(Result(name, ok=True, counts=Counts(skipped=1), note=why))
        return
    run.step(name, [py.exe, ROOT / "benches" / "check.py", *args], py.env(), count_words, show=show)
