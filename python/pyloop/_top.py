"""`python -m pyloop top PID`: the loops of a process as they go, in a terminal. Needs the package `rich`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyloop import _window_client as client
from pyloop import _window_server as server
from pyloop._tree import loop_tree, seconds
from pyloop.window import Dump, LoopInfo

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

#: How a loop spends its time: the key of `EventLoop.statistics`, what it is called here, and its colour.
SPENT = (
    ("seconds_busy", "busy", "green"),
    ("seconds_parked", "parked", "blue"),
    ("seconds_waiting_for_gil", "GIL", "red"),
)
#: What is counted, and shown for each second.
RATES = (
    ("steps", "steps/s"),
    ("callbacks", "callbacks/s"),
    ("turns", "turns/s"),
    ("messages", "wakes/s"),
    ("bytes_received", "bytes in/s"),
    ("bytes_sent", "bytes out/s"),
)
#: What there is now.
NOW = (
    ("ready", "ready"),
    ("timers", "timers"),
    ("transports", "transports"),
    ("descriptors", "descriptors"),
)
#: What took longest: a name and seconds, or seconds.
SLOWEST = (
    ("slowest_callback", "slowest callback"),
    ("longest_busy", "longest busy"),
    ("longest_wait_for_gil", "longest wait for the GIL"),
)


@dataclass(frozen=True)
class Sample:
    """What a process has said, and when."""

    at: float
    dump: Dump

    def loop(self, id: int) -> LoopInfo | None:
        """The same loop."""
        return next((each for each in self.dump.loops if each.id == id), None)


def view(now: Sample, before: Sample | None, width: int, height: int) -> RenderableType:
    """What is shown on a terminal of that size. Rates are those since `before`."""
    from rich.console import Group
    from rich.text import Text

    dump = now.dump
    lines = [Text(f"process {dump.pid}  CPython {dump.python}  pyloop {dump.pyloop}", style="bold")]
    if not dump.loops:
        lines.append(Text("no loop"))
    # Each loop has its share of the lines, and what others leave.
    for number, loop in enumerate(dump.loops):
        known = before.loop(loop.id) if before is not None else None
        elapsed = now.at - before.at if before is not None else 0.0
        share = (height - len(lines)) // (len(dump.loops) - number)
        lines += list(_of_loop(loop, known, elapsed, width))[: max(share, 1)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines[:height])


def _of_loop(loop: LoopInfo, before: LoopInfo | None, elapsed: float, width: int) -> Iterator[Text]:
    from rich.text import Text

    title, *tree = loop_tree(loop)
    yield Text(title, style="bold red" if loop.stuck is not None else "bold")
    yield from _bars(loop.statistics, before.statistics if before is not None else {}, width)
    words = []
    if before is not None and elapsed > 0:
        words += [
            f"{_amount((loop.statistics[key] - before.statistics[key]) / elapsed)} {name}"
            for key, name in RATES
            if key in loop.statistics and key in before.statistics
        ]
    if words:
        yield Text("  ".join(words))
    yield Text("  ".join(f"{loop.statistics[key]} {name}" for key, name in NOW if key in loop.statistics))
    slowest = [f"{name}: {_slow(loop.statistics[key])}" for key, name in SLOWEST if loop.statistics.get(key)]
    if slowest:
        yield Text("  ".join(slowest))
    yield from (Text(line) for line in tree)


def _bars(now: Mapping[str, Any], before: Mapping[str, Any], width: int) -> Iterator[Text]:
    """How the time since `before` was spent, or all of it."""
    from rich.text import Text

    spent = {key: now[key] - before.get(key, 0) for key, _, _ in SPENT if key in now}
    total = sum(spent.values())
    if not spent or total <= 0:
        return
    room = max(width - 16, 10)
    for key, name, colour in SPENT:
        if key in spent:
            part = max(spent[key], 0) / total
            bar = Text(f"{name:>6} ")
            bar.append("█" * round(part * room), style=colour)
            bar.append(f" {part:.0%}")
            yield bar


def _slow(value: Any) -> str:
    """Seconds, or what took so many."""
    if isinstance(value, (int, float)):
        return seconds(value)
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], (int, float)):
        return f"{value[0]} {seconds(value[1])}"
    return str(value)


def _amount(value: float) -> str:
    for unit in ("", "k", "M"):
        if value < 1000:
            return f"{value:.0f}{unit}" if value >= 100 or not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}G"


def top(arguments: Sequence[str]) -> int:
    """`python -m pyloop top PID`, until Ctrl-C or the end of the process. The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pyloop top", description="The loops of a process as they go, until Ctrl-C."
    )
    parser.add_argument("pid", type=int, metavar="PID", help="the process")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks")
    parser.add_argument(
        "--limit", type=int, default=server.MOST_TASKS, metavar="N", help="tasks of each loop"
    )
    given = parser.parse_args(arguments)
    if not 0.05 <= given.interval <= 3600:
        parser.error("--interval is from 0.05 to 3600 seconds")
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        print("python -m pyloop top needs the package rich: pip install 'pyloop-rs[top]'", file=sys.stderr)
        return 1
    console = Console()
    if not console.is_terminal:
        print("python -m pyloop top needs a terminal; python -m pyloop ps prints once", file=sys.stderr)
        return 1
    before: Sample | None = None
    try:
        with (
            client.connect(given.pid) as process,
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                now = Sample(time.monotonic(), process.dump(given.limit))
                live.update(view(now, before, console.width, console.height - 1), refresh=True)
                before = now
                time.sleep(given.interval)
    except KeyboardInterrupt:
        return 0
    except client.LookFailedError as failed:
        print(f"python -m pyloop top: {failed}", file=sys.stderr)
        return 1
