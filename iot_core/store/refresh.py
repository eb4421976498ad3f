"""Work out the rollups that are due, bucket by bucket anew: right after late rows, corrections and merges alike.

notes of flushes -> hours of raw -> kept hours -> kept civil days;  meters: consumption an hour
on the community licence: TimescaleDB's own log -> continuous aggregates of hours (-> kept days) -> of civil days

Each class is one transaction with its notes, under a lock: a refresh that dies leaves its notes, and two cores never do
the same work. A bucket is replaced, never added to, so doing it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.store import due
from iot_core.store.aggregates import read_sources, refresh_aggregates
from iot_core.store.due import Due
from iot_core.store.partitions import ensure_hour_partitions
from iot_core.store.rollups import Rollup
from iot_core.store.tier import Tier

EVERY_S: Final = 60.0
_REST: Final = 20.0
"""It rests this many times as long as it worked: at most a twentieth of one core goes into rollups."""
_MOST_S: Final = 600.0
LOCK: Final = 0x696F742D726F6C  # "iot-rol"


@dataclass(frozen=True, slots=True)
class Refresh:
    """Works out what is due, on one tier."""

    rollups: Mapping[str, Rollup]
    tier: Tier

    async def run(self, pool: asyncpg.Pool) -> None:
        """Refresh until cancelled."""
        while True:
            started = time.monotonic()
            async with pool.acquire() as connection:
                await self.once(connection)
            await asyncio.sleep(max(EVERY_S, _REST * (time.monotonic() - started)))

    async def once(self, connection: asyncpg.Connection) -> int:
        """Bring all rollups up to date; give the number of hours that were worked out from notes."""
        if self.tier is Tier.COMMUNITY:
            await due.mark(connection)
            for rollup in self.rollups.values():
                await refresh_aggregates(connection, rollup)
        return await self.work_notes(connection)

    async def work_notes(self, connection: asyncpg.Connection) -> int:
        """Work out every hour that is noted; 0 where another core is at it."""
        done = 0
        for row in await connection.fetch("SELECT DISTINCT class_key FROM iot.rollup_due ORDER BY 1"):
            while hours := await self._refresh_class(connection, row["class_key"]):
                done += hours
        return done

    async def _refresh_class(self, connection: asyncpg.Connection, class_key: str) -> int:
        rollup = self.rollups.get(class_key)
        if rollup is None:
            return 0  # of a class that this core does not know; its notes wait for one that does
        await self._make_room(connection, rollup)
        async with connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
                return 0
            await connection.execute("SET LOCAL work_mem = '64MB'")
            raw_from = await connection.fetchval(
                "SELECT raw_from FROM iot.rollup_state WHERE class_key = $1", class_key
            )
            own = self.tier is not Tier.COMMUNITY
            taken = await due.take(connection, class_key, rollup.calendar, marked=not own)
            ranges, later = due.some(taken, raw_from)
            await due.put_back(connection, class_key, later)
            hours = "" if own else (await read_sources(connection, rollup, self.tier))[0]
            for each in ranges:
                await refresh(connection, rollup, each, aggregate=hours)
            return sum(each.hours for each in ranges)

    async def _make_room(self, connection: asyncpg.Connection, rollup: Rollup) -> None:
        """Make the partitions that the hours go to, outside the long transaction."""
        if self.tier is not Tier.PLAIN:
            return
        span = await connection.fetchrow(
            "SELECT min(first) AS first, max(last) AS last FROM iot.rollup_due WHERE class_key = $1", rollup.class_key
        )
        if span["first"] is not None:
            await ensure_hour_partitions(connection, rollup.class_key, span["first"] - timedelta(hours=1), span["last"])


async def refresh(connection: asyncpg.Connection, rollup: Rollup, each: Due, *, aggregate: str = "") -> None:
    """Replace the buckets of a range: hours, their days, meters. `aggregate`: the tier has hours, and often days."""
    if not aggregate:
        await _replace_hours(connection, rollup, each)
    if not aggregate or not rollup.days_are_aggregated:
        await _replace_days(connection, rollup, each, aggregate)
    if rollup.counters:
        await _replace_used(connection, rollup, each)
        for hour, devices in await _hours_after(connection, rollup, each):
            await _replace_used(connection, rollup, Due(hour, hour + timedelta(hours=1), devices))


async def _replace_hours(connection: asyncpg.Connection, rollup: Rollup, each: Due) -> None:
    where = "time >= $1 AND time < $2" + _only(each)
    statement = upsert(rollup.hours, rollup.names(), rollup.from_raw(where))
    await connection.execute(statement, *_arguments(each), timeout=_MOST_S)


async def _replace_days(connection: asyncpg.Connection, rollup: Rollup, each: Due, hours: str) -> None:
    where = f"time >= {rollup.calendar.day('$1::timestamptz')} AND time < {_end_of_days(rollup, '$2::timestamptz')}"
    statement = upsert(rollup.days, rollup.names(), rollup.from_hours(where + _only(each), hours))
    await connection.execute(statement, *_arguments(each), timeout=_MOST_S)


def _end_of_days(rollup: Rollup, end: str) -> str:
    return rollup.calendar.next_day(rollup.calendar.day(f"({end} - interval '1 microsecond')"))


async def _replace_used(connection: asyncpg.Connection, rollup: Rollup, each: Due) -> None:
    # Deleted first: where a correction took the last reading of an hour away, the query gives no row for it.
    where = f"time >= $1 AND time < $2{_only(each)}"
    await connection.execute(f"DELETE FROM {rollup.used} WHERE {where}", *_arguments(each), timeout=_MOST_S)
    columns = ", ".join(f'"{name}"' for name in rollup.used_names())
    query = rollup.from_meters("NULL" if each.devices is None else "$3")
    statement = f"INSERT INTO {rollup.used} (time, device_id, {columns}) {query}"
    await connection.execute(statement, *_arguments(each), timeout=_MOST_S)


async def _hours_after(
    connection: asyncpg.Connection, rollup: Rollup, each: Due
) -> Iterable[tuple[datetime, frozenset[int]]]:
    """Find the hours of the next readings after a range: their first step starts in it."""
    found: dict[datetime, set[int]] = {}
    for metric in rollup.counters:
        counts = f'quality < 2 AND bad & {1 << metric.bit} = 0 AND "{metric.key}" IS NOT NULL'
        devices = (
            "SELECT unnest($3::integer[]) AS device_id WHERE $1::timestamptz < $2"
            if each.devices is not None
            else f"SELECT DISTINCT device_id FROM {rollup.raw} WHERE time >= $1 AND time < $2"
        )
        rows = await connection.fetch(
            f"SELECT d.device_id, n.time FROM ({devices}) d CROSS JOIN LATERAL ("
            f"SELECT time FROM {rollup.raw} WHERE device_id = d.device_id AND time >= $2 AND {counts}"
            " ORDER BY time LIMIT 1) n",
            *_arguments(each),
            timeout=_MOST_S,
        )
        for row in rows:
            found.setdefault(rollup.calendar.hour_of(row["time"]), set()).add(row["device_id"])
    return [(hour, frozenset(devices)) for hour, devices in sorted(found.items())]


def upsert(table: str, names: Sequence[str], query: str) -> str:
    """Write the statement that replaces the buckets a query gives; an unchanged one is not written."""
    columns = ", ".join(f'"{name}"' for name in names)
    new = ", ".join(f'excluded."{name}"' for name in names)
    old = ", ".join(f'k."{name}"' for name in names)
    return (
        f"INSERT INTO {table} AS k (time, device_id, {columns}) {query}"
        f" ON CONFLICT (device_id, time) DO UPDATE SET ({columns}) = ROW({new})"
        f" WHERE ROW({old}) IS DISTINCT FROM ROW({new})"
    )


def _only(each: Due) -> str:
    return "" if each.devices is None else " AND device_id = ANY($3::integer[])"


def _arguments(each: Due) -> list[Any]:
    times: list[Any] = [each.first, each.end]
    return times if each.devices is None else [*times, sorted(each.devices)]
