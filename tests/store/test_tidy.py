"""The index of a week that is over is made anew at night, beside those who read and write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from iot_core.settings import Retention
from iot_core.store import tidy as indexes
from iot_core.store.nightly import Nightly
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tidy import Tidied, loose, tidy
from iot_core.store.tier import Tier
from tests.classes import T0, observation
from tests.store.probe import Probe, probe

NOW = T0 + timedelta(days=30)
FILL = """
INSERT INTO telemetry.probe (time, received_at, device_id, level)
SELECT $1::timestamptz + n * interval '1 minute', now(), device, n
FROM generate_series(1, $2::integer) n, generate_series(1, 400) device ORDER BY n, device
"""
"""In turn, as devices speak: full pages are split in their middle."""
UNFINISHED = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
WAITS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'"


async def fill(store: Probe) -> None:
    start = week_of(T0)
    if store.tier is Tier.PLAIN:
        await ensure_partitions(store.connection, "probe", [start])
    await store.connection.execute(FILL, start, 130)
    await store.connection.execute("ANALYZE telemetry.probe")


async def run(store: Probe, **options: object) -> list[Tidied]:
    rollup = store.refresher.rollups["probe"]
    return [each async for each in tidy(store.connection, rollup, store.tier, NOW, **options)]  # type: ignore[arg-type]


@asynccontextmanager
async def old_snapshot(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a snapshot in a session of its own: a REINDEX waits for it before it ends."""
    other = await asyncpg.connect(dsn)
    try:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetchval("SELECT 1")
            yield other
    finally:
        await other.close()


async def test_a_closed_week_shrinks_once_and_says_the_same(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await fill(store)
        rollup = store.refresher.rollups["probe"]
        (found,) = await loose(store.connection, rollup, store.tier, NOW)
        over = found.piece.end + timedelta(days=1)
        assert await loose(store.connection, rollup, store.tier, over) == [found]
        assert await loose(store.connection, rollup, store.tier, over - timedelta(seconds=1)) == [], "rows still come"
        assert [each.kept for each in await run(store, free=lambda: 1_000_000)] == ["room"]
        assert await run(store, calm=lambda: False) == []
        (done,) = await run(store, free=lambda: 10_000_000)
        assert done.kept is None
        assert done.bytes < 0.85 * done.index.bytes
        assert done.bytes / (130 * 400) == pytest.approx(31.7, abs=1)
        assert await run(store) == [], "once is enough"
        said = await store.connection.fetchval("SELECT sum(level) FROM telemetry.probe WHERE device_id = 7")
        assert said == 130 * 131 / 2
        first = week_of(T0) + timedelta(minutes=1)
        await store.say(observation({"count": 3}, time=first))
        merged = await store.connection.fetch(
            "SELECT level, count FROM telemetry.probe WHERE device_id = 1 AND time = $1", first
        )
        assert [tuple(row) for row in merged] == [(1.0, 3)], "the index still tells rows apart"
        await store.connection.execute(FILL, week_of(T0) + timedelta(hours=3), 30)
        assert len(await run(store)) == 1, "many late rows make it due again"


async def test_what_was_cut_off_is_dropped_by_the_next_run(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await fill(store)
        async with old_snapshot(any_migrated_dsn) as other, asyncio.timeout(30):
            work = asyncio.create_task(run(store))
            while not await other.fetchval(f"SELECT EXISTS ({WAITS})"):
                await asyncio.sleep(0.02)
                await other.execute("SELECT pg_stat_clear_snapshot()")
            async with probe(any_migrated_dsn) as second:
                assert await run(second) == [], "one session at a time"
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        assert await store.connection.fetchval(UNFINISHED) == 1
        (done,) = await run(store)
        assert done.kept is None
        assert await store.connection.fetchval(UNFINISHED) == 0
        assert await store.connection.fetchval("SHOW lock_timeout") == "0"


async def test_who_holds_a_snapshot_for_long_is_not_waited_for(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "_LOCK_WAIT", "100ms")
    async with probe(dsn) as store:
        await fill(store)
        async with old_snapshot(dsn):
            assert [each.kept for each in await run(store)] == ["busy"]
        assert await store.connection.fetchval(UNFINISHED) == 0


async def test_the_night_does_it_where_there_is_room_and_nothing_lags(dsn: str) -> None:
    async with probe(dsn) as store:
        await fill(store)
        await store.connection.execute("UPDATE iot.rollup_state SET checked_at = $1", NOW - timedelta(days=1))
        rollup = store.refresher.rollups["probe"]
        nights = [
            (Nightly(store.refresher, Retention(), calm=lambda: False), 1),
            (Nightly(store.refresher, Retention(), free=lambda: 0), 1),
            (Nightly(store.refresher, Retention()), 0),
        ]
        for number, (night, left) in enumerate(nights):
            await night.once(store.connection, NOW.replace(hour=20) + timedelta(days=number))  # 03:00 of its zone
            assert len(await loose(store.connection, rollup, store.tier, NOW)) == left


@pytest.mark.timescaledb
@pytest.mark.community
async def test_a_compressed_chunk_is_left_alone(timescale_dsn: str) -> None:
    async with probe(timescale_dsn) as store:
        await fill(store)
        await store.connection.execute("ALTER TABLE telemetry.probe SET (timescaledb.enable_columnstore)")
        (chunk,) = await store.connection.fetchrow("SELECT show_chunks('telemetry.probe')::text")
        await store.connection.execute(f"CALL convert_to_columnstore('{chunk}')")
        await store.connection.execute(FILL, week_of(T0) + timedelta(hours=3), 30)
        assert await run(store) == []
