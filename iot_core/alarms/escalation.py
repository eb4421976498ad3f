"""Walks alarms along their escalation chains: rows with a due time, shared by workers, told through the outbox.

A step and the message that it sends are one transaction: a crash repeats neither and loses neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.alarms.alarm import AlarmRow, from_record
from iot_core.alarms.ledger import said
from iot_core.cancelled import notice_cancellation
from iot_core.push import chain as chains
from iot_core.push.chain import Ring, Stage
from iot_core.push.outbox import Notice, enqueue
from iot_core.store.connection import AWAY, RETRY

__all__ = ["run_escalation", "walk"]

_LOOK_S: Final = 2.0
_BATCH: Final = 200
# An alarm that closed, or a person's acknowledgement, or its undoing, is seen at the next look.
DUE: Final = """
SELECT e.chain_id, e.step, e.stage, c.steps, c.repeat_s, c.remind, c.key AS chain, a.*,
    (SELECT value FROM iot.fixed_setting WHERE key = 'timezone') AS zone,
    ARRAY(SELECT day FROM iot.holiday) AS holidays
FROM iot.escalation e JOIN iot.escalation_chain c ON c.id = e.chain_id JOIN iot.alarm a ON a.id = e.alarm_id
WHERE e.due_at <= $1 OR a.closed_at IS NOT NULL OR (a.acknowledged_at IS NOT NULL) <> (e.stage = 'taken')
ORDER BY e.due_at LIMIT $2 FOR UPDATE OF e SKIP LOCKED
"""
MOVE: Final = """
UPDATE iot.escalation SET stage = $3, step = $4, due_at = coalesce($5::timestamptz, 'infinity'), rung = rung + $6
WHERE alarm_id = $1 AND chain_id = $2
"""
END: Final = "DELETE FROM iot.escalation WHERE alarm_id = $1 AND chain_id = $2"


async def run_escalation(
    pool: asyncpg.Pool, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), look_s: float = _LOOK_S
) -> None:
    """Walk along the chains until cancelled."""
    while True:
        try:
            async with pool.acquire() as connection:
                while await walk(connection, clock()) == _BATCH:
                    pass
        except (*AWAY, *RETRY):
            notice_cancellation()
        await asyncio.sleep(look_s)


async def walk(connection: asyncpg.Connection, now: datetime) -> int:
    """Do what is due on all chains; say how many rows that were."""
    async with connection.transaction():
        rows = await connection.fetch(DUE, now, _BATCH)
        notices: list[Notice] = []
        for row in rows:
            notice = await _step(connection, row, now)
            if notice is not None:
                notices.append(notice)
        await enqueue(connection, notices)
    return len(rows)


async def _step(connection: asyncpg.Connection, row: asyncpg.Record, now: datetime) -> Notice | None:
    alarm = from_record(row)
    if alarm.closed_at is not None:
        await connection.execute(END, alarm.id, row["chain_id"])
        return None
    chain, before = chains.of(row), Stage(row["stage"])
    stage = Stage.WAITING if alarm.acknowledged_at is None else Stage.TAKEN
    if stage is not before:
        due = chains.first(chain, now) if stage is Stage.WAITING else chains.reminder(chain, now, row["zone"])
        await connection.execute(MOVE, alarm.id, row["chain_id"], stage, 0, due, 0)
        return None
    ring = chains.next_ring(chain, stage, row["step"], now, zone=row["zone"], holidays=frozenset(row["holidays"]))
    if _quiet(row, now):
        ring = Ring(None, row["step"], chains.first(chain, now))
    await connection.execute(MOVE, alarm.id, row["chain_id"], stage, ring.step, ring.due_at, ring.target is not None)
    return _notice(alarm, row, ring, stage, now) if ring.target is not None else None


def _quiet(row: asyncpg.Record, now: datetime) -> bool:
    """Shelved and suppressed alarms ring nobody, nor do those inside an incident, or over and not critical."""
    until = row.get("shelved_until")
    if (until is not None and until > now) or row.get("suppressed_by") is not None or row["incident_id"] is not None:
        return True
    return row["cleared_at"] is not None and row["severity"] != "critical"


def _notice(alarm: AlarmRow, row: asyncpg.Record, ring: Ring, stage: Stage, now: datetime) -> Notice:
    facts: dict[str, Any] = {
        "id": alarm.id, "version": alarm.version, "rule": alarm.rule,
        "severity": alarm.severity.value, "state": alarm.state.value,
        "title": said(alarm.title), "runbook": said(alarm.runbook), "metric": alarm.metric, "value": alarm.value,
        "threshold": alarm.threshold, "raised_at": alarm.raised_at.isoformat(),
        "acknowledged_by": alarm.acknowledged_by, "late": alarm.late, "simulated": alarm.simulated,
        "test": bool(row.get("test")), "chain": row["chain"], "step": ring.step,
    }  # fmt: skip
    return Notice(
        type="alarm.escalated" if stage is Stage.WAITING else "alarm.open",
        at=now, alarm_id=alarm.id, device_id=alarm.device_id, severity=alarm.severity, simulated=alarm.simulated,
        alarm=facts, only=ring.target,
    )  # fmt: skip
