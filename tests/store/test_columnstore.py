"""Compressed chunks: late rows, corrections and redeliveries merge into them like into any others."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.settings import ClassRetention, Retention
from iot_core.store.nightly import ensure_columnstore
from tests.classes import T0, observation
from tests.ingest.harness import running
from tests.store.probe import probe

pytestmark = [pytest.mark.timescaledb, pytest.mark.community]

COMPRESS = "SELECT compress_chunk(chunk) FROM show_chunks('telemetry.{key}') AS chunk"
POLICY = "SELECT config ->> 'compress_after' FROM timescaledb_information.jobs WHERE hypertable_name = 'probe'"


async def test_the_settings_decide_when_a_class_is_compressed(timescale_dsn: str) -> None:
    async with probe(timescale_dsn) as store:
        rollups = store.refresher.rollups
        for days in (14, 14, 3):
            retention = Retention(classes={"probe": ClassRetention(columnstore_after_days=days)})
            await ensure_columnstore(store.connection, rollups, store.tier, retention)
            assert [row[0] for row in await store.connection.fetch(POLICY)] == [f"{days} days"]


async def test_two_cores_that_start_at_once_make_one_policy(timescale_dsn: str) -> None:
    async with probe(timescale_dsn) as store, probe(timescale_dsn) as other:
        async with asyncio.TaskGroup() as group:
            for each in (store, other):
                group.create_task(ensure_columnstore(each.connection, each.refresher.rollups, each.tier, Retention()))
        assert [row[0] for row in await store.connection.fetch(POLICY)] == ["14 days"]


async def test_a_column_is_added_to_a_compressed_class(timescale_dsn: str) -> None:
    from tests.store.test_rollups import LATER  # noqa: PLC0415 - one class more for one test

    async with probe(timescale_dsn) as store:
        await ensure_columnstore(store.connection, store.refresher.rollups, store.tier, Retention())
        await store.say(observation({"level": 1.0}))
        await store.connection.execute(COMPRESS.format(key="probe"))
    async with probe(timescale_dsn, LATER) as store:
        await store.say(observation({"fresh": 2.0}))
        row = await store.connection.fetchrow("SELECT level, fresh FROM telemetry.probe")
        assert tuple(row) == (1.0, 2.0)


async def test_late_rows_merge_into_compressed_chunks(timescale_dsn: str) -> None:
    month_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)
    async with running(timescale_dsn) as path:
        await path.add("aq-1")

        def element(minute: int, **values: float) -> str:
            time = (month_ago + timedelta(minutes=minute)).isoformat()
            return json.dumps({"time": time, **values})

        array = ",".join(element(minute, pm25=float(minute)) for minute in range(2000))
        assert (await path.say("aq-1", f"[{array}]")).stored == 2000
        async with path.pool.acquire() as connection:
            await ensure_columnstore(connection, path.rollups, path.tier, Retention())
            await connection.execute(
                "ALTER DATABASE " + timescale_dsn.rpartition("/")[2] + " SET"
                " timescaledb.max_tuples_decompressed_per_dml_transaction = 10"
            )
            await connection.execute(COMPRESS.format(key="air_quality"))
        await path.pool.expire_connections()
        assert (await path.say("aq-1", element(7, pm10=3.5))).stored == 1
        assert (await path.say("aq-1", element(8, pm25=8.0))).stored == 1, "said again"
        outcome = await path.say("aq-1", element(9, pm25=1.0))
        assert [problem.reason.value for problem in outcome.problems] == ["conflict"]
        correction = json.dumps(
            {"time": (month_ago + timedelta(minutes=9)).isoformat(), "pm25": 2.5, "correction": True}
        )
        assert (await path.say("aq-1", correction)).stored == 1
        assert (await path.say("aq-1", element(3000, pm25=5.0))).stored == 1, "new to the chunk"
        rows = [row for row in await path.rows() if row["pm10"] is not None or row["pm25"] == 2.5]
        assert [(row["pm25"], row["pm10"]) for row in rows if row["time"] > month_ago + timedelta(minutes=6)] == [
            (7.0, 3.5), (2.5, None),
        ]  # fmt: skip
        assert len(await path.rows()) == 2001


async def test_late_rows_flush_apart_from_live_ones(timescale_dsn: str) -> None:
    async with running(timescale_dsn) as path:
        await path.add("aq-1")
        live, late = datetime.now(UTC), T0 - timedelta(days=60)
        works = [path.prepare_said("aq-1", time) for time in (late, live, late - timedelta(hours=1))]
        parts = path.flush.parts(works, now=live)
        assert [[work.observations[0].time for work in part] for part in parts] == [
            [live],
            [late, late - timedelta(hours=1)],
        ]
