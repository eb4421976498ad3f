"""Once a night: compare rollups with raw rows, mend what differs, let old raw rows go, make loose indexes anew.

Each night looks at the last days and at one more week of the past, so that a year is gone through in as many nights as
it has weeks; what is to be dropped is compared whole, whenever that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from iot_core.settings import Retention
from iot_core.store.aggregates import first_whole_hour
from iot_core.store.partitions import WEEK
from iot_core.store.refresh import Refresh
from iot_core.store.retention import Dropped, drop_old
from iot_core.store.rollups import Rollup
from iot_core.store.tidy import Tidied, tidy
from iot_core.store.tier import Tier
from iot_core.store.verify import Difference, repair, verify

log = structlog.get_logger()

LOOK_EVERY_S: Final = 600.0
_HOUR: Final = 2
"""Local hour from which on it may begin: the day before is complete, and few people look."""
_LATELY: Final = timedelta(days=3)
_COLUMNSTORE_LOCK: Final = 0x696F742D636F6C  # "iot-col"
_CLAIM: Final = """
UPDATE iot.rollup_state SET checked_at = now() WHERE class_key = $1 AND checked_at < $2 RETURNING checked_to, raw_from
"""
_POLICY: Final = """
SELECT config ->> 'compress_after' FROM timescaledb_information.jobs
WHERE hypertable_schema = 'telemetry' AND hypertable_name = $1 AND config ? 'compress_after'
"""


@dataclass(frozen=True, slots=True)
class Nightly:
    """The nightly work of one core; of several, one does each class.

    `free` gives the bytes that the database's disk has left, None where it is not ours to see; `calm` says whether the
    ingest keeps up.
    """

    refresh: Refresh
    retention: Retention
    free: Callable[[], int | None] = lambda: None
    calm: Callable[[], bool] = lambda: True

    async def run(self, pool: asyncpg.Pool) -> None:
        """Look now and then whether it is night; until cancelled."""
        while True:
            async with pool.acquire() as connection:
                await self.once(connection, datetime.now(UTC))
            await asyncio.sleep(LOOK_EVERY_S)

    async def once(self, connection: asyncpg.Connection, now: datetime) -> None:
        """Do what is to be done this night and was not done yet."""
        for key, rollup in self.refresh.rollups.items():
            local = now.astimezone(ZoneInfo(rollup.calendar.zone))
            if local.hour < _HOUR:
                continue
            claimed = await connection.fetchrow(_CLAIM, key, rollup.calendar.day_of(now))
            if claimed is not None:
                await self._check(connection, rollup, now, claimed["checked_to"], claimed["raw_from"])
                await self._drop(connection, rollup, now)
                await self._tidy(connection, rollup, now)

    async def _check(
        self, connection: asyncpg.Connection, rollup: Rollup, now: datetime, checked_to: datetime, raw_from: datetime
    ) -> None:
        await self.refresh.once(connection)
        calendar, tier = rollup.calendar, self.refresh.tier
        oldest = await connection.fetchval(f"SELECT min(time) FROM {rollup.raw}")
        if oldest is None:
            return
        start = max(first_whole_hour(rollup, raw_from), calendar.hour_of(oldest))
        lately = max(start, calendar.day_of(now - _LATELY))
        first = checked_to if start <= checked_to < lately else start
        end = min(first + WEEK, lately)
        spans = [span for span in ((first, end), (lately, calendar.hour_of(now))) if span[0] < span[1]]
        wrong: list[Difference] = []
        async for checked in verify(connection, rollup, tier, spans):
            wrong += checked.differences
        await connection.execute(
            "UPDATE iot.rollup_state SET checked_to = $2 WHERE class_key = $1", rollup.class_key, end
        )
        if wrong:
            say_wrong(rollup, wrong)
            await repair(connection, rollup, tier, wrong)
            await self.refresh.once(connection)

    async def _drop(self, connection: asyncpg.Connection, rollup: Rollup, now: datetime) -> None:
        keep = self.retention.raw(rollup.class_key)
        try:
            done = await drop_old(connection, rollup, self.refresh.tier, now=now, keep=keep)
        except asyncpg.LockNotAvailableError:
            return  # somebody writes to what is old: the next night
        for each in done:
            _say_dropped(rollup, each)

    async def _tidy(self, connection: asyncpg.Connection, rollup: Rollup, now: datetime) -> None:
        async for each in tidy(connection, rollup, self.refresh.tier, now, free=self.free, calm=self.calm):
            _say_tidied(each)


async def ensure_columnstore(
    connection: asyncpg.Connection, rollups: Mapping[str, Rollup], tier: Tier, retention: Retention
) -> None:
    """Let TimescaleDB compress what is older than the settings say: segments of a device, newest first."""
    if tier is not Tier.COMMUNITY:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _COLUMNSTORE_LOCK)
        for key, rollup in rollups.items():
            await _compress_after(connection, rollup, retention.columnstore_after(key))


async def _compress_after(connection: asyncpg.Connection, rollup: Rollup, after: timedelta) -> None:
    before = await connection.fetchval(f"SELECT ({_POLICY})::interval", rollup.class_key)
    if before == after:
        return
    if before is None:
        await connection.execute(
            f"ALTER TABLE {rollup.raw} SET (timescaledb.enable_columnstore,"
            " timescaledb.segmentby = 'device_id', timescaledb.orderby = 'time DESC')"
        )
    await connection.execute(f"CALL remove_columnstore_policy('{rollup.raw}', if_exists => true)")
    await connection.execute(f"CALL add_columnstore_policy('{rollup.raw}', after => interval '{after.days} days')")


def say_wrong(rollup: Rollup, wrong: list[Difference]) -> None:
    """Log the first buckets that differ."""
    for each in wrong[:10]:
        log.error(
            "rollup.differs",
            device_class=rollup.class_key,
            size=each.size,
            time=each.time.isoformat(),
            device_id=each.device_id,
            columns=each.columns,
        )
    log.error("rollup.mended", device_class=rollup.class_key, buckets=len(wrong))


def _say_tidied(each: Tidied) -> None:
    facts = {
        "device_class": each.index.class_key,
        "first": each.index.piece.first.isoformat(),
        "index": each.index.name,
        "bytes_before": each.index.bytes,
    }
    if each.kept is None:
        log.info("index.tidied", bytes=each.bytes, **facts)
    elif each.kept == "room":
        log.warning("index.no_room", **facts)


def _say_dropped(rollup: Rollup, each: Dropped) -> None:
    facts = {
        "device_class": rollup.class_key,
        "first": each.piece.first.isoformat(),
        "end": each.piece.end.isoformat(),
        "buckets": each.checked.buckets,
    }
    if each.gone:
        log.info("retention.dropped", **facts)
    else:
        log.error("retention.kept", differences=len(each.checked.differences), pending=each.checked.pending, **facts)
