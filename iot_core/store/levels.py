"""Which relation answers for a span: each reading, or the rollups by the hour or the civil day. Pure.

rows in the span <= RAW_ROWS   raw     telemetry.<class>
span <= HOURS_UP_TO            1h      telemetry.<class>_1h
longer                         1d      telemetry.<class>_1d, civil days of the setting `timezone`
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from iot_core.store.calendar import HOUR, Calendar

RAW_ROWS: Final = 3_000
"""More readings than this say nothing to a person or a chart that their hours do not say better."""
HOURS_UP_TO: Final = timedelta(days=92)
_MISSED: Final = 3
"""Intervals without a reading that make a gap: one or two late messages are none."""

Gap = tuple[datetime, datetime]
"""From (the last reading before) to (the first after): in between nothing is stored."""


class Level(StrEnum):
    """How closely a span is read."""

    RAW = "raw"
    HOUR = "1h"
    DAY = "1d"

    @property
    def step(self) -> timedelta | None:
        """The length of a bucket, None for raw; a civil day may be an hour off where clocks change."""
        return {Level.RAW: None, Level.HOUR: timedelta(hours=1), Level.DAY: timedelta(days=1)}[self]


def choose(span: timedelta, rows: int) -> Level:
    """Choose the level for a span that holds `rows` readings (counted up to RAW_ROWS + 1)."""
    if rows <= RAW_ROWS:
        return Level.RAW
    return Level.HOUR if span <= HOURS_UP_TO else Level.DAY


def gaps(
    times: Iterable[datetime], start: datetime, end: datetime, *, level: Level, interval: timedelta | None
) -> list[Gap]:
    """Find where nothing is stored from `start` to `end`, from ascending times of readings or of buckets' starts.

    `interval` is how often the device speaks by its profile; None (nobody knows) finds no gap between raw readings.
    """
    step = level.step or timedelta(0)
    if level is Level.RAW and interval is None:
        return []
    allowed = max(step, _MISSED * (interval or timedelta(0)))
    found: list[Gap] = []
    before = start
    for time in times:
        if time - before > allowed:
            found.append((before, time))
        before = time + step
    if end - before > allowed:
        found.append((before, end))
    return found


def whole_buckets(start: datetime, end: datetime, level: Level, zone: str) -> tuple[datetime, datetime]:
    """Widen a span to whole buckets: hours, or civil days of `zone`. Raw stays as it is."""
    calendar = Calendar(zone)
    if level is Level.RAW:
        return start, end
    if level is Level.DAY:
        last = calendar.day_of(end)
        return calendar.day_of(start), last if last == end else calendar.day_after(end)
    last = calendar.hour_of(end)
    return calendar.hour_of(start), last if last == end else last + HOUR
