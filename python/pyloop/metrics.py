"""`loop.statistics()` for OpenTelemetry and for Prometheus, whose packages are optional.

| | needs |
|---|---|
| `observe(loop, meter)` | `opentelemetry-api`: `pip install pyloop-rs[opentelemetry]` |
| `Collector(loop)` | `prometheus_client`: `pip install pyloop-rs[prometheus]` |

Both ask the loop when they are asked, from whichever thread that is: the loop does nothing for it. Neither
keeps the loop alive; one that is closed or gone has no metrics.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyloop._loop import EventLoop

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from prometheus_client.metrics_core import Metric

__all__ = ["Collector", "observe"]


@dataclass(frozen=True)
class _Known:
    """One metric: its name in OpenTelemetry and in Prometheus, and which statistics it has."""

    otel: str
    prometheus: str
    unit: str
    about: str
    # The value of its label, and the key of the statistics.
    values: Mapping[str, str]
    label: str = ""
    grows: bool = True


_ALL = (
    _Known("pyloop.turns", "pyloop_turns", "{turn}", "Turns of the loop.", {"": "turns"}),
    _Known(
        "pyloop.entries",
        "pyloop_entries",
        "{entry}",
        "What ran out of the loop's queue, and polls of Rust futures in it.",
        {"callback": "callbacks", "step": "steps", "poll": "polls"},
        "kind",
    ),
    _Known(
        "pyloop.wakes",
        "pyloop_wakes",
        "{wake}",
        "What called the loop back to its empty queue.",
        {
            "threads": "wakes_by_threads",
            "descriptors": "wakes_by_descriptors",
            "timers": "wakes_by_timers",
            "tokio": "wakes_by_tokio",
        },
        "source",
    ),
    _Known(
        "pyloop.time",
        "pyloop_time_seconds",
        "s",
        "How the loop has spent its time.",
        {"busy": "seconds_busy", "parked": "seconds_parked", "waiting_for_gil": "seconds_waiting_for_gil"},
        "state",
    ),
    _Known(
        "pyloop.io",
        "pyloop_io_bytes",
        "By",
        "Bytes through native transports.",
        {"received": "bytes_received", "sent": "bytes_sent"},
        "direction",
    ),
    _Known(
        "pyloop.waiting",
        "pyloop_waiting",
        "{entry}",
        "What waits in the loop now.",
        {"ready": "ready", "timers": "timers", "tasks": "tasks", "descriptors": "descriptors"},
        "kind",
        grows=False,
    ),
    _Known(
        "pyloop.transports",
        "pyloop_transports",
        "{transport}",
        "Native transports that are open now.",
        {"": "transports"},
        grows=False,
    ),
    _Known(
        "pyloop.longest",
        "pyloop_longest_seconds",
        "s",
        "The longest time at work in one go, and the longest wait for the GIL, since the loop was made.",
        {"busy": "longest_busy", "waiting_for_gil": "longest_wait_for_gil"},
        "state",
        grows=False,
    ),
)


def _asked(loop: EventLoop) -> Callable[[], Mapping[str, Any]]:
    """The statistics of a loop, which is not kept alive; none when it is closed or gone."""
    if not isinstance(loop, EventLoop):
        raise TypeError(f"a pyloop.EventLoop is required, got {loop!r}")
    known = weakref.ref(loop)

    def ask() -> Mapping[str, Any]:
        there = known()
        return {} if there is None or there.is_closed() else there.statistics()

    return ask


def observe(loop: EventLoop, meter: Meter, attributes: Mapping[str, str] | None = None) -> None:
    """Make observable instruments of a meter (`opentelemetry.metrics.get_meter("...")`) that show the loop.

    `attributes` are those of each observation; they tell one loop from another.

    Raises ImportError without `opentelemetry-api`, TypeError for what is no loop of pyloop's.
    """
    try:
        from opentelemetry.metrics import Observation
    except ImportError as missing:
        raise ImportError(
            "pyloop.metrics.observe() needs opentelemetry-api: pip install 'pyloop-rs[opentelemetry]'"
        ) from missing
    ask, common = _asked(loop), dict(attributes or {})

    def callback(known: _Known) -> Callable[[CallbackOptions], Iterable[Observation]]:
        labels = {value: common | ({known.label: value} if known.label else {}) for value in known.values}

        def observations(_options: CallbackOptions) -> Iterable[Observation]:
            if found := ask():
                for value, key in known.values.items():
                    yield Observation(found[key], labels[value])

        return observations

    for known in _ALL:
        make = meter.create_observable_counter if known.grows else meter.create_observable_gauge
        make(known.otel, callbacks=[callback(known)], unit=known.unit, description=known.about)


class Collector:
    """A collector for `prometheus_client`: `REGISTRY.register(Collector(loop))`.

    `labels` are those of each sample; they tell one loop from another. A registry takes one collector of
    these names: for several loops, one registry each, or one `Collector` of each process.

    Raises ImportError without `prometheus_client`, TypeError for what is no loop of pyloop's.
    """

    def __init__(self, loop: EventLoop, labels: Mapping[str, str] | None = None) -> None:
        try:
            from prometheus_client import metrics_core
        except ImportError as missing:
            raise ImportError(
                "pyloop.metrics.Collector() needs prometheus_client: pip install 'pyloop-rs[prometheus]'"
            ) from missing
        self._ask = _asked(loop)
        self._core: Any = metrics_core
        self._labels = dict(labels or {})

    def describe(self) -> Iterator[Metric]:
        """The metrics without samples: a registry that is given the collector need not ask the loop."""
        for known in _ALL:
            yield self._metric(known)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now; none of a loop that is closed or gone."""
        if not (found := self._ask()):
            return
        for known in _ALL:
            metric = self._metric(known)
            for value, key in known.values.items():
                labels = [*self._labels.values(), *([value] if known.label else [])]
                metric.add_metric(labels, found[key])
            yield metric

    def _metric(self, known: _Known) -> Any:
        core = self._core
        kind = core.CounterMetricFamily if known.grows else core.GaugeMetricFamily
        labels = [*self._labels, *([known.label] if known.label else [])]
        return kind(known.prometheus, known.about, labels=labels)
