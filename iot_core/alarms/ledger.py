"""State rows and alarms in the database: locked in one order, read after the lock, written in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import asyncpg

from iot_core.alarms.alarm import AlarmRow, from_record
from iot_core.alarms.case import Case, Happening, Key, Shelf, Slot
from iot_core.alarms.rules import NEVER, Phase, State
from iot_core.model import Title
from iot_core.push import Notice, enqueue

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
SELECT a.* FROM unnest($1::text[], $2::bigint[], $3::text[]) AS k (kind, id, rule)
JOIN iot.alarm a ON (a.source_kind, a.source_id, a.rule) = (k.kind, k.id, k.rule) AND a.closed_at IS NULL
"""
INSERT_ALARM: Final = """
INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, metric, value, threshold,
    latched, late, simulated, raised_at, received_at, cleared_at, acknowledged_at, acknowledged_by, closed_at, version,
    returned_at, shelved_until, shelved_by, shelved_reason, suppressed_by, incident_id, assigned_to, cause, test,
    runbook_vi, runbook_en)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31) RETURNING id
"""
UPDATE_ALARM: Final = """
UPDATE iot.alarm SET metric = $2, value = $3, late = $4, raised_at = $5, received_at = $6, cleared_at = $7,
    acknowledged_at = $8, acknowledged_by = $9, closed_at = $10, version = $11, severity = $12, returned_at = $13,
    shelved_until = $14, shelved_by = $15, shelved_reason = $16, suppressed_by = $17, incident_id = $18,
    assigned_to = $19, cause = $20, test = $21 WHERE id = $1
"""
INSERT_EVENT: Final = """
INSERT INTO iot.alarm_event (alarm_id, kind, at, by, value, note) VALUES ($1, $2, $3, $4, $5, $6)
"""
UPDATE_STATE: Final = """
UPDATE iot.rule_state SET state = $4, since = $5, due_at = $6, last_time = $7, alarm_id = $8
WHERE (source_kind, source_id, rule) = ($1, $2, $3)
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
    old = [slot.row for slot in slots if slot.row.id]
    if old:
        await connection.executemany(UPDATE_ALARM, [_changes(row) for row in old])
    await insert(connection, [slot for slot in slots if not slot.row.id])
    happenings = [happening for case in changed for happening in case.happenings]
    if happenings:
        await connection.executemany(INSERT_EVENT, [_event(happening) for happening in happenings])
    if changed:
        await connection.executemany(UPDATE_STATE, [_state_values(case) for case in changed])
    await enqueue(connection, [_notice(each) for each in happenings if each.push])
    return happenings


async def insert(connection: asyncpg.Connection, slots: Sequence[Slot]) -> None:
    """Insert new alarms; their slots learn their ids."""
    if not slots:
        return
    rows = await connection.fetchmany(INSERT_ALARM, [_facts(slot.row) for slot in slots])
    for slot, row in zip(slots, rows, strict=True):
        slot.row = replace(slot.row, id=row["id"])


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[int], list[str]]:
    return [kind for kind, _, _ in keys], [source for _, source, _ in keys], [rule for _, _, rule in keys]


def _key(row: asyncpg.Record) -> Key:
    return row["source_kind"], row["source_id"], row["rule"]


def _state(row: asyncpg.Record) -> State:
    return State(phase=Phase(row["state"]), since=row["since"], due_at=row["due_at"], last_time=row["last_time"])


def _facts(row: AlarmRow) -> tuple[object, ...]:
    return (
        row.source_kind,
        row.source_id,
        row.device_id,
        row.rule,
        row.severity,
        row.title.vi,
        row.title.en,
        row.metric,
        row.value,
        row.threshold,
        row.latched,
        row.late,
        row.simulated,
        row.raised_at,
        row.received_at,
        row.cleared_at,
        row.acknowledged_at,
        row.acknowledged_by,
        row.closed_at,
        row.version,
        *_more(row),
        *((row.runbook.vi, row.runbook.en) if row.runbook is not None else (None, None)),
    )


def _more(row: AlarmRow) -> tuple[object, ...]:
    return (
        row.returned_at,
        row.shelved_until,
        row.shelved_by,
        row.shelved_reason,
        row.suppressed_by,
        row.incident_id,
        row.assigned_to,
        row.cause,
        row.test,
    )


def _changes(row: AlarmRow) -> tuple[object, ...]:
    return (
        row.id,
        row.metric,
        row.value,
        row.late,
        row.raised_at,
        row.received_at,
        row.cleared_at,
        row.acknowledged_at,
        row.acknowledged_by,
        row.closed_at,
        row.version,
        row.severity,
        *_more(row),
    )


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
