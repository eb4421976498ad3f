"""The whole way of an alarm: the uplink's bytes, the reading, the rule, the alarm, its events, messages, receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

from iot_core.alarms.alarm import AlarmRow
from iot_core.alarms.lifecycle import get_alarm
from iot_core.alarms.origin import CENTER, of_alarm
from iot_core.api import shapes
from iot_core.push import receipts

__all__ = ["trace"]

_MOST: Final = 1_000
_AROUND: Final = timedelta(days=2)
RECORDED: Final = "SELECT recorded_at FROM iot.alarm WHERE id = $1"
# The row as it is now: what was stored of the uplink, else the newest that was there when a clock raised the alarm.
READING: Final = """
SELECT to_jsonb(t) - 'device_id' AS row, t.time, t.received_at FROM telemetry."{class_key}" t
WHERE t.device_id = $1 AND t.time >= $2 AND t.time <= $3 AND t.received_at <= $4
ORDER BY t.received_at = $4 DESC, t.time DESC LIMIT 1
"""


async def trace(
    connection: asyncpg.Connection,
    alarm_id: int,
    *,
    known: bool,
    rule: str | None = None,
    typed: Callable[[float | None], float | bool | None] = lambda value: value,
) -> shapes.AlarmTrace:
    """Give an alarm's way in the order of time.

    `known`: its class is one of ours, and the asker may see what its device says; `rule`: its rule in words, as it is
    now; `typed` gives its metric's type back to a number. Raises NotFoundError.
    """
    found = await get_alarm(connection, alarm_id)
    row = found.alarm
    recorded = await connection.fetchval(RECORDED, alarm_id)
    steps: list[shapes.TraceStep] = []
    if known and row.device_id is not None:
        steps += await _reading(connection, row)
    steps += await _uplink(connection, row, known=known)
    steps.append(
        _step(
            recorded, "raised", row.rule, severity=row.severity, metric=row.metric, value=typed(row.value),
            threshold=typed(row.threshold), when=rule, late=row.late or None,
        )
    )  # fmt: skip
    for event in found.events:
        detail = {"by": event.by, "note": event.note, "happened": event.at.isoformat()}
        steps.append(_step(event.recorded_at, "event", event.kind, **detail))
    failed = await receipts.failed_tries(connection, alarm_id)
    for message in await receipts.log(connection, None, alarm_id, None, _MOST):
        steps += _message(message, failed.get(message["message_id"], ()))
    return shapes.AlarmTrace(alarm=alarm_id, steps=tuple(sorted(steps, key=lambda step: step.at)))


async def _uplink(connection: asyncpg.Connection, row: AlarmRow, *, known: bool) -> list[shapes.TraceStep]:
    """Tell of the message that raised it; of an alarm that a clock or what is stored raised, there is none."""
    subject, uplink = row.device_key or row.area_key or row.source_kind, await of_alarm(connection, row.id)
    if uplink is None:
        return [_step(row.received_at, "judged", subject)]
    said: dict[str, Any] = {"driver": uplink["driver"], "address": uplink["address"], "topic": uplink["topic"] or None}
    outside = uplink["driver"] == CENTER
    if outside:
        subject, said = uplink["address"], {"message_id": uplink["topic"]}
    if known or outside:
        said |= _payload(uplink)
    steps = [_step(uplink["received_at"], "received", subject, **said)]
    if not outside:
        steps += [_step(uplink["flushed_at"], "flushed", subject), _step(uplink["written_at"], "stored", subject)]
    again = row.received_at > uplink["received_at"]  # it was raised anew since: its bytes were not kept
    return [*steps, _step(row.received_at, "received", subject)] if again else steps


def _payload(uplink: asyncpg.Record) -> dict[str, Any]:
    payload, size = uplink["payload"] or b"", uplink["size"]
    if not size:
        return {"registers": uplink["registers"]}
    try:
        said = {"payload": payload.decode()}
    except UnicodeDecodeError:
        said = {"payload_hex": payload.hex(" ")}
    return {"bytes": size, **said, "cut": len(payload) if len(payload) < size else None}


async def _reading(connection: asyncpg.Connection, row: AlarmRow) -> list[shapes.TraceStep]:
    reading = await connection.fetchrow(
        READING.format(class_key=row.class_key), row.device_id, row.raised_at - _AROUND, row.raised_at + _AROUND,
        row.received_at,
    )  # fmt: skip
    if reading is None:
        return []
    values = {name: value for name, value in reading["row"].items() if value is not None}
    return [_step(reading["time"], "measured", row.device_key or "", **values)]


def _message(message: asyncpg.Record, failed: Sequence[receipts.Try]) -> Iterator[shapes.TraceStep]:
    facts = {"type": message["type"], "message_id": message["message_id"]}
    yield _step(message["created_at"], "queued", message["target"], **facts)
    if message["first_tried_at"] is not None:
        yield _step(message["first_tried_at"], "tried", message["target"], **facts, attempts=message["attempts"])
    for each in failed:
        yield _step(each.at, "failed", message["target"], **facts, status=each.status, error=each.error)
    receipt = {"status": message["last_status"], "sha256": message["body_digest"], "error": message["last_error"]}
    for name, what in (("delivered_at", "delivered"), ("dead_at", "dead")):
        if message[name] is not None:
            yield _step(message[name], what, message["target"], **facts, **receipt)


def _step(at: Any, what: str, subject: str, **detail: Any) -> shapes.TraceStep:
    kept = {name: value for name, value in detail.items() if value is not None}
    return shapes.TraceStep(at=at, what=what, subject=subject, detail=kept)
