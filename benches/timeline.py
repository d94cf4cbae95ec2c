"""A trace (`pyloop.trace`) as a picture, in the way of Perfetto: for documents, which cannot show a program.

    python examples/traced.py trace.json
    python benches/timeline.py trace.json docs/pictures/trace.svg --keep docs/pictures/trace.json

`--from` and `--to` show a part of it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from svg import INK, PALE, Picture, fitting

WIDTH, LEFT, RIGHT, TOP = 960.0, 96.0, 12.0, 64.0
ROW, SIZE = 22.0, 11.0
COLOURS = {
    "step": ("#3b6fb5", "#ffffff", "step of a task"),
    "callback": ("#7b5aa6", "#ffffff", "callback"),
    "rust": ("#c8602a", "#ffffff", "poll of a Rust future"),
    "io": ("#2f855a", "#ffffff", "receive, send"),
    "park": ("#e3e7ec", PALE, "asleep"),
    "gil": ("#c53030", "#ffffff", "waits for the GIL"),
}


def depths(events: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Each event, and how many it is inside of."""
    placed, around = list[tuple[int, dict[str, Any]]](), list[dict[str, Any]]()
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"] + event["dur"] / 2:
            around.pop()
        placed.append((len(around), event))
        around.append(event)
    return placed


def step_of_axis(span: float) -> float:
    """Between two marks of the axis: 1, 2 or 5 with noughts, for some ten marks."""
    step = 1.0
    while span / step > 12:
        step *= 2.5 if str(step)[0] == "2" else 2
    return step


def name_of(event: dict[str, Any]) -> str:
    """A function by its name in its module, a class without its module."""
    name = str(event["name"]).replace("<locals>.", "")
    return name.rpartition(".")[2] if event["cat"] == "callback" else name


def draw(document: dict[str, Any], begin: float | None = None, end: float | None = None) -> str:
    """The picture of the records between two times, in microseconds since the trace began."""
    every = [event for event in document["traceEvents"] if event["ph"] == "X"]
    begin = min(event["ts"] for event in every) if begin is None else begin
    end = max(event["ts"] + event["dur"] for event in every) if end is None else end
    shown = [event for event in every if event["ts"] < end and event["ts"] + event["dur"] > begin]
    loops = sorted({event["tid"] for event in shown})
    rows = [depths([event for event in shown if event["tid"] == loop]) for loop in loops]
    heights = [1 + max(depth for depth, _ in row) for row in rows]
    height = TOP + sum(heights) * ROW + len(rows) * 10 + 10
    picture = Picture(WIDTH, height, "a trace of a program, as a timeline")
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)
    _legend(picture, {event["cat"] for event in shown})
    step = step_of_axis(end - begin)
    mark = 0.0
    while mark <= end - begin:
        x = LEFT + mark * scale
        picture.line(x, TOP - 10, x, height - 8)
        picture.words(x, TOP - 16, f"{mark:g} us", size=SIZE, fill=PALE, at="middle")
        mark += step
    y = TOP
    for number, (row, lines) in enumerate(zip(rows, heights, strict=True), 1):
        name = f"event loop {number}" if len(rows) > 1 else "event loop"
        picture.words(10, y + ROW * 0.68, name, size=12, bold=True)
        for depth, event in row:
            _slice(picture, event, LEFT + (event["ts"] - begin) * scale, y + depth * ROW, scale)
        y += lines * ROW + 10
    return str(picture)


def _slice(picture: Picture, event: dict[str, Any], x: float, y: float, scale: float) -> None:
    fill, ink, _ = COLOURS[event["cat"]]
    right = min(x + event["dur"] * scale, WIDTH - RIGHT)
    x = max(x, LEFT)
    width = max(right - x, 0.8)
    size = event.get("args", {}).get("bytes")
    name = name_of(event)
    tip = f"{name}: {event['dur']:g} us" + (f", {size} bytes" if size is not None else "")
    # A little of the page is seen between two.
    picture.box(x, y, max(width - 0.6, 0.6), ROW - 2, fill, tip)
    if text := fitting(name, width - 8, SIZE):
        picture.words(x + 4, y + ROW * 0.65, text, size=SIZE, fill=ink)


def _legend(picture: Picture, categories: set[str]) -> None:
    x = LEFT
    for category, (fill, _, words) in COLOURS.items():
        if category in categories:
            picture.box(x, 12, 12, 12, fill)
            picture.words(x + 17, 22, words, size=12, fill=INK)
            x += 17 + len(words) * 6.6 + 18


def portable(document: dict[str, Any]) -> dict[str, Any]:
    """The same trace without the folders of the machine."""
    for event in document["traceEvents"]:
        if source := event.get("args", {}).get("source"):
            event["args"]["source"] = source.rpartition("/")[2]
    return document


def as_json(document: dict[str, Any]) -> str:
    """A record a line, as `pyloop.trace` writes it."""
    records = ",\n".join(json.dumps(event) for event in document["traceEvents"])
    rest = {name: value for name, value in document.items() if name != "traceEvents"}
    return f'{{"traceEvents": [\n{records}\n], {json.dumps(rest)[1:]}\n'


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--from", type=float, dest="begin", metavar="US", help="begin here")
    parser.add_argument("--to", type=float, dest="end", metavar="US", help="end here")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="the trace as it is drawn, for who wants to see more"
    )
    options = parser.parse_args()
    document = portable(json.loads(options.trace.read_text()))
    options.picture.write_text(draw(document, options.begin, options.end))
    if options.keep:
        options.keep.write_text(as_json(document))


if __name__ == "__main__":
    main()
