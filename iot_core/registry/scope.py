"""Which devices a question over many is about: a class, an area with those inside it, or a list of keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from iot_core.errors import NotFoundError, RequestError

__all__ = ["Scope", "Scoped", "scoped"]

_SCOPED: Final = """
WITH RECURSIVE inside AS (
    SELECT id FROM iot.area WHERE key = $2
    UNION
    SELECT area.id FROM iot.area JOIN inside ON area.parent_id = inside.id
)
SELECT d.id, d.key, d.name, d.class_key, {profile} AS profile, d.retired_at IS NOT NULL AS retired
FROM iot.device d
WHERE ($1::text IS NULL OR d.class_key = $1)
    AND ($2::text IS NULL OR {inside})
    AND ($5::integer[] IS NULL OR d.area_id = ANY($5))
    AND CASE WHEN $3::text[] IS NULL THEN {living} ELSE d.key = ANY($3) END
ORDER BY d.key LIMIT $4
"""
_PROFILE: Final = """
(SELECT profile FROM iot.unit WHERE device_id = d.id AND mounted_to IS NULL ORDER BY id DESC LIMIT 1)
"""
_NOW: Final = "d.area_id IN (SELECT id FROM inside)"
_THEN: Final = "d.id IN (SELECT device_id FROM iot.devices_in_area_then($2) stood WHERE stood.during && $6::tstzrange)"
_AREA: Final = "SELECT EXISTS (SELECT FROM iot.area WHERE key = $1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is asked for, all of it at once; retired devices are meant only when they are named, or of `then`.

    `within` bounds it to the areas in which the asker has the right (None: everywhere). `then`: those that stood in the
    area at some time of this span, by its devices and areas of that time; None: those that stand there now.
    """

    class_key: str | None = None
    area: str | None = None
    keys: Sequence[str] | None = None
    within: frozenset[int] | None = None
    then: tuple[datetime, datetime] | None = None


class Scoped(msgspec.Struct, frozen=True, gc=False):
    """A device that is meant, with the profile of its mounted unit."""

    id: int
    key: str
    name: str
    class_key: str
    profile: str | None
    retired: bool


async def scoped(connection: asyncpg.Connection, wanted: Scope, *, most: int, profiles: bool = True) -> list[Scoped]:
    """Find the devices in key order; without `profiles` no profile is looked up.

    Raises NotFoundError for an area or key that is not there, RequestError when there are more than `most`.
    """
    if wanted.area is not None and not await connection.fetchval(_AREA, wanted.area):
        raise NotFoundError("registry.no_area", key=wanted.area)
    keys = None if wanted.keys is None else list(wanted.keys)
    within = None if wanted.within is None else list(wanted.within)
    now = wanted.then is None
    statement = _SCOPED.format(
        profile=_PROFILE if profiles else "NULL::text",
        inside=_NOW if now else _THEN,
        living="d.retired_at IS NULL" if now else "true",
    )
    span = () if wanted.then is None else (asyncpg.Range(*wanted.then),)
    rows = await connection.fetch(statement, wanted.class_key, wanted.area, keys, most + 1, within, *span)
    if len(rows) > most:
        raise RequestError("read.too_many", most=most)
    found = [Scoped(*row) for row in rows]
    there = {each.key for each in found}
    for key in keys or ():
        if key not in there:
            raise NotFoundError("registry.no_device", key=key)
    return found
