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

MEMBERS: Final = "(SELECT count(*) FROM iot.alarm m WHERE m.incident_id = a.id) AS members"
# An alarm is at its device, in its area, or where the center that sent it says.
PLACED: Final = """
LEFT JOIN iot.device d ON d.id = a.device_id
LEFT JOIN iot.outside_source o ON a.source_kind = 'outside' AND o.id = a.source_id
LEFT JOIN iot.center k ON k.id = o.center_id
LEFT JOIN iot.area r ON r.id = coalesce(CASE WHEN a.source_kind = 'area' THEN a.source_id END, d.area_id, o.area_id)
"""
PLACE: Final = """d.key AS device_key, coalesce(d.name, o.name, k.name) AS device_name,
    coalesce(d.class_key, o.class_key) AS class_key, coalesce(d.latitude, o.latitude) AS latitude,
    coalesce(d.longitude, o.longitude) AS longitude, r.key AS area_key, r.name AS area_name,
    r.name_en AS area_name_en"""
_SELECT: Final = f"SELECT a.*, {PLACE}, {MEMBERS} FROM iot.alarm a {PLACED}"
_LOUD: Final = """(CASE WHEN $4::bigint IS NULL THEN $5 OR (a.incident_id IS NULL AND a.suppressed_by IS NULL
    AND (a.shelved_until IS NULL OR a.shelved_until <= now())) ELSE a.incident_id = $4 END)"""
_WITHIN: Final = "($3::integer[] IS NULL OR r.id = ANY($3))"
ONE: Final = _SELECT + "WHERE a.id = $1"
# Open ones: the most urgent that nobody has taken come first. History: the newest first.
OPEN: Final = (
    _SELECT
    + f"""WHERE a.closed_at IS NULL AND ($1::text IS NULL OR d.key = $1) AND {_WITHIN} AND {_LOUD}
ORDER BY a.acknowledged_at IS NOT NULL, array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity),
    a.raised_at DESC, a.id DESC LIMIT $2"""
)
ALL: Final = _SELECT + f"WHERE ($1::text IS NULL OR d.key = $1) AND {_WITHIN} AND {_LOUD} ORDER BY a.id DESC LIMIT $2"
COUNT: Final = f"""
SELECT count(*) FROM iot.alarm a {PLACED}
WHERE ($1::text IS NULL OR d.key = $1) AND (a.closed_at IS NULL OR NOT $2) AND {_WITHIN} AND {_LOUD}
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
    incident: int | None = None,
    quiet: bool = False,
) -> list[AlarmRow]:
    """List alarms: those not closed yet, or all; of these areas, or everywhere.

    Open ones that are kept quiet (shelved, suppressed, inside an incident) are left out unless `quiet`; `incident`
    lists those inside one.
    """
    shown = quiet or not open_only or device_key is not None
    asked = (device_key, limit, _ids(within), incident, shown)
    return [from_record(row) for row in await connection.fetch(OPEN if open_only else ALL, *asked)]


async def count_alarms(
    connection: asyncpg.Connection,
    *,
    open_only: bool = True,
    device_key: str | None = None,
    within: frozenset[int] | None = None,
    incident: int | None = None,
    quiet: bool = False,
) -> int:
    """Count what `list_alarms` would list without a limit."""
    shown = quiet or not open_only or device_key is not None
    counted: int = await connection.fetchval(COUNT, device_key, open_only, _ids(within), incident, shown)
    return counted


async def get_alarm(connection: asyncpg.Connection, alarm_id: int) -> AlarmDetail:
    """Give one alarm with its events and pushes. Raises NotFoundError."""
    alarm = await one(connection, alarm_id)
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
        seen = await one(connection, alarm_id)
        key = (seen.source_kind, seen.source_id, seen.rule)
        locked = (await lock(connection, [key])).get(key)
        alarm = await one(connection, alarm_id)
        if alarm.acknowledged_at is not None or alarm.closed_at is not None:
            return alarm
        if version is not None and version != alarm.version:
            raise ConflictError("alarm.changed", id=alarm_id, version=alarm.version)
        case = Case(key, locked.state if locked is not None else State(), alarm)
        case.acknowledge(by, now or datetime.now(UTC))
        await save(connection, [case])
        return await one(connection, alarm_id)


def _ids(within: frozenset[int] | None) -> list[int] | None:
    return None if within is None else list(within)


async def one(connection: asyncpg.Connection, alarm_id: int) -> AlarmRow:
    """Give one alarm as it is. Raises NotFoundError."""
    row = await connection.fetchrow(ONE, alarm_id)
    if row is None:
        raise NotFoundError("alarm.not_found", id=alarm_id)
    return from_record(row)


CHILDREN: Final = """
SELECT c.key FROM iot.device c JOIN iot.device_status s ON s.device_id = c.id
WHERE c.gateway_id = $1 AND c.retired_at IS NULL AND s.last_received_at < $2 ORDER BY c.key LIMIT 10000
"""


async def silent_children(connection: asyncpg.Connection, alarm: AlarmRow) -> tuple[str, ...]:
    """Name the devices behind a gateway that have not been heard since its own silence began."""
    if alarm.device_id is None or alarm.cleared_at is not None:
        return ()
    return tuple(row["key"] for row in await connection.fetch(CHILDREN, alarm.device_id, alarm.raised_at))
