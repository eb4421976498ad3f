"""The uplink that raised an alarm: kept with it, bounded, in the transaction that stores the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from iot_core.alarms.alarm import AlarmRow, EventKind
from iot_core.alarms.case import Happening
from iot_core.model import Uplink
from iot_core.store.many import turned

__all__ = ["CENTER", "MOST_BYTES", "Uplinks", "keep", "keep_message", "of_alarm"]

MOST_BYTES: Final = 4096
CENTER: Final = "center"
"""In place of a driver: another center's message raised it, of which `address` is the center and `topic` the id."""
KEEP: Final = """
INSERT INTO iot.alarm_uplink (alarm_id, driver, address, topic, content_format, payload, size, registers, received_at,
    flushed_at)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bytea[], $7::integer[],
    $8::jsonb[], $9::timestamptz[], $10::timestamptz[]) ON CONFLICT DO NOTHING
"""
OF_ALARM: Final = "SELECT * FROM iot.alarm_uplink WHERE alarm_id = $1"

Uplinks = Mapping[tuple[int, datetime], Uplink]
"""Device and arrival -> the uplink."""


async def keep(
    connection: asyncpg.Connection,
    happenings: Sequence[Happening],
    uplinks: Callable[[], Uplinks],
    flushed_at: datetime,
) -> None:
    """Keep the uplinks of alarms that were raised; `uplinks` is asked only where there are any."""
    raised = {
        each.slot.row.id: (each.as_of.device_id, each.as_of.received_at)
        for each in reversed(happenings)
        if each.kind is EventKind.RAISED and each.as_of.device_id is not None
    }
    if not raised:
        return
    known = uplinks()
    rows = [
        _row(alarm_id, known[device_id or 0, received_at], flushed_at)
        for alarm_id, (device_id, received_at) in raised.items()
        if (device_id or 0, received_at) in known
    ]
    if rows:
        await connection.execute(KEEP, *turned(rows))


async def keep_message(
    connection: asyncpg.Connection, row: AlarmRow, *, center: str, message_id: str, body: bytes
) -> None:
    """Keep the message of another center that raised an alarm."""
    at = row.received_at
    facts = (row.id, CENTER, center, message_id, None, body[:MOST_BYTES], len(body), None, at, at)
    await connection.execute(KEEP, *turned([facts]))


async def of_alarm(connection: asyncpg.Connection, alarm_id: int) -> asyncpg.Record | None:
    """Give the uplink that raised an alarm first; None where a clock or what was stored raised it."""
    return await connection.fetchrow(OF_ALARM, alarm_id)


def _row(alarm_id: int, uplink: Uplink, flushed_at: datetime) -> tuple[Any, ...]:
    registers = None if uplink.registers is None else {key: list(words) for key, words in uplink.registers.items()}
    return (
        alarm_id, uplink.driver, uplink.address, uplink.topic, uplink.content_format, uplink.payload[:MOST_BYTES],
        len(uplink.payload), registers, uplink.received_at, flushed_at,
    )  # fmt: skip
