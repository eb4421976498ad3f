"""Hours and civil days of the one time zone that a database counts in, as SQL and as times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

HOUR: Final = timedelta(hours=1)
_FIRST: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Nothing older is stored: an earlier time is an unset clock."""
_LAST_YEAR: Final = 2037
_TOMORROW_HOURS: Final = 30
"""From the start of a civil day of 23 to 25 hours, this is within the next one."""


@dataclass(frozen=True)
class Calendar:
    """Buckets of a zone. An hour starts where the zone's clock shows a full hour (half past in India), DST or not."""

    zone: str

    @cached_property
    def _info(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @cached_property
    def hour_offset(self) -> timedelta:
        """How far the zone's full hours lie after those of UTC."""
        return _past_hour(_FIRST, self._info)

    @property
    def origin(self) -> datetime:
        """A start of an hour, for date_bin and time_bucket."""
        return datetime(2000, 1, 1, tzinfo=UTC) + self.hour_offset

    def hour(self, expression: str) -> str:
        """Write the SQL for the start of the hour that a time falls in."""
        return f"date_bin(interval '1 hour', {expression}, timestamptz '{self.origin.isoformat()}')"

    @cached_property
    def constant_offset(self) -> timedelta | None:
        """How far the zone is from UTC, None where that changes during the year."""
        offsets = {_offset(time, self._info) for time in _weeks()}
        return offsets.pop() if len(offsets) == 1 else None

    def hour_bucket(self, expression: str) -> str:
        """Write the start of the hour for a continuous aggregate, which takes only time_bucket."""
        return f"time_bucket('1 hour', {expression}, \"offset\" => {self._shift})"

    def day_bucket(self, expression: str) -> str:
        """Write the start of the civil day for a continuous aggregate; only where the zone's offset is constant.

        A bucket with a time zone loses what lies exactly on local midnight: timescaledb#10296, found anew by our tests.
        """
        return f"time_bucket('1 day', {expression}, \"offset\" => {self._shift})"

    @property
    def _shift(self) -> str:
        # Hours have the offset of days, because an aggregate over an aggregate must.
        offset = self.constant_offset
        shift = self.hour_offset if offset is None else -offset
        return f"interval '{int(shift.total_seconds()) // 60} minutes'"

    def day(self, expression: str) -> str:
        """Write the SQL for the start of the civil day that a time falls in."""
        return f"date_trunc('day', {expression}, '{self.zone}')"

    def next_day(self, expression: str) -> str:
        """Write the SQL for the start of the day after the one that starts at a time."""
        return self.day(f"{expression} + interval '{_TOMORROW_HOURS} hours'")

    def hour_of(self, time: datetime) -> datetime:
        """Give the start of the hour that a time falls in."""
        return self.origin + (time - self.origin) // HOUR * HOUR

    def day_of(self, time: datetime) -> datetime:
        """Give the start of the civil day that a time falls in: its first instant, where midnight does not exist."""
        local = time.astimezone(self._info)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        return midnight.astimezone(UTC)

    def day_after(self, time: datetime) -> datetime:
        """Give the start of the civil day after the one that a time falls in."""
        return self.day_of(self.day_of(time) + timedelta(hours=_TOMORROW_HOURS))


def counts_whole_hours(zone: str) -> bool:
    """Say whether a zone's clock only ever moves by whole hours, so that hours and days share their edges.

    All but Australia/Lord_Howe do since 2020; the next rule change is somebody's parliament.
    """
    return len({_past_hour(time, ZoneInfo(zone)) for time in _weeks()}) == 1


def _weeks() -> Iterator[datetime]:
    """Give a time of every week that rules are known for."""
    return (_FIRST + timedelta(weeks=week) for week in range((_LAST_YEAR - _FIRST.year) * 52))


def _offset(time: datetime, zone: ZoneInfo) -> timedelta:
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _past_hour(time: datetime, zone: ZoneInfo) -> timedelta:
    return -_offset(time, zone) % HOUR
