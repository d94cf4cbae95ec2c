"""`pyloop.metrics`: statistics for the real packages of OpenTelemetry and Prometheus.

Half a second in all, most of it their imports.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
from typing import Any

import pytest


def busy(loop: Any) -> None:
    loop.run_until_complete(asyncio.sleep(0.001))


def test_opentelemetry_sees_the_loop_when_it_asks(pyloop_loop: Any) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from pyloop import metrics

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics.observe(pyloop_loop, provider.get_meter("test"), {"loop": "main"})
    busy(pyloop_loop)
    found = dict[tuple[str, str], Any]()
    data = reader.get_metrics_data()
    assert data
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            assert point.attributes and point.attributes["loop"] == "main"
            label = "".join(str(value) for key, value in point.attributes.items() if key != "loop")
            found[metric.name, label] = point.value  # type: ignore[union-attr]
    told = pyloop_loop.statistics()
    assert found["pyloop.turns", ""] == told["turns"] > 0
    assert found["pyloop.entries", "step"] == told["steps"]
    assert found["pyloop.time", "parked"] == told["seconds_parked"] > 0
    assert found["pyloop.wakes", "timers"] == 1
    assert found["pyloop.waiting", "tasks"] == 0
    provider.shutdown()


def test_prometheus_sees_the_loop_when_it_asks(pyloop_loop: Any) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from pyloop import metrics

    registry = CollectorRegistry()
    registry.register(metrics.Collector(pyloop_loop, {"loop": "main"}))
    busy(pyloop_loop)
    told = pyloop_loop.statistics()
    get = registry.get_sample_value
    assert get("pyloop_turns_total", {"loop": "main"}) == told["turns"] > 0
    assert get("pyloop_entries_total", {"loop": "main", "kind": "step"}) == told["steps"]
    assert get("pyloop_time_seconds_total", {"loop": "main", "state": "parked"}) == told["seconds_parked"]
    assert get("pyloop_waiting", {"loop": "main", "kind": "ready"}) == 0
    assert b"# TYPE pyloop_longest_seconds gauge" in generate_latest(registry)


def test_a_loop_that_is_gone_has_no_metrics_and_is_not_kept(pyloop_factory: Any) -> None:
    from prometheus_client import CollectorRegistry

    from pyloop import metrics

    registry, loop = CollectorRegistry(), pyloop_factory()
    registry.register(metrics.Collector(loop))
    assert list(registry.collect())
    loop.close()
    assert not list(registry.collect())
    del loop
    gc.collect()
    assert not list(registry.collect())


def test_a_package_that_is_missing_is_named(pyloop_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyloop import metrics

    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("opentelemetry", "prometheus_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'pyloop-rs\[opentelemetry\]'"):
        metrics.observe(pyloop_loop, None)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=r"pip install 'pyloop-rs\[prometheus\]'"):
        metrics.Collector(pyloop_loop)


def test_another_loop_is_refused() -> None:
    from pyloop import metrics

    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match=r"a pyloop\.EventLoop is required"):
        metrics.Collector(loop)  # type: ignore[arg-type]
    loop.close()
