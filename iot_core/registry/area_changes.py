"""Areas renamed, moved, merged, given up, imported: one operation each, effective from a moment, first as a trial.

No telemetry is rewritten: devices keep their rows, and history knows in which area each stood when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry import area_history, areas
from iot_core.registry.areas import NewArea
from iot_core.registry.audit import Change, record

__all__ = ["FIELDS", "Changed", "end", "import_", "merge", "move", "rename", "trial", "write"]

FIELDS: Final = ("name", "name_en", "kind", "code", "parent", "into", "ended_at")
"""What an operation can change of an area, and undo. What goes into another one ends; what ends alone is given up."""
_LOCK: Final = """
SELECT area.id, area.key, area.name, area.name_en, area.kind, area.code, area.parent_id, parent.key AS parent,
    successor.key AS into, area.ended_at
FROM iot.area LEFT JOIN iot.area AS parent ON parent.id = area.parent_id
LEFT JOIN iot.area AS successor ON successor.id = area.into_id
WHERE area.key = ANY($1) ORDER BY area.id FOR UPDATE OF area
"""
_WRITE: Final = """
UPDATE iot.area SET name = $2, name_en = $3, kind = $4, code = $5,
    parent_id = (SELECT id FROM iot.area WHERE key = $6), into_id = (SELECT id FROM iot.area WHERE key = $7),
    ended_at = $8
WHERE id = $1
"""
_CIRCLE: Final = """
WITH RECURSIVE above AS (
    SELECT id, parent_id FROM iot.area WHERE key = $2
    UNION SELECT area.id, area.parent_id FROM iot.area JOIN above ON area.id = above.parent_id
)
SELECT EXISTS (SELECT FROM above JOIN iot.area USING (id) WHERE area.key = $1)
"""
_CHILDREN: Final = """
SELECT area.key FROM iot.area JOIN iot.area AS parent ON parent.id = area.parent_id
WHERE parent.key = ANY($1) AND area.ended_at IS NULL ORDER BY area.key
"""
_INSIDE: Final = """
SELECT device.key FROM iot.device_area_version stood JOIN iot.area ON area.id = stood.area_id
JOIN iot.device ON device.id = stood.device_id
WHERE area.key = $1 AND device.retired_at IS NULL AND (upper_inf(stood.valid) OR upper(stood.valid) > $2)
GROUP BY device.key ORDER BY device.key
"""
_EFFECTIVE: Final = "SELECT set_config('iot.effective_at', $1, true)"
_MOVE_DEVICES: Final = """
WITH moved AS (
    SELECT device.id, device.key, area.key AS area FROM iot.device JOIN iot.area ON area.id = device.area_id
    WHERE area.key = ANY($1) ORDER BY device.id FOR UPDATE OF device
)
UPDATE iot.device SET area_id = (SELECT id FROM iot.area WHERE key = $2) FROM moved
WHERE device.id = moved.id RETURNING moved.key, moved.area
"""
_KNOWN: Final = "SELECT key FROM iot.area WHERE key = ANY($1)"
_SAMPLE: Final = 3


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operation changed; `operation` undoes it, and is None where nothing was written."""

    operation: int | None
    changes: Sequence[Change]


@asynccontextmanager
async def trial(connection: asyncpg.Connection, *, dry: bool) -> AsyncIterator[None]:
    """Run a block in a transaction, and take everything back where it was only a trial."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        await transaction.rollback()
        raise
    if dry:
        await transaction.rollback()
    else:
        await transaction.commit()


async def rename(
    connection: asyncpg.Connection, key: str, *, name: str | None, name_en: str | None, at: datetime | None, by: str
) -> Changed:
    """Give an area another name; the old one stays findable."""
    said = {"name": name, "name_en": name_en}
    return await _one(
        connection,
        "area.rename",
        key,
        {field: value for field, value in said.items() if value is not None},
        at=at,
        by=by,
    )


async def move(
    connection: asyncpg.Connection, key: str, *, parent: str | None, at: datetime | None, by: str
) -> Changed:
    """Hang an area, with all inside it, under another one, or make it a root."""
    if parent is not None:
        await _refuse_ended(connection, parent)
        if await connection.fetchval(_CIRCLE, key, parent):
            raise RequestError("registry.area_circle", key=key, parent=parent)
    return await _one(connection, "area.move", key, {"parent": parent}, at=at, by=by)


async def merge(
    connection: asyncpg.Connection, keys: Sequence[str], into: NewArea | str, *, at: datetime | None, by: str
) -> Changed:
    """Merge areas into another one, new or there already: their devices and the areas inside them go there.

    A district that vanishes is merged into its province. The names of what ended find what it went into.
    """
    async with connection.transaction():
        successor = into if isinstance(into, str) else into.key
        going = [key for key in dict.fromkeys(keys) if key != successor]
        if not going:
            raise RequestError("registry.merge_nothing", key=successor)
        at = at or datetime.now(UTC)
        changes: list[Change] = []
        if not isinstance(into, str):
            if into.parent is None:  # it hangs where all of them hung
                into = replace(into, parent=await _common_parent(connection, going))
            await area_history.begin(connection, await areas.insert(connection, [into]))
            changes.append(Change(f"area/{successor}", after=into.said()))
        for key in [successor, *going]:
            await _refuse_ended(connection, key)
        wanted: dict[str, dict[str, Any]] = {
            row["key"]: {"parent": successor}
            for row in await connection.fetch(_CHILDREN, going)
            if row["key"] != successor
        }
        wanted |= {key: wanted.get(key, {}) | {"into": successor, "ended_at": at} for key in going}
        if freed := await _parent_beyond(connection, successor, going):
            wanted[successor] = freed
        changes += await write(connection, wanted, at)
        await connection.execute(_EFFECTIVE, at.isoformat())
        moved = await connection.fetch(_MOVE_DEVICES, going, successor)
        changes += [Change(f"device/{row['key']}", {"area": row["area"]}, {"area": successor}) for row in moved]
        await area_history.refresh_search(connection)
        return Changed(await record(connection, by, "area.merge", *changes, effective_at=at), changes)


async def end(connection: asyncpg.Connection, key: str, *, at: datetime | None, by: str) -> Changed:
    """Give an area up that goes into no other one; what stood in it when stays on record.

    Raises ConflictError while areas or devices are inside, or were after `at`; retired ones are not.
    """
    async with connection.transaction():
        at = at or datetime.now(UTC)
        await _refuse_ended(connection, key)
        inside = [f"area/{row['key']}" for row in await connection.fetch(_CHILDREN, [key])]
        changes = await write(connection, {key: {"ended_at": at}}, at)
        inside += [row["key"] for row in await connection.fetch(_INSIDE, key, at)]
        if inside:
            raise ConflictError("registry.area_not_empty", key=key, n=len(inside), sample=", ".join(inside[:_SAMPLE]))
        await area_history.refresh_search(connection)
        return Changed(await record(connection, by, "area.end", *changes, effective_at=at), changes)


async def import_(connection: asyncpg.Connection, rows: Sequence[NewArea], *, at: datetime | None, by: str) -> Changed:
    """Add areas that are not there and bring the others up to date; what is the same already is left alone."""
    async with connection.transaction():
        at = at or datetime.now(UTC)
        by_key = {row.key: row for row in rows}
        if len(by_key) < len(rows):
            double = next(row.key for row in rows if by_key[row.key] is not row)
            raise RequestError("registry.area_twice", key=double)
        known = {row["key"] for row in await connection.fetch(_KNOWN, list(by_key))}
        added = [row for row in _parents_first(by_key) if row.key not in known]
        await area_history.begin(connection, await areas.insert(connection, added))
        changes = [Change(f"area/{row.key}", after=row.said()) for row in added]
        wanted = {key: by_key[key].said() for key in sorted(known)}
        for fields in wanted.values():
            if fields["name_en"] is None:  # a list without English names takes none away
                del fields["name_en"]
        changes += await write(connection, wanted, at)
        if not changes:
            return Changed(None, ())
        await area_history.refresh_search(connection)
        return Changed(await record(connection, by, "area.import", *changes, effective_at=at), changes)


async def write(connection: asyncpg.Connection, wanted: Mapping[str, Mapping[str, Any]], at: datetime) -> list[Change]:
    """Set fields of areas from `at` on, and give what was different before. Raises NotFoundError for unknown keys."""
    rows = {row["key"]: row for row in await connection.fetch(_LOCK, list(wanted))}
    changes = []
    touched = []
    for key, fields in wanted.items():
        if key not in rows:
            raise NotFoundError("registry.no_area", key=key)
        before = {field: rows[key][field] for field in fields}
        if before == dict(fields):
            continue
        after = {field: rows[key][field] for field in FIELDS} | dict(fields)
        await connection.execute(_WRITE, rows[key]["id"], *(after[field] for field in FIELDS))
        touched.append(rows[key]["id"])
        changes.append(Change(f"area/{key}", before, dict(fields)))
    if touched:
        await area_history.revise(connection, touched, at)
    return changes


async def _one(
    connection: asyncpg.Connection,
    action: str,
    key: str,
    fields: Mapping[str, Any],
    *,
    at: datetime | None,
    by: str,
) -> Changed:
    async with connection.transaction():
        at = at or datetime.now(UTC)
        await _refuse_ended(connection, key)
        changes = await write(connection, {key: fields}, at)
        if not changes:
            return Changed(None, ())
        await area_history.refresh_search(connection)
        return Changed(await record(connection, by, action, *changes, effective_at=at), changes)


async def _refuse_ended(connection: asyncpg.Connection, key: str) -> None:
    found = await areas.find(connection, key)
    if found.ended_at is not None:
        raise ConflictError("registry.area_ended", key=key)


async def _common_parent(connection: asyncpg.Connection, keys: Sequence[str]) -> str | None:
    parents = {(await areas.find(connection, key)).parent for key in keys}
    return parents.pop() if len(parents) == 1 else None


async def _parent_beyond(connection: asyncpg.Connection, successor: str, going: Sequence[str]) -> dict[str, Any] | None:
    """Find where the successor hangs once the areas above it that end are gone; None where nothing changes."""
    seen = parent = (await areas.find(connection, successor)).parent
    while parent is not None and parent in going:
        parent = (await areas.find(connection, parent)).parent
    return None if parent == seen else {"parent": parent}


def _parents_first(rows: Mapping[str, NewArea]) -> list[NewArea]:
    """Order areas so that each comes after the one that it stands in. Raises RequestError for a circle."""
    ordered: dict[str, NewArea] = {}
    for row in rows.values():
        chain = []
        step: NewArea | None = row
        while step is not None and step.key not in ordered:
            if step in chain:
                raise RequestError("registry.area_circle", key=step.key, parent=step.parent)
            chain.append(step)
            step = rows.get(step.parent or "")
        ordered |= {each.key: each for each in reversed(chain)}
    return list(ordered.values())
