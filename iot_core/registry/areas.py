"""Areas: the administrative tree that devices stand in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import is_key
from iot_core.registry.audit import Change, record
from iot_core.registry.search import folded

__all__ = ["Area", "NewArea", "add", "areas", "find", "names_above"]

_AREAS: Final = """
SELECT area.key, area.name, area.name_en, area.kind, area.code, parent.key AS parent,
    (SELECT count(*) FROM iot.device WHERE device.area_id = area.id AND device.retired_at IS NULL) AS devices
FROM iot.area LEFT JOIN iot.area AS parent ON parent.id = area.parent_id
"""
_ALL: Final = _AREAS + "ORDER BY area.key"
_ONE: Final = _AREAS + "WHERE area.key = $1"
_ID: Final = "SELECT id FROM iot.area WHERE key = $1"
_ADD: Final = """
INSERT INTO iot.area (key, name, name_en, kind, code, parent_id, search) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (key) DO NOTHING RETURNING id
"""
_ABOVE: Final = """
WITH RECURSIVE above AS (
    SELECT id, name, parent_id, 1 AS step FROM iot.area WHERE key = $1
    UNION ALL
    SELECT area.id, area.name, area.parent_id, above.step + 1 FROM iot.area JOIN above ON area.id = above.parent_id
    WHERE above.step < 32
)
SELECT name FROM above ORDER BY step DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArea:
    """An area to be added."""

    key: str
    name: str
    name_en: str | None = None
    kind: str = "zone"
    code: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Area(NewArea):
    """An area; `devices` counts those not retired that stand in it directly."""

    devices: int


async def areas(connection: asyncpg.Connection) -> list[Area]:
    """List all areas in key order."""
    return [Area(**row) for row in await connection.fetch(_ALL)]


async def find(connection: asyncpg.Connection, key: str) -> Area:
    """Find an area by its key."""
    row = await connection.fetchrow(_ONE, key)
    if row is None:
        raise NotFoundError("registry.no_area", key=key)
    return Area(**row)


async def names_above(connection: asyncpg.Connection, key: str) -> tuple[str, ...]:
    """Give the names of the areas around one, the outermost first, its own last."""
    return tuple(row["name"] for row in await connection.fetch(_ABOVE, key))


async def add(connection: asyncpg.Connection, new: NewArea, *, by: str) -> Area:
    """Add an area. Raises ConflictError when its key is taken, NotFoundError when its parent is not there."""
    if not is_key(new.key):
        raise RequestError("registry.bad_key", key=new.key)
    async with connection.transaction():
        parent_id = await connection.fetchval(_ID, new.parent) if new.parent else None
        if new.parent and parent_id is None:
            raise NotFoundError("registry.no_area", key=new.parent)
        search = folded([new.key, new.name, new.name_en, new.code])
        added = await connection.fetchval(_ADD, new.key, new.name, new.name_en, new.kind, new.code, parent_id, search)
        if added is None:
            raise ConflictError("registry.area_exists", key=new.key)
        await record(connection, by, "area.add", Change(f"area/{new.key}", after=asdict(new)))
    return await find(connection, new.key)
