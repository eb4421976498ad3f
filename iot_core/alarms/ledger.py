"""State rows and alarms in the database: locked in one order, read after the lock, written in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import AlarmRow, from_record
from iot_core.alarms.case import Case, Happening, Key, Shelf, Slot
from iot_core.alarms.rules import NEVER, Phase, State
from iot_core.model import Title
from iot_core.push import Notice, enqueue
from iot_core.store.many import columns_of, turned

CREATE: Final = """
INSERT INTO iot.rule_state (source_kind, source_id, rule, state, since, last_time)
SELECT k.kind, k.id, k.rule, 'normal', $4, $4 FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (kind, id, rule)
WHERE k.kind <> 'device' OR EXISTS (SELECT FROM iot.device d WHERE d.id = k.id)
ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING
"""
LOCK: Final = """
SELECT s.source_kind, s.source_id, s.rule, s.state, s.since, s.due_at, s.last_time
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (kind, id, rule)
JOIN iot.rule_state s ON (s.source_kind, s.source_id, s.rule) = (k.kind, k.id, k.rule)
ORDER BY s.source_kind, s.source_id, s.rule FOR UPDATE OF s
"""
SHELVES: Final = """
SELECT h.* FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (kind, id, rule)
JOIN iot.shelf h ON (h.source_kind, h.source_id, h.rule) = (k.kind, k.id, k.rule)
"""
# A statement of its own: joined to LOCK it would show alarms as they were before the wait for the lock.
OPEN: Final = """
SELECT a.*, i.cleared_at IS NOT NULL AS incident_over
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (kind, id, rule)
JOIN iot.alarm a ON (a.source_kind, a.source_id, a.rule) = (k.kind, k.id, k.rule) AND a.closed_at IS NULL
LEFT JOIN iot.alarm i ON i.id = a.incident_id
"""
# One statement for everything of a flush, whatever its number: a storm costs rows, not round trips. Their order is the
# order in which things happened, so that ids tell it.
_ALARM: Final = {
    "source_kind": "text", "source_id": "bigint", "device_id": "integer", "rule": "text", "severity": "text",
    "title_vi": "text", "title_en": "text", "metric": "text", "value": "float8", "threshold": "float8",
    "latched": "boolean", "late": "boolean", "simulated": "boolean", "raised_at": "timestamptz",
    "received_at": "timestamptz", "cleared_at": "timestamptz", "acknowledged_at": "timestamptz",
    "acknowledged_by": "text", "closed_at": "timestamptz", "version": "integer", "returned_at": "timestamptz",
    "shelved_until": "timestamptz", "shelved_by": "text", "shelved_reason": "text", "suppressed_by": "text",
    "incident_id": "bigint", "assigned_to": "text", "cause": "text", "test": "boolean", "runbook_vi": "text",
    "runbook_en": "text",
}  # fmt: skip
_GIVEN_ONCE: Final = frozenset({
    "source_kind", "source_id", "device_id", "rule", "title_vi", "title_en", "threshold", "latched", "runbook_vi",
    "runbook_en",
})  # fmt: skip
_CHANGES: Final = tuple(name for name in _ALARM if name not in _GIVEN_ONCE)
INSERT_ALARM: Final = f"""
INSERT INTO iot.alarm ({", ".join(_ALARM)})
SELECT {", ".join(_ALARM)} FROM unnest({columns_of(_ALARM.values())})
    WITH ORDINALITY AS n ({", ".join(_ALARM)}, ordinality) ORDER BY ordinality
RETURNING id, source_kind, source_id, rule
"""
UPDATE_ALARM: Final = f"""
UPDATE iot.alarm a SET {", ".join(f"{name} = n.{name}" for name in _CHANGES)}
FROM unnest({columns_of(["bigint", *(_ALARM[name] for name in _CHANGES)])}) AS n (id, {", ".join(_CHANGES)})
WHERE a.id = n.id
"""
INSERT_EVENT: Final = """
INSERT INTO iot.alarm_event (alarm_id, kind, at, by, value, note)
SELECT alarm_id, kind, at, by, value, note
FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $5::float8[], $6::text[])
    WITH ORDINALITY AS n (alarm_id, kind, at, by, value, note, ordinality) ORDER BY ordinality
"""
UPDATE_STATE: Final = """
UPDATE iot.rule_state s SET state = n.state, since = n.since, due_at = n.due_at, last_time = n.last_time,
    alarm_id = n.alarm_id
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
    $8::bigint[]) AS n (kind, id, rule, state, since, due_at, last_time, alarm_id)
WHERE (s.source_kind, s.source_id, s.rule) = (n.kind, n.id, n.rule)
"""


async def lock(connection: asyncpg.Connection, keys: Iterable[Key], wanted: Iterable[Key] = ()) -> dict[Key, Case]:
    """Lock the state rows of `keys` in order and read them and their open alarms; `wanted` rows are made if missing."""
    made = sorted(set(wanted))
    if made:
        await connection.execute(CREATE, *_columns(made), NEVER)
    locked = _columns(sorted({*keys, *made}))
    states = await connection.fetch(LOCK, *locked)
    alarms = {_key(row): from_record(row) for row in await connection.fetch(OPEN, *locked)}
    shelves = {
        _key(row): Shelf(row["until"], row["by"], row["reason"]) for row in await connection.fetch(SHELVES, *locked)
    }
    return {(key := _key(row)): Case(key, _state(row), alarms.get(key), shelves.get(key)) for row in states}


async def save(connection: asyncpg.Connection, cases: Iterable[Case]) -> list[Happening]:
    """Write alarms, their events, states and outbox rows of all cases that changed; give the events."""
    changed = [case for case in cases if case.dirty or case.happenings]
    slots = [slot for case in changed for slot in case.slots if slot.changed]
    # Before the new ones: a closed alarm makes room for the next of its source and rule.
    await _write(connection, UPDATE_ALARM, [_changes(slot.row) for slot in slots if slot.row.id])
    await insert(connection, [slot for slot in slots if not slot.row.id])
    happenings = [happening for case in changed for happening in case.happenings]
    await _write(connection, INSERT_EVENT, [_event(happening) for happening in happenings])
    await _write(connection, UPDATE_STATE, [_state_values(case) for case in changed])
    await enqueue(connection, [_notice(each) for each in happenings if each.push])
    return happenings


async def insert(connection: asyncpg.Connection, slots: Sequence[Slot]) -> None:
    """Insert new alarms; their slots learn their ids, those of one source and rule in their order."""
    if not slots:
        return
    given: dict[Key, list[int]] = {}
    for row in await connection.fetch(INSERT_ALARM, *turned([_facts(slot.row) for slot in slots])):
        given.setdefault(_key(row), []).append(row["id"])
    for slot in slots:
        row = slot.row
        slot.row = replace(row, id=given[row.source_kind, row.source_id, row.rule].pop(0))


async def _write(connection: asyncpg.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        await connection.execute(statement, *turned(rows))


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[int], list[str]]:
    return [kind for kind, _, _ in keys], [source for _, source, _ in keys], [rule for _, _, rule in keys]


def _key(row: asyncpg.Record) -> Key:
    return row["source_kind"], row["source_id"], row["rule"]


def _state(row: asyncpg.Record) -> State:
    return State(phase=Phase(row["state"]), since=row["since"], due_at=row["due_at"], last_time=row["last_time"])


def _facts(row: AlarmRow) -> tuple[object, ...]:
    """Give the columns of `_ALARM`."""
    return (
        row.source_kind, row.source_id, row.device_id, row.rule, row.severity, row.title.vi, row.title.en, row.metric,
        row.value, row.threshold, row.latched, row.late, row.simulated, row.raised_at, row.received_at, row.cleared_at,
        row.acknowledged_at, row.acknowledged_by, row.closed_at, row.version, row.returned_at, row.shelved_until,
        row.shelved_by, row.shelved_reason, row.suppressed_by, row.incident_id, row.assigned_to, row.cause, row.test,
        *((row.runbook.vi, row.runbook.en) if row.runbook is not None else (None, None)),
    )  # fmt: skip


def _changes(row: AlarmRow) -> tuple[object, ...]:
    """Give the id and the columns of `_CHANGES`."""
    return (
        row.id, row.severity, row.metric, row.value, row.late, row.simulated, row.raised_at, row.received_at,
        row.cleared_at, row.acknowledged_at, row.acknowledged_by, row.closed_at, row.version, row.returned_at,
        row.shelved_until, row.shelved_by, row.shelved_reason, row.suppressed_by, row.incident_id, row.assigned_to,
        row.cause, row.test,
    )  # fmt: skip


def _event(happening: Happening) -> tuple[object, ...]:
    return happening.slot.row.id, happening.kind, happening.at, happening.by, happening.value, happening.note


def _state_values(case: Case) -> tuple[object, ...]:
    state = case.state
    alarm_id = case.open.row.id if case.open is not None else None
    return (*case.key, state.phase, state.since, state.due_at, state.last_time, alarm_id)


def _notice(happening: Happening) -> Notice:
    row, alarm_id = happening.as_of, happening.slot.row.id
    return Notice(
        type=happening.push or "",
        at=happening.at,
        alarm_id=alarm_id,
        device_id=row.device_id,
        severity=row.severity,
        simulated=row.simulated,
        alarm={
            "id": alarm_id,
            "version": row.version,
            "rule": row.rule,
            "severity": row.severity.value,
            "state": row.state.value,
            "title": {"vi": row.title.vi, "en": row.title.en},
            "runbook": said(row.runbook),
            "metric": row.metric,
            "value": row.value,
            "threshold": row.threshold,
            "raised_at": _time(row.raised_at),
            "received_at": _time(row.received_at),
            "cleared_at": _time(row.cleared_at),
            "acknowledged_at": _time(row.acknowledged_at),
            "acknowledged_by": row.acknowledged_by,
            "assigned_to": row.assigned_to,
            "closed_at": _time(row.closed_at),
            "cause": row.cause,
            "shelved_until": _time(row.shelved_until),
            "note": happening.note,
            "by": happening.by,
            "late": row.late,
            "test": row.test,
            "simulated": row.simulated,
        },
    )


def said(title: Title | None) -> dict[str, str] | None:
    """Give a text of both languages as messages carry it."""
    return None if title is None else {"vi": title.vi, "en": title.en}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
