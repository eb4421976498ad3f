"""The numbers (`seq`) of a day: how far each run had come when it began, and what that makes of a span."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from iot_core.store.calendar import Calendar
from iot_core.store.tables import read_calendar

_LONGEST_S: Final = 600.0
"""It sleeps until midnight, but not longer than this: a clock may be set."""
KEEP: Final = timedelta(days=100)
"""How long it is known with which number a day began."""

_BEGIN: Final = "INSERT INTO iot.seq_day VALUES ($1) ON CONFLICT DO NOTHING RETURNING start"
_MARK: Final = """
INSERT INTO iot.seq_mark (unit_id, run, start, next)
SELECT r.unit_id, r.run, $1, upper(r.seqs) FROM iot.seq_range r
LEFT JOIN LATERAL (
    SELECT next FROM iot.seq_mark m WHERE m.unit_id = r.unit_id AND m.run = r.run ORDER BY m.start DESC LIMIT 1
) before ON true
WHERE NOT isempty(r.seqs) AND before.next IS DISTINCT FROM upper(r.seqs)
"""
_FORGET: Final = "DELETE FROM iot.seq_day WHERE start < $1"
# The newest mark of the time before stays: it still says where the days after it began.
_FORGET_MARKS: Final = """
DELETE FROM iot.seq_mark m WHERE start < $1 AND EXISTS (
    SELECT FROM iot.seq_mark later
    WHERE later.unit_id = m.unit_id AND later.run = m.run AND later.start > m.start AND later.start < $1
)
"""
_NUMBERED: Final = "SELECT * FROM telemetry.numbered($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Numbered:
    """Numbers that a device's units used in a span, and those of them that came (stored or held)."""

    expected: int
    stored: int


async def run_days(pool: asyncpg.Pool) -> None:
    """Note with which number each civil day begins; until cancelled."""
    while True:
        async with pool.acquire() as connection:
            calendar = await read_calendar(connection)
            await begin_day(connection, calendar, datetime.now(UTC))
        now = datetime.now(UTC)
        await asyncio.sleep(min((calendar.day_after(now) - now).total_seconds(), _LONGEST_S))


async def begin_day(connection: asyncpg.Connection, calendar: Calendar, now: datetime) -> bool:
    """Note how far all runs have come, once a civil day; of several cores one does it.

    A day that began while nothing ran begins where the next one does.
    """
    today = calendar.day_of(now)
    async with connection.transaction():
        last = await connection.fetchval("SELECT max(start) FROM iot.seq_day")
        if last is not None and last >= today:
            return False
        day = max(calendar.day_after(last), calendar.day_of(now - KEEP)) if last is not None else today
        first = day
        while day <= today:
            if await connection.fetchval(_BEGIN, day) is None:
                return False  # another core is at it
            day = calendar.day_after(day)
        await connection.execute(_MARK, first)
        await connection.execute(_FORGET, now - KEEP)
        await connection.execute(_FORGET_MARKS, now - KEEP)
    return True


async def numbered(
    connection: asyncpg.Connection, device_ids: Sequence[int], *, start: datetime, end: datetime
) -> dict[int, Numbered]:
    """Give what was numbered in the civil days that a span touches, by device; one that used no number is left out."""
    rows = await connection.fetch(_NUMBERED, start, end, list(device_ids))
    return {row["device_id"]: Numbered(row["expected"], row["stored"]) for row in rows}
