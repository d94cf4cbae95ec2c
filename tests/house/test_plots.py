"""The pictures of documents are drawn from numbers, which the project has. A tenth of a second in all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import plots
import timeline
from record import about, save
from support.source import ROOT
from svg import fitting

PICTURES = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def words(picture: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def tips(picture: str) -> list[str]:
    boxes = ElementTree.fromstring(picture).iter(f"{SVG}rect")
    return [found.text or "" for box in boxes if (found := box.find(f"{SVG}title")) is not None]


def sample(micros: float, p99: float | None = None) -> dict[str, float | None]:
    """A thousand messages that took so many microseconds of processor time each."""
    return {"messages": 1000, "seconds": 1.0, "processor": micros / 1000, "p50": p99, "p99": p99}


@pytest.fixture
def compare(tmp_path: Path) -> dict[str, Any]:
    rows = {
        "soon": {"title": "call_soon", "target": 4, "loops": {
            "uvloop": {"rates": [1e6, 2e6, 4e6]},
            "pyloop": {"rates": [4e6, 5e6, 8e6]},
            "rloop": {"rates": []},
        }},
    }  # fmt: skip
    return saved(tmp_path, rows, clock="wall", rounds=3, slices=6, seconds=0.12)


@pytest.fixture
def net(tmp_path: Path) -> dict[str, Any]:
    rows = {
        "tcp": {"title": "protocol", "aim": None, "loops": {
            "uvloop": {"samples": [sample(10, 50), sample(20, 60), None]},
            "pyloop": {"samples": [sample(5, 20), sample(20, 10), sample(7, 30)]},
            "asyncio": {"samples": [sample(900), sample(800), sample(700)]},
        }},
        "none": {"title": "nobody has it", "aim": None, "loops": {
            "uvloop": {"samples": [None]}, "pyloop": {"samples": [None]},
        }},
    }  # fmt: skip
    return saved(tmp_path, rows, rounds=3, seconds=1.0)


def saved(folder: Path, rows: dict[str, Any], **how: object) -> dict[str, Any]:
    save(folder / "report.json", about(["uvloop 1.0", "rloop is left out: no"], **how), rows)
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_report_says_where_when_and_with_what(net: dict[str, Any]) -> None:
    head = net["about"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", head["date"])
    assert head["versions"] == ["uvloop 1.0", "rloop is left out: no"]
    assert head["machine"]["cores"] > 0 and head["machine"]["system"]
    assert head["how"] == {"rounds": 3, "seconds": 1.0}
    assert net["rows"]["tcp"]["loops"]["asyncio"]["samples"][2] == sample(700)


def test_every_loop_has_a_bar_with_its_least_median_and_most(
    compare: dict[str, Any], net: dict[str, Any]
) -> None:
    drawn = plots.drawn(compare, net)
    assert tips(drawn["compare.svg"]) == [
        "uvloop: 500 ns (250 ns to 1.00 us)",
        "pyloop: 200 ns (125 ns to 250 ns)",
    ]
    assert tips(drawn["net-costs.svg"]) == [
        "uvloop: 15.0 us (10.0 us to 20.0 us)",
        "pyloop: 7.00 us (5.00 us to 20.0 us)",
        "asyncio: 800 us (700 us to 900 us)",
    ]
    assert tips(drawn["net-p99.svg"]) == [
        "uvloop: 55.0 us (50.0 us to 60.0 us)",
        "pyloop: 20.0 us (10.0 us to 30.0 us)",
    ]
    for picture in drawn.values():
        shown = words(picture)
        assert any("uvloop 1.0" in line and "left out" not in line for line in shown)
        assert any("medians of 3 rounds" in line for line in shown)
        assert "nobody has it" not in shown


def test_a_number_that_is_far_from_the_others_is_cut_off_and_says_so(
    compare: dict[str, Any], net: dict[str, Any]
) -> None:
    drawn = plots.drawn(compare, net)
    assert "800 us >" in words(drawn["net-costs.svg"])
    assert "65x" in words(drawn["net-ratios.svg"])  # of 90 and 40


def test_a_ratio_is_of_the_same_round(compare: dict[str, Any], net: dict[str, Any]) -> None:
    picture = ElementTree.fromstring(plots.drawn(compare, net)["net-ratios.svg"])
    (middle,) = (
        float(dot.attrib["cx"])
        for dot in picture.iter(f"{SVG}circle")
        if dot.attrib["fill"] == plots.COLOURS["pyloop"] and dot.attrib["r"] == "4"
    )
    axis = {each.text: float(each.attrib["x"]) for each in picture.iter(f"{SVG}text")}
    # The median of 0.5 and 1, and nothing of the round that uvloop does not have.
    assert axis["0.5x"] < middle < axis["uvloop"]


def test_the_plots_of_the_documents_are_those_of_the_results() -> None:
    drawn = plots.drawn(plots.read("compare"), plots.read("net"))
    found = {path.name: path.read_text() for path in plots.PLOTS.iterdir()}
    assert found.keys() == drawn.keys()
    for name, text in drawn.items():
        assert found[name] == text, f"{name}: make bench ARGS=plots"


def test_each_plot_is_on_the_page_of_performance() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert {path.name for path in plots.PLOTS.iterdir()} == set(re.findall(r"\(plots/([\w-]+\.svg)\)", page))


# ---- a timeline ----


def event(name: str, category: str, ts: float, dur: float, **args: object) -> dict[str, Any]:
    return {"name": name, "cat": category, "ph": "X", "ts": ts, "dur": dur, "pid": 1, "tid": 1, "args": args}


EVENTS = [
    event("work.<locals>.step", "step", 100, 60),
    event("sleep", "rust", 110, 50),
    event("asyncio.streams.StreamReaderProtocol", "callback", 160, 30),
    event("receive", "io", 161, 5, bytes=12),
    event("send", "io", 180, 9, bytes=13),
    event("park", "park", 190, 10),
]


def test_what_is_within_another_is_below_it() -> None:
    assert [depth for depth, _ in timeline.depths(EVENTS)] == [0, 1, 0, 1, 1, 0]


def test_a_timeline_has_each_record_in_its_place() -> None:
    text = timeline.draw({"traceEvents": EVENTS}, 100, 200)
    scale = (timeline.WIDTH - timeline.LEFT - timeline.RIGHT) / 100
    boxes = {
        found.text: (float(box.attrib["x"]), float(box.attrib["y"]))
        for box in ElementTree.fromstring(text).iter(f"{SVG}rect")
        if (found := box.find(f"{SVG}title")) is not None
    }
    assert boxes == {
        "work.step: 60 us": (timeline.LEFT, timeline.TOP),
        "sleep: 50 us": (pytest.approx(timeline.LEFT + 10 * scale, abs=0.01), timeline.TOP + timeline.ROW),
        "StreamReaderProtocol: 30 us": (pytest.approx(timeline.LEFT + 60 * scale, abs=0.01), timeline.TOP),
        "receive: 5 us, 12 bytes": (
            pytest.approx(timeline.LEFT + 61 * scale, abs=0.01),
            timeline.TOP + timeline.ROW,
        ),
        "send: 9 us, 13 bytes": (
            pytest.approx(timeline.LEFT + 80 * scale, abs=0.01),
            timeline.TOP + timeline.ROW,
        ),
        "park: 10 us": (pytest.approx(timeline.LEFT + 90 * scale, abs=0.01), timeline.TOP),
    }
    assert "work.step" in words(text) and "100 us" in words(text)
    # None of it is outside of two times.
    assert tips(timeline.draw({"traceEvents": EVENTS}, 195, 200)) == ["park: 10 us"]


def test_the_timeline_of_the_documents_is_that_of_its_trace() -> None:
    document = json.loads((PICTURES / "trace.json").read_text())
    assert (PICTURES / "trace.svg").read_text() == timeline.draw(document), (
        "benches/timeline.py has the command"
    )


def test_words_are_as_long_as_there_is_room() -> None:
    assert fitting("call_soon", 100, 10) == "call_soon"
    assert fitting("call_soon", 40, 10) == "call_…"
    assert fitting("call_soon", 15, 10) == ""
