"""Partitions on plain PostgreSQL: a class's table by week, its kept hours by four weeks. TimescaleDB makes chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

_MONDAY: Final = datetime(2020, 1, 6, tzinfo=UTC)
WEEK: Final = timedelta(days=7)
AHEAD: Final = 4
HOURS_SPAN: Final = WEEK * 4
# Not to_regclass: it would go on answering from a cache what it found before another worker made the partition.
_THERE: Final = "SELECT relname FROM pg_class WHERE relname = ANY($1) AND relnamespace = 'telemetry_part'::regnamespace"


def week_of(time: datetime) -> datetime:
    """Return the Monday, 00:00 UTC, of the week that `time` falls in."""
    return _MONDAY + (time - _MONDAY) // WEEK * WEEK


def weeks_around_now(now: datetime | None = None) -> list[datetime]:
    """List last week, this week and the ones ahead that are made in advance."""
    this = week_of(now or datetime.now(UTC))
    return [this + WEEK * offset for offset in range(-1, AHEAD + 1)]


async def ensure_partitions(connection: asyncpg.Connection, class_key: str, weeks: Iterable[datetime]) -> None:
    """Make the missing ones of a class's table, each in a transaction of its own."""
    starts = {f"{class_key}_{week:%Y%m%d}": week for week in weeks}
    await _ensure(connection, f'telemetry."{class_key}"', starts, WEEK)


async def ensure_hour_partitions(
    connection: asyncpg.Connection, class_key: str, first: datetime, last: datetime
) -> None:
    """Make the missing ones of a class's kept hours, for all times from `first` to `last`."""
    start = _MONDAY + (first - _MONDAY) // HOURS_SPAN * HOURS_SPAN
    starts: dict[str, datetime] = {}
    while start <= last:
        starts[f"{class_key}_1h_{start:%Y%m%d}"] = start
        start += HOURS_SPAN
    await _ensure(connection, f'telemetry_rollup."{class_key}_1h"', starts, HOURS_SPAN)


def start_of_part(name: str) -> datetime:
    """Read the start of a partition from its name."""
    return datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)


async def _ensure(connection: asyncpg.Connection, table: str, starts: Mapping[str, datetime], span: timedelta) -> None:
    """Make the partitions, by name and start, that are not there."""
    there = {row["relname"] for row in await connection.fetch(_THERE, list(starts))}
    for name, start in starts.items():
        if name not in there:
            await _make(connection, table, name, start, start + span)


async def _make(connection: asyncpg.Connection, table: str, name: str, start: datetime, end: datetime) -> None:
    """Make one partition. CREATE and ATTACH in two steps: `PARTITION OF` would lock the whole table against readers."""
    part = f'telemetry_part."{name}"'
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", part)
        if await connection.fetch(_THERE, [name]):
            return
        await connection.execute(f"CREATE TABLE {part} (LIKE {table} INCLUDING ALL)")
        await connection.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {part}"
            f" FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
        )
