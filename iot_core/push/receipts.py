"""What became of each message, and the proof of a day: each alarm with created, delivered, seen, acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

LOG: Final = """
SELECT o.message_id, t.key AS target, o.body->>'type' AS type, o.alarm_id AS alarm, o.created_at, o.first_tried_at,
    o.attempts, o.next_at, o.delivered_at, o.dead_at, o.last_status, o.last_error, o.body_digest
FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id
WHERE ($1::text IS NULL OR t.key = $1) AND ($2::bigint IS NULL OR o.alarm_id = $2)
    AND CASE $3::text WHEN 'waiting' THEN o.delivered_at IS NULL AND o.dead_at IS NULL
        WHEN 'delivered' THEN o.delivered_at IS NOT NULL WHEN 'dead' THEN o.dead_at IS NOT NULL ELSE true END
ORDER BY o.id DESC LIMIT $4
"""
TRIES: Final = "SELECT message_id, tries FROM iot.outbox WHERE alarm_id = $1 AND tries <> '[]' ORDER BY id"
PROVE: Final = """
SELECT a.id AS alarm, a.title_vi, a.title_en, a.severity, d.key AS device,
    coalesce(d.name, u.name, c.name) AS device_name, r.name AS area_name, a.raised_at, a.recorded_at AS created_at,
    o.targets, o.delivered, o.first_delivered_at, o.dead, s.at AS seen_at, s.by AS seen_by, t.at AS acknowledged_at,
    t.by AS acknowledged_by
FROM iot.alarm a LEFT JOIN iot.device d ON d.id = a.device_id
LEFT JOIN iot.outside_source u ON a.source_kind = 'outside' AND u.id = a.source_id
LEFT JOIN iot.center c ON c.id = u.center_id
LEFT JOIN iot.area r ON r.id = coalesce(CASE WHEN a.source_kind = 'area' THEN a.source_id END, d.area_id, u.area_id)
LEFT JOIN LATERAL (
    SELECT count(DISTINCT target_id) AS targets, min(delivered_at) AS first_delivered_at,
        count(DISTINCT target_id) FILTER (WHERE delivered_at IS NOT NULL) AS delivered,
        count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
    FROM iot.outbox WHERE alarm_id = a.id AND body->>'type' = 'alarm.raised') o ON true
LEFT JOIN LATERAL (SELECT at, by FROM iot.alarm_seen WHERE alarm_id = a.id ORDER BY at LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT at, by FROM iot.alarm_taken WHERE alarm_id = a.id) t ON true
WHERE a.recorded_at >= $1 AND a.recorded_at < $2 ORDER BY a.id
"""


@dataclass(frozen=True, slots=True)
class Try:
    """One that failed: when, the status of the answer if there was one, and why in a code."""

    at: datetime
    status: int | None
    error: str


async def log(
    connection: asyncpg.Connection, target: str | None, alarm: int | None, state: str | None, most: int
) -> Sequence[asyncpg.Record]:
    """List messages, the newest first."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(LOG, target, alarm, state, most)
    return rows


async def failed_tries(connection: asyncpg.Connection, alarm: int) -> dict[str, list[Try]]:
    """Give the failed tries of an alarm's messages by message id, the oldest first; of each message the newest 40."""
    rows = await connection.fetch(TRIES, alarm)
    return {row["message_id"]: msgspec.convert(row["tries"], list[Try]) for row in rows}


async def prove(connection: asyncpg.Connection, day: date, zone: str) -> Sequence[asyncpg.Record]:
    """List the alarms that were made on a civil day."""
    start, end = (datetime.combine(each, time(), ZoneInfo(zone)) for each in (day, day + timedelta(days=1)))
    rows: Sequence[asyncpg.Record] = await connection.fetch(PROVE, start, end)
    return rows


async def note_seen(connection: asyncpg.Connection, alarm_ids: Sequence[int], by: str) -> None:
    """Note that a person has had these alarms before them, or has done something with them; the first time counts."""
    await connection.execute(SEEN, list(alarm_ids), by)


SEEN: Final = """
INSERT INTO iot.alarm_seen (alarm_id, by) SELECT id, $2 FROM unnest($1::bigint[]) AS id ON CONFLICT DO NOTHING
"""
