"""What people do with an alarm, beside acknowledging it: assign, comment, shelve, close with its cause, reopen, undo.

Each deed is one transaction under the lock of the alarm's source and rule, refused when it is not as it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import AlarmRow, EventKind
from iot_core.alarms.case import Case, Slot
from iot_core.alarms.ledger import lock, save
from iot_core.alarms.lifecycle import one
from iot_core.alarms.rules import Phase, State, withdraw
from iot_core.errors import ConflictError, RequestError

__all__ = ["FOREVER", "Asked", "Deed", "act"]

FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Until when a source and rule that is out of service is shelved."""

SHELVE: Final = """
INSERT INTO iot.shelf (source_kind, source_id, rule, until, reason, by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (source_kind, source_id, rule) DO UPDATE SET until = excluded.until, reason = excluded.reason,
    by = excluded.by, at = clock_timestamp()
"""
UNSHELVE: Final = "DELETE FROM iot.shelf WHERE (source_kind, source_id, rule) = ($1, $2, $3)"
# A comment takes nothing back, and an undoing undoes what was done before what it undid.
LAST: Final = """
SELECT kind, by, note FROM iot.alarm_event
WHERE alarm_id = $1 AND by IS NOT NULL AND kind IN ('acknowledged', 'assigned', 'shelved', 'closed', 'undone')
ORDER BY id DESC LIMIT 1
"""
ASSIGNED: Final = """
SELECT kind, note FROM iot.alarm_event
WHERE alarm_id = $1 AND (kind = 'assigned' OR (kind = 'undone' AND note = 'assigned')) ORDER BY id
"""
RETIRED: Final = "SELECT retired_at IS NOT NULL FROM iot.device WHERE id = $1"
# Whose center is gone, and the vital signs of one whose watch may have died with it: nobody else will end them.
LEFT: Final = """
SELECT c.removed_at IS NOT NULL OR starts_with(s.ref, 'core.')
FROM iot.outside_source s JOIN iot.center c ON c.id = s.center_id WHERE s.id = $1
"""
OTHER: Final = """
SELECT id FROM iot.alarm WHERE (source_kind, source_id, rule) = ($1, $2, $3) AND closed_at IS NULL AND id <> $4
"""


class Deed(StrEnum):
    """What can be done."""

    ASSIGN = "assign"
    COMMENT = "comment"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    OUT_OF_SERVICE = "out_of_service"
    CLOSE = "close"
    REOPEN = "reopen"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A deed as it was asked for. `note` is its reason, its cause or its words; `to` whom an alarm is assigned to."""

    deed: Deed
    by: str
    now: datetime
    version: int | None = None
    note: str | None = None
    to: str | None = None
    until: datetime | None = None


async def act(connection: asyncpg.Connection, alarm_id: int, asked: Asked) -> AlarmRow:
    """Do it. Raises NotFoundError; ConflictError when the alarm is no longer what was seen; RequestError."""
    async with connection.transaction():
        seen = await one(connection, alarm_id)
        key = (seen.source_kind, seen.source_id, seen.rule)
        locked = (await lock(connection, [key], [key])).get(key)
        alarm = await one(connection, alarm_id)
        if asked.version is not None and asked.version != alarm.version:
            raise ConflictError("alarm.changed", id=alarm_id, version=alarm.version)
        case = Case(key, locked.state if locked is not None else State(), alarm)
        case.dirty = locked is not None
        if asked.deed is Deed.UNDO:
            await _undo(connection, case, alarm, asked)
        else:
            _require(asked, alarm)
            if asked.deed is Deed.CLOSE and alarm.source_kind in _WHO_IS_GONE:
                await _let_go(connection, case, asked.now)
            if asked.deed is Deed.REOPEN:
                await _room(connection, alarm)
            _DEEDS[asked.deed](case, alarm, asked)
        await _shelf(connection, case, alarm, asked)
        await save(connection, [case])
        return await one(connection, alarm_id)


def _require(asked: Asked, alarm: AlarmRow) -> None:
    if asked.deed in _NEEDS_WORDS and not (asked.note or "").strip():
        if asked.deed is Deed.CLOSE:
            raise RequestError("alarm.say_cause")
        if asked.deed is Deed.COMMENT:
            raise RequestError("alarm.say_comment")
        raise RequestError("alarm.say_why", deed=asked.deed.value)
    if asked.deed is Deed.SHELVE and (asked.until is None or asked.until <= asked.now):
        raise RequestError("alarm.until_when")
    closed = alarm.closed_at is not None
    if asked.deed is Deed.REOPEN and not closed:
        raise ConflictError("alarm.is_open", id=alarm.id)
    if closed and asked.deed not in {Deed.REOPEN, Deed.COMMENT}:
        raise ConflictError("alarm.is_closed", id=alarm.id)


def _assign(case: Case, row: AlarmRow, asked: Asked) -> None:
    case.happen(_next(row, assigned_to=asked.to), EventKind.ASSIGNED, asked.now, by=asked.by, note=asked.to or "")


def _comment(case: Case, row: AlarmRow, asked: Asked) -> None:
    case.happen(_next(row), EventKind.COMMENTED, asked.now, by=asked.by, note=asked.note, push="alarm.comment")


def _shelve(case: Case, row: AlarmRow, asked: Asked) -> None:
    until = FOREVER if asked.deed is Deed.OUT_OF_SERVICE else asked.until
    shelved = _next(row, shelved_until=until, shelved_by=asked.by, shelved_reason=asked.note)
    case.happen(shelved, EventKind.SHELVED, asked.now, by=asked.by, note=asked.note, push="alarm.shelved")


def _unshelve(case: Case, row: AlarmRow, asked: Asked) -> None:
    if row.shelved_until is None:
        return
    back = _next(row, shelved_until=None, shelved_by=None, shelved_reason=None)
    case.happen(back, EventKind.UNSHELVED, asked.now, by=asked.by, note=asked.note)
    ring_again(case, asked.now)


def _close(case: Case, row: AlarmRow, asked: Asked) -> None:
    if case.state.phase is Phase.ACTIVE and row.cleared_at is None:
        raise ConflictError("alarm.still_active", id=row.id)
    closed = _next(
        row, closed_at=asked.now, cleared_at=row.cleared_at or asked.now, cause=asked.note,
        acknowledged_at=row.acknowledged_at or asked.now, acknowledged_by=row.acknowledged_by or asked.by,
    )  # fmt: skip
    case.happen(closed, EventKind.CLOSED, asked.now, by=asked.by, note=asked.note, push="alarm.closed")
    case.open = None


def _reopen(case: Case, row: AlarmRow, asked: Asked) -> None:
    case.open = Slot(row)
    case.slots = [case.open]
    # What kept it quiet when it closed is over: a person wants it heard.
    back = _next(row, closed_at=None, acknowledged_at=None, acknowledged_by=None, cause=None, suppressed_by=None)
    case.happen(back, EventKind.REOPENED, asked.now, by=asked.by, note=asked.note, push="alarm.reopened")


async def _undo(connection: asyncpg.Connection, case: Case, row: AlarmRow, asked: Asked) -> None:
    """Take the last deed of a person back. What the readings did meanwhile stays."""
    last = await connection.fetchrow(LAST, row.id)
    over = last is not None and last["kind"] == "shelved" and row.shelved_until is None  # a shelving that has ended
    if last is None or over or last["kind"] == "undone":
        raise ConflictError("alarm.nothing_to_undo", id=row.id)
    back: dict[str, object] = {"closed_at": None}
    push: str | None = "alarm.reopened"
    if last["kind"] in {"acknowledged", "closed"}:
        if row.closed_at is not None:
            await _room(connection, row)
            back["suppressed_by"] = None
        back |= {"acknowledged_at": None, "acknowledged_by": None, "cause": None}
        if row.latched and row.returned_at is not None:  # it stood until the click that was wrong
            back["cleared_at"] = None
        case.open = Slot(row)
        case.slots = [case.open]
    elif last["kind"] == "assigned":
        back, push = {"assigned_to": _assigned_before(await connection.fetch(ASSIGNED, row.id))}, None
    else:
        back, push = {"shelved_until": None, "shelved_by": None, "shelved_reason": None}, None
    case.happen(_next(row, **back), EventKind.UNDONE, asked.now, by=asked.by, note=last["kind"], push=push)
    if last["kind"] == "shelved":  # as when the shelving ends: those who were told of it hear that it stands
        ring_again(case, asked.now)


def _assigned_before(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Say whom an alarm was assigned to before its last assignment; one that was undone does not count."""
    names: list[str | None] = [None]
    for step in steps:
        if step["kind"] == "assigned":
            names.append(step["note"] or None)
        else:
            names.pop()
    return names[-2] if len(names) > 1 else None


async def _shelf(connection: asyncpg.Connection, case: Case, before: AlarmRow, asked: Asked) -> None:
    row = case.slots[0].row
    if asked.deed in {Deed.SHELVE, Deed.OUT_OF_SERVICE}:
        await connection.execute(SHELVE, *case.key, row.shelved_until, asked.note, asked.by)
    elif before.shelved_until is not None and row.shelved_until is None:  # not by a word about an older alarm
        await connection.execute(UNSHELVE, *case.key)


async def _let_go(connection: asyncpg.Connection, case: Case, now: datetime) -> None:
    """End what a retired device or a center that is gone said last: nothing will. The timers do it too for devices."""
    if case.state.phase is Phase.ACTIVE and await connection.fetchval(_WHO_IS_GONE[case.key[0]], case.key[1]):
        case.state, _ = withdraw(case.state, now)


async def _room(connection: asyncpg.Connection, row: AlarmRow) -> None:
    """Refuse to open what has a successor: one open alarm for a source and rule."""
    other = await connection.fetchval(OTHER, row.source_kind, row.source_id, row.rule, row.id)
    if other is not None:
        raise ConflictError("alarm.has_successor", id=row.id, other=other)


def ring_again(case: Case, now: datetime) -> None:
    """Ring an alarm that was kept quiet and still stands, as if it were raised now."""
    assert case.open is not None
    row = case.open.row
    if row.cleared_at is None and row.acknowledged_at is None:
        case.happen(_next(row), EventKind.RAISED, now, value=row.value, push="alarm.raised")


def _next(row: AlarmRow, **changes: object) -> AlarmRow:
    return replace(row, version=row.version + 1, **changes)


_DEEDS: Final[Mapping[Deed, Callable[[Case, AlarmRow, Asked], None]]] = {
    Deed.ASSIGN: _assign,
    Deed.COMMENT: _comment,
    Deed.SHELVE: _shelve,
    Deed.UNSHELVE: _unshelve,
    Deed.OUT_OF_SERVICE: _shelve,
    Deed.CLOSE: _close,
    Deed.REOPEN: _reopen,
}
_WHO_IS_GONE: Final[Mapping[str, str]] = {"device": RETIRED, "outside": LEFT}
_NEEDS_WORDS: Final = frozenset({Deed.COMMENT, Deed.SHELVE, Deed.OUT_OF_SERVICE, Deed.CLOSE})
