"""Which hours' rollups are due: noted by each flush, taken by the refresh.

A note is a range of times and, for rows that come late, the devices; so that one device which delivers a month of its
buffer does not make a month of the whole class be worked out anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.store.calendar import HOUR, Calendar

_AT_ONCE: Final = timedelta(hours=2)
"""Times of a batch that lie closer together than this are noted as one range of the whole class."""
_LONGEST: Final = 24
"""Hours that are worked out in one statement at most."""

MOST: Final = 1000
"""Hours that are worked out in one transaction."""

NOTE: Final = """
INSERT INTO iot.rollup_due (class_key, first, last, devices)
SELECT class_key, first, last, CASE WHEN devices <> '' THEN string_to_array(devices, ',')::integer[] END
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[]) AS noted (class_key, first, last, devices)
"""
AGAIN: Final = "INSERT INTO iot.rollup_due (class_key, first, last, devices, taken) VALUES ($1, $2, $3, $4, true)"
MARK: Final = "UPDATE iot.rollup_due SET taken = true WHERE NOT taken"
TAKE: Final = """
DELETE FROM iot.rollup_due WHERE class_key = $1 AND (taken OR NOT $2) RETURNING first, last, devices
"""


@dataclass(frozen=True, slots=True)
class Due:
    """Hours of a class from `first` up to but without `end`; `devices` None means all."""

    first: datetime
    end: datetime
    devices: frozenset[int] | None

    @property
    def hours(self) -> int:
        """How many hours it spans."""
        return (self.end - self.first) // HOUR


Note = tuple[str, datetime, datetime, str]


def notes(class_key: str, said: Sequence[tuple[int, datetime]]) -> Iterator[Note]:
    """Note what a batch said of a class, as (device id, measured time)."""
    times = [time for _, time in said]
    first, last = min(times), max(times)
    if last - first <= _AT_ONCE:
        yield class_key, first, last, ""
        return
    by_hour: dict[int, dict[int, datetime]] = {}
    for device_id, time in said:
        by_hour.setdefault(int(time.timestamp()) // 900, {})[device_id] = time
    for devices in by_hour.values():
        yield class_key, min(devices.values()), max(devices.values()), ",".join(map(str, sorted(devices)))


async def note(connection: asyncpg.Connection, noted: Sequence[Note]) -> None:
    """Write notes, inside the transaction that writes the rows."""
    await connection.execute(NOTE, *(list(column) for column in zip(*noted, strict=True)))


async def mark(connection: asyncpg.Connection) -> None:
    """Mark all notes that are there: their rows are committed, whatever is refreshed from now on sees them."""
    await connection.execute(MARK)


async def put_back(connection: asyncpg.Connection, class_key: str, ranges: Iterable[Due]) -> None:
    """Note again what was taken and is not worked out yet."""
    await connection.executemany(
        AGAIN,
        [
            (class_key, each.first, each.end - HOUR, None if each.devices is None else sorted(each.devices))
            for each in ranges
        ],
    )


async def take(
    connection: asyncpg.Connection, class_key: str, calendar: Calendar, *, marked: bool = False
) -> list[Due]:
    """Take all notes of a class, or only those marked before, inside the transaction that works its hours out."""
    rows = await connection.fetch(TAKE, class_key, marked)
    return joined(by_hour(((row["first"], row["last"], row["devices"]) for row in rows), calendar))


def by_hour(
    noted: Iterable[tuple[datetime, datetime, Sequence[int] | None]], calendar: Calendar
) -> dict[datetime, frozenset[int] | None]:
    """Spread notes over the hours they touch."""
    hours: dict[datetime, frozenset[int] | None] = {}
    for first, last, devices in noted:
        hour = calendar.hour_of(first)
        while hour <= last:
            before = hours.get(hour, frozenset())
            hours[hour] = None if devices is None or before is None else before | frozenset(devices)
            hour += HOUR
    return hours


def joined(hours: Mapping[datetime, frozenset[int] | None]) -> list[Due]:
    """Join neighbouring hours of the same devices, the newest first: that is what people look at."""
    ranges: list[Due] = []
    for hour in sorted(hours):
        devices = hours[hour]
        before = ranges[-1] if ranges else None
        if before and before.end == hour and before.devices == devices and hour - before.first < _LONGEST * HOUR:
            ranges[-1] = Due(before.first, hour + HOUR, devices)
        else:
            ranges.append(Due(hour, hour + HOUR, devices))
    return ranges[::-1]


def some(ranges: Sequence[Due], raw_from: datetime) -> tuple[list[Due], list[Due]]:
    """Choose what is worked out now, and what is noted again for later.

    Whatever lies before `raw_from` is left out: its raw rows are gone, and its buckets must not be made of the few
    that came since.
    """
    now: list[Due] = []
    later: list[Due] = []
    for each in ranges:
        if each.first >= raw_from:
            (later if sum(taken.hours for taken in now) + each.hours > MOST else now).append(each)
    return now, later
