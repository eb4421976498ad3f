"""Let old raw rows go: whole partitions or chunks, and only those whose rollups equal them.

A piece is locked against writers, compared and dropped in one transaction; what differs stays, and is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.store.aggregates import first_whole_hour
from iot_core.store.calendar import HOUR
from iot_core.store.partitions import WEEK, start_of_part
from iot_core.store.rollups import Rollup
from iot_core.store.tier import Tier
from iot_core.store.verify import Checked, compare

_PARTITIONS: Final = """
SELECT child.relname AS name FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass($1) ORDER BY child.relname
"""
_CHUNKS: Final = """
SELECT format('%I.%I', chunk_schema, chunk_name) AS relation, range_start, range_end
FROM timescaledb_information.chunks WHERE hypertable_schema = 'telemetry' AND hypertable_name = $1 ORDER BY range_start
"""
_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '5s'"


@dataclass(frozen=True, slots=True)
class Piece:
    """A partition or chunk of a class's table, with its span."""

    relation: str
    first: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Dropped:
    """What became of a piece that was old enough: `checked` says why it stayed."""

    piece: Piece
    gone: bool
    checked: Checked


async def pieces(connection: asyncpg.Connection, rollup: Rollup, tier: Tier) -> list[Piece]:
    """List the partitions or chunks of a class's table, oldest first."""
    if tier is Tier.PLAIN:
        rows = await connection.fetch(_PARTITIONS, rollup.raw)
        starts = [(row["name"], start_of_part(row["name"])) for row in rows]
        return [Piece(f'telemetry_part."{name}"', start, start + WEEK) for name, start in starts]
    rows = await connection.fetch(_CHUNKS, rollup.class_key)
    return [Piece(row["relation"], row["range_start"], row["range_end"]) for row in rows]


async def drop_old(
    connection: asyncpg.Connection, rollup: Rollup, tier: Tier, *, now: datetime, keep: timedelta
) -> list[Dropped]:
    """Drop the pieces that lie wholly before `now - keep`, oldest first; stop at the first that must stay."""
    done: list[Dropped] = []
    for piece in await pieces(connection, rollup, tier):
        if piece.end > now - keep:
            break
        dropped = await _drop(connection, rollup, tier, piece)
        done.append(dropped)
        if not dropped.gone:
            break
    return done


async def _drop(connection: asyncpg.Connection, rollup: Rollup, tier: Tier, piece: Piece) -> Dropped:
    async with connection.transaction():
        await connection.execute(_LOCK_WAIT)
        await connection.execute(f"LOCK TABLE {piece.relation} IN SHARE MODE")  # readers go on, writers wait
        raw_from = await connection.fetchval(
            "SELECT raw_from FROM iot.rollup_state WHERE class_key = $1 FOR UPDATE", rollup.class_key
        )
        first = max(rollup.calendar.hour_of(piece.first), first_whole_hour(rollup, raw_from))
        end = rollup.calendar.hour_of(piece.end - timedelta(microseconds=1)) + HOUR
        checked = await compare(connection, rollup, tier, first, end)
        if checked.differences or checked.pending or await _has_older(connection, rollup, piece, raw_from):
            return Dropped(piece, gone=False, checked=checked)
        await connection.execute(
            "UPDATE iot.rollup_state SET raw_from = GREATEST(raw_from, $2) WHERE class_key = $1",
            rollup.class_key,
            piece.end,
        )
        if tier is Tier.PLAIN:
            await connection.execute(f"ALTER TABLE {rollup.raw} DETACH PARTITION {piece.relation}")
            await connection.execute(f"DROP TABLE {piece.relation}")
        else:
            await connection.execute(f"SELECT drop_chunks('{rollup.raw}', older_than => $1::timestamptz)", piece.end)
    return Dropped(piece, gone=True, checked=checked)


async def _has_older(connection: asyncpg.Connection, rollup: Rollup, piece: Piece, raw_from: datetime) -> bool:
    """Say whether rows came to a span whose rollups were closed: nobody can tell what they should change."""
    came: bool = await connection.fetchval(
        f"SELECT EXISTS (SELECT FROM {rollup.raw} WHERE time >= $1 AND time < $2 AND time < $3)",
        piece.first,
        piece.end,
        raw_from,
    )
    return came
