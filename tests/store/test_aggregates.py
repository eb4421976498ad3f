"""Rollups as continuous aggregates: generations, buckets without raw rows, and days of a zone whose clock moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from iot_core.store.tier import Tier
from tests.classes import PROBE, T0, observation
from tests.store.probe import at, probe

pytestmark = [pytest.mark.timescaledb, pytest.mark.community]

LATER = replace(PROBE, metrics=(*PROBE.metrics, replace(PROBE.metrics[0], key="fresh")))
AGGREGATES = "SELECT view_name FROM timescaledb_information.continuous_aggregates ORDER BY 1"


async def test_hours_and_days_are_a_hierarchy_of_continuous_aggregates(timescale_dsn: str) -> None:
    async with probe(timescale_dsn) as store:
        assert store.tier is Tier.COMMUNITY
        assert [row["view_name"] for row in await store.connection.fetch(AGGREGATES)] == ["probe_1d_g1", "probe_1h_g1"]
        await store.say(observation({"level": 1.0}))
        assert [hour["level_last"] for hour in await store.hours()] == [1.0], "before any refresh, too"
        await store.refresh()
        kept = await store.connection.fetchval("SELECT count(*) FROM telemetry_rollup.probe_1h")
        assert (kept, [hour["level_last"] for hour in await store.hours()]) == (0, [1.0])


async def test_a_new_generation_never_rebuilds_buckets_without_raw_rows(timescale_dsn: str) -> None:
    old = T0 - timedelta(days=40)
    async with probe(timescale_dsn) as store:
        await store.say(observation({"level": 1.0}, time=old), observation({"level": 2.0}))
        await store.refresh()
        await store.connection.execute("SELECT drop_chunks('telemetry.probe', older_than => $1::timestamptz)", T0)
        await store.connection.execute("UPDATE iot.rollup_state SET raw_from = $1", T0 - timedelta(days=7))
    async with probe(timescale_dsn, LATER) as store:
        assert len(await store.hours()) == 2, "the views stay on the generation before while the new one is empty"
        await store.say(observation({"fresh": 3.0}, time=T0 + timedelta(minutes=1)))
        await store.refresh()
        assert [row["view_name"] for row in await store.connection.fetch(AGGREGATES)] == ["probe_1d_g2", "probe_1h_g2"]
        assert [(hour["level_last"], hour["fresh_last"]) for hour in await store.hours()] == [(1.0, None), (2.0, 3.0)]
        assert [(day["level_last"], day["fresh_last"]) for day in await store.days()] == [(1.0, None), (2.0, 3.0)]
        await store.say(observation({"level": 9.0}, time=old + timedelta(minutes=1)))  # who does that knows better
        await store.refresh()
        assert [hour["level_count"] for hour in await store.hours()] == [1, 1]


async def test_a_generation_that_was_not_finished_is_made_anew(timescale_dsn: str) -> None:
    async with probe(timescale_dsn) as store:
        await store.say(observation({"level": 1.0}))
        await store.refresh()
    async with probe(timescale_dsn, LATER):
        pass  # it dies before its housekeeping
    even_later = replace(LATER, metrics=(*LATER.metrics, replace(PROBE.metrics[0], key="last_one")))
    async with probe(timescale_dsn, even_later) as store:
        await store.refresh()
        (hour,) = await store.hours()
        assert (hour["level_last"], hour["last_one_count"]) == (1.0, 0)
        assert len(await store.connection.fetch(AGGREGATES)) == 2


async def test_a_bucket_at_midnight_is_not_left_out(timescale_dsn: str) -> None:
    """timescaledb#10296: with a time zone in its bucket, an aggregate lost what lay exactly on local midnight."""
    async with probe(timescale_dsn) as store:
        midnight = at("2026-11-20T00:00:00+07:00")
        await store.say(observation({"level": 1.0}, time=midnight - timedelta(hours=1)))
        await store.say(observation({"level": 1.0}, time=midnight + timedelta(hours=2)))
        await store.refresh()
        await store.say(*(observation({"count": 1}, time=midnight + timedelta(hours=hour)) for hour in (-1, 0)))
        await store.refresh()
        assert [day["count_count"] for day in await store.days()] == [1, 1]


async def test_days_of_a_zone_whose_clock_moves_are_kept(timescale_dsn: str) -> None:
    async with probe(timescale_dsn, zone="Europe/Berlin") as store:
        assert [row["view_name"] for row in await store.connection.fetch(AGGREGATES)] == ["probe_1h_g1"]
        await store.say(observation({"level": 1.0}))
        await store.refresh()
        assert [day["level_last"] for day in await store.days()] == [1.0]
