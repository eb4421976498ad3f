"""Areas: the administrative tree that devices stand in, as it is now. How it came to be: area_history.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import is_key, is_reserved
from iot_core.registry import area_history
from iot_core.registry.audit import Change, record

__all__ = ["Area", "NewArea", "add", "areas", "find", "insert", "live", "names_above"]

_AREAS: Final = """
SELECT area.key, area.name, area.name_en, area.kind, area.code, parent.key AS parent, area.latitude, area.longitude,
    area.ended_at, successor.key AS into,
    (SELECT count(*) FROM iot.device WHERE device.area_id = area.id AND device.retired_at IS NULL) AS devices
FROM iot.area LEFT JOIN iot.area AS parent ON parent.id = area.parent_id
LEFT JOIN iot.area AS successor ON successor.id = area.into_id
"""
_ALL: Final = (
    _AREAS + "WHERE (area.ended_at IS NULL OR $1) AND ($2::integer[] IS NULL OR area.id = ANY($2)) ORDER BY area.key"
)
_ONE: Final = _AREAS + "WHERE area.key = $1"
_LIVE: Final = "SELECT key, id FROM iot.area WHERE key = ANY($1) AND ended_at IS NULL ORDER BY id FOR KEY SHARE"
_PARENTS: Final = "SELECT key, id, ended_at FROM iot.area WHERE key = ANY($1)"
_ADD: Final = """
INSERT INTO iot.area (key, name, name_en, kind, code, parent_id, latitude, longitude, outline, search)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[],
    $7::double precision[], $8::double precision[], $9::jsonb[], $10::text[])
ON CONFLICT (key) DO NOTHING RETURNING id, key
"""
_ABOVE: Final = """
WITH RECURSIVE above AS (
    SELECT id, name, name_en, parent_id, 1 AS step FROM iot.area WHERE key = $1
    UNION ALL
    SELECT area.id, area.name, area.name_en, area.parent_id, above.step + 1
    FROM iot.area JOIN above ON area.id = above.parent_id
    WHERE above.step < 32
)
SELECT name, coalesce(name_en, name) AS name_en FROM above ORDER BY step DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArea:
    """An area to be added. `outline` is a GeoJSON geometry, the position its centre in degrees (WGS 84)."""

    key: str
    name: str
    name_en: str | None = None
    kind: str = "zone"
    code: str | None = None
    parent: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    outline: dict[str, Any] | None = None

    def said(self) -> dict[str, Any]:
        """Give what the audit keeps of it."""
        return {
            "name": self.name, "name_en": self.name_en, "kind": self.kind, "code": self.code, "parent": self.parent,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An area; `devices` counts those not retired that stand in it directly. One that `ended` went `into` another."""

    key: str
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None
    latitude: float | None
    longitude: float | None
    ended_at: datetime | None
    into: str | None
    devices: int


async def areas(
    connection: asyncpg.Connection, *, ended: bool = False, within: frozenset[int] | None = None
) -> list[Area]:
    """List areas in key order, those that ended too when asked for; with `within`, only these."""
    ids = None if within is None else list(within)
    return [Area(**row) for row in await connection.fetch(_ALL, ended, ids)]


async def find(connection: asyncpg.Connection, key: str) -> Area:
    """Find an area by its key, ended or not."""
    row = await connection.fetchrow(_ONE, key)
    if row is None:
        raise NotFoundError("registry.no_area", key=key)
    return Area(**row)


async def live(connection: asyncpg.Connection, keys: Sequence[str]) -> dict[str, int]:
    """Find areas that something is to stand in, and hold them until the transaction ends.

    Raises NotFoundError for one that never was, ConflictError for one that ended.
    """
    ids = {row["key"]: row["id"] for row in await connection.fetch(_LIVE, list(keys))}
    for key in sorted(set(keys) - set(ids)):
        await find(connection, key)
        raise ConflictError("registry.area_ended", key=key)
    return ids


async def names_above(connection: asyncpg.Connection, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the names of the areas around one, the outermost first, its own last: once as they are, once in English."""
    above = await connection.fetch(_ABOVE, key)
    return tuple(row["name"] for row in above), tuple(row["name_en"] for row in above)


async def add(connection: asyncpg.Connection, new: NewArea, *, by: str) -> Area:
    """Add an area. Raises ConflictError when its key is taken, NotFoundError when its parent is not there."""
    async with connection.transaction():
        await area_history.begin(connection, await insert(connection, [new]))
        await area_history.refresh_search(connection)
        await record(connection, by, "area.add", Change(f"area/{new.key}", after=new.said()))
    return await find(connection, new.key)


async def insert(connection: asyncpg.Connection, new: Sequence[NewArea]) -> list[int]:
    """Write the rows of new areas, level by level, inside the caller's transaction, and give their numbers."""
    for each in new:
        _check(each)
    ids: list[int] = []
    while new:
        to_come = {each.key for each in new}
        level = [each for each in new if each.parent not in to_come]
        new = [each for each in new if each.parent in to_come]
        ids += await _insert(connection, level)
    return ids


def _check(new: NewArea) -> None:
    if not is_key(new.key):
        raise RequestError("registry.bad_key", key=new.key)
    if is_reserved(new.key):
        raise RequestError("registry.reserved_key", key=new.key)
    if (new.latitude is None) is not (new.longitude is None):
        raise RequestError("registry.half_position", key=new.key)


async def _insert(connection: asyncpg.Connection, new: Sequence[NewArea]) -> list[int]:
    above = {each.parent for each in new} - {None}
    parents = {row["key"]: row for row in await connection.fetch(_PARENTS, list(above))}
    for each in new:
        if each.parent is not None and each.parent not in parents:
            raise NotFoundError("registry.no_area", key=each.parent)
        if each.parent is not None and parents[each.parent]["ended_at"] is not None:
            raise ConflictError("registry.area_ended", key=each.parent)
    rows = [
        (
            each.key, each.name, each.name_en, each.kind, each.code, each.parent and parents[each.parent]["id"],
            each.latitude, each.longitude, each.outline,
            area_history.found_by(each.key, [each.name, each.name_en, each.code]),
        )
        for each in new
    ]  # fmt: skip
    added = {row["key"]: row["id"] for row in await connection.fetch(_ADD, *zip(*rows, strict=True))}
    for each in new:
        if each.key not in added:
            raise ConflictError("registry.area_exists", key=each.key)
    return list(added.values())
