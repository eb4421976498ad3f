"""Is this device under maintenance, or being tested, at that time? Windows in memory; asked by ingest and alarms. Pure.

A window covers its devices from `starts` (included) to `ends` (excluded), so it is over by the clock alone: nothing has
to run at its end. Where several cover one moment, a test is meant before maintenance, the newest before older ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["NO_WINDOWS", "Kind", "Window", "Windows"]


class Kind(StrEnum):
    """What a window does to alarms: maintenance keeps them quiet, a test marks them."""

    MAINTENANCE = "maintenance"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Window:
    """A span in which somebody works at devices."""

    id: int
    kind: Kind
    starts: datetime
    ends: datetime
    reason: str = ""

    @property
    def mark(self) -> str:
        """What a row or an alarm made inside it carries: `maintenance:12`."""
        return f"{self.kind.value}:{self.id}"

    def covers(self, at: datetime) -> bool:
        """Say whether a moment lies inside."""
        return self.starts <= at < self.ends


class Windows:
    """Device id -> its windows. Never changed: a new one is made when the registry's windows change."""

    __slots__ = ("_by_device",)

    def __init__(self, pairs: Iterable[tuple[int, Window]] = ()) -> None:
        by_device: defaultdict[int, list[Window]] = defaultdict(list)
        for device_id, window in pairs:
            by_device[device_id].append(window)
        for windows in by_device.values():
            windows.sort(key=lambda each: (each.kind is not Kind.TEST, -each.id))
        self._by_device = dict(by_device)

    def __bool__(self) -> bool:
        """Say whether there is any window at all."""
        return bool(self._by_device)

    def at(self, device_id: int, at: datetime) -> Window | None:
        """Give the window that a device is inside at a moment, None where there is none."""
        return next((each for each in self._by_device.get(device_id, ()) if each.covers(at)), None)


NO_WINDOWS = Windows()
