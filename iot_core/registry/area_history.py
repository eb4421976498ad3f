"""What an area was called and where it hung, from when to when; and by which names people may look for it.

Every change has a moment at which it took effect. It closes the version that was valid then and opens the next; one
that takes effect at the very moment of the last one replaces it, which is how a mistake is taken back without a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from iot_core.errors import ConflictError
from iot_core.registry.search import folded

__all__ = ["Version", "begin", "found_by", "refresh_search", "revise", "versions"]

_BEGIN: Final = """
INSERT INTO iot.area_version (area_id, valid, name, name_en, kind, code, parent_id)
SELECT id, tstzrange(NULL, NULL), name, name_en, kind, code, parent_id FROM iot.area WHERE id = ANY($1)
"""
_LATER: Final = """
SELECT area.key, lower(valid) AS since FROM iot.area_version JOIN iot.area ON area.id = area_id
WHERE area_id = ANY($1) AND lower(valid) > $2 ORDER BY lower(valid) LIMIT 1
"""
_FORGET: Final = "DELETE FROM iot.area_version WHERE area_id = ANY($1) AND lower(valid) = $2"
_CLOSE: Final = """
UPDATE iot.area_version SET valid = tstzrange(lower(valid), $2)
WHERE area_id = ANY($1) AND (upper_inf(valid) OR upper(valid) > $2)
"""
_CONTINUE: Final = """
UPDATE iot.area_version AS version SET valid = tstzrange(lower(valid), NULL) FROM iot.area
WHERE area.id = version.area_id AND area.id = ANY($1) AND area.ended_at IS NULL AND upper(version.valid) = $2
    AND (version.name, version.name_en, version.kind, version.code, version.parent_id)
        IS NOT DISTINCT FROM (area.name, area.name_en, area.kind, area.code, area.parent_id)
"""
_OPEN: Final = """
INSERT INTO iot.area_version (area_id, valid, name, name_en, kind, code, parent_id)
SELECT id, tstzrange($2, NULL), name, name_en, kind, code, parent_id FROM iot.area
WHERE id = ANY($1) AND ended_at IS NULL
    AND NOT EXISTS (SELECT FROM iot.area_version WHERE area_id = area.id AND upper_inf(valid))
"""
_NAMES: Final = """
SELECT area.id, area.key, array_agg(DISTINCT said) AS names FROM iot.area JOIN iot.area_version ON area_id = area.id
CROSS JOIN LATERAL unnest(ARRAY[area_version.name, area_version.name_en, area_version.code]) AS said
WHERE area.id = ANY($1) GROUP BY area.id
"""
_SEARCH: Final = """
UPDATE iot.area SET search = new.search FROM unnest($1::integer[], $2::text[]) AS new (id, search)
WHERE area.id = new.id AND area.search <> new.search
"""
# Found by the names of its own, of what went into it, and of what stood around any of these at any time; but not by
# what went into the areas around it: a ward that never was in Bình Phước is not looked for under that name.
_PATHS: Final = """
WITH RECURSIVE own AS (
    SELECT id AS area_id, id FROM iot.area
    UNION SELECT own.area_id, gone.id FROM own JOIN iot.area AS gone ON gone.into_id = own.id
), around AS (
    SELECT area_id, id FROM own
    UNION SELECT around.area_id, version.parent_id FROM around
        JOIN iot.area_version AS version ON version.area_id = around.id AND version.parent_id IS NOT NULL
), path AS (
    SELECT area_id, string_agg(area.search, ' ' ORDER BY area.id) AS search
    FROM around JOIN iot.area USING (id) GROUP BY area_id
)
UPDATE iot.area SET path_search = path.search FROM path WHERE id = area_id AND path_search <> path.search
"""
# Every first version reaches back without end, so that a device added to a young area has a place in its past too;
# of an area that a merge made it is known all the same since when it is.
_VERSIONS: Final = """
SELECT coalesce(lower(valid), (
        SELECT CASE WHEN made.action = 'area.merge' THEN operation.effective_at END
        FROM iot.audit AS made JOIN iot.operation ON operation.id = made.operation
        WHERE made.subject = 'area/' || area.key AND made.before IS NULL ORDER BY made.id DESC LIMIT 1
    )) AS since, upper(valid) AS until, version.name, version.name_en, version.kind, version.code,
    parent.key AS parent
FROM iot.area_version AS version JOIN iot.area ON area.id = version.area_id
LEFT JOIN iot.area AS parent ON parent.id = version.parent_id
WHERE area.key = $1 ORDER BY lower(valid) DESC NULLS LAST
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What an area was from `since` (None: as far back as anyone knows) to `until` (None: still)."""

    since: datetime | None
    until: datetime | None
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None


def found_by(key: str, names: Iterable[str | None]) -> str:
    """Write what an area itself is found by: its key and all its names."""
    return folded(sorted({key, *filter(None, names)}))


async def begin(connection: asyncpg.Connection, ids: Sequence[int]) -> None:
    """Open the history of new areas, reaching back without end."""
    await connection.execute(_BEGIN, list(ids))


async def revise(connection: asyncpg.Connection, ids: Sequence[int], at: datetime) -> None:
    """Note in their history that these areas are, from `at` on, what their rows say now.

    Raises ConflictError when something is on record that took effect after `at`: history is written forwards.
    """
    later = await connection.fetchrow(_LATER, ids, at)
    if later is not None:
        raise ConflictError("registry.history_after", key=later["key"], since=later["since"])
    await connection.execute(_FORGET, ids, at)
    await connection.execute(_CLOSE, ids, at)
    await connection.execute(_CONTINUE, ids, at)
    await connection.execute(_OPEN, ids, at)
    names = await connection.fetch(_NAMES, ids)
    folds = [found_by(row["key"], row["names"]) for row in names]
    await connection.execute(_SEARCH, [row["id"] for row in names], folds)


async def refresh_search(connection: asyncpg.Connection) -> None:
    """Write anew what every area is found by; only rows that differ are touched."""
    await connection.execute(_PATHS)


async def versions(connection: asyncpg.Connection, key: str) -> list[Version]:
    """Give what an area was, the newest first."""
    return [Version(**row) for row in await connection.fetch(_VERSIONS, key)]
