"""The kept tables of a class's rollups, and the public views over them: made and extended at each start."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import asyncpg

from iot_core.store.calendar import Calendar
from iot_core.store.rollups import SCHEMA, Metric, Rollup
from iot_core.store.tier import Tier

_METRICS: Final = "SELECT key, bit, sql_type, counter FROM iot.metric WHERE class_key = $1 ORDER BY bit"
_COLUMNS: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_FIRST: Final = "INSERT INTO iot.rollup_state (class_key) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
_HOURS_CHUNK: Final = "28 days"


async def read_rollup(connection: asyncpg.Connection, class_key: str, calendar: Calendar) -> Rollup:
    """Give the rollups of a class as the registry of metrics has them, retired ones included."""
    rows = await connection.fetch(_METRICS, class_key)
    return Rollup(class_key, tuple(Metric(**dict(row)) for row in rows), calendar)


async def ensure_kept(connection: asyncpg.Connection, rollup: Rollup, tier: Tier) -> None:
    """Make the kept tables of a class, or the columns that they lack."""
    first = await connection.fetchval(_FIRST, rollup.class_key)
    await _ensure_table(connection, rollup.hours, rollup.kept(), tier, divided=True)
    await _ensure_table(connection, rollup.days, rollup.kept(), tier)
    counts_anew = False
    if rollup.counters:
        used = [(name, "double precision") for name in rollup.used_names()]
        counts_anew = await _ensure_table(connection, rollup.used, used, tier)
    if first or counts_anew:  # rows of a release that made no rollups yet, or from before a metric became a counter
        await connection.execute(
            "INSERT INTO iot.rollup_due (class_key, first, last)"
            f" SELECT $1, min(time), max(time) FROM {rollup.raw} HAVING count(*) > 0",
            rollup.class_key,
        )


async def ensure_views(connection: asyncpg.Connection, rollup: Rollup, hours: str, days: str) -> None:
    """Make the views that people use, over hours and days as they are kept."""
    await replace_view(connection, f'telemetry."{rollup.class_key}_1h"', rollup.view_of_hours(hours))
    await replace_view(connection, f'telemetry."{rollup.class_key}_1d"', rollup.view_of_days(days))


async def replace_view(connection: asyncpg.Connection, name: str, query: str) -> None:
    """Make a view, or replace one that says something else; dropped only where columns moved: others may stand on it.

    What it says is known by a digest in its comment, so that a start takes no locks from those who read meanwhile.
    """
    digest = blake2b(query.encode(), digest_size=16).hexdigest()
    if await connection.fetchval("SELECT obj_description(to_regclass($1), 'pg_class')", name) == digest:
        return
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    except asyncpg.InvalidTableDefinitionError:
        await connection.execute(f"DROP VIEW {name}")
        await connection.execute(f"CREATE VIEW {name} AS {query}")
    await connection.execute(f"COMMENT ON VIEW {name} IS '{digest}'")


async def columns_of(connection: asyncpg.Connection, relation: str) -> list[str]:
    """Name the columns of a relation in order; none when it is not there."""
    return [row["attname"] for row in await connection.fetch(_COLUMNS, relation)]


async def _ensure_table(
    connection: asyncpg.Connection,
    name: str,
    columns: Sequence[tuple[str, str]],
    tier: Tier,
    *,
    divided: bool = False,
) -> bool:
    """Make a table or the columns it lacks; say whether there was anything to make."""
    there = set(await columns_of(connection, name))
    if there:
        lacking = [(column, kind) for column, kind in columns if column not in there]
        for column, kind in lacking:
            await connection.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" {kind}')
        return bool(lacking)
    listed = "".join(f', "{column}" {kind}' for column, kind in columns)
    by_range = " PARTITION BY RANGE (time)" if divided and tier is Tier.PLAIN else ""
    await connection.execute(
        f"CREATE TABLE {name} (time timestamptz NOT NULL, device_id integer NOT NULL{listed}){by_range}"
    )
    index = name.removeprefix(f'{SCHEMA}."').removesuffix('"')
    await connection.execute(f'CREATE UNIQUE INDEX "{index}_device_time" ON {name} (device_id, time)')
    await connection.execute(f'CREATE INDEX "{index}_time" ON {name} USING brin (time)')
    if divided and tier is not Tier.PLAIN:
        await connection.execute(
            f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => interval '{_HOURS_CHUNK}',"
            " create_default_indexes => false)"
        )
    return True
