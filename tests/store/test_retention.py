"""Raw rows go only where the rollups equal them; what differs is named and mended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from iot_core.settings import ClassRetention, Retention
from iot_core.store.nightly import Nightly
from iot_core.store.retention import drop_old, pieces
from iot_core.store.tier import Tier
from iot_core.store.verify import Difference, repair, verify, weeks_of
from tests.classes import PROBE, T0, observation
from tests.store.probe import Probe, at, probe

OLD = T0 - timedelta(days=60)
METER = replace(PROBE, metrics=tuple(replace(each, counter=each.key == "total") for each in PROBE.metrics))


async def differences(store: Probe) -> list[Difference]:
    rollup = store.refresher.rollups["probe"]
    spans = await weeks_of(store.connection, rollup)
    return [
        each async for checked in verify(store.connection, rollup, store.tier, spans) for each in checked.differences
    ]


async def spoil(store: Probe, column: str = "level_last", where: str = "true") -> None:
    """Change hours behind the rollups' back, as a fault of the database would."""
    hours = "telemetry_rollup.probe_1h"
    if store.tier is Tier.COMMUNITY:
        name = await store.connection.fetchval(
            "SELECT materialization_hypertable_schema || '.' || materialization_hypertable_name"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'probe_1h_g1'"
        )
        hours = name
    await store.connection.execute(f"UPDATE {hours} SET {column} = 77 WHERE {where}")


async def drop(store: Probe, days: int = 30) -> list[bool]:
    rollup = store.refresher.rollups["probe"]
    done = await drop_old(store.connection, rollup, store.tier, now=T0, keep=timedelta(days=days))
    return [each.gone for each in done]


async def test_a_bucket_that_differs_is_named_and_mended(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn, METER) as store:
        for hour in range(30):
            await store.say(observation({"level": 1.5, "total": float(hour)}, time=OLD + timedelta(hours=hour)))
        await store.refresh()
        assert await differences(store) == []
        wrong = OLD + timedelta(hours=3)
        await spoil(store, where=f"time = '{wrong}'")
        await store.connection.execute(
            "UPDATE telemetry_rollup.probe_used SET total_consumption = 5 WHERE time = $1", wrong
        )
        found = await differences(store)
        assert Difference("probe", "1h", wrong, 1, ("level_last",)) in found
        assert Difference("probe", "meter", wrong, 1, ("total_consumption",)) in found
        await repair(store.connection, store.refresher.rollups["probe"], store.tier, found)
        await store.refresh()
        assert await differences(store) == []


async def test_buckets_that_are_missing_or_have_no_rows_are_named_and_mended(dsn: str) -> None:
    async with probe(dsn) as store:
        await store.say(observation({"level": 1.5}), observation({"level": 2.5}, time=T0 + timedelta(hours=1)))
        await store.refresh()
        await store.connection.execute(
            "UPDATE telemetry_rollup.probe_1h SET time = time + interval '2 hours' WHERE time = $1", T0
        )
        found = await differences(store)
        assert [(each.size, each.time) for each in found if each.size == "1h"] == [
            ("1h", T0),
            ("1h", T0 + timedelta(hours=2)),
        ]
        await repair(store.connection, store.refresher.rollups["probe"], store.tier, found)
        await store.refresh()
        assert [hour["time"] for hour in await store.hours()] == [T0, T0 + timedelta(hours=1)]


async def test_a_bucket_that_is_due_is_not_wrong(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await store.say(observation({"level": 1.5}))
        await store.refresh()
        await store.say(observation({"level": 2.5}, time=T0 + timedelta(minutes=1)))
        assert await differences(store) == []


async def test_retention_drops_whole_pieces_and_rollups_stay(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await store.say(observation({"level": 1.5}, time=OLD), observation({"level": 2.5}))
        await store.refresh()
        before = len(await pieces(store.connection, store.refresher.rollups["probe"], store.tier))
        assert await drop(store) == [True]
        assert len(await pieces(store.connection, store.refresher.rollups["probe"], store.tier)) == before - 1
        assert await store.connection.fetchval("SELECT count(*) FROM telemetry.probe") == 1
        await store.refresh()
        assert [hour["level_last"] for hour in await store.hours()] == [1.5, 2.5]
        assert [day["level_last"] for day in await store.days()] == [1.5, 2.5]


async def test_a_bucket_whose_raw_rows_are_gone_is_never_rebuilt(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await store.say(observation({"level": 1.5}, time=OLD), observation({"level": 2.5}))
        await store.refresh()
        await drop(store)
        await store.say(observation({"level": 9.0}, time=OLD + timedelta(minutes=1)))
        await store.refresh()
        assert [(hour["level_count"], hour["level_last"]) for hour in await store.hours()] == [(1, 1.5), (1, 2.5)]
        assert await drop(store) == [False], "nobody can tell what these rows should change"


async def test_what_differs_is_not_dropped(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await store.say(observation({"level": 1.5}, time=OLD), observation({"level": 2.5}))
        await store.refresh()
        await spoil(store)
        assert await drop(store) == [False]
        assert await store.connection.fetchval("SELECT count(*) FROM telemetry.probe") == 2


async def test_what_is_due_is_not_dropped(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as store:
        await store.say(observation({"level": 1.5}, time=OLD))
        if store.tier is not Tier.COMMUNITY:  # an aggregate shows what is not worked out yet
            assert await drop(store) == [False]
        await store.refresh()
        assert await drop(store) == [True]


@pytest.mark.parametrize(("local", "checked"), [("01:59", False), ("02:00", True)])
async def test_the_night_mends_and_drops_once(dsn: str, local: str, checked: bool) -> None:
    now = at(f"2026-11-20T{local}:00+07:00")
    retention = Retention(raw_days=400, classes={"probe": ClassRetention(raw_days=30)})
    async with probe(dsn) as store:
        await store.say(
            observation({"level": 1.5}, time=OLD), observation({"level": 2.5}, time=now - timedelta(hours=9))
        )
        await store.refresh()
        await store.connection.execute("UPDATE iot.rollup_state SET checked_at = $1", now - timedelta(days=1))
        await spoil(store, where=f"time > '{OLD}'")
        night = Nightly(store.refresher, retention)
        await night.once(store.connection, now)
        assert (await lasts(store)) == ([1.5, 2.5] if checked else [1.5, 77.0])
        assert await store.connection.fetchval("SELECT count(*) FROM telemetry.probe") == (1 if checked else 2)
        await spoil(store, where=f"time > '{OLD}'")
        await night.once(store.connection, now)
        assert await lasts(store) == [1.5, 77.0], "once a night is enough"


async def lasts(store: Probe) -> list[float]:
    return [hour["level_last"] for hour in await store.hours()]


def test_a_class_may_keep_its_rows_longer() -> None:
    retention = Retention(classes={"water_meter": ClassRetention(raw_days=1500)})
    assert (retention.raw("water_meter").days, retention.raw("air_quality").days) == (1500, 400)
    assert retention.columnstore_after("water_meter").days == 14


async def test_the_first_step_after_rows_that_are_gone_starts_at_their_last_hour(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn, METER) as store:
        await store.say(observation({"total": 10.0}, time=OLD), observation({"total": 17.0}))
        await store.refresh()
        assert await drop(store) == [True]
        assert await differences(store) == []
        await store.say(observation({"total": 15.0}, time=T0 - timedelta(minutes=1)))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, 5.0, 2.0]
