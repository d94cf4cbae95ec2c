"""What the measurements say: medians, ratios, and the tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from net.rows import Row
from tables import rate_text

BASE = "uvloop"
NOTHING = "-"


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of them is; the load generator takes the same one."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


@dataclass(frozen=True)
class Sample:
    """What one process did in its window of time. The quantiles are in microseconds, where there are any."""

    messages: float
    seconds: float
    processor: float
    p50: float | None = None
    p99: float | None = None

    @property
    def cost(self) -> float:
        """Microseconds of processor time for one message."""
        return self.processor / self.messages * 1e6

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


@dataclass
class Series:
    """One row on one loop, over all rounds."""

    samples: list[Sample | None] = field(default_factory=list)  # one for each round
    why: str = ""  # why it is not measured, or no longer

    def middle(self, value: Callable[[Sample], float | None]) -> float | None:
        """The median over the rounds, if they have it."""
        found = [number for sample in self.samples if sample and (number := value(sample)) is not None]
        return median(found) if found else None


Results = dict[str, dict[str, Series]]  # by row, by loop


def ratio(series: Series, base: Series | None) -> float | None:
    """The median, over the rounds that both have, of its cost as a multiple of the base's."""
    if base is None:
        return None
    pairs = zip(series.samples, base.samples, strict=False)
    found = [sample.cost / other.cost for sample, other in pairs if sample and other]
    return median(found) if found else None


def cost_text(micros: float) -> str:
    """Three digits: 0.62, 6.81, 13.3, 812."""
    return f"{micros:.{2 if micros < 10 else 1 if micros < 100 else 0}f}"


def cost_cell(row: dict[str, Series], loop: str) -> str:
    """Processor time a message, and what multiple of the base's it is."""
    cost = row[loop].middle(lambda sample: sample.cost)
    if cost is None:
        return NOTHING
    times = ratio(row[loop], row.get(BASE)) if loop != BASE else None
    return cost_text(cost) + (f" ({times:.2f}x)" if times is not None else "")


def pace_cell(row: dict[str, Series], loop: str) -> str:
    """Messages a second, and the quantiles."""
    rate = row[loop].middle(lambda sample: sample.rate)
    if rate is None:
        return NOTHING
    p50 = row[loop].middle(lambda sample: sample.p50)
    p99 = row[loop].middle(lambda sample: sample.p99)
    times = f"; {cost_text(p50)} / {cost_text(p99)}" if p50 is not None and p99 is not None else ""
    return rate_text(rate).strip() + times


def cost_table(
    results: Results, rows: dict[str, Row], loops: Sequence[str], aims: bool = True
) -> list[list[str]]:
    """Rows of text, the first one the heading: what a message costs; `aims`: and what it is to."""
    table = [["us of processor time a message", *loops, *(["aim"] if aims else [])]]
    for name, row in results.items():
        aim = rows[name].aim
        cells = [cost_cell(row, loop) for loop in loops]
        if aims:
            cells.append("" if aim is None else f"{aim:.2f}x")
        table.append([rows[name].title, *cells])
    return table


def pace_table(results: Results, rows: dict[str, Row], loops: Sequence[str]) -> list[list[str]]:
    """The same of how fast they come back."""
    table = [["messages a second; p50 / p99 in us", *loops]]
    for name, row in results.items():
        table.append([rows[name].title, *(pace_cell(row, loop) for loop in loops)])
    return table


def left_out(results: Results) -> list[str]:
    """A word about each loop that has failed in a row."""
    return [
        f"{loop} has no row {name!r}: {series.why}"
        for name, row in results.items()
        for loop, series in row.items()
        if series.why
    ]
