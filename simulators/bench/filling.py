"""Air-quality rows in bulk, made by the database itself: a daily curve with noise, at a sensor's resolution."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from iot_core.settings import Retention
from iot_core.store.nightly import ensure_columnstore
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import read_rollups
from iot_core.store.tier import Tier

__all__ = ["METRICS", "SIGNAL", "compress", "fill", "hour_ago", "rows_size"]

METRICS: Final = ("pm25", "pm10", "temperature", "humidity", "co2", "pressure")
SIGNAL: Final = "a daily curve with noise, one decimal"
_MINUTE: Final = timedelta(minutes=1)
_AT_ONCE: Final = 250_000
_CHUNKS: Final = """
SELECT show_chunks('telemetry.air_quality', coalesce($1::timestamptz, now() + interval '1 month'))::text AS chunk
"""
_FILL: Final = """
INSERT INTO telemetry.air_quality (time, received_at, device_id, pm25, pm10, temperature, humidity, co2, pressure)
SELECT at, at + interval '1 second', device,
    floor((25 + 15 * day + 3 * random()) * 10) / 10, floor((45 + 25 * day + 5 * random()) * 10) / 10,
    floor((27 + 5 * day + 0.4 * random()) * 10) / 10, floor((75 - 15 * day + random()) * 10) / 10,
    floor(430 + 60 * day + 8 * random()), floor((1008 + 2 * day + 0.3 * random()) * 10) / 10
FROM generate_series($1::timestamptz, $2::timestamptz - $3::interval, $3::interval) AS at,
    generate_series($4::integer, $5::integer) AS device,
    LATERAL (SELECT sin(extract(epoch FROM at) / 13751 + device % 7)) AS curve (day)
"""


async def fill(
    connection: asyncpg.Connection,
    tier: Tier,
    devices: tuple[int, int],
    *,
    start: datetime,
    end: datetime,
    every: timedelta = _MINUTE,
    done: Callable[[float], None] = lambda _: None,
) -> int:
    """Store a row of each device (first and last id) from `start` to `end`; give how many."""
    if tier is Tier.PLAIN:
        weeks = {week_of(start + timedelta(days=day)) for day in range((end - start).days + 1)} | {week_of(end)}
        await ensure_partitions(connection, "air_quality", sorted(weeks))
    number = devices[1] - devices[0] + 1
    step = max(1, _AT_ONCE // number) * every
    at, rows = start, 0
    while at < end:
        until = min(at + step, end)
        told = await connection.execute(_FILL, at, until, every, *devices, timeout=600)
        rows += int(told.rpartition(" ")[2])
        at = until
        done((at - start) / (end - start))
    return rows


async def compress(
    connection: asyncpg.Connection, tier: Tier, before: datetime | None, done: Callable[[float], None] = lambda _: None
) -> list[str]:
    """Compress the chunks that end before a time (None: all), as the settings would; give their names."""
    rollups = await read_rollups(connection, ["air_quality"])
    await ensure_columnstore(connection, rollups, tier, Retention())
    rows = await connection.fetch(_CHUNKS, before)
    for number, row in enumerate(rows, 1):
        await connection.execute(f"CALL convert_to_columnstore('{row['chunk']}')", timeout=3600)
        done(number / len(rows))
    return [row["chunk"] for row in rows]


async def rows_size(connection: asyncpg.Connection, tier: Tier) -> int:
    """Give the bytes of the class's table on disk, indexes included."""
    if tier is Tier.PLAIN:
        query = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('telemetry.air_quality') WHERE isleaf"
    else:
        query = "SELECT hypertable_size('telemetry.air_quality')"
    return int(await connection.fetchval(query))


def hour_ago(hours: float = 1) -> datetime:
    """Give a full minute in the past."""
    return (datetime.now(UTC) - timedelta(hours=hours)).replace(second=0, microsecond=0)
