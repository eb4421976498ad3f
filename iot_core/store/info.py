"""What a database holds: its tier, the size of each class, how fast it grows, and what longer retention would cost.

A reading is one metric's value. Readings are counted from the rollups, sizes are the server's own figures, indexes
included; growth is that of the last seven civil days that are complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from iot_core.settings import Retention, Settings
from iot_core.store.aggregates import NEVER, read_sources
from iot_core.store.rollups import SCHEMA, Rollup
from iot_core.store.tier import Found, Tier

_DAYS: Final = 7
_HORIZON: Final = 3650
_PLAIN_SIZE: Final = """
SELECT COALESCE(sum(pg_total_relation_size(relid)), 0)::bigint FROM pg_partition_tree($1::text::regclass)
"""
_HYPER_SIZE: Final = "SELECT COALESCE(sum(total_bytes), 0)::bigint FROM hypertable_detailed_size($1::text::regclass)"
_AGGREGATES: Final = """
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS relation
FROM timescaledb_information.continuous_aggregates WHERE view_schema = $1 AND view_name LIKE $2
"""
_COMPRESSED: Final = """
SELECT s.before_compression_total_bytes AS before, s.after_compression_total_bytes AS after, c.range_start, c.range_end
FROM chunk_columnstore_stats($1::text::regclass) s
JOIN timescaledb_information.chunks c ON c.chunk_schema = s.chunk_schema AND c.chunk_name = s.chunk_name
WHERE s.compression_status = 'Compressed'
"""


class ClassInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One class. Sizes in bytes; `None` where nothing can be told yet."""

    device_class: str
    raw: str
    hours: str
    days: str
    rows: int
    readings: int
    raw_bytes: int
    rollup_bytes: int
    bytes_per_reading: float | None
    compressed_bytes: int = 0
    compressed_readings: int = 0
    compressed_bytes_per_reading: float | None = None
    oldest: datetime | None = None
    raw_days: int
    raw_bytes_per_day: int
    rollup_bytes_per_day: int
    bytes_of_one_more_year: int
    """What keeping raw rows a year longer would take."""


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """One database. `days_until_full` is None for more than ten years, or where the disk is not ours to see."""

    tier: str
    server: str
    timescaledb: str | None
    timezone: str
    database_bytes: int
    bytes_per_day: int
    disk_free_bytes: int | None
    days_until_full: int | None
    classes: list[ClassInfo]


async def read_info(
    connection: asyncpg.Connection,
    found: Found,
    rollups: Iterable[Rollup],
    retention: Retention,
    *,
    now: datetime,
    disk_free: int | None,
) -> Info:
    """Read everything; it looks at sizes and rollups, never at all raw rows."""
    classes = [await _read_class(connection, rollup, found.tier, retention, now) for rollup in rollups]
    zone = await connection.fetchval("SELECT value FROM iot.fixed_setting WHERE key = 'timezone'")
    return Info(
        tier=found.tier,
        server=found.server,
        timescaledb=found.extension,
        timezone=zone or "",
        database_bytes=await connection.fetchval("SELECT pg_database_size(current_database())"),
        bytes_per_day=sum(each.raw_bytes_per_day + each.rollup_bytes_per_day for each in classes),
        disk_free_bytes=disk_free,
        days_until_full=None if disk_free is None else days_until_full(classes, disk_free, now),
        classes=classes,
    )


def free_bytes(settings: Settings, state: Path) -> int | None:
    """Give what the embedded database's disk has left; None for a database elsewhere, whose disk is not ours to see."""
    return None if settings.store.dsn else shutil.disk_usage(state).free


def days_until_full(classes: Sequence[ClassInfo], free: int, now: datetime) -> int | None:
    """Count the days until `free` bytes are used: raw rows grow until the oldest are dropped, rollups go on."""
    for day in range(1, _HORIZON + 1):
        used = 0
        for each in classes:
            age = (now - each.oldest).days if each.oldest else 0
            used += each.raw_bytes_per_day * min(day, max(0, each.raw_days - age)) + each.rollup_bytes_per_day * day
        if used > free:
            return day
    return None


async def _read_class(
    connection: asyncpg.Connection, rollup: Rollup, tier: Tier, retention: Retention, now: datetime
) -> ClassInfo:
    hours, days = await read_sources(connection, rollup, tier)
    raw_from = await connection.fetchval("SELECT raw_from FROM iot.rollup_state WHERE class_key = $1", rollup.class_key)
    rows, readings = await _count(connection, rollup, hours, raw_from, now)
    oldest = await connection.fetchval(f"SELECT min(time) FROM {hours} s WHERE time >= $1", raw_from)
    raw_bytes = await _size(connection, rollup.raw, tier)
    rollup_bytes = await _rollup_size(connection, rollup, tier)
    today = rollup.calendar.day_of(now)
    lately, _ = await _count(connection, rollup, days, rollup.calendar.day_of(today - timedelta(days=_DAYS)), today)
    all_rows, _ = await _count(connection, rollup, days, NEVER, now)
    before, after, spans = await _compressed(connection, rollup, tier)
    compressed = 0
    for first, end in spans:
        compressed += (await _count(connection, rollup, hours, first, end))[1]
    per_row = raw_bytes / rows if rows else 0.0
    kept_per_row = per_row if not before else per_row * min(1.0, after / before)
    return ClassInfo(
        device_class=rollup.class_key,
        raw=f"telemetry.{rollup.class_key}",
        hours=f"telemetry.{rollup.class_key}_1h",
        days=f"telemetry.{rollup.class_key}_1d",
        rows=rows,
        readings=readings,
        raw_bytes=raw_bytes,
        rollup_bytes=rollup_bytes,
        bytes_per_reading=round(raw_bytes / readings, 2) if readings else None,
        compressed_bytes=after,
        compressed_readings=compressed,
        compressed_bytes_per_reading=round(after / compressed, 2) if compressed else None,
        oldest=oldest,
        raw_days=retention.raw(rollup.class_key).days,
        raw_bytes_per_day=round(lately / _DAYS * kept_per_row),
        rollup_bytes_per_day=round(rollup_bytes / all_rows * lately / _DAYS) if all_rows else 0,
        bytes_of_one_more_year=round(lately / _DAYS * kept_per_row * 365),
    )


async def _count(
    connection: asyncpg.Connection, rollup: Rollup, source: str, first: datetime, end: datetime
) -> tuple[int, int]:
    """Count rows and readings of a span from rollups."""
    said = " + ".join(
        f'COALESCE("{each.key}_count", 0)::bigint + COALESCE("{each.key}_bad", 0)' for each in rollup.metrics
    )
    row = await connection.fetchrow(
        f"SELECT COALESCE(sum(rows), 0)::bigint AS rows, COALESCE(sum({said}), 0)::bigint AS readings"
        f" FROM {source} s WHERE time >= $1 AND time < $2",
        first,
        end,
        timeout=300,
    )
    return row["rows"], row["readings"]


async def _size(connection: asyncpg.Connection, relation: str, tier: Tier) -> int:
    hyper = tier is not Tier.PLAIN and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables"
        " WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = $1::text::regclass)",
        relation,
    )
    found: int = await connection.fetchval(_HYPER_SIZE if hyper else _PLAIN_SIZE, relation)
    return found


async def _rollup_size(connection: asyncpg.Connection, rollup: Rollup, tier: Tier) -> int:
    relations = [rollup.hours, rollup.days, *([rollup.used] if rollup.counters else [])]
    if tier is Tier.COMMUNITY:
        rows = await connection.fetch(_AGGREGATES, SCHEMA, f"{rollup.class_key}_1__g%")
        relations += [row["relation"] for row in rows]
    return sum([await _size(connection, relation, tier) for relation in relations])


async def _compressed(
    connection: asyncpg.Connection, rollup: Rollup, tier: Tier
) -> tuple[int, int, list[tuple[datetime, datetime]]]:
    """Give what compressed chunks took before and take now, and their spans."""
    if tier is not Tier.COMMUNITY:
        return 0, 0, []
    try:
        rows = await connection.fetch(_COMPRESSED, rollup.raw)
    except asyncpg.PostgresError:
        return 0, 0, []  # the columnstore was never turned on here
    spans = [(row["range_start"], row["range_end"]) for row in rows]
    return sum(row["before"] for row in rows), sum(row["after"] for row in rows), spans
