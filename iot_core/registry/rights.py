"""What somebody may do where: roles that hold for an area with all inside it, or everywhere.

user's rights          technician in hong-gai, viewer everywhere
token's own bounds     as an operator at most, in hong-gai only
---------------------- a token's rights: the user's, each cut down to the token's bounds
technician in hong-gai, viewer in hong-gai
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from iot_core.errors import NotFoundError

__all__ = ["EVERYWHERE", "ROLES", "Right", "area_ids", "cut", "inside", "places", "said", "standing", "user_rights"]

ROLES: Final = ("viewer", "technician", "operator", "admin")
"""Each may do all that the ones before it may."""

_INSIDE: Final = """
WITH RECURSIVE inside AS (
    SELECT id FROM iot.area WHERE id = ANY($1)
    UNION SELECT area.id FROM iot.area JOIN inside ON area.parent_id = inside.id
) SELECT id FROM inside
"""
_IDS: Final = "SELECT key, id FROM iot.area WHERE key = ANY($1)"
_KEYS: Final = "SELECT key FROM iot.area WHERE id = ANY($1) ORDER BY key"
_OF_USER: Final = """
SELECT r.role, r.area_id, area.key FROM iot.user_right r LEFT JOIN iot.area ON area.id = r.area_id
WHERE r.user_id = $1 ORDER BY r.role, area.key
"""
_OUTSIDE: Final = """
SELECT area.key FROM iot.device d LEFT JOIN iot.area ON area.id = d.area_id
WHERE d.key = ANY($1) AND (d.area_id IS NULL OR NOT d.area_id = ANY($2)) ORDER BY d.key LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Right:
    """A role, where it holds (ids of areas, None: everywhere), and how people call that."""

    role: str
    areas: frozenset[int] | None = None
    named: tuple[str, ...] = ()


EVERYWHERE: Final = None
"""Instead of a set of areas."""


async def area_ids(connection: asyncpg.Connection, keys: Sequence[str]) -> list[int]:
    """Find areas by key. Raises NotFoundError naming the first that is not there."""
    found = {row["key"]: row["id"] for row in await connection.fetch(_IDS, list(keys))}
    for key in keys:
        if key not in found:
            raise NotFoundError("registry.no_area", key=key)
    return [found[key] for key in dict.fromkeys(keys)]


async def inside(connection: asyncpg.Connection, ids: Sequence[int]) -> frozenset[int]:
    """Give these areas with all inside them."""
    return frozenset(row["id"] for row in await connection.fetch(_INSIDE, list(ids)))


async def user_rights(connection: asyncpg.Connection, user_id: int) -> tuple[Right, ...]:
    """Give what a user may do now."""
    rights: list[Right] = []
    for row in await connection.fetch(_OF_USER, user_id):
        if row["area_id"] is None:
            rights.append(Right(row["role"]))
        else:
            rights.append(Right(row["role"], await inside(connection, [row["area_id"]]), (row["key"],)))
    return tuple(rights)


async def cut(
    connection: asyncpg.Connection, rights: Sequence[Right], role: str, ids: Sequence[int] | None
) -> tuple[Right, ...]:
    """Cut rights down to a role at most, and to some areas where `ids` are given."""
    bounds = None if ids is None else await inside(connection, ids)
    named = () if ids is None else tuple(row["key"] for row in await connection.fetch(_KEYS, list(ids)))
    return tuple(_cut(right, role, bounds, named) for right in rights)


def said(rights: Sequence[Right]) -> list[str]:
    """Write rights down for the audit: `viewer@*`, `operator@ward-1`."""
    return [f"{each.role}@{area}" for each in rights for area in (("*",) if each.areas is None else each.named)]


def places(rights: Sequence[Right], roles: Sequence[str]) -> frozenset[int] | None:
    """Say where one of these roles holds: everywhere (None), or in these areas (empty: nowhere)."""
    found: set[int] = set()
    for right in rights:
        if right.role in roles:
            if right.areas is None:
                return EVERYWHERE
            found |= right.areas
    return frozenset(found)


async def standing(connection: asyncpg.Connection, keys: Sequence[str], areas: frozenset[int]) -> tuple[bool, str]:
    """Say whether all these devices stand in `areas`; else in which area the first that does not (`-`: in none)."""
    row = await connection.fetchrow(_OUTSIDE, list(keys), list(areas))
    return row is None, "" if row is None else row["key"] or "-"


def _cut(right: Right, role: str, bounds: frozenset[int] | None, named: tuple[str, ...]) -> Right:
    lower = min(right.role, role, key=ROLES.index)
    if bounds is None:
        return Right(lower, right.areas, right.named)
    if right.areas is None or bounds <= right.areas:
        return Right(lower, bounds, named)
    return Right(lower, right.areas & bounds, right.named if right.areas <= bounds else named)
