"""Copy everything to another database, of whatever tier: registry, rows, rollups. Safe to interrupt and to repeat.

schema iot -> one transaction          rows -> a week at a time, compared by count and checksum
rollups whose raw rows are gone -> kept tables;  the others are worked out anew where the target makes them itself

Nothing is remembered between two runs: a week that is equal on both sides is skipped, any other is copied again whole.
So most of it can be copied while the core runs, and what came meanwhile in a second run, with the core stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.errors import StartError
from iot_core.store.aggregates import cut_at, read_sources
from iot_core.store.connection import copying
from iot_core.store.kept import columns_of, ensure_views
from iot_core.store.partitions import WEEK, ensure_hour_partitions, ensure_partitions, week_of
from iot_core.store.rollups import Rollup
from iot_core.store.tables import read_rollups
from iot_core.store.tier import Tier

_MOST_S: Final = 3600.0
_BLOCKS: Final = 32
"""Blocks of the copied stream in memory at most; each is some 64 kB."""
_TABLES: Final = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = 'iot'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
"""
_NEEDS: Final = """
SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent FROM pg_constraint
WHERE contype = 'f' AND connamespace = 'iot'::regnamespace AND conrelid <> confrelid
"""
_SEQUENCES: Final = """
SELECT a.attrelid::regclass::text AS relation, a.attname AS name FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'iot'::regnamespace AND c.relkind = 'r' AND a.attidentity <> ''
"""
_MOVED: Final = "moved_from"
_NOT_COPIED: Final = frozenset({"rollup_generation", "rollup_state", "rollup_due"})
"""What says how a database makes its own rollups."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one relation, compared on both sides."""

    relation: str
    first: datetime | None
    rows: int
    copied: bool


Report = Callable[[Piece], None]


async def identity(connection: asyncpg.Connection) -> str:
    """Name a database so that no other one is taken for it."""
    found: str = await connection.fetchval(
        "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
    )
    return found


async def check_target(source: asyncpg.Connection, target: asyncpg.Connection) -> None:
    """Raise StartError unless the target is empty, or has this source from an earlier run."""
    mine = await identity(source)
    if mine == await identity(target):
        raise StartError("db.move_same")
    before = await target.fetchval("SELECT value FROM iot.fixed_setting WHERE key = $1", _MOVED)
    if before not in (None, mine):
        raise StartError("db.move_other")
    if before is None and await target.fetchval("SELECT EXISTS (SELECT FROM iot.device)"):
        raise StartError("db.move_not_empty")


async def weeks_to_copy(source: asyncpg.Connection, rollups: Mapping[str, Rollup]) -> dict[str, list[datetime]]:
    """List the weeks that each class has rows in."""
    weeks: dict[str, list[datetime]] = {}
    for key, rollup in rollups.items():
        row = await source.fetchrow(f"SELECT min(time) AS first, max(time) AS last FROM {rollup.raw}", timeout=_MOST_S)
        start, weeks[key] = row["first"] and week_of(row["first"]), []
        while start is not None and start <= row["last"]:
            weeks[key].append(start)
            start += WEEK
    return weeks


async def copy_registry(source: asyncpg.Connection, target: asyncpg.Connection) -> list[Piece]:
    """Replace the schema `iot` of the target by the source's, in one transaction."""
    tables = await _in_order(source)
    pieces = []
    async with source.transaction(isolation="repeatable_read", readonly=True), target.transaction():
        await target.execute(f"TRUNCATE {', '.join(f'iot.{name}' for name in tables)} CASCADE")
        for name in tables:
            # A trigger would add what is copied as well: versions of a device's area, for one.
            await target.execute(f"ALTER TABLE iot.{name} DISABLE TRIGGER USER")
        for name in tables:
            columns = await columns_of(source, f"iot.{name}")
            await _stream(source, target, f"SELECT {_listed(columns)} FROM iot.{name}", ("iot", name), columns)
            rows, mine = await _sum(source, f"iot.{name}", columns, "true")
            there, theirs = await _sum(target, f"iot.{name}", columns, "true")
            if (rows, mine) != (there, theirs):
                raise StartError("db.move_differs", relation=f"iot.{name}", here=rows, there=there)
            pieces.append(Piece(f"iot.{name}", None, rows, copied=True))
        for name in tables:
            await target.execute(f"ALTER TABLE iot.{name} ENABLE TRIGGER USER")
        await target.execute(
            "INSERT INTO iot.fixed_setting VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            _MOVED,
            await identity(source),
        )
        for row in await target.fetch(_SEQUENCES):
            await target.execute(
                f"SELECT setval(pg_get_serial_sequence('{row['relation']}', '{row['name']}'),"
                f" COALESCE(max({row['name']}), 0) + 1, false) FROM {row['relation']}"
            )
    return pieces


async def copy_week(
    source: asyncpg.Connection, target: asyncpg.Connection, rollup: Rollup, week: datetime, tier: Tier
) -> Piece:
    """Make one week of a class equal on both sides. Raises StartError where it is not after copying."""
    columns = await columns_of(source, rollup.raw)
    await _add_columns(target, rollup, columns)
    if tier is Tier.PLAIN:
        await ensure_partitions(target, rollup.class_key, [week])
    span = f"time >= '{week.isoformat()}' AND time < '{(week + WEEK).isoformat()}'"
    async with source.transaction(isolation="repeatable_read", readonly=True):
        mine = await _sum(source, rollup.raw, columns, span)
        if mine == await _sum(target, rollup.raw, columns, span):
            return Piece(rollup.raw, week, mine[0], copied=False)
        async with target.transaction():
            if tier is Tier.COMMUNITY:
                await target.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
            await target.execute(f"DELETE FROM {rollup.raw} WHERE {span}", timeout=_MOST_S)
            query = f"SELECT {_listed(columns)} FROM {rollup.raw} WHERE {span}"
            await _stream(source, target, query, ("telemetry", rollup.class_key), columns)
            theirs = await _sum(target, rollup.raw, columns, span)
            if theirs != mine:
                raise StartError("db.move_differs", relation=rollup.raw, here=mine[0], there=theirs[0])
    return Piece(rollup.raw, week, mine[0], copied=True)


async def copy_rollups(
    source: asyncpg.Connection, target: asyncpg.Connection, rollup: Rollup, tiers: tuple[Tier, Tier]
) -> list[Piece]:
    """Copy kept buckets: all of them, or where the target makes its own, those whose raw rows are gone."""
    state = await source.fetchrow("SELECT * FROM iot.rollup_state WHERE class_key = $1", rollup.class_key)
    hours, days = await read_sources(source, rollup, tiers[0])
    cut = cut_at(rollup, state["raw_from"])
    own = tiers[1] is Tier.COMMUNITY
    first, last = await _span_of(source, hours)
    if tiers[1] is Tier.PLAIN and first is not None:
        await ensure_hour_partitions(target, rollup.class_key, first, last)
    pieces = []
    jobs = [
        (hours, rollup.hours, rollup.names(), cut["kept_before"] if own else None),
        (days, rollup.days, rollup.names(), cut["kept_days_before"] if own and rollup.days_are_aggregated else None),
    ]
    if rollup.counters:
        jobs.append((rollup.used, rollup.used, rollup.used_names(), None))
    async with target.transaction():
        for origin, kept, names, before in jobs:
            columns = ["time", "device_id", *names]
            where = f"time < '{(before or datetime.now(UTC) + WEEK).isoformat()}'"
            await target.execute(f"DELETE FROM {kept}", timeout=_MOST_S)
            query = f"SELECT {_listed(columns)} FROM {origin} s WHERE {where}"
            schema, _, table = kept.replace('"', "").partition(".")
            await _stream(source, target, query, (schema, table), columns)
            rows = await target.fetchval(f"SELECT count(*) FROM {kept}")
            pieces.append(Piece(kept, None, rows, copied=True))
        await target.execute(
            "UPDATE iot.rollup_state SET raw_from = $2, kept_before = $3, kept_days_before = $4 WHERE class_key = $1",
            rollup.class_key,
            state["raw_from"],
            cut["kept_before"],
            cut["kept_days_before"],
        )
        await ensure_views(target, rollup, *await read_sources(target, rollup, tiers[1]))
        await target.execute(
            "INSERT INTO iot.rollup_due (class_key, first, last, devices)"
            " SELECT class_key, first, last, devices FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[])"
            " AS noted (class_key, first, last), LATERAL (SELECT NULL::integer[] AS devices) d",
            *await _noted(source, rollup),
        )
    return pieces


async def target_rollups(target: asyncpg.Connection, classes: Sequence[str]) -> Mapping[str, Rollup]:
    """Give the rollups as the target has them."""
    return await read_rollups(target, classes)


async def _noted(source: asyncpg.Connection, rollup: Rollup) -> tuple[list[str], list[datetime], list[datetime]]:
    """Give the notes of hours that the source had not worked out yet."""
    rows = await source.fetch("SELECT first, last FROM iot.rollup_due WHERE class_key = $1", rollup.class_key)
    return [rollup.class_key] * len(rows), [row["first"] for row in rows], [row["last"] for row in rows]


async def _span_of(connection: asyncpg.Connection, hours: str) -> tuple[Any, Any]:
    row = await connection.fetchrow(f"SELECT min(time) AS first, max(time) AS last FROM {hours} s", timeout=_MOST_S)
    return row["first"], row["last"]


async def _add_columns(target: asyncpg.Connection, rollup: Rollup, columns: Sequence[str]) -> None:
    """Give the target the columns of metrics that are retired: no profile names them any more."""
    there = set(await columns_of(target, rollup.raw))
    kinds = {each.key: each.sql_type for each in rollup.metrics}
    for name in columns:
        if name not in there:
            await target.execute(f'ALTER TABLE {rollup.raw} ADD COLUMN "{name}" {kinds[name]}')


async def _in_order(connection: asyncpg.Connection) -> list[str]:
    """Sort the tables of the registry, those that others refer to first."""
    names = [row["name"] for row in await connection.fetch(_TABLES) if row["name"] not in _NOT_COPIED]
    needs: dict[str, set[str]] = {name: set() for name in names}
    for row in await connection.fetch(_NEEDS):
        child, parent = row["child"].removeprefix("iot."), row["parent"].removeprefix("iot.")
        if child in needs and parent in needs:
            needs[child].add(parent)
    ordered: list[str] = []
    while len(ordered) < len(names):
        ordered += sorted(name for name in names if name not in ordered and needs[name] <= set(ordered))
    return ordered


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


async def _sum(connection: asyncpg.Connection, relation: str, columns: Sequence[str], where: str) -> tuple[int, Any]:
    """Count rows and add up a checksum of each, whatever their order."""
    row = await connection.fetchrow(
        "SELECT count(*) AS rows, COALESCE(sum(('x' || left(md5(ROW("
        f"{_listed(sorted(columns))})::text), 16))::bit(64)::bigint::numeric), 0) AS sum FROM {relation} WHERE {where}",
        timeout=_MOST_S,
    )
    return row["rows"], row["sum"]


async def _stream(
    source: asyncpg.Connection, target: asyncpg.Connection, query: str, into: tuple[str, str], columns: Sequence[str]
) -> None:
    """Copy the rows of a query from one database to the other, never holding more than some blocks."""
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue(_BLOCKS)

    async def read() -> None:
        try:
            await source.copy_from_query(query, output=blocks.put, format="binary", timeout=_MOST_S)
        finally:
            await blocks.put(None)

    async def taken() -> AsyncIterator[bytes]:
        while (block := await blocks.get()) is not None:
            yield block

    async with asyncio.TaskGroup() as group:
        group.create_task(read(), name="move.read")
        async with copying(target, _MOST_S):
            await target.copy_to_table(
                into[1], schema_name=into[0], columns=columns, source=taken(), format="binary", timeout=_MOST_S
            )
