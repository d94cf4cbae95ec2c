"""The benchmark of the network: its numbers, its processes, its tables and where `make bench` puts them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from house import benches
from house.benches import BENCHES, asked, filled, tables_of
from net import load
from net.inside import WORK
from net.process import BARE, Missing, has, two_cores
from net.report import Sample, Series, cost_cell, cost_table, cost_text, pace_cell, quantile, ratio
from net.rows import ROWS, Inside, Load, Served
from net.servers import SERVERS
from support.source import ROOT


def sample(cost: float, rate: float = 1000, p50: float | None = None, p99: float | None = None) -> Sample:
    """One second of so many messages, each of which took so many microseconds of processor time."""
    return Sample(rate, 1.0, rate * cost / 1e6, p50, p99)


def test_a_ratio_is_the_median_of_the_rounds_that_both_have() -> None:
    base = Series([sample(10), sample(20), None, sample(40)])
    other = Series([sample(5), sample(30), sample(1), sample(28)])
    assert ratio(other, base) == pytest.approx(0.7)  # of 0.5, 1.5 and 0.7
    assert ratio(Series([None]), base) is None
    assert ratio(other, None) is None


def test_a_cell_is_a_median_and_a_ratio_or_a_dash() -> None:
    row = {
        "uvloop": Series(
            [sample(10, 50_000, 12, 130), sample(12, 52_000, 14, 90), sample(11, 48_000, 13, 99)]
        ),
        "pyloop": Series([sample(5), sample(6), sample(6.6)]),
        "blazio": Series([None, None, None], why="NotImplementedError"),
        "rloop": Series(),
    }
    assert [cost_cell(row, loop) for loop in row] == ["11.0", "6.00 (0.50x)", "-", "-"]
    assert [pace_cell(row, loop) for loop in row] == ["50.0 k; 13.0 / 99.0", "1.00 k", "-", "-"]
    heading, cells = cost_table({"protocol-c64": row}, ROWS, ["uvloop", "pyloop"])
    assert heading[1:] == ["uvloop", "pyloop", "aim"]
    assert cells == [ROWS["protocol-c64"].title, "11.0", "6.00 (0.50x)", "0.75x"]


def test_numbers_have_three_digits() -> None:
    assert [cost_text(x) for x in (0.617, 6.814, 13.26, 812.3)] == ["0.62", "6.81", "13.3", "812"]


def test_a_quantile_is_a_value_that_was_measured() -> None:
    ordered = [float(n) for n in range(200)]
    assert [quantile(ordered, part) for part in (0.5, 0.99)] == [100, 198]
    assert quantile([7.0], 0.99) == 7


def test_the_load_is_not_on_the_core_of_the_server() -> None:
    assert two_cores({0, 1, 2, 3}, lambda core: {core & 2, core | 1}) == (0, 2)  # 0 and 1 are one core
    assert two_cores({5, 4}, lambda _core: {4, 5}) == (4, 5)  # better than nothing
    with pytest.raises(Missing, match="needs 2 cores"):
        two_cores({3}, lambda core: {core})


def test_each_row_has_what_it_names() -> None:
    servers = {row.server for row in ROWS.values() if isinstance(row, Served)}
    assert servers == set(SERVERS)
    assert {name for name, row in ROWS.items() if isinstance(row, Inside)} == set(WORK)
    rust = ROOT / "benches" / "net" / "load" / "src"
    kinds = set(re.findall(r'^\s*\("(\w+)", (?:1|_)\) =>', (rust / "drive.rs").read_text(), re.M))
    assert {row.load.kind for row in ROWS.values() if isinstance(row, Served)} == kinds
    bare = set(re.findall(r'^\s*"(\w+)" => \{', (rust / "serve.rs").read_text(), re.M))
    assert {row.server for row in ROWS.values() if has(BARE, row) and isinstance(row, Served)} == bare
    assert load.PEM.exists()


def test_a_row_is_measured_on_two_loops(tmp_path: Path) -> None:
    """Under load from outside where the load generator has been built, else inside one process."""
    name = "protocol-c64" if load.PROGRAM.exists() else "both-ends"
    report = tmp_path / "report.json"
    command = [sys.executable, str(ROOT / "benches" / "net"), "--loops", "asyncio,pyloop", "--only", name]
    command += ["--rounds", "1", "--seconds", "0.1", "--markdown", "--no-build", "--json", str(report)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if len(os.sched_getaffinity(0)) < 2:
        assert ran.returncode == 1 and "needs 2 cores" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    whole = json.loads(report.read_text())
    assert whole["about"]["how"] == {"rounds": 1, "seconds": 0.1}
    assert whole["about"]["versions"][0].startswith("asyncio of cpython")
    assert whole["rows"][name]["title"] == ROWS[name].title
    found = whole["rows"][name]["loops"]
    assert list(found) == ["asyncio", "pyloop"]
    for loop, series in found.items():
        assert series["why"] == "", loop
        (measured,) = series["samples"]
        assert measured["messages"] > 0
        assert 0.1 <= measured["seconds"] < 10
        assert 0 < measured["processor"] < 2 * measured["seconds"]
        assert 0 < measured["p50"] <= measured["p99"]
    tables = tables_of(ran.stdout)
    assert tables.startswith("asyncio of cpython")
    assert tables.count(f"\n| {ROWS[name].title} ") == 2


def test_the_command_of_a_load_is_in_the_order_of_its_usage() -> None:
    command = load.drive(Load("tcp", 64, 1024), "127.0.0.1:9", 0.5, 42)
    assert command[1:] == ["drive", "tcp", "127.0.0.1:9", "64", "1024", "0.5", "42"]
    usage = (ROOT / "benches" / "net" / "load" / "src" / "main.rs").read_text()
    assert "net-load drive KIND ADDRESS CONNECTIONS BYTES SECONDS PID" in usage


def test_the_readme_gets_new_tables_only_when_asked_to() -> None:
    compare, net = BENCHES
    assert asked([]) == ([compare, net], [], False)
    assert asked(["net", "--rounds", "1"]) == ([net], ["--rounds", "1"], False)
    assert asked(["--update"]) == ([compare, net], [], True)
    assert asked(["compare", "--update", "--rounds", "1"]) == ([compare], ["--rounds", "1"], True)
    with pytest.raises(ValueError, match="--only picks from them"):
        asked(["net", "--only", "udp", "--update"])
    with pytest.raises(ValueError, match="no benchmark 'all': ARGS begins with compare or net or plots"):
        asked(["all"])


def test_an_update_keeps_the_results_and_draws_their_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = BENCHES[1]
    (tmp_path / "benches" / "results").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"<!-- {one.mark}:start -->\n<!-- {one.mark}:end -->\n")
    monkeypatch.setattr(benches, "ROOT", tmp_path)
    monkeypatch.setattr(benches, "REPORTS", tmp_path)
    ran = list[str]()

    class Run:
        def step(self, name: str, command: list[object], *_: object, **__: object) -> bool:
            ran.append(name)
            if name == "bench net":
                (tmp_path / "bench net.log").write_text("what was compared\n\n| a |\n")
                Path(str(command[command.index("--json") + 1])).write_text("the results")
            return True

    class Python:
        exe = "python"

        def env(self) -> dict[str, str]:
            return {}

    for update in (False, True):
        benches._bench(Run(), Python(), one, [], update)  # type: ignore[arg-type]
    assert ran == ["bench net", "bench net", "bench plots"]
    assert (tmp_path / "benches" / "results" / "net.json").read_text() == "the results"
    assert "| a |" in (tmp_path / "README.md").read_text()


def test_tables_go_between_their_marks() -> None:
    output = "noise\n\nwhat was compared\n\n| a |\n| - |\n\n| b |\n\nafterwards\n"
    assert tables_of(output) == "what was compared\n\n| a |\n| - |\n\n| b |"
    assert tables_of("nothing\n") == ""
    text = "head\n<!-- x:start -->\nold\n<!-- x:end -->\ntail\n"
    assert filled(text, "x", "new") == "head\n<!-- x:start -->\nnew\n<!-- x:end -->\ntail\n"
    readme = (ROOT / "README.md").read_text()
    for bench in BENCHES:
        assert (ROOT / bench.script).exists()
        assert filled(readme, bench.mark, "the new ones").count("the new ones") == 1
