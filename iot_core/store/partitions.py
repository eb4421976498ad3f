"""Weekly partitions of a class's table on plain PostgreSQL; TimescaleDB makes its own chunks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

_MONDAY: Final = datetime(2020, 1, 6, tzinfo=UTC)
WEEK: Final = timedelta(days=7)
AHEAD: Final = 4


def week_of(time: datetime) -> datetime:
    """Return the Monday, 00:00 UTC, of the week that `time` falls in."""
    return _MONDAY + (time - _MONDAY) // WEEK * WEEK


def weeks_around_now(now: datetime | None = None) -> list[datetime]:
    """List last week, this week and the ones ahead that are made in advance."""
    this = week_of(now or datetime.now(UTC))
    return [this + WEEK * offset for offset in range(-1, AHEAD + 1)]


async def ensure_partitions(connection: asyncpg.Connection, class_key: str, weeks: Iterable[datetime]) -> None:
    """Make the missing ones, each in a transaction of its own.

    CREATE and ATTACH in two steps: `PARTITION OF` would lock the whole table against readers and writers.
    """
    for week in weeks:
        name = f'telemetry_part."{class_key}_{week:%Y%m%d}"'
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", name)
            if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                continue
            await connection.execute(f'CREATE TABLE {name} (LIKE telemetry."{class_key}" INCLUDING ALL)')
            await connection.execute(
                f'ALTER TABLE telemetry."{class_key}" ATTACH PARTITION {name}'
                f" FOR VALUES FROM ('{week.isoformat()}') TO ('{(week + WEEK).isoformat()}')"
            )
