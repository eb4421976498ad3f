"""Counters and gauges of one core, shown by /metrics; names are ours, never a sender's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

_BUCKETS: Final = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

disable_created_metrics()  # type: ignore[no-untyped-call] # a series beside each counter that says when this process started


class _Latency(Collector):
    """A histogram that takes a batch at once: prometheus_client's own takes a lock for each of 20,000 a second."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: Sequence[float]) -> None:
        for each in seconds:
            self._counts[bisect_left(_BUCKETS, each)] += 1
        self._sum += sum(seconds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        bounds = [*map(str, _BUCKETS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily("iot_commit_seconds", "Arrival of an uplink to COMMIT", buckets, self._sum)


class Counters:
    """What happened since the start of this core, by name.

    counters.count("ingest_stored", 5)
    counters.gauge("ingest_queue", queue.qsize)
    counters.commit_latencies([0.031])  # seconds from arrival to COMMIT
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter("iot_events", "Events by name", ["event"], registry=self._registry)
        self._latency = _Latency()
        self._registry.register(self._latency)
        self._totals: dict[str, int] = {}

    def count(self, event: str, by: int = 1) -> None:
        """Count an event."""
        self._totals[event] = self._totals.get(event, 0) + by
        self._events.labels(event).inc(by)

    def total(self, event: str) -> int:
        """Return how often an event happened."""
        return self._totals.get(event, 0)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show a value that is read when somebody asks."""
        Gauge(f"iot_{name}", name.replace("_", " "), registry=self._registry).set_function(read)

    def commit_latencies(self, seconds: Sequence[float]) -> None:
        """Record how long the uplinks of a flush took from arrival to COMMIT."""
        self._latency.observe(seconds)

    def exposition(self) -> bytes:
        """Give all of it in Prometheus' text format."""
        return generate_latest(self._registry)
