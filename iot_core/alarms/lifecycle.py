"""What people do with alarms: list them, look at one with its history, acknowledge it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from iot_core.alarms.alarm import AlarmEvent, AlarmRow, EventKind, from_record
from iot_core.alarms.case import Case
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.rules import State
from iot_core.errors import ConflictError, NotFoundError

_SELECT: Final = """
SELECT a.*, d.key AS device_key, d.name AS device_name, d.class_key, d.latitude, d.longitude,
    r.key AS area_key, r.name AS area_name
FROM iot.alarm a LEFT JOIN iot.device d ON d.id = a.device_id LEFT JOIN iot.area r ON r.id = d.area_id
"""
_WITHIN: Final = """($3::integer[] IS NULL
    OR coalesce(d.area_id, CASE WHEN a.source_kind = 'area' THEN a.source_id END) = ANY($3))"""
ONE: Final = _SELECT + "WHERE a.id = $1"
# Open ones: the most urgent that nobody has taken come first. History: the newest first.
OPEN: Final = (
    _SELECT
    + f"""WHERE a.closed_at IS NULL AND ($1::text IS NULL OR d.key = $1) AND {_WITHIN}
ORDER BY a.acknowledged_at IS NOT NULL, array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity),
    a.raised_at DESC, a.id DESC LIMIT $2"""
)
ALL: Final = _SELECT + f"WHERE ($1::text IS NULL OR d.key = $1) AND {_WITHIN} ORDER BY a.id DESC LIMIT $2"
COUNT: Final = f"""
SELECT count(*) FROM iot.alarm a LEFT JOIN iot.device d ON d.id = a.device_id
WHERE ($1::text IS NULL OR d.key = $1) AND (a.closed_at IS NULL OR NOT $2) AND {_WITHIN}
"""
EVENTS: Final = """
SELECT id, alarm_id, kind, at, recorded_at, by, value, note FROM iot.alarm_event WHERE alarm_id = $1 ORDER BY id
"""
PUSHES: Final = """
SELECT o.id, t.key AS target, o.body->>'type' AS type, o.created_at, o.attempts, o.last_status, o.last_error,
    o.delivered_at, o.dead_at
FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id WHERE o.alarm_id = $1 ORDER BY o.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPush:
    """One event of an alarm on its way to one target."""

    id: int
    target: str
    type: str
    created_at: datetime
    attempts: int
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    dead_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmDetail:
    """An alarm with its history and what became of its messages."""

    alarm: AlarmRow
    events: tuple[AlarmEvent, ...]
    pushes: tuple[AlarmPush, ...]


async def list_alarms(
    connection: asyncpg.Connection,
    *,
    open_only: bool = True,
    device_key: str | None = None,
    limit: int = 200,
    within: frozenset[int] | None = None,
) -> list[AlarmRow]:
    """List alarms: those not closed yet, or all; with `within`, of these areas and of devices that stand in them."""
    rows = await connection.fetch(OPEN if open_only else ALL, device_key, limit, _ids(within))
    return [from_record(row) for row in rows]


async def count_alarms(
    connection: asyncpg.Connection,
    *,
    open_only: bool = True,
    device_key: str | None = None,
    within: frozenset[int] | None = None,
) -> int:
    """Count what `list_alarms` would list without a limit."""
    counted: int = await connection.fetchval(COUNT, device_key, open_only, _ids(within))
    return counted


async def get_alarm(connection: asyncpg.Connection, alarm_id: int) -> AlarmDetail:
    """Give one alarm with its events and pushes. Raises NotFoundError."""
    alarm = await _one(connection, alarm_id)
    events = await connection.fetch(EVENTS, alarm_id)
    pushes = await connection.fetch(PUSHES, alarm_id)
    return AlarmDetail(
        alarm=alarm,
        events=tuple(AlarmEvent(**{**row, "kind": EventKind(row["kind"])}) for row in events),
        pushes=tuple(AlarmPush(**row) for row in pushes),
    )


async def acknowledge(
    connection: asyncpg.Connection, alarm_id: int, *, by: str, version: int | None = None, now: datetime | None = None
) -> AlarmRow:
    """Note that a person has taken an alarm. Acknowledging twice changes nothing and is no error.

    Raises NotFoundError, and ConflictError when `version` is not the alarm's: it changed since the person looked.
    """
    async with connection.transaction():
        seen = await _one(connection, alarm_id)
        key = (seen.source_kind, seen.source_id, seen.rule)
        locked = (await lock(connection, [key])).get(key)
        alarm = await _one(connection, alarm_id)
        if alarm.acknowledged_at is not None or alarm.closed_at is not None:
            return alarm
        if version is not None and version != alarm.version:
            raise ConflictError("alarm.changed", id=alarm_id, version=alarm.version)
        case = Case(key, locked.state if locked is not None else State(), alarm)
        case.acknowledge(by, now or datetime.now(UTC))
        await save(connection, [case])
        return await _one(connection, alarm_id)


def _ids(within: frozenset[int] | None) -> list[int] | None:
    return None if within is None else list(within)


async def _one(connection: asyncpg.Connection, alarm_id: int) -> AlarmRow:
    row = await connection.fetchrow(ONE, alarm_id)
    if row is None:
        raise NotFoundError("alarm.not_found", id=alarm_id)
    return from_record(row)
