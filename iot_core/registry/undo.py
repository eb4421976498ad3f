"""Take an operation back: what it changed becomes what it was before, from the same moment on.

Refused when something that it changed was changed again since: then a person has to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import asyncpg

from iot_core.errors import ConflictError, NotFoundError
from iot_core.registry import area_history, device_edits, devices, maintenance
from iot_core.registry.area_changes import FIELDS, Changed, write
from iot_core.registry.audit import Change, Operation, changes_of, operation, record

__all__ = ["undo"]

UNDOABLE: Final = frozenset(
    {
        "area.add",
        "area.rename",
        "area.move",
        "area.end",
        "area.merge",
        "area.import",
        "device.add",
        "device.edit",
        "device.import",
        "device.replace",
        "maintenance.start",
        "test.start",
    }
)
_AREAS: Final = """
SELECT area.key, area.name, area.name_en, area.kind, area.code, parent.key AS parent, successor.key AS into,
    area.ended_at
FROM iot.area LEFT JOIN iot.area AS parent ON parent.id = area.parent_id
LEFT JOIN iot.area AS successor ON successor.id = area.into_id
WHERE area.key = ANY($1)
"""
_SINCE: Final = """
SELECT operation, by FROM iot.audit WHERE subject = $1 AND operation > $2 ORDER BY operation DESC LIMIT 1
"""
_LATER: Final = """
SELECT audit.subject, audit.operation, audit.by FROM iot.audit JOIN iot.operation ON operation.id = audit.operation
WHERE audit.subject = ANY($1) AND audit.operation > $2 AND operation.undone_by IS NULL AND operation.undoes IS NULL
ORDER BY audit.operation LIMIT 1
"""
_HEARD: Final = """
SELECT device.key FROM iot.device JOIN iot.device_status status ON status.device_id = device.id
WHERE device.key = ANY($1) LIMIT 1
"""
_DROP_UNITS: Final = """
DELETE FROM iot.unit USING iot.device WHERE device.id = unit.device_id AND device.key = ANY($1)
"""
_DROP_DEVICES: Final = "DELETE FROM iot.device WHERE key = ANY($1)"
_USED: Final = """
SELECT area.key FROM iot.area WHERE key = ANY($1) AND (
    EXISTS (SELECT FROM iot.device_area_version WHERE area_id = area.id)
    OR EXISTS (SELECT FROM iot.area AS child WHERE child.parent_id = area.id AND NOT child.key = ANY($1))
    OR EXISTS (SELECT FROM iot.area_version AS child WHERE child.parent_id = area.id
        AND NOT child.area_id IN (SELECT id FROM iot.area WHERE key = ANY($1)))
) LIMIT 1
"""
_ORPHAN: Final = """
SELECT parent.key FROM iot.area JOIN iot.area AS parent ON parent.id = area.parent_id
WHERE area.key = ANY($1) AND area.ended_at IS NULL AND parent.ended_at IS NOT NULL LIMIT 1
"""
_FORGET_VERSIONS: Final = "DELETE FROM iot.area_version WHERE area_id IN (SELECT id FROM iot.area WHERE key = ANY($1))"
_DROP: Final = "DELETE FROM iot.area WHERE key = ANY($1)"


async def undo(connection: asyncpg.Connection, number: int, *, by: str) -> Changed:
    """Take an operation back.

    Raises NotFoundError for a number that is none, ConflictError when it cannot be taken back, with the reason.
    """
    async with connection.transaction():
        done = await operation(connection, number)
        if done is None:
            raise NotFoundError("registry.no_operation", number=number)
        if done.undone_by is not None:
            raise ConflictError("registry.undone_already", number=number, by=done.undone_by)
        if done.action == "device.remove":  # what was printed on it, or stands there by now, is for a person to see
            for key in _of("device", await changes_of(connection, number)):
                raise ConflictError("registry.undone_by_restore", number=number, key=key)
        if done.action not in UNDOABLE:
            raise ConflictError("registry.not_undoable", number=number, action=done.action)
        changes = await changes_of(connection, number)
        if done.action in {"maintenance.start", "test.start"}:
            await maintenance.end_of(connection, number, by=by)
        elif done.action == "device.add":
            await _forget_devices(connection, done, list(_of("device", changes)))
        elif done.action == "device.replace":
            await _mount_back(connection, done, list(_of("device", changes)))
        else:
            await _write_back(connection, done, changes)
        return await _noted(connection, done, changes, by)


async def _write_back(connection: asyncpg.Connection, done: Operation, changes: Sequence[Change]) -> None:
    """Write the fields as they were before."""
    await _refuse_changed(connection, done, changes)
    at = done.effective_at or done.at
    areas = _of("area", changes)
    await write(connection, {key: _fields(each.before) for key, each in areas.items() if each.before is not None}, at)
    ended = await connection.fetchval(_ORPHAN, list(areas))
    if ended is not None:
        raise ConflictError("registry.area_ended", key=ended)
    edited = {key: each.before for key, each in _of("device", changes).items() if each.before is not None}
    await device_edits.write(connection, edited, at=at, retired=True)
    await _drop(connection, [key for key, each in areas.items() if each.before is None])
    await area_history.refresh_search(connection)


async def _noted(connection: asyncpg.Connection, done: Operation, changes: Sequence[Change], by: str) -> Changed:
    """Write that an operation was taken back."""
    back = [Change(each.subject, each.after, each.before) for each in reversed(changes)]
    own = await record(connection, by, "undo", *back, effective_at=done.effective_at or done.at, undoes=done.id)
    await connection.execute("UPDATE iot.operation SET undone_by = $2 WHERE id = $1", done.id, own)
    return Changed(own, back)


async def _mount_back(connection: asyncpg.Connection, done: Operation, keys: Sequence[str]) -> None:
    for key in keys:
        if done.effective_at is None or not await devices.mount_back(connection, key, done.id, done.effective_at):
            await _refuse(connection, done, f"device/{key}")


async def _forget_devices(connection: asyncpg.Connection, done: Operation, keys: Sequence[str]) -> None:
    """Take devices away that the operation added, as if they had never been; not those that have a history by now."""
    later = await connection.fetchrow(_LATER, [f"device/{key}" for key in keys], done.id)
    if later is not None:
        raise ConflictError(
            "registry.changed_since",
            number=done.id,
            subject=later["subject"],
            later=later["operation"],
            by=later["by"],
        )
    heard = await connection.fetchval(_HEARD, keys)
    if heard is not None:
        raise ConflictError("registry.device_heard", number=done.id, key=heard)
    try:
        async with connection.transaction():
            await connection.execute(_DROP_UNITS, keys)
            await connection.execute(_DROP_DEVICES, keys)
    except asyncpg.ForeignKeyViolationError as exc:
        raise ConflictError("registry.device_used", number=done.id) from exc


async def _refuse_changed(connection: asyncpg.Connection, done: Operation, changes: Sequence[Change]) -> None:
    now = {f"area/{row['key']}": row for row in await connection.fetch(_AREAS, list(_of("area", changes)))}
    edited = await device_edits.read(connection, list(_of("device", changes)), retired=True)
    now |= {f"device/{key}": row for key, row in edited.items()}
    for each in changes:
        left = now.get(each.subject)
        if left is None or any(not _same(left[field], value) for field, value in (each.after or {}).items()):
            await _refuse(connection, done, each.subject)


async def _refuse(connection: asyncpg.Connection, done: Operation, subject: str) -> NoReturn:
    later = await connection.fetchrow(_SINCE, subject, done.id)
    raise ConflictError(
        "registry.changed_since",
        number=done.id,
        subject=subject,
        later=later["operation"] if later else "?",
        by=later["by"] if later else "?",
    )


async def _drop(connection: asyncpg.Connection, added: Sequence[str]) -> None:
    """Take areas away that the operation added, unless something stands in them by now."""
    if not added:
        return
    used = await connection.fetchval(_USED, added)
    if used is not None:
        raise ConflictError("registry.area_used", key=used)
    await connection.execute(_FORGET_VERSIONS, added)
    await connection.execute(_DROP, added)


def _of(kind: str, changes: Sequence[Change]) -> dict[str, Change]:
    """Pick the changes of one kind of thing, by key."""
    return {each.subject.partition("/")[2]: each for each in changes if each.subject.startswith(f"{kind}/")}


def _fields(before: Mapping[str, Any]) -> dict[str, Any]:
    return {field: _time(value) if field == "ended_at" else value for field, value in before.items() if field in FIELDS}


def _time(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _same(left: Any, said: Any) -> bool:
    return bool(left == (_time(said) if isinstance(left, datetime) else said))
