"""Make the index of a class's closed weeks anew where its pages are half full.

Devices that speak in turn split full pages in their middle, and the lower half belongs to a time that is past: a week's
index takes up to 56 bytes a row, in full pages 31.7 (docs/decisions/004). It is made while others read and write. What
says whether that is due is its size: nothing is remembered, and many late rows make it due again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import structlog

from iot_core.store.connection import AWAY
from iot_core.store.retention import Piece, pieces
from iot_core.store.rollups import Rollup
from iot_core.store.tier import Tier

__all__ = ["Loose", "Tidied", "loose", "tidy"]

log = structlog.get_logger()

_FULL: Final = 31.7
"""Bytes a row of an index on (device_id, time) in pages that are 90 % full."""
_LOOSE: Final = 1.2
_WORTH: Final = 1_000_000
"""Bytes of an index below which nobody minds."""
_ROOM: Final = 2
"""Times the index: the new one, what it is sorted in, and its log are no larger together."""
_CLOSED: Final = timedelta(days=1)
_LOCK: Final = 0x696F742D746964  # "iot-tid"
_LOCK_WAIT: Final = "30s"
_MOST_S: Final = 3600.0
_RELEASE_S: Final = 2.0
# Rows that the server has not counted yet are none here: the index is made anew, and that counts them.
_INDEX: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, pg_relation_size(c.oid) AS bytes,
    greatest(t.reltuples, 0) / greatest(t.relpages, 1)
        * (pg_relation_size(t.oid) / current_setting('block_size')::integer) AS rows
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid WHERE t.oid = to_regclass($1) AND i.indisunique AND i.indisvalid
"""
_COMPRESSED: Final = """
SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
WHERE hypertable_schema = 'telemetry' AND hypertable_name = $1 AND is_compressed
"""
# What a REINDEX that did not come to its end leaves behind. One that is under way has the same names.
_LEFT: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass($1) AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
"""


@dataclass(frozen=True, slots=True)
class Loose:
    """The index of a closed piece whose pages are far from full."""

    class_key: str
    piece: Piece
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Tidied:
    """What became of one: its size now, or why it stayed as it is (`room`, `busy`, `failed`)."""

    index: Loose
    bytes: int
    kept: str | None = None


async def loose(connection: asyncpg.Connection, rollup: Rollup, tier: Tier, now: datetime) -> list[Loose]:
    """List what is to be made anew, oldest first: of pieces that ended a day ago, and are not compressed."""
    compressed: set[str] = set()
    if tier is Tier.COMMUNITY:
        compressed = {row[0] for row in await connection.fetch(_COMPRESSED, rollup.class_key)}
    found: list[Loose] = []
    for piece in await pieces(connection, rollup, tier):
        if piece.end > now - _CLOSED or piece.relation in compressed:
            continue
        found += [
            Loose(rollup.class_key, piece, row["name"], row["bytes"])
            for row in await connection.fetch(_INDEX, piece.relation)
            if row["bytes"] > max(_WORTH, row["rows"] * _FULL * _LOOSE)
        ]
    return found


async def tidy(
    connection: asyncpg.Connection,
    rollup: Rollup,
    tier: Tier,
    now: datetime,
    *,
    free: Callable[[], int | None] = lambda: None,
    calm: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Tidied]:
    """Make the loose indexes of a class anew, one after the other; outside a transaction.

    `free` gives the bytes that the database's disk has left, None where it is not ours to see; as soon as `calm` says
    no, the rest waits for another time. Nothing is done while another session is at it. A run that is cut off leaves
    the old index as it is, and beside it an unfinished one that the next run drops.
    """
    async with _alone(connection) as alone:
        if not alone:
            return
        for piece in await pieces(connection, rollup, tier):
            await _drop_left(connection, piece)
        for index in await loose(connection, rollup, tier, now):
            if not calm():
                return
            room = free()
            if room is not None and room < _ROOM * index.bytes:
                yield Tidied(index, index.bytes, "room")
            else:
                yield await _make_anew(connection, index)


async def _make_anew(connection: asyncpg.Connection, index: Loose) -> Tidied:
    kept = None
    try:
        await connection.execute(f"REINDEX INDEX CONCURRENTLY {index.name}", timeout=_MOST_S)
    except (asyncpg.PostgresError, TimeoutError) as exc:
        if connection.is_closed():
            raise
        kept = "busy" if isinstance(exc, asyncpg.LockNotAvailableError | TimeoutError) else "failed"
        log.warning("index.kept", index=index.name, reason=type(exc).__name__)
        await _drop_left(connection, index.piece)
    return Tidied(index, await connection.fetchval("SELECT pg_relation_size(to_regclass($1))", index.name), kept)


async def _drop_left(connection: asyncpg.Connection, piece: Piece) -> None:
    for row in await connection.fetch(_LEFT, piece.relation):
        with suppress(asyncpg.LockNotAvailableError):  # the next run drops it
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {row['name']}", timeout=_MOST_S)
            log.info("index.leftover_dropped", index=row["name"])


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[bool]:
    """Say whether this session is the only one at it, and let it wait for no lock for long."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        yield False
        return
    try:
        await connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
        yield True
    finally:
        with suppress(*AWAY):  # then the session is gone, and the lock with it
            await connection.execute(f"RESET lock_timeout; SELECT pg_advisory_unlock({_LOCK})", timeout=_RELEASE_S)
