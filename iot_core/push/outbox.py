"""The outbox: what is to be sent, to whom, in which order. Written in the transaction of what it tells of.

Delivery is at least once: a repeat carries the same message id. Of one alarm and target, an event is offered only
when all earlier ones are delivered or dead.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.model import Severity

_ORDER: Final = tuple(Severity)  # the most urgent first

TARGETS: Final = """
SELECT id, min_severity, accepts_simulated FROM iot.push_target WHERE removed_at IS NULL ORDER BY id
"""
DEVICES: Final = """
SELECT d.id, d.key, d.name, d.class_key, d.latitude, d.longitude, r.key AS area
FROM iot.device d LEFT JOIN iot.area r ON r.id = d.area_id WHERE d.id = ANY($1)
"""
ADD: Final = "INSERT INTO iot.outbox (target_id, alarm_id, message_id, body) VALUES ($1, $2, $3, $4)"

_OPEN: Final = "o.delivered_at IS NULL AND o.dead_at IS NULL"
_FREE: Final = "(o.claimed_until IS NULL OR o.claimed_until <= clock_timestamp())"
READY: Final = f"""
SELECT t.id, t.key, t.url, t.secret FROM iot.push_target t WHERE t.removed_at IS NULL AND EXISTS (
    SELECT FROM iot.outbox o WHERE o.target_id = t.id AND {_OPEN} AND {_FREE} AND o.next_at <= clock_timestamp())
ORDER BY t.id
"""
# What was never tried goes first: a fire does not queue behind yesterday's failures.
CLAIM: Final = f"""
UPDATE iot.outbox SET claimed_until = clock_timestamp() + $3, attempts = attempts + 1
WHERE id IN (
    SELECT o.id FROM iot.outbox o
    WHERE o.target_id = $1 AND {_OPEN} AND {_FREE} AND o.next_at <= clock_timestamp() AND NOT EXISTS (
        SELECT FROM iot.outbox e WHERE e.alarm_id = o.alarm_id AND e.target_id = o.target_id AND e.id < o.id
            AND e.delivered_at IS NULL AND e.dead_at IS NULL)
    ORDER BY o.attempts > 0, o.id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, alarm_id, message_id, body, attempts, clock_timestamp() - created_at AS age
"""
NEXT: Final = f"""
SELECT min(GREATEST(o.next_at, o.claimed_until)) - clock_timestamp() FROM iot.outbox o
JOIN iot.push_target t ON t.id = o.target_id AND t.removed_at IS NULL
WHERE {_OPEN} AND GREATEST(o.next_at, o.claimed_until) > clock_timestamp()
"""
DELIVERED: Final = """
UPDATE iot.outbox SET delivered_at = clock_timestamp(), claimed_until = NULL, last_status = $2, last_error = NULL
WHERE id = $1
"""
FAILED: Final = """
UPDATE iot.outbox SET claimed_until = NULL, last_status = $2, last_error = $3, next_at = clock_timestamp() + $4,
    dead_at = CASE WHEN $5 THEN clock_timestamp() END
WHERE id = $1 AND delivered_at IS NULL AND dead_at IS NULL
"""
# After an outage; what the receiver itself refused (4xx) keeps its own pace.
HURRY: Final = f"""
UPDATE iot.outbox o SET next_at = clock_timestamp()
WHERE o.target_id = $1 AND {_OPEN} AND {_FREE} AND o.next_at > clock_timestamp() AND o.last_error IS NOT NULL
    AND (o.last_status IS NULL OR o.last_status >= 500 OR o.last_status IN (408, 429))
"""
FORGET: Final = """
DELETE FROM iot.outbox WHERE id IN (
    SELECT id FROM iot.outbox WHERE delivered_at < now() - $1::interval OR dead_at < now() - $1::interval LIMIT 10000)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened to an alarm, for the world outside. `alarm` is JSON-ready."""

    type: str
    at: datetime
    alarm_id: int
    device_id: int | None
    severity: Severity
    simulated: bool
    alarm: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A target with something to send. The secret stays out of every text made of it."""

    id: int
    key: str
    url: str
    secret: str

    def __repr__(self) -> str:
        return f"Endpoint({self.key!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One outbox row, claimed."""

    id: int
    alarm_id: int | None
    message_id: str
    body: Mapping[str, Any]
    attempts: int
    age: timedelta


def new_message_id() -> str:
    """Make the webhook-id: the same on every try of one message."""
    return f"msg_{uuid.uuid4().hex}"


async def enqueue(connection: asyncpg.Connection, notices: Sequence[Notice]) -> int:
    """Put notices into the outbox of every target that wants them, in the caller's transaction; say how many rows."""
    targets = await connection.fetch(TARGETS) if notices else []
    if not targets:
        return 0
    ids = sorted({notice.device_id for notice in notices if notice.device_id is not None})
    devices = {row["id"]: _device(row) for row in await connection.fetch(DEVICES, ids)}
    rows = [
        (target["id"], notice.alarm_id, new_message_id(), _body(notice, devices.get(notice.device_id or 0)))
        for notice in notices
        for target in targets
        if _wants(target, notice)
    ]
    if rows:
        await connection.executemany(ADD, rows)
    return len(rows)


async def ready(connection: asyncpg.Connection) -> list[Endpoint]:
    """Give the targets that have something due."""
    return [Endpoint(**row) for row in await connection.fetch(READY)]


async def claim(connection: asyncpg.Connection, target_id: int, most: int, lease: timedelta) -> list[Message]:
    """Take up to `most` due messages of a target, for as long as the lease; what we do not finish comes again."""
    rows = await connection.fetch(CLAIM, target_id, most, lease)
    return sorted((Message(**row) for row in rows), key=lambda message: message.id)


async def until_next(connection: asyncpg.Connection) -> timedelta | None:
    """Say how long until something falls due."""
    wait: timedelta | None = await connection.fetchval(NEXT)
    return wait


async def mark_delivered(connection: asyncpg.Connection, message: Message, status: int | None) -> None:
    """Note that the receiver has it."""
    await connection.execute(DELIVERED, message.id, status)


async def mark_failed(
    connection: asyncpg.Connection, message: Message, *, status: int | None, error: str, again_in: timedelta, dead: bool
) -> None:
    """Note a failure: try again later, or give up."""
    await connection.execute(FAILED, message.id, status, error, again_in, dead)


async def hurry(connection: asyncpg.Connection, target_id: int) -> None:
    """Make everything due that waits for a receiver which has just come back."""
    await connection.execute(HURRY, target_id)


async def forget(connection: asyncpg.Connection, keep: timedelta) -> None:
    """Delete what was delivered or given up long ago."""
    while await connection.execute(FORGET, keep) != "DELETE 0":
        pass


def _wants(target: asyncpg.Record, notice: Notice) -> bool:
    if notice.simulated and not target["accepts_simulated"]:
        return False
    return _ORDER.index(notice.severity) <= _ORDER.index(Severity(target["min_severity"]))


def _device(row: asyncpg.Record) -> dict[str, object]:
    return {
        "key": row["key"],
        "name": row["name"],
        "class": row["class_key"],
        "area": row["area"],
        "latitude": row["latitude"],
        "longitude": row["longitude"],
    }


def _body(notice: Notice, device: Mapping[str, object] | None) -> dict[str, object]:
    return {
        "type": notice.type,
        "timestamp": notice.at.isoformat(),
        "data": {"alarm": dict(notice.alarm), "device": device},
    }
