"""Schedules in their table."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry.audit import Change, record
from iot_core.registry.selector import parse, where

__all__ = [
    "CHANNEL",
    "Member",
    "Schedule",
    "add",
    "done",
    "get",
    "holidays",
    "members",
    "override",
    "remove",
    "schedules",
    "stored",
]

CHANNEL: Final = "iot_schedule"
_ADD: Final = """
INSERT INTO iot.schedule (key, selector, points, latitude, longitude, created_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (key) DO NOTHING
"""
_MIDDLE: Final = """
SELECT avg(coalesce(d.latitude, area.latitude)) AS latitude, avg(coalesce(d.longitude, area.longitude)) AS longitude,
    array_agg(DISTINCT d.class_key) AS classes
FROM iot.device d LEFT JOIN iot.area ON area.id = d.area_id WHERE d.retired_at IS NULL AND {}
"""
_MEMBERS: Final = """
SELECT d.id, d.key, d.class_key, d.area_id, coalesce(u.address LIKE 'iot:%', false) AS native,
    t.desired -> 'schedule' ->> 'key' AS asked_key, t.reported -> 'schedule' ->> 'key' AS stored_key,
    t.reported -> 'schedule' ->> 'until' AS stored_until
FROM iot.device d LEFT JOIN iot.unit u ON u.device_id = d.id AND u.mounted_to IS NULL
LEFT JOIN iot.twin t ON t.device_id = d.id
WHERE d.retired_at IS NULL AND {} ORDER BY d.key
"""
# What devices keep says nothing for the time of an override, so they are given it anew.
_OVERRIDE: Final = """
UPDATE iot.schedule SET override_point = $2, override_from = $3, override_to = $4, stored_until = NULL WHERE key = $1
"""
_END_OVERRIDE: Final = """
UPDATE iot.schedule SET override_to = $2, stored_until = NULL WHERE key = $1 AND override_to > $2
"""
# Not for what was given out while an override came or went.
_STORED: Final = """
UPDATE iot.schedule SET stored_until = $2 WHERE id = $1 AND override_from IS NOT DISTINCT FROM $3
    AND override_to IS NOT DISTINCT FROM $4
"""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Commands at times of day for the devices of a selector."""

    id: int
    key: str
    selector: str
    points: list[str]
    latitude: float | None
    longitude: float | None
    created_at: datetime
    created_by: str
    done_until: datetime
    stored_until: datetime | None
    override_point: str | None
    override_from: datetime | None
    override_to: datetime | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a schedule, told to keep `asked_key`; it says that it keeps `stored_key` until `stored_until`."""

    id: int
    key: str
    class_key: str
    area_id: int | None
    native: bool
    asked_key: str | None
    stored_key: str | None
    stored_until: str | None


async def add(
    connection: asyncpg.Connection, key: str, selector: str, points: list[str], *, by: str, by_sun: bool = True
) -> Schedule:
    """Keep a schedule, with the middle of its devices as its place.

    Raises RequestError where nothing matches, its devices are of several classes or, `by_sun`, nobody knows where they
    stand, ConflictError for a key that is taken.
    """
    condition, values = where(parse(selector))
    async with connection.transaction():
        middle = await connection.fetchrow(_MIDDLE.format(condition), *values)
        classes = middle["classes"] or []
        if len(classes) != 1:
            raise RequestError("command.several_classes" if classes else "command.nobody", selector=selector,
                               classes=", ".join(classes))  # fmt: skip
        if by_sun and middle["latitude"] is None:
            raise RequestError("schedule.no_place", selector=selector)
        place = (middle["latitude"], middle["longitude"])
        if await connection.execute(_ADD, key, selector, points, *place, by) == "INSERT 0 0":
            raise ConflictError("schedule.taken", key=key)
        await record(connection, by, "schedule.add", Change(f"schedule/{key}", None, {"points": points}))
        return await get(connection, key)


async def get(connection: asyncpg.Connection, key: str) -> Schedule:
    """Find a schedule. Raises NotFoundError."""
    row = await connection.fetchrow("SELECT * FROM iot.schedule WHERE key = $1", key)
    if row is None:
        raise NotFoundError("schedule.not_found", key=key)
    return msgspec.convert(dict(row), Schedule)


async def schedules(connection: asyncpg.Connection) -> list[Schedule]:
    """List all, in key order."""
    return [
        msgspec.convert(dict(row), Schedule)
        for row in await connection.fetch("SELECT * FROM iot.schedule ORDER BY key")
    ]


async def remove(connection: asyncpg.Connection, key: str, *, by: str) -> Schedule:
    """Remove a schedule. Raises NotFoundError."""
    async with connection.transaction():
        found = await get(connection, key)
        await connection.execute("DELETE FROM iot.schedule WHERE id = $1", found.id)
        await record(connection, by, "schedule.remove", Change(f"schedule/{key}", {"points": found.points}, None))
    return found


async def override(
    connection: asyncpg.Connection, key: str, point: str | None, begins: datetime, ends: datetime, *, by: str
) -> Schedule:
    """Let something else hold from-to; None ends at `begins` what holds. Raises NotFoundError."""
    async with connection.transaction():
        await get(connection, key)
        if point is None:
            await connection.execute(_END_OVERRIDE, key, begins)
        else:
            await connection.execute(_OVERRIDE, key, point, begins, ends)
        after: dict[str, Any] = {"point": point, "from": begins.isoformat(), "to": ends.isoformat()}
        await record(connection, by, "schedule.override", Change(f"schedule/{key}", None, after))
        return await get(connection, key)


async def done(connection: asyncpg.Connection, schedule_id: int, until: datetime) -> None:
    """Note that moments up to here were sent."""
    await connection.execute(
        "UPDATE iot.schedule SET done_until = $2 WHERE id = $1 AND done_until < $2", schedule_id, until
    )


async def stored(connection: asyncpg.Connection, given: Schedule, until: datetime) -> None:
    """Note how far devices were given it, as it was then."""
    await connection.execute(_STORED, given.id, until, given.override_from, given.override_to)


async def members(connection: asyncpg.Connection, selector: str) -> list[Member]:
    """List the devices of a schedule now."""
    condition, values = where(parse(selector))
    return [msgspec.convert(dict(row), Member) for row in await connection.fetch(_MEMBERS.format(condition), *values)]


async def holidays(connection: asyncpg.Connection) -> frozenset[date]:
    """Give the holidays (`iot.holiday`, which push keeps for its hours too)."""
    return frozenset(row["day"] for row in await connection.fetch("SELECT day FROM iot.holiday"))
