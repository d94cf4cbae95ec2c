"""The plots of what the benchmarks have measured: benches/results/*.json as docs/plots/*.svg.

    python benches/plots.py

Nothing is measured. Each loop that was, is shown: the median of the rounds, and a line from least to
most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from record import FOLDER
from svg import GRID, INK, PALE, Picture, fitting

PLOTS = Path(__file__).resolve().parent.parent / "docs" / "plots"
BASE = "uvloop"
COLOURS = {
    "pyloop": "#0b7285",
    "uvloop": "#e8590c",
    "asyncio": "#868e96",
    "blazio": "#2f9e44",
    "aiofastnet": "#c79a00",
    "rloop": "#9c36b5",
    "tokio": "#1c1c1c",
}
WIDTH, EDGE, TOP = 960.0, 14.0, 100.0
#: Of fewer rounds a plot says that they are few.
FEW = 3

#: What was measured in each round of a row, by loop; None: this loop has failed, or has no such thing.
Rounds = dict[str, list[float | None]]
#: Takes a row of a report.
Values = Callable[[dict[str, Any]], Rounds]


def times(row: dict[str, Any]) -> Rounds:
    """Seconds an operation, of a row of compare.py."""
    return {loop: [1 / rate for rate in told["rates"]] for loop, told in row["loops"].items()}


def of_samples(value: Callable[[dict[str, Any]], float | None]) -> Values:
    """Seconds, of a row of the network."""
    return lambda row: {
        loop: [sample and value(sample) for sample in told["samples"]] for loop, told in row["loops"].items()
    }


costs = of_samples(lambda sample: sample["processor"] / sample["messages"])
slowest = of_samples(lambda sample: sample["p99"] and sample["p99"] / 1e6)


def spread(values: list[float | None]) -> tuple[float, float, float] | None:
    """The least, the median and the most, if there is any."""
    found = [value for value in values if value is not None]
    return (min(found), median(found), max(found)) if found else None


def seconds_text(seconds: float) -> str:
    """Three digits and a unit: 132 ns, 6.81 us, 1.2 ms."""
    units = (("s", 1), ("ms", 1e-3), ("us", 1e-6))
    unit, size = next(((name, size) for name, size in units if seconds >= size), ("ns", 1e-9))
    value = seconds / size
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


# ---- a plot ------------------------------------------------------------------------------------------------


def heading(picture: Picture, title: str, head: dict[str, Any], rounds: str) -> float:
    """What it shows, where and with what it was measured; where the rest begins."""
    machine = head["machine"]
    picture.words(EDGE, 26, title, size=16, bold=True)
    lines = [
        "; ".join(
            [f"CPython {head['python']}", *(words for words in head["versions"] if "left out" not in words)]
        ),
        f"{machine['processor']}, {machine['cores']} cores; {machine['system']}; {head['date']}",
        rounds,
    ]
    for number, line in enumerate(lines):
        picture.words(EDGE, 46 + 16 * number, line, size=11, fill=PALE)
    return TOP


def panels(report: dict[str, Any], title: str, values: Values, rounds: str, columns: int = 3) -> str:
    """A panel for each row, with a bar for each loop, from nothing to its median. Less is better."""
    rows = [(row["title"], values(row)) for row in report["rows"].values()]
    # One that nobody has such a number of is left out.
    rows = [(name, found) for name, found in rows if any(map(spread, found.values()))]
    bar, gap, top = 14.0, 22.0, 22.0
    tallest = [
        top
        + bar
        * max(sum(spread(v) is not None for v in found.values()) for _, found in rows[at : at + columns])
        for at in range(0, len(rows), columns)
    ]
    picture = Picture(WIDTH, TOP + sum(tallest) + gap * len(tallest), title)
    y = heading(picture, title, report["about"], rounds)
    width = (WIDTH - 2 * EDGE) / columns
    for line, height in enumerate(tallest):
        for column, (name, found) in enumerate(rows[line * columns : (line + 1) * columns]):
            _panel(picture, EDGE + column * width, y, width - 16, name, found, bar)
        y += height + gap
    return str(picture)


def _panel(picture: Picture, x: float, y: float, width: float, name: str, found: Rounds, bar: float) -> None:
    picture.words(x, y + 8, fitting(name, width, 11) or name, size=11, bold=True)
    known = {loop: told for loop, values in found.items() if (told := spread(values))}
    left, room = x + 66, width - 66 - 58
    # One loop that takes much longer than all others is cut off, and its number says so.
    middles = sorted(told[1] for told in known.values())
    limit = max(min(max(told[2] for told in known.values()), 4 * median(middles)), 1.05 * middles[0])
    at = y + 18
    for loop, (least, middle, most) in known.items():
        picture.words(left - 5, at + bar - 4, loop, size=11, at="end", bold=loop == "pyloop")
        length = room * min(middle / limit, 1)
        tip = f"{loop}: {seconds_text(middle)} ({seconds_text(least)} to {seconds_text(most)})"
        picture.box(left, at + 2, length, bar - 4, COLOURS[loop], tip)
        ends = [left + room * min(value / limit, 1) for value in (least, most)]
        picture.line(ends[0], at + bar / 2, ends[1], at + bar / 2, INK, 1)
        for end in ends:
            picture.line(end, at + 4, end, at + bar - 4, INK, 1)
        cut = " >" if middle > limit else ""
        picture.words(max(left + length, ends[1]) + 5, at + bar - 4, seconds_text(middle) + cut, size=11)
        at += bar


def ratios(report: dict[str, Any], title: str, values: Values, rounds: str) -> str:
    """Each loop's number as a multiple of uvloop's in the same rounds, on one axis."""
    rows = list[tuple[str, dict[str, tuple[float, float, float]]]]()
    for row in report["rows"].values():
        found = values(row)
        base = found.get(BASE, [])
        rows.append((row["title"], {}))
        for loop, values_of in found.items():
            both = [mine / other for mine, other in zip(values_of, base, strict=False) if mine and other]
            if loop != BASE and both:
                rows[-1][1][loop] = (min(both), median(both), max(both))
    rows = [row for row in rows if row[1]]
    lane, left, right, least, most = 34.0, 322.0, 44.0, 0.125, 8.0
    loops = [loop for loop in COLOURS if any(loop in found for _, found in rows)]
    picture = Picture(WIDTH, TOP + 44 + lane * len(rows) + 12, title)
    y = heading(picture, title, report["about"], rounds)

    def place(ratio: float) -> float:
        part = math.log(min(max(ratio, least), most) / least) / math.log(most / least)
        return left + part * (WIDTH - left - right)

    x = left
    for loop in loops:
        picture.dot(x + 5, y, 4.5, COLOURS[loop])
        picture.words(x + 14, y + 4, loop, size=12, bold=loop == "pyloop")
        x += 28 + 7.2 * len(loop)
    y += 34
    for mark in (0.125, 0.25, 0.5, 1, 2, 4, 8):
        words = BASE if mark == 1 else f"{mark:g}x"
        picture.words(place(mark), y - 8, words, size=11, fill=INK if mark == 1 else PALE, at="middle")
        picture.line(place(mark), y, place(mark), y + lane * len(rows), INK if mark == 1 else GRID)
    for name, told in rows:
        picture.words(left - 12, y + lane / 2 + 4, fitting(name, left - EDGE - 12, 11), size=12, at="end")
        picture.line(EDGE, y + lane, WIDTH - EDGE, y + lane, "#eef1f4")
        for number, loop in enumerate(loop for loop in loops if loop in told):
            low, middle, high = told[loop]
            at = y + lane * (number + 1) / (len(told) + 1)
            picture.line(place(low), at, place(high), at, COLOURS[loop], 1.5)
            picture.dot(place(middle), at, 4 if loop == "pyloop" else 3, COLOURS[loop])
            if middle > most:
                picture.words(place(most) + 6, at + 4, f"{middle:.0f}x", size=11, fill=COLOURS[loop])
        y += lane
    return str(picture)


def rounds_of(report: dict[str, Any]) -> str:
    """How often, for how long, and what is shown of it."""
    how = report["about"]["how"]
    slices = f" of {how['slices']} slices" if "slices" in how else ""
    if how["rounds"] < FEW:
        slices += " (a short run, to see that it works: too few to judge by)"
    return f"medians of {how['rounds']} rounds{slices} of {how['seconds']:g} s, and the least and the most"


# ---- which there are ---------------------------------------------------------------------------------------


def drawn(compare: dict[str, Any], net: dict[str, Any]) -> dict[str, str]:
    """Every plot, by the name of its file."""
    slices, rounds = rounds_of(compare), rounds_of(net)
    return {
        "compare.svg": panels(compare, "Time an operation: less is better", times, slices),
        "net-ratios.svg": ratios(
            net, "Processor time a message, as a multiple of uvloop's: less is better", costs, rounds
        ),
        "net-costs.svg": panels(net, "Processor time a message: less is better", costs, rounds),
        "net-p99.svg": panels(net, "99 of 100 messages are back after: less is better", slowest, rounds),
    }


def read(name: str) -> dict[str, Any]:
    """A report of the project."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def main() -> None:
    """Draw every plot."""
    PLOTS.mkdir(exist_ok=True)
    for name, text in drawn(read("compare"), read("net")).items():
        (PLOTS / name).write_text(text)
        print(PLOTS / name)


if __name__ == "__main__":
    main()
