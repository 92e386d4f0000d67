"""
Counters in Prometheus' text format, through the Prometheus client library.

Imported at the first scrape: an agent that nobody scrapes does not carry the library.  With the lag of
5,000 Logs in two routes (20,000 series) a scrape costs 110 ms; a Log without lag has no series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from agent import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.counters import Counters, Metric

    Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(counters: Counters) -> bytes:
    """
    Return every metric with its series, and those of the process.
    """
    registry = CollectorRegistry()
    registry.register(_Families(counters))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Families(Collector):
    """
    The counters of the process as metric families.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Family]:
        for metric, series in self._counters.samples():
            if metric.kind == "histogram":
                yield _histogram(metric, series)
                continue
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for values, number in series.items():
                # A path is bytes: what is not UTF-8 in it must not break the whole scrape.
                labels = [value.encode("utf-8", "backslashreplace").decode() for value in values]
                family.add_metric(labels, number)
            yield family
        build = GaugeMetricFamily(
            "tailrace_build_info", "The version that runs.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build


def _histogram(metric: Metric, series: dict[tuple[str, ...], float]) -> HistogramMetricFamily:
    """
    Return a histogram whose last label is the bound, or `sum`.
    """
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels[:-1])
    combinations: dict[tuple[str, ...], dict[str, float]] = {}
    for (*values, bound), number in series.items():
        combinations.setdefault(tuple(values), {})[bound] = number
    for labels, counts in combinations.items():
        total = counts.pop("sum", 0.0)
        counted = 0.0
        buckets = []
        for bound in sorted(counts, key=float):
            counted += counts[bound]
            buckets.append((bound, counted))
        family.add_metric(labels, buckets, sum_value=total)
    return family
