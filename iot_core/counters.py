"""Counters and gauges of one core, shown by /metrics; names are ours, never a sender's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_RECENT: Final = 20_000

disable_created_metrics()  # type: ignore[no-untyped-call] # a series beside each counter that says when this process started


class Counters:
    """What happened since the start of this core, by name.

    counters.count("ingest_stored", 5)
    counters.gauge("ingest_queue", queue.qsize)
    counters.commit_latency(0.031)      # seconds from arrival to COMMIT
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter("iot_events", "Events by name", ["event"], registry=self._registry)
        self._latency = Histogram(
            "iot_commit_seconds", "Arrival of an uplink to COMMIT", buckets=_BUCKETS, registry=self._registry
        )
        self._totals: dict[str, int] = {}
        self._recent: deque[float] = deque(maxlen=_RECENT)

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

    def commit_latency(self, seconds: float) -> None:
        """Record how long an uplink took from arrival to COMMIT."""
        self._recent.append(seconds)
        self._latency.observe(seconds)

    def recent_latencies(self) -> list[float]:
        """Return the latest commit latencies in seconds (at most 20,000), oldest first."""
        return list(self._recent)

    def exposition(self) -> bytes:
        """Give all of it in Prometheus' text format."""
        return generate_latest(self._registry)
