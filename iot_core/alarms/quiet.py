"""What ends by itself: shelving, maintenance, tests, incidents. Whatever still stands then, rings.

Looked at every few seconds by each worker; the rows' locks let each step happen once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import EventKind
from iot_core.alarms.case import Case, Key, Occasion, out_of_incident
from iot_core.alarms.deeds import ring_again
from iot_core.alarms.ledger import lock
from iot_core.alarms.rules import Phase, withdraw
from iot_core.push.receipts import note_seen

if TYPE_CHECKING:
    from iot_core.alarms.evaluate import Evaluator

__all__ = ["settle"]

_BATCH: Final = 500
_MOST_BATCHES: Final = 20
UNSHELVED: Final = "DELETE FROM iot.shelf WHERE until <= $1"
SHELVED: Final = """
SELECT source_kind, source_id, rule FROM iot.alarm WHERE shelved_until <= $1 AND closed_at IS NULL LIMIT $2
"""
WORKED_AT: Final = """
SELECT source_kind, source_id, rule, device_id FROM iot.alarm
WHERE closed_at IS NULL AND (suppressed_by LIKE 'maintenance:%' OR test) AND device_id IS NOT NULL LIMIT $1
"""
INCIDENTS: Final = """
SELECT i.id, i.source_kind, i.source_id, i.rule, i.acknowledged_by, i.cleared_at, i.raised_at, i.value,
    count(m.id) AS members, count(m.id) FILTER (WHERE m.closed_at IS NULL AND m.cleared_at IS NULL) AS standing
FROM iot.alarm i LEFT JOIN iot.alarm m ON m.incident_id = i.id
WHERE i.source_kind = 'area' AND starts_with(i.rule, 'incident.') AND i.closed_at IS NULL GROUP BY i.id
"""
UNTAKEN: Final = """
SELECT m.id, m.source_kind, m.source_id, m.rule, i.acknowledged_by
FROM iot.alarm m JOIN iot.alarm i ON i.id = m.incident_id
WHERE m.closed_at IS NULL AND m.acknowledged_at IS NULL AND i.acknowledged_at IS NOT NULL LIMIT $1
"""
# Rang anew while their incident was found to be over.
LEFT_BEHIND: Final = """
SELECT m.source_kind, m.source_id, m.rule FROM iot.alarm m JOIN iot.alarm i ON i.id = m.incident_id
WHERE m.closed_at IS NULL AND m.cleared_at IS NULL AND i.cleared_at IS NOT NULL LIMIT $1
"""
_CALM: Final = timedelta(seconds=60)


async def settle(pool: asyncpg.Pool, evaluator: Evaluator, now: datetime) -> None:
    """Do all that is due."""
    rows = await pool.fetch(SHELVED, now, _BATCH)
    await _step(pool, evaluator, now, rows, lambda case, _: _unshelve(case, now))
    await pool.execute(UNSHELVED, now)
    await _leave_windows(pool, evaluator, now)
    incidents = await pool.fetch(INCIDENTS)
    if incidents:
        await _step(pool, evaluator, now, incidents, lambda case, row: _settle_incident(case, row, now))
    if incidents or await pool.fetchval("SELECT EXISTS (SELECT FROM iot.alarm WHERE incident_id IS NOT NULL)"):
        for _ in range(_MOST_BATCHES):
            rows = await pool.fetch(UNTAKEN, _BATCH)
            await _step(pool, evaluator, now, rows, lambda case, row: _take(case, row, now), _note_seen)
            if len(rows) < _BATCH:
                break
        rows = await pool.fetch(LEFT_BEHIND, _BATCH)
        await _step(pool, evaluator, now, rows, lambda case, _: _leave_incident(case, now))


async def _leave_windows(pool: asyncpg.Pool, evaluator: Evaluator, now: datetime) -> None:
    # A walk test inside maintenance begins and ends without a sound: what was kept back rings when both are over.
    worked_at = await pool.fetch(WORKED_AT, _BATCH * _MOST_BATCHES)
    rows = [row for row in worked_at if evaluator.window(row["device_id"], now) is None]
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        await _step(pool, evaluator, now, some, lambda case, _: _leave_window(case, now))


async def _step(  # noqa: PLR0917 - where, when, of what, how
    pool: asyncpg.Pool,
    evaluator: Evaluator,
    now: datetime,
    rows: Sequence[Any],
    step: Callable[[Case, Any], None],
    also: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[None]] | None = None,
) -> None:
    """Lock, take one step each, and write; many that ring at once because of it are a flood like any other."""
    if not rows:
        return
    by_key: dict[Key, Any] = {(row["source_kind"], row["source_id"], row["rule"]): row for row in rows}
    async with pool.acquire() as connection:
        async with connection.transaction():
            cases = await lock(connection, by_key, by_key)
            for key, case in cases.items():
                if case.open is not None:
                    step(case, by_key[key])
            pending = await evaluator.write(connection, cases, now)
            if also is not None:
                await also(connection, rows)
        evaluator.committed(pending)


def _take(case: Case, row: Any, now: datetime) -> None:
    case.acknowledge(row["acknowledged_by"], now, "incident")


async def _note_seen(connection: asyncpg.Connection, rows: Sequence[Any]) -> None:
    for by in {row["acknowledged_by"] for row in rows}:
        await note_seen(connection, [row["id"] for row in rows if row["acknowledged_by"] == by], by)


def _unshelve(case: Case, now: datetime) -> None:
    assert case.open is not None
    row = case.open.row
    if row.shelved_until is None or row.shelved_until > now:
        return
    back = replace(row, shelved_until=None, shelved_by=None, shelved_reason=None, version=row.version + 1)
    case.happen(back, EventKind.UNSHELVED, now)
    ring_again(case, now)


def _leave_window(case: Case, now: datetime) -> None:
    """Ring what still stands; what came and went meanwhile is over, and nobody has to take it."""
    assert case.open is not None
    row = case.open.row
    over = case.state.phase is not Phase.ACTIVE
    back = replace(row, suppressed_by=None, test=row.test and over, version=row.version + 1)
    if over:
        ended = replace(back, cleared_at=row.cleared_at or now)
        # Still marked while it is written: nobody was told of it, so nobody is told of its end.
        case.happen(replace(ended, suppressed_by=row.suppressed_by), EventKind.UNSUPPRESSED, now, closes=now)
        return
    case.happen(back, EventKind.UNSUPPRESSED, now)
    ring_again(case, now)


def _leave_incident(case: Case, now: datetime) -> None:
    assert case.open is not None
    row = case.open.row
    if row.incident_over and row.cleared_at is None:
        case.happen(out_of_incident(row), EventKind.UNSUPPRESSED, now)
        ring_again(case, now)


def _settle_incident(case: Case, row: Any, now: datetime) -> None:
    """End an incident whose alarms are all over; tell how far it grew, until then."""
    assert case.open is not None
    incident = case.open.row
    if row["standing"] == 0 and incident.cleared_at is None and incident.raised_at <= now - _CALM:
        case.move(None, *withdraw(case.state, now), Occasion(received_at=now, now=now, value=float(row["members"])))
    elif row["members"] > (incident.value or 0) * 1.2 and incident.cleared_at is None:
        grown = replace(incident, value=float(row["members"]), version=incident.version + 1)
        note = str(row["members"])
        case.happen(grown, EventKind.COMMENTED, now, value=grown.value, note=note, push="alarm.updated")
