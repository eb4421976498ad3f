"""What a batch leaves beside the readings: when a device was last heard, its presence, the ranges of `seq`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg

HEARD = """
INSERT INTO iot.device_status (device_id, last_received_at, last_time, said)
SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::bigint[])
ON CONFLICT (device_id) DO UPDATE SET
    last_received_at = GREATEST(device_status.last_received_at, excluded.last_received_at),
    last_time = GREATEST(device_status.last_time, excluded.last_time),
    said = device_status.said | excluded.said,
    silent_since = NULL
"""
# A row whose presence we forgot (it has no state, but a time) believes no retained message: that was said before.
PRESENCE = """
INSERT INTO iot.device_status (device_id, online, online_changed_at)
SELECT said.device_id, said.online, said.at
FROM unnest($1::integer[], $2::boolean[], $3::timestamptz[], $4::boolean[]) AS said (device_id, online, at, retained)
LEFT JOIN iot.device_status s USING (device_id)
WHERE NOT (said.retained AND s.online IS NULL AND s.online_changed_at IS NOT NULL)
ORDER BY said.device_id
ON CONFLICT (device_id) DO UPDATE SET online = excluded.online, online_changed_at = excluded.online_changed_at
WHERE device_status.online IS DISTINCT FROM excluded.online
"""
FORGET = """
UPDATE iot.device_status SET online = NULL, online_changed_at = CASE WHEN $1 THEN now() END WHERE online
"""
LOADED = """
INSERT INTO iot.device_status (device_id, last_time, said)
SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::bigint[])
ON CONFLICT (device_id) DO UPDATE SET
    last_time = GREATEST(device_status.last_time, excluded.last_time), said = device_status.said | excluded.said
"""
ACTIVE = "UPDATE iot.device SET lifecycle = 'active' WHERE id = ANY($1) AND lifecycle IN ('planned', 'provisioned')"
ADD_SEQS = """
INSERT INTO iot.seq_range (unit_id, run, seqs)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[]::int8multirange[])
ON CONFLICT (unit_id, run) DO UPDATE SET seqs = seq_range.seqs + excluded.seqs, changed_at = now()
WHERE NOT seq_range.seqs @> excluded.seqs
"""
LOCK_RUNS = """
SELECT FROM unnest($1::integer[], $2::text[]) AS asked (unit_id, run)
JOIN iot.seq_range r ON r.unit_id = asked.unit_id AND r.run = asked.run
ORDER BY r.unit_id, r.run FOR UPDATE OF r
"""
BEGIN_RUNS = """
INSERT INTO iot.seq_range (unit_id, run, seqs)
SELECT unit_id, run, '{}' FROM unnest($1::integer[], $2::text[]) AS asked (unit_id, run)
ON CONFLICT (unit_id, run) DO NOTHING
"""
SEEN_SEQS = """
SELECT asked.unit_id, asked.run, asked.seq
FROM unnest($1::integer[], $2::text[], $3::bigint[]) AS asked (unit_id, run, seq)
JOIN iot.seq_range r ON r.unit_id = asked.unit_id AND r.run = asked.run AND r.seqs @> asked.seq
"""

FORGET_RUNS = "DELETE FROM iot.seq_range WHERE changed_at < now() - $1::interval"
# A range takes 17 bytes: below that size nothing is counted.
NEWEST_RANGES = """
UPDATE iot.seq_range r SET seqs = kept.seqs
FROM iot.seq_range long CROSS JOIN LATERAL (
    SELECT count(*) AS number, range_agg(each) FILTER (WHERE place <= $1) AS seqs
    FROM (SELECT each, row_number() OVER (ORDER BY each DESC) AS place FROM unnest(long.seqs) AS each) ranges
) kept
WHERE pg_column_size(long.seqs) > $1 AND kept.number > $1 AND (r.unit_id, r.run) = (long.unit_id, long.run)
    AND r.seqs = long.seqs
"""
MOST_RANGES = 2_000
"""Kept of a unit's run: one that sends a clock for a number would have a range for each message."""

Heard = Mapping[int, tuple[datetime, datetime | None, int]]
"""Device id -> (newest arrival, newest measured time, bits of the metrics it said)."""
Presence = tuple[bool, datetime, bool]
"""Online, since when, and whether a retained message says so."""
Seq = tuple[int, str, int]
"""Unit id, run, seq."""


async def mark_heard(connection: asyncpg.Connection, heard: Heard) -> None:
    """Note when each device was last heard. Rows are written in id order, so two workers cannot deadlock."""
    ids = sorted(heard)
    received, times, said = ([heard[id_][part] for id_ in ids] for part in range(3))
    await connection.execute(HEARD, ids, received, times, said)


async def mark_loaded(connection: asyncpg.Connection, said: Mapping[int, tuple[datetime, int]]) -> None:
    """Note what a file said of devices: it was no message, so nobody was heard."""
    ids = sorted(said)
    await connection.execute(LOADED, ids, [said[id_][0] for id_ in ids], [said[id_][1] for id_ in ids])


async def online(pool: asyncpg.Pool, device_id: int) -> bool | None:
    """Say whether a device is there by its own word, None where it never said."""
    found: bool | None = await pool.fetchval("SELECT online FROM iot.device_status WHERE device_id = $1", device_id)
    return found


async def mark_presence(connection: asyncpg.Connection, online: Mapping[int, Presence]) -> None:
    """Note what devices (or their last wills) said of their presence."""
    ids = sorted(online)
    states, times, retained = ([online[id_][part] for id_ in ids] for part in range(3))
    await connection.execute(PRESENCE, ids, states, times, retained)


async def forget_presence(pool: asyncpg.Pool, *, stale: bool) -> None:
    """Let nobody be online any more whose connection went with its broker, until the device says so itself.

    `stale`: the broker keeps retained messages over its restart, which then tell of connections that are gone.
    """
    await pool.execute(FORGET, stale)


async def mark_active(connection: asyncpg.Connection, device_ids: Sequence[int]) -> None:
    """Move devices that spoke for the first time on in their life."""
    await connection.execute(ACTIVE, sorted(device_ids))


async def seen_seqs(connection: asyncpg.Connection, asked: Sequence[Seq]) -> set[Seq]:
    """Say which numbers are on record already, and keep other workers from recording more of these runs until we end.

    Without that, a message that two workers got in one moment (a session moved from one to the other) is stored twice.
    """
    runs = sorted({(unit_id, run) for unit_id, run, _ in asked})
    columns = [unit_id for unit_id, _ in runs], [run for _, run in runs]
    if len(await connection.fetch(LOCK_RUNS, *columns)) < len(runs):
        await connection.execute(BEGIN_RUNS, *columns)
        await connection.fetch(LOCK_RUNS, *columns)
    rows = await connection.fetch(SEEN_SEQS, *_columns(asked))
    return {(row["unit_id"], row["run"], row["seq"]) for row in rows}


async def add_seqs(connection: asyncpg.Connection, seqs: Iterable[Seq]) -> None:
    """Put numbers on record as ranges per unit and run."""
    by_run: dict[tuple[int, str], list[int]] = {}
    for unit_id, run, seq in seqs:
        by_run.setdefault((unit_id, run), []).append(seq)
    keys = sorted(by_run)
    await connection.execute(
        ADD_SEQS, [unit_id for unit_id, _ in keys], [run for _, run in keys], [multirange(by_run[key]) for key in keys]
    )


async def trim_seqs(connection: asyncpg.Connection, *, keep: timedelta) -> None:
    """Forget runs that nothing was added to for `keep`, and the lowest numbers of a run of very many ranges."""
    await connection.execute(FORGET_RUNS, keep)
    await connection.execute(NEWEST_RANGES, MOST_RANGES)


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Join numbers into closed ranges: 1 2 3 7 -> [(1, 3), (7, 7)]."""
    joined: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if joined and number == joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], number)
        else:
            joined.append((number, number))
    return joined


def multirange(numbers: Iterable[int]) -> str:
    """Write numbers as PostgreSQL's int8multirange."""
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges(numbers)) + "}"


def _columns(asked: Sequence[Seq]) -> tuple[list[int], list[str], list[int]]:
    return [unit for unit, _, _ in asked], [run for _, run, _ in asked], [seq for _, _, seq in asked]
