"""Maintenance windows and tests in the registry: begun, listed, ended before their time. What they mean: windows.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry.area_changes import Changed
from iot_core.registry.audit import Change, record
from iot_core.registry.windows import Kind, Window, Windows

__all__ = [
    "LONGEST",
    "LONGEST_TEST",
    "Listed",
    "Overlap",
    "begin",
    "end",
    "end_of",
    "labelled",
    "listed",
    "load",
    "overlapping",
    "targets",
]

LONGEST: Final = timedelta(days=366)
LONGEST_TEST: Final = timedelta(hours=8)
"""Nobody walks through a building for longer; a forgotten test would make a real fire look like one."""
_REMEMBERED: Final = timedelta(days=31)
_LATE: Final = timedelta(minutes=5)
_LOAD: Final = "SELECT device_id, id, kind, starts, ends, reason FROM iot.maintained($1, 'infinity')"
_DEVICES: Final = "SELECT key, id FROM iot.device WHERE key = ANY($1) AND retired_at IS NULL"
_LABELLED: Final = "SELECT key FROM iot.device WHERE $1 = ANY(labels) AND retired_at IS NULL ORDER BY key"
_AREA: Final = "SELECT id FROM iot.area WHERE key = $1 AND ended_at IS NULL"
_ADD: Final = """
INSERT INTO iot.maintenance (kind, device_id, area_id, label, starts, ends, reason, by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id
"""
_COVERED: Final = """
SELECT DISTINCT device.key FROM iot.maintained($2, 'infinity') kept JOIN iot.device ON device.id = kept.device_id
WHERE kept.id = ANY($1) ORDER BY device.key
"""
_LISTED: Final = """
SELECT w.id, w.kind, device.key AS device, area.key AS area, w.label, w.starts, w.ends, w.reason, w.by, w.ended_by,
    (SELECT count(*) FROM iot.maintained(w.starts, w.starts) kept WHERE kept.id = w.id) AS devices,
    (SELECT count(*) FROM iot.alarm WHERE alarm.suppressed_by = w.kind || ':' || w.id) AS suppressed
FROM iot.maintenance w LEFT JOIN iot.device ON device.id = w.device_id LEFT JOIN iot.area ON area.id = w.area_id
WHERE w.ends > $1 AND ($2::integer IS NULL OR w.id = $2) AND ($3::text IS NULL OR w.id IN (
    SELECT kept.id FROM iot.maintained($1, 'infinity') kept JOIN iot.device ON device.id = kept.device_id
    WHERE device.key = $3
)) AND ($4::integer[] IS NULL OR EXISTS (
    SELECT FROM iot.maintained(w.starts, w.starts) kept JOIN iot.device ON device.id = kept.device_id
    WHERE kept.id = w.id AND device.area_id = ANY($4)
))
ORDER BY w.starts, w.id LIMIT 1000
"""
_OVERLAPPING: Final = """
SELECT kept.id, kept.kind, min(kept.ends) AS ends, count(DISTINCT device.key) AS devices, min(device.key) AS device
FROM (SELECT min(starts) AS starts, max(ends) AS ends FROM iot.maintenance WHERE operation = $1) mine
CROSS JOIN LATERAL iot.maintained(mine.starts, mine.ends) kept JOIN iot.device ON device.id = kept.device_id
WHERE device.key = ANY($2) AND kept.starts < mine.ends AND kept.id NOT IN (
    SELECT id FROM iot.maintenance WHERE operation = $1)
GROUP BY kept.id, kept.kind ORDER BY kept.id LIMIT 10
"""
_LOCK: Final = "SELECT id, kind, starts, ends FROM iot.maintenance WHERE id = $1 FOR UPDATE"
_END: Final = "UPDATE iot.maintenance SET ends = GREATEST($2, starts), ended_by = $3 WHERE id = $1"
_NOTE: Final = "UPDATE iot.maintenance SET operation = $2 WHERE id = ANY($1)"
_END_ALL: Final = """
UPDATE iot.maintenance SET ends = GREATEST($2, starts), ended_by = $3 WHERE operation = $1 AND ends > $2 RETURNING id
"""
_FAR: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A window as people see it; `devices` counts what it covers now, `suppressed` the alarms it kept quiet."""

    id: int
    kind: str
    device: str | None
    area: str | None
    label: str | None
    starts: datetime
    ends: datetime
    reason: str
    by: str
    ended_by: str | None
    devices: int
    suppressed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Another window over some of the same devices at the same time; `device` is one of them."""

    id: int
    kind: str
    ends: datetime
    devices: int
    device: str


async def load(connection: asyncpg.Connection, now: datetime | None = None) -> Windows:
    """Read the windows that are open, to come, or were open within the last month: late readings fall into those."""
    rows = await connection.fetch(_LOAD, (now or datetime.now(UTC)) - _REMEMBERED)
    one: dict[int, Window] = {}
    pairs = []
    for row in rows:
        window = one.get(row["id"])
        if window is None:
            window = one[row["id"]] = Window(row["id"], Kind(row["kind"]), row["starts"], row["ends"], row["reason"])
        pairs.append((row["device_id"], window))
    return Windows(pairs)


async def targets(connection: asyncpg.Connection, windows: Sequence[int]) -> list[str]:
    """Give the keys of the devices that these windows cover."""
    return [row["key"] for row in await connection.fetch(_COVERED, list(windows), _FAR)]


async def labelled(connection: asyncpg.Connection, label: str) -> list[str]:
    """Give the keys of the devices that have a label now."""
    return [row["key"] for row in await connection.fetch(_LABELLED, label)]


async def begin(
    connection: asyncpg.Connection,
    *,
    devices: Sequence[str] = (),
    area: str | None = None,
    label: str | None = None,
    starts: datetime | None = None,
    ends: datetime,
    reason: str = "",
    kind: Kind = Kind.MAINTENANCE,
    by: str,
) -> Changed:
    """Open a window for each named device, for an area with all inside it, or for a label, as one operation.

    Raises NotFoundError for what is not there, RequestError for times that cannot be: one in the past would keep
    quiet what has rung already.
    """
    now = datetime.now(UTC)
    starts = starts or now
    _refuse_times(kind, starts, ends, now)
    if bool(devices) + (area is not None) + (label is not None) != 1:
        raise RequestError("maintenance.which")
    async with connection.transaction():
        made = [
            await connection.fetchval(_ADD, kind.value, *each, starts, ends, reason, by)
            for each in await _meant(connection, devices, area, label)
        ]
        covered = await targets(connection, made)
        if not covered:
            raise NotFoundError("maintenance.nothing", what=area or label or "-")
        said = {"kind": kind.value, "starts": starts.isoformat(), "ends": ends.isoformat(), "reason": reason}
        if area is not None or label is not None:
            said["window"] = str(made[0])
        changes = [Change(f"device/{key}", after=said) for key in covered]
        operation = await record(connection, by, f"{kind.value}.start", *changes, effective_at=starts)
        await connection.execute(_NOTE, made, operation)
        return Changed(operation, changes)


async def overlapping(connection: asyncpg.Connection, operation: int | None, devices: Sequence[str]) -> list[Overlap]:
    """List other windows over these devices in the time of those which an operation began, ten at most."""
    return [Overlap(**row) for row in await connection.fetch(_OVERLAPPING, operation, list(devices))]


async def end_of(connection: asyncpg.Connection, operation: int, *, by: str) -> None:
    """End what an operation began, inside the caller's transaction. Raises ConflictError when all of it is over."""
    ended = await connection.fetch(_END_ALL, operation, datetime.now(UTC), by)
    if not ended:
        raise ConflictError("maintenance.all_over", number=operation)


async def end(connection: asyncpg.Connection, number: int, *, by: str) -> Listed:
    """End a window now; one that has not begun never will. Raises ConflictError when it is over already."""
    now = datetime.now(UTC)
    async with connection.transaction():
        row = await connection.fetchrow(_LOCK, number)
        if row is None:
            raise NotFoundError("maintenance.none", id=number)
        if row["ends"] <= now:
            raise ConflictError("maintenance.over", id=number)
        covered = await targets(connection, [number])
        await connection.execute(_END, number, now, by)
        before, after = {"ends": row["ends"].isoformat()}, {"ends": max(now, row["starts"]).isoformat()}
        changes = [Change(f"device/{key}", before, after) for key in covered]
        await record(connection, by, f"{row['kind']}.end", *changes, effective_at=now)
        return await _one(connection, number)


async def listed(
    connection: asyncpg.Connection,
    *,
    device: str | None = None,
    since: datetime | None = None,
    within: frozenset[int] | None = None,
) -> list[Listed]:
    """List windows that are open or to come (or over, from `since` on), the first to begin first.

    `within` leaves out those that cover nothing in these areas.
    """
    areas = None if within is None else list(within)
    rows = await connection.fetch(_LISTED, since or datetime.now(UTC), None, device, areas)
    return [Listed(**row) for row in rows]


async def _one(connection: asyncpg.Connection, number: int) -> Listed:
    return Listed(**await connection.fetchrow(_LISTED, _FAR, number, None, None))


async def _meant(
    connection: asyncpg.Connection, keys: Sequence[str], area: str | None, label: str | None
) -> list[tuple[Any, Any, Any]]:
    """Give device id, area id and label of each window to be made."""
    if area is not None:
        area_id = await connection.fetchval(_AREA, area)
        if area_id is None:
            raise NotFoundError("registry.no_area", key=area)
        return [(None, area_id, None)]
    if label is not None:
        return [(None, None, label)]
    there = {row["key"]: row["id"] for row in await connection.fetch(_DEVICES, list(keys))}
    missing = next((key for key in keys if key not in there), None)
    if missing is not None:
        raise NotFoundError("registry.no_device", key=missing)
    return [(there[key], None, None) for key in dict.fromkeys(keys)]


def _refuse_times(kind: Kind, starts: datetime, ends: datetime, now: datetime) -> None:
    longest = LONGEST_TEST if kind is Kind.TEST else LONGEST
    if ends <= starts:
        raise RequestError("maintenance.backwards")
    if starts < now - _LATE:
        raise RequestError("maintenance.past")
    if ends - starts > longest:
        raise RequestError("maintenance.too_long", hours=int(longest.total_seconds() // 3600))
