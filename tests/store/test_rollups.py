"""Hours and civil days of every metric, on every database, against a plain model: late, corrected, merged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from iot_core.errors import ConfigError, StartError
from iot_core.model import Observation, Quality, Value
from iot_core.store import due
from iot_core.store.calendar import Calendar, counts_whole_hours
from iot_core.store.tables import ensure_tables, fix_zone
from iot_core.store.tier import Tier
from tests.classes import PROBE, T0, observation
from tests.store.probe import Probe, at, probe

LEVEL = 1 << 0
COUNT = 1 << 2


async def test_an_hour_holds_min_max_avg_count_last_and_bad_share(dsn: str) -> None:
    async with probe(dsn) as store:
        for minute, level in enumerate([3.0, 1.0, 2.0, 300.0]):
            await store.say(
                observation({"level": level}, time=T0 + timedelta(minutes=minute), bad=LEVEL if level > 85 else 0)
            )
        await store.refresh()
        (hour,) = await store.hours()
        assert (hour["time"], hour["rows"]) == (T0, 4)
        assert (hour["level_min"], hour["level_max"], hour["level_avg"]) == (1.0, 3.0, 2.0)
        assert (hour["level_count"], hour["level_last"], hour["level_bad_share"]) == (3, 2.0, 0.25)
        assert (hour["count_count"], hour["count_min"], hour["count_bad_share"]) == (0, None, None)


async def test_calibration_and_bad_rows_do_not_enter_and_uncertain_ones_do(dsn: str) -> None:
    async with probe(dsn) as store:
        for minute, quality in enumerate(Quality):
            said: dict[str, Value] = {"level": float(minute), "count": minute}
            await store.say(observation(said, time=T0 + timedelta(minutes=minute), quality=quality))
        await store.refresh()
        (hour,) = await store.hours()
        assert (hour["level_count"], hour["level_max"], hour["level_last"]) == (2, 1.0, 1.0)
        assert hour["level_bad_share"] == pytest.approx(1 / 3), "a calibration is neither counted nor bad"


async def test_truth_is_a_share_and_an_enum_has_no_average(dsn: str) -> None:
    async with probe(dsn) as store:
        for minute, (is_open, mode) in enumerate([(True, "idle"), (True, "busy"), (False, "busy"), (True, "idle")]):
            await store.say(observation({"open": is_open, "mode": mode}, time=T0 + timedelta(minutes=minute)))
        await store.refresh()
        (hour,) = await store.hours()
        assert (hour["open_avg"], hour["open_last"], hour["open_min"], hour["open_max"]) == (0.75, 1, 0, 1)
        assert (hour["mode_last"], hour["mode_count"]) == (0, 4)
        assert "mode_avg" not in hour


async def test_a_civil_day_begins_at_midnight_of_the_zone(dsn: str) -> None:
    async with probe(dsn) as store:
        for text, level in [
            ("2026-11-20T23:30:00+07:00", 1.0),
            ("2026-11-20T23:59:59.999999+07:00", 2.0),
            ("2026-11-21T00:00:00+07:00", 3.0),
            ("2026-11-21T00:30:00+07:00", 4.0),
        ]:
            await store.say(observation({"level": level}, time=at(text)))
        await store.refresh()
        days = await store.days("time, level_min, level_max, level_count, level_last")
        assert [tuple(day.values()) for day in days] == [
            (at("2026-11-20T00:00:00+07:00"), 1.0, 2.0, 2, 2.0),
            (at("2026-11-21T00:00:00+07:00"), 3.0, 4.0, 2, 4.0),
        ]


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T00:00:00+01:00", 23),
        ("Europe/Berlin", "2026-10-25T00:00:00+02:00", 25),
        ("Africa/Cairo", "2026-04-24T01:00:00+03:00", 23),  # its clock goes from 23:59 to 01:00
        ("Africa/Cairo", "2026-10-29T00:00:00+03:00", 25),
        ("Asia/Kolkata", "2026-11-20T00:00:00+05:30", 24),
        ("Asia/Kathmandu", "2026-11-20T00:00:00+05:45", 24),
    ],
)
async def test_a_day_is_as_long_as_the_zone_makes_it(dsn: str, zone: str, first: str, hours: int) -> None:
    start = at(first).astimezone(UTC)
    async with probe(dsn, zone=zone) as store:
        times = [start + timedelta(hours=hour) for hour in range(-1, hours + 1)]
        await store.say(*(observation({"count": 1}, time=time) for time in times))
        await store.refresh()
        assert {day["time"]: day["count_count"] for day in await store.days()}[start] == hours
        assert all(hour["time"] in times and hour["count_count"] == 1 for hour in await store.hours())


def test_the_calendar_of_python_is_that_of_the_database() -> None:
    assert Calendar("Africa/Cairo").day_of(at("2026-04-24T01:30:00+03:00")) == at("2026-04-24T01:00:00+03:00")
    assert Calendar("Asia/Kathmandu").hour_of(at("2026-11-20T08:00:00+00:00")) == at("2026-11-20T07:15:00+00:00")
    assert counts_whole_hours("America/St_Johns")
    assert not counts_whole_hours("Australia/Lord_Howe")


async def test_a_zone_whose_clock_moves_by_half_an_hour_is_refused(dsn: str) -> None:
    async with probe(dsn) as store:
        with pytest.raises(StartError, match=r"^store\.zone_minutes"):
            await fix_zone(store.connection, "Australia/Lord_Howe")
        with pytest.raises(StartError, match=r"^store\.timezone_fixed"):
            await fix_zone(store.connection, "Europe/Berlin")


async def test_late_rows_corrections_and_merges_change_their_bucket(dsn: str) -> None:
    async with probe(dsn) as store:
        month_ago = T0 - timedelta(days=30)
        await store.say(observation({"level": 1.0}, time=month_ago))
        await store.refresh()
        await store.say(
            observation({"level": 3.0}, time=month_ago + timedelta(minutes=1)),
            observation({"count": 7}, time=month_ago),
            observation({"level": 9.0}, time=T0),
        )
        await store.refresh()
        await store.say(observation({"level": 5.0}, time=month_ago, correction=True))
        await store.refresh()
        old, new = await store.hours()
        assert (old["level_avg"], old["count_last"], new["level_avg"]) == (4.0, 7, 9.0)
        assert [day["level_max"] for day in await store.days()] == [5.0, 9.0]


async def test_a_refresh_that_dies_leaves_its_notes(dsn: str) -> None:
    async with probe(dsn) as store:
        await store.say(observation({"level": 1.0}))
        dying = store.connection.transaction()
        await dying.start()
        await store.refresher.work_notes(store.connection)
        await dying.rollback()
        await store.refresh()
        assert [hour["level_count"] for hour in await store.hours()] == [1]


async def test_two_cores_that_refresh_at_once_count_nothing_twice(dsn: str) -> None:
    async with probe(dsn) as one, probe(dsn) as two:
        for hour in range(40):
            await one.say(observation({"count": 1}, time=T0 + timedelta(hours=hour)))
        await asyncio.gather(one.refresh(), two.refresh(), one_more(dsn))
        await one.refresh()
        assert [hour["count_count"] for hour in await one.hours()] == [1] * 40
        assert sum(day["count_count"] for day in await one.days()) == 40


async def one_more(dsn: str) -> None:
    async with probe(dsn) as third:
        await third.refresh()


LATER = replace(PROBE, metrics=(*PROBE.metrics, replace(PROBE.metrics[0], key="fresh", minimum=None)))


FILES = """
SELECT oid::integer, relfilenode::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = ANY(
    SELECT oid FROM pg_namespace WHERE nspname LIKE 'telemetry%' OR nspname = '_timescaledb_internal')
"""


async def test_a_new_metric_is_a_column_on_the_next_start(dsn: str) -> None:
    async with probe(dsn) as store:
        await store.say(observation({"level": 1.0}))
        await store.refresh()
        before = await store.connection.fetch(FILES)
    async with probe(dsn, LATER) as store:
        assert set(before) <= set(await store.connection.fetch(FILES)), "a column is added without a rewrite"
        await store.say(observation({"fresh": 2.5}, time=T0 + timedelta(minutes=1)))
        await store.refresh()
        (hour,) = await store.hours()
        (day,) = await store.days()
        assert (hour["level_last"], hour["fresh_last"], day["fresh_avg"], day["level_count"]) == (1.0, 2.5, 2.5, 1)


async def test_a_removed_metric_keeps_its_column_and_is_marked_retired(dsn: str) -> None:
    async with probe(dsn, LATER) as store:
        await store.say(observation({"fresh": 2.5}))
        await store.refresh()
    async with probe(dsn) as store:
        assert await store.connection.fetchval("SELECT retired_at IS NOT NULL FROM iot.metric WHERE key = 'fresh'")
        assert await store.connection.fetchval("SELECT fresh FROM telemetry.probe") == 2.5
        await store.say(observation({"level": 1.0}, time=T0 + timedelta(minutes=1)))
        await store.refresh()
        (hour,) = await store.hours()
        assert (hour["level_last"], hour["fresh_last"]) == (1.0, 2.5)


async def test_a_changed_type_is_refused_with_what_to_do(dsn: str) -> None:
    changed = replace(PROBE, metrics=(replace(PROBE.metrics[0], precision=6, maximum=None), *PROBE.metrics[1:]))
    async with probe(dsn) as store:
        with pytest.raises(ConfigError, match=r"^store\.metric_type"):
            await ensure_tables(store.connection, [changed], store.tier)


@pytest.mark.parametrize("key", ["latest", "probe_1h", "probe_1d", "probe_latest"])
async def test_a_class_cannot_take_the_name_of_a_view(dsn: str, key: str) -> None:
    async with probe(dsn) as store:
        with pytest.raises(ConfigError, match=r"^store\.class_name"):
            await ensure_tables(store.connection, [replace(PROBE, key=key)], store.tier)


def test_a_batch_within_two_hours_is_one_note_and_late_rows_name_their_device() -> None:
    near = [(device, T0 + timedelta(minutes=device)) for device in range(100)]
    assert list(due.notes("probe", near)) == [("probe", T0, T0 + timedelta(minutes=99), "")]
    late = due.notes("probe", [*near[:2], (7, T0 - timedelta(days=9))])
    assert [(first, devices) for _, first, _, devices in late] == [(T0, "0,1"), (T0 - timedelta(days=9), "7")]


VALUES: st.SearchStrategy[dict[str, Value]] = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from([1.5, -2.5, 300.0]),
        "count": st.integers(0, 5),
        "open": st.booleans(),
        "mode": st.sampled_from(["idle", "busy"]),
    },
)
SAID = st.builds(
    lambda values, device, half_hours, quality, correction: observation(
        values,
        device_id=device,
        time=at("2026-11-20T16:00:00+00:00") + timedelta(minutes=30 * half_hours),
        quality=quality,
        correction=correction,
        bad=LEVEL if values.get("level") == 300.0 else 0,
    ),
    VALUES,
    st.integers(1, 2),
    st.integers(0, 5),
    st.sampled_from(Quality),
    st.booleans(),
)


def model(rows: Iterable[Any], key: str, start: Any) -> dict[Any, tuple[Any, ...]]:
    """Group rows into buckets and work one metric out, in plain Python."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda each: each["time"]):
        groups[row["device_id"], start(row["time"])].append(row)
    bit = LEVEL if key == "level" else 0
    found = {}
    for bucket, each in groups.items():
        said = [row for row in each if row[key] is not None]
        good = [float(row[key]) for row in said if row["quality"] < 2 and not row["bad"] & bit]
        bad = [row for row in said if row["quality"] == 3 or (row["quality"] < 2 and row["bad"] & bit)]
        share = len(bad) / (len(good) + len(bad)) if good or bad else None
        least, most = (min(good), max(good)) if good else (None, None)
        found[bucket] = (len(good), least, most, good[-1] if good else None, share)
    return found


def shown(rows: Iterable[Any], key: str) -> dict[Any, tuple[Any, ...]]:
    names = ("count", "min", "max", "last", "bad_share")
    return {(row["device_id"], row["time"]): tuple(row[f"{key}_{name}"] for name in names) for row in rows}


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=st.lists(
        st.lists(SAID, min_size=1, max_size=5, unique_by=lambda each: (each.device_id, each.time)),
        min_size=1,
        max_size=5,
    )
)
async def test_rollups_equal_a_plain_model_after_every_refresh(dsn: str, batches: list[list[Observation]]) -> None:
    calendar = Calendar("Asia/Ho_Chi_Minh")
    async with probe(dsn) as store:
        await empty(store)
        for batch in batches:
            await store.say(*(msgspec.structs.replace(each, values=dict(each.values)) for each in batch))
            await store.refresh()
            raw = await store.connection.fetch("SELECT * FROM telemetry.probe")
            hours = await store.connection.fetch("SELECT * FROM telemetry.probe_1h")
            days = await store.connection.fetch("SELECT * FROM telemetry.probe_1d")
            for key in ("level", "count", "open"):
                assert shown(hours, key) == model(raw, key, calendar.hour_of)
                assert shown(days, key) == model(raw, key, calendar.day_of)


async def empty(store: Probe) -> None:
    """Take everything out, for the next example on the same database."""
    connection = store.connection
    await connection.execute(
        "TRUNCATE telemetry.probe, telemetry_rollup.probe_1h, telemetry_rollup.probe_1d, iot.rollup_due"
    )
    if store.tier is Tier.COMMUNITY:  # what stood in an aggregate stays visible when its raw rows are truncated
        await connection.execute("DROP VIEW telemetry.probe_1h, telemetry.probe_1d")
        for size in ("1d", "1h"):
            await connection.execute(f"DROP MATERIALIZED VIEW telemetry_rollup.probe_{size}_g1")
        await connection.execute("DELETE FROM iot.rollup_generation")
        await ensure_tables(connection, [PROBE], store.tier)
