"""Turn the tables of plain PostgreSQL into hypertables where they are, once the extension is in the same database.

table -> aside (telemetry_aside) -> hypertable under its name -> a partition at a time: copied, compared, dropped

Each partition is one transaction; a conversion that died goes on where it stood. No core may run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import asyncpg

from iot_core.errors import StartError
from iot_core.model import DeviceClass
from iot_core.store.kept import columns_of
from iot_core.store.tables import ensure_tables
from iot_core.store.tier import ASIDE, Found, find_tier

_MOST_S: Final = 3600.0
_PARTITIONED: Final = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND n.nspname = ANY ($1) ORDER BY 1, 2
"""
_PARTS: Final = "SELECT inhrelid::regclass::text AS part FROM pg_inherits WHERE inhparent = to_regclass($1) ORDER BY 1"
_VIEWS: Final = """
SELECT oid::regclass::text AS view FROM pg_class WHERE relkind = 'v' AND relnamespace = 'telemetry'::regnamespace
"""
_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = 'iot-core' AND datname = current_database()
"""


async def convert(
    connection: asyncpg.Connection, classes: Iterable[DeviceClass], *, told: Callable[[str, int], None]
) -> Found:
    """Convert every partitioned table; `told` hears of each partition and its rows. Raises StartError."""
    if await connection.fetchval(_OTHERS):
        raise StartError("db.convert_running")
    extension = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
    if not extension:
        raise StartError("db.convert_no_extension")
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ASIDE}")
    for row in await connection.fetch(_PARTITIONED, ["telemetry", "telemetry_rollup"]):
        # The indexes keep their names with the table, so they step aside with it.
        await connection.execute(f'ALTER TABLE {row["schema"]}."{row["name"]}" SET SCHEMA {ASIDE}')
    for row in await connection.fetch(_VIEWS):  # they stand on the tables that stepped aside, and are made anew
        await connection.execute(f"COMMENT ON VIEW {row['view']} IS NULL")
    found = await find_tier(connection, converting=True)
    await ensure_tables(connection, classes, found.tier)
    for row in await connection.fetch(_PARTITIONED, [ASIDE]):
        await _bring_back(connection, row["name"], told)
    await connection.execute(f"DROP SCHEMA {ASIDE}")
    return found


async def _bring_back(connection: asyncpg.Connection, name: str, told: Callable[[str, int], None]) -> None:
    aside = f'{ASIDE}."{name}"'
    here = f'telemetry_rollup."{name}"' if name.endswith("_1h") else f'telemetry."{name}"'
    columns = await columns_of(connection, aside)
    there = set(await columns_of(connection, here))
    for column in [each for each in columns if each not in there]:  # of a metric that no profile names any more
        kind = await connection.fetchval(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass($1) AND attname = $2",
            aside,
            column,
        )
        await connection.execute(f'ALTER TABLE {here} ADD COLUMN "{column}" {kind}')
    listed = ", ".join(f'"{column}"' for column in columns)
    for row in await connection.fetch(_PARTS, aside):
        part = row["part"]
        async with connection.transaction():
            before = await connection.fetchval(f"SELECT count(*) FROM {part}", timeout=_MOST_S)
            done = await connection.execute(
                f"INSERT INTO {here} ({listed}) SELECT {listed} FROM {part}", timeout=_MOST_S
            )
            if int(done.rpartition(" ")[2]) != before:
                raise StartError("db.move_differs", relation=part, here=before, there=done)
            await connection.execute(f"DROP TABLE {part}")
        told(part, before)
    await connection.execute(f"DROP TABLE {aside}")
