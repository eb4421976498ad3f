"""Compare rollups with what they are made of, bucket by bucket, and mend those that differ.

raw rows -> hours?   hours -> civil days?   readings of meters -> consumption?

A comparison sees one snapshot of everything, notes of hours that are due included: a bucket that is due is not wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.store import due
from iot_core.store.aggregates import NEVER, first_whole_hour, read_sources, refresh_again
from iot_core.store.calendar import HOUR
from iot_core.store.partitions import WEEK, week_of
from iot_core.store.rollups import Rollup
from iot_core.store.tier import Tier

_MOST: Final = 1000
_MOST_S: Final = 3600.0
_NOTED: Final = "SELECT first, last, devices FROM iot.rollup_due WHERE class_key = $1 AND last >= $2 AND first < $3"


@dataclass(frozen=True, slots=True)
class Difference:
    """One bucket that is not what its source says. `columns` are named as they are kept."""

    class_key: str
    size: str
    """`1h`, `1d` or `meter`."""
    time: datetime
    device_id: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a comparison of one span found. `pending` buckets differ because they are due to be worked out."""

    first: datetime
    end: datetime
    buckets: int
    pending: int
    differences: tuple[Difference, ...]


async def weeks_of(connection: asyncpg.Connection, rollup: Rollup) -> list[tuple[datetime, datetime]]:
    """List the weeks of a class's raw rows, oldest first, from the first hour whose raw rows are all there."""
    oldest = await connection.fetchval(f"SELECT min(time) FROM {rollup.raw}", timeout=_MOST_S)
    newest = await connection.fetchval(f"SELECT max(time) FROM {rollup.raw}", timeout=_MOST_S)
    if oldest is None:
        return []
    raw_from = await connection.fetchval("SELECT raw_from FROM iot.rollup_state WHERE class_key = $1", rollup.class_key)
    first = max(rollup.calendar.hour_of(oldest), first_whole_hour(rollup, raw_from))
    spans = []
    while first <= newest:
        end = rollup.calendar.hour_of(week_of(first) + WEEK)
        spans.append((first, end if end > first else first + HOUR))
        first = spans[-1][1]
    return spans


async def verify(
    connection: asyncpg.Connection, rollup: Rollup, tier: Tier, spans: Iterable[tuple[datetime, datetime]]
) -> AsyncIterator[Checked]:
    """Compare span by span, each in a snapshot of its own. Outside a transaction."""
    for first, end in spans:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute("SET LOCAL work_mem = '64MB'")
            yield await compare(connection, rollup, tier, first, end)


async def compare(
    connection: asyncpg.Connection, rollup: Rollup, tier: Tier, first: datetime, end: datetime
) -> Checked:
    """Compare the hours from `first` to `end`, the civil days that lie in them whole, and the meters."""
    hours, days = await read_sources(connection, rollup, tier)
    span = "time >= $1 AND time < $2"
    found: list[Difference] = []
    counted = 0
    pairs = [("1h", rollup.from_raw(span), hours, rollup.names(), (first, end))]
    first_day, last_day = _days(rollup, first, end)
    if first_day < last_day:
        pairs.append(("1d", rollup.from_hours(span, hours), days, rollup.names(), (first_day, last_day)))
    if rollup.counters:
        pairs.append(("meter", rollup.from_meters("NULL"), rollup.used, rollup.used_names(), (first, end)))
    for size, query, source, names, (start, stop) in pairs:
        rows = await connection.fetch(_differences(query, source, names), start, stop, timeout=_MOST_S)
        counted += rows[0]["counted"] if rows else 0
        found += [
            Difference(rollup.class_key, size, row["time"], row["device_id"], tuple(row["columns"]))
            for row in rows
            if row["time"] is not None
        ]
    noted = await connection.fetch(_NOTED, rollup.class_key, first - timedelta(days=2), end + timedelta(days=2))
    pending = due.by_hour(((row["first"], row["last"], row["devices"]) for row in noted), rollup.calendar)
    wrong = [each for each in found if not _is_due(rollup, each, pending)]
    return Checked(first, end, counted, len(found) - len(wrong), tuple(wrong[:_MOST]))


async def repair(connection: asyncpg.Connection, rollup: Rollup, tier: Tier, differences: Sequence[Difference]) -> None:
    """Make buckets that differ due again; the next refresh works them out anew. Outside a transaction."""
    ranges = sorted({_span(rollup, each) for each in differences})
    if tier is Tier.COMMUNITY:
        for first, end in ranges:
            await refresh_again(connection, rollup, first, end)
    async with connection.transaction():
        for each in differences:
            if each.size == "1h" and tier is not Tier.COMMUNITY:
                await connection.execute(
                    f"DELETE FROM {rollup.hours} WHERE device_id = $1 AND time = $2", each.device_id, each.time
                )
        for first, end in ranges:
            devices = sorted({each.device_id for each in differences if _span(rollup, each) == (first, end)})
            await connection.execute(due.AGAIN, rollup.class_key, first, end - HOUR, devices)


def _differences(query: str, source: str, names: Sequence[str]) -> str:
    """Write the query for buckets of `source` that differ from what `query` makes, and how many were compared."""
    differs = ", ".join(f"CASE WHEN {_differ(name)} THEN '{name}' END" for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f"WITH pairs AS (SELECT COALESCE(w.time, k.time) AS time, COALESCE(w.device_id, k.device_id) AS device_id,"
        f" array_remove(ARRAY[{differs}], NULL) AS columns FROM ({query}) w"
        f" FULL JOIN (SELECT time, device_id, {listed} FROM {source} s WHERE time >= $1 AND time < $2) k"
        " ON k.time = w.time AND k.device_id = w.device_id)"
        " SELECT c.counted, p.time, p.device_id, p.columns FROM (SELECT count(*) AS counted FROM pairs) c"
        " LEFT JOIN (SELECT * FROM pairs WHERE cardinality(columns) > 0 ORDER BY time, device_id LIMIT 10000) p ON true"
    )


def _differ(name: str) -> str:
    new, old = f'w."{name}"', f'k."{name}"'
    if name.endswith(("_sum", "_consumption")):  # added up in another order, the last digits differ
        close = f"abs({new} - {old}) <= 1e-9 * greatest(abs({new}), abs({old}), 1)"
        return f"({close}) IS NOT TRUE AND ({new} IS NOT NULL OR {old} IS NOT NULL)"
    return f"{new} IS DISTINCT FROM {old}"


def _days(rollup: Rollup, first: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Give the civil days that a span of hours touches, today left out."""
    today = rollup.calendar.day_of(datetime.now(UTC))
    return rollup.calendar.day_of(first), min(rollup.calendar.day_after(end - HOUR), today)


def _span(rollup: Rollup, each: Difference) -> tuple[datetime, datetime]:
    if each.size == "1d":
        return each.time, rollup.calendar.day_after(each.time)
    return each.time, each.time + HOUR


def _is_due(rollup: Rollup, each: Difference, pending: Any) -> bool:
    first, end = _span(rollup, each)
    # A meter's step can be due through the reading before it, which lies in another hour.
    if each.size == "meter":
        first = NEVER
    return any(
        first <= hour < end and (devices is None or each.device_id in devices) for hour, devices in pending.items()
    )
