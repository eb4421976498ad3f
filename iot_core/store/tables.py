"""Telemetry tables made from the classes: one wide table a class, the same names on every tier.

A metric's bit in the `bad` mask is assigned once and never reused; a removed metric keeps its column, marked retired;
a changed type is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import asyncpg

from iot_core.errors import ConfigError, StartError
from iot_core.model import DeviceClass, MetricType
from iot_core.store.aggregates import ensure_aggregates, read_sources
from iot_core.store.calendar import Calendar, counts_whole_hours
from iot_core.store.columns import ClassTable, column, retired_column, sql_type
from iot_core.store.kept import columns_of, ensure_kept, ensure_views, read_rollup, replace_view
from iot_core.store.partitions import ensure_partitions, weeks_around_now
from iot_core.store.rollups import Rollup
from iot_core.store.tier import Tier

DEFAULT_ZONE: Final = "Asia/Ho_Chi_Minh"
MAX_METRICS: Final = 63
_LOCK: Final = 0x696F742D746162  # "iot-tab"
_CHUNK: Final = "7 days"

ASSIGN_BITS = """
INSERT INTO iot.metric (class_key, key, bit, sql_type, ucum, title_vi, title_en, counter)
SELECT $1, * FROM unnest($2::text[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
ON CONFLICT (class_key, key) DO UPDATE
SET ucum = excluded.ucum, title_vi = excluded.title_vi, title_en = excluded.title_en, counter = excluded.counter,
    retired_at = NULL
WHERE (metric.ucum, metric.title_vi, metric.title_en, metric.counter, metric.retired_at)
    IS DISTINCT FROM (excluded.ucum, excluded.title_vi, excluded.title_en, excluded.counter, NULL::timestamptz)
"""
RETIRE = "UPDATE iot.metric SET retired_at = now() WHERE class_key = $1 AND retired_at IS NULL AND NOT key = ANY($2)"
_STORED: Final = "SELECT class_key FROM iot.rollup_state ORDER BY class_key"
KNOWN = "SELECT key, bit, sql_type FROM iot.metric WHERE class_key = $1 ORDER BY bit"


async def ensure_tables(
    connection: asyncpg.Connection, classes: Iterable[DeviceClass], tier: Tier = Tier.PLAIN
) -> Mapping[str, ClassTable]:
    """Create or extend the table of every class and give their columns. Raises ConfigError for a changed type."""
    tables: dict[str, ClassTable] = {}
    calendar = await read_calendar(connection)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        for device_class in sorted(classes, key=lambda each: each.key):
            _refuse_name(device_class.key)
            tables[device_class.key] = await _ensure_table(connection, device_class, tier)
            await _ensure_rollup(connection, await read_rollup(connection, device_class.key, calendar), tier)
        await _create_latest(connection, tables.values())
    if tier is Tier.PLAIN:
        for key in tables:
            await ensure_partitions(connection, key, weeks_around_now())
    return tables


async def _ensure_table(connection: asyncpg.Connection, device_class: DeviceClass, tier: Tier) -> ClassTable:
    table = await _assign_columns(connection, device_class)
    relation = f'telemetry."{table.name}"'
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", relation):
        await _create_table(connection, table, tier)
    else:
        there = set(await columns_of(connection, relation))
        for each in table.columns:
            if each.name not in there:
                await connection.execute(f'ALTER TABLE {relation} ADD COLUMN "{each.name}" {each.sql_type}')
    return table


async def _ensure_rollup(connection: asyncpg.Connection, rollup: Rollup, tier: Tier) -> None:
    await ensure_kept(connection, rollup, tier)
    if tier is Tier.COMMUNITY and not await ensure_aggregates(connection, rollup):
        return  # the views stay on the generation before until the new one is filled
    await ensure_views(connection, rollup, *await read_sources(connection, rollup, tier))


async def stored_rollups(connection: asyncpg.Connection) -> Mapping[str, Rollup]:
    """Give the rollups of every class that has a table here. Raises StartError where a core never started."""
    try:
        rows = await connection.fetch(_STORED)
    except asyncpg.PostgresError as exc:
        raise StartError("store.never_started") from exc
    return await read_rollups(connection, [row["class_key"] for row in rows])


async def fix_zone(connection: asyncpg.Connection, zone: str) -> None:
    """Fix the zone that this database counts its days in. Raises StartError when it counts in another one already."""
    if not counts_whole_hours(zone):
        raise StartError("store.zone_minutes", zone=zone)
    fixed = await connection.fetchval(
        "INSERT INTO iot.fixed_setting VALUES ('timezone', $1)"
        " ON CONFLICT (key) DO UPDATE SET value = fixed_setting.value RETURNING value",
        zone,
    )
    if fixed != zone:
        raise StartError("store.timezone_fixed", before=fixed, after=zone)


async def read_calendar(connection: asyncpg.Connection) -> Calendar:
    """Give the calendar that this database counts in."""
    zone = await connection.fetchval("SELECT value FROM iot.fixed_setting WHERE key = 'timezone'")
    return Calendar(zone or DEFAULT_ZONE)


async def read_rollups(connection: asyncpg.Connection, classes: Iterable[str]) -> Mapping[str, Rollup]:
    """Give the rollups of classes whose tables are there."""
    calendar = await read_calendar(connection)
    return {key: await read_rollup(connection, key, calendar) for key in classes}


def _refuse_name(class_key: str) -> None:
    """Refuse a class whose table would bear the name of another one's view."""
    if class_key == "latest" or class_key.endswith(("_1h", "_1d", "_latest")):
        raise ConfigError("store.class_name", device_class=class_key)


async def _assign_columns(connection: asyncpg.Connection, device_class: DeviceClass) -> ClassTable:
    known = {row["key"]: row for row in await connection.fetch(KNOWN, device_class.key)}
    free = (bit for bit in range(MAX_METRICS) if bit not in {row["bit"] for row in known.values()})
    columns = []
    for metric in device_class.metrics:
        wanted = sql_type(metric)
        before = known.get(metric.key)
        if before is not None and before["sql_type"] != wanted:
            raise ConfigError(
                "store.metric_type",
                device_class=device_class.key,
                metric=metric.key,
                before=before["sql_type"],
                after=wanted,
            )
        bit = before["bit"] if before is not None else next(free, None)
        if bit is None:
            raise ConfigError("store.too_many_metrics", device_class=device_class.key, most=MAX_METRICS)
        columns.append(column(metric, bit, wanted))
    metrics = device_class.metrics
    await connection.execute(
        ASSIGN_BITS, device_class.key, [each.key for each in metrics], [each.bit for each in columns],
        [each.sql_type for each in columns], [each.ucum for each in metrics], [each.title.vi for each in metrics],
        [each.title.en for each in metrics], [each.counter for each in metrics],
    )  # fmt: skip
    await connection.execute(RETIRE, device_class.key, [each.key for each in metrics])
    retired = (retired_column(*row) for key, row in known.items() if device_class.metric(key) is None)
    return ClassTable(device_class, tuple(columns), tuple(retired))


async def _create_table(connection: asyncpg.Connection, table: ClassTable, tier: Tier) -> None:
    # Widest first: PostgreSQL pads each column to its own size, so this order wastes nothing between them.
    metrics = "".join(f'"{each.name}" {each.sql_type}, ' for each in sorted(table.columns, key=lambda c: -c.size))
    partitioned = "PARTITION BY RANGE (time)" if tier is Tier.PLAIN else ""
    await connection.execute(
        f'CREATE TABLE telemetry."{table.name}" ('
        "time timestamptz NOT NULL, received_at timestamptz NOT NULL, bad bigint NOT NULL DEFAULT 0,"
        f" device_id integer NOT NULL, {metrics} quality smallint NOT NULL DEFAULT 0, extra jsonb) {partitioned}"
    )
    await connection.execute(
        f'CREATE UNIQUE INDEX "{table.name}_device_time" ON telemetry."{table.name}" (device_id, time)'
    )
    if tier is not Tier.PLAIN:
        await connection.execute(
            f"SELECT create_hypertable('telemetry.\"{table.name}\"', 'time',"
            f" chunk_time_interval => interval '{_CHUNK}', create_default_indexes => false)"
        )


async def _create_latest(connection: asyncpg.Connection, tables: Iterable[ClassTable]) -> None:
    """Make the views of the newest value of each metric: by measured time, with its own time and quality."""
    parts = []
    for table in tables:
        name = f'telemetry."{table.name}_latest"'
        arms = " UNION ALL ".join(_latest_arm(table, index) for index in range(len(table.columns)))
        await replace_view(connection, name, arms)
        parts.append(f"SELECT '{table.name}'::text AS class_key, * FROM {name}")
    if parts:
        await replace_view(connection, "telemetry.latest", " UNION ALL ".join(parts))


def _latest_arm(table: ClassTable, index: int) -> str:
    each = table.columns[index]
    value = f'"{each.name}"'
    shown = (
        f"{value}::integer::double precision" if each.metric.type is MetricType.BOOL else f"{value}::double precision"
    )
    return (
        f"SELECT d.id AS device_id, '{each.name}'::text AS metric, r.value, r.time, r.quality, r.bad FROM iot.device d"
        f" CROSS JOIN LATERAL (SELECT time, quality, {shown} AS value, (bad >> {each.bit}) & 1 = 1 AS bad"
        f' FROM telemetry."{table.name}" WHERE device_id = d.id AND {value} IS NOT NULL ORDER BY time DESC LIMIT 1) r'
        " LEFT JOIN iot.device_status s ON s.device_id = d.id"
        # To find no value of a metric that a device never says, all of its rows would be read.
        f" WHERE d.class_key = '{table.name}' AND (s.device_id IS NULL OR (s.said >> {each.bit}) & 1 = 1)"
    )
