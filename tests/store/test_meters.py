"""Cumulative meters: rollover, reset, exchange and reverse flow told apart, against a plain model, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot_core.model import Observation, Quality
from iot_core.store.calendar import Calendar
from tests.classes import PROBE, T0, observation
from tests.store.probe import Probe, at, probe

METER = replace(PROBE, metrics=tuple(replace(each, counter=each.key == "total") for each in PROBE.metrics))
MODULUS = 1000.0
DEVICE = "INSERT INTO iot.device (id, key, name, class_key) OVERRIDING SYSTEM VALUE VALUES"
STEPS = "SELECT kind, consumption FROM telemetry.meter_steps('probe', 'total', NULL, $1, $2) ORDER BY time"


async def mount(
    connection: asyncpg.Connection, start: datetime, end: datetime | None = None, serial: str | None = None
) -> int:
    """Mount a unit whose register starts anew at MODULUS at device 1."""
    await connection.execute(f"{DEVICE} (1, 'meter', 'Meter', 'probe') ON CONFLICT DO NOTHING")
    await connection.execute("INSERT INTO iot.register VALUES ('model', 'total', $1) ON CONFLICT DO NOTHING", MODULUS)
    unit: int = await connection.fetchval(
        "INSERT INTO iot.unit (device_id, profile, address, mounted_from, mounted_to, serial)"
        " VALUES (1, 'model', 'iot:meter', $1, $2, $3) RETURNING id",
        start,
        end,
        serial,
    )
    return unit


async def steps(store: Probe) -> list[tuple[str, float]]:
    span = (T0 - timedelta(days=60), T0 + timedelta(days=60))
    return [(row["kind"], row["consumption"]) for row in await store.connection.fetch(STEPS, *span)]


def said(minute: int, total: float, **more: Any) -> Observation:
    return observation({"total": total}, time=T0 + timedelta(minutes=minute), **more)


async def test_rollover_reset_and_reverse_flow_are_told_apart(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        await mount(store.connection, T0 - timedelta(days=1))
        readings = [990.0, 996.0, 4.0, 7.0, 6.5, 500.0, 2.0]
        await store.say(*(said(minute, total) for minute, total in enumerate(readings)))
        assert await steps(store) == [
            ("first", 0.0), ("rise", 6.0), ("rollover", 8.0), ("rise", 3.0), ("reverse", -0.5), ("rise", 493.5),
            ("reset", 2.0),
        ]  # fmt: skip


async def test_a_register_of_unknown_width_never_rolls_over(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        await store.say(said(0, 996.0), said(1, 4.0))
        assert await steps(store) == [("first", 0.0), ("reset", 4.0)]


async def test_an_exchanged_unit_is_neither_a_reset_nor_consumption(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        exchange = T0 + timedelta(minutes=2)
        await mount(store.connection, T0 - timedelta(days=1), exchange)
        await mount(store.connection, exchange)
        await store.say(said(0, 400.0), said(1, 401.5), said(2, 700.0), said(3, 700.5))
        assert await steps(store) == [("first", 0.0), ("rise", 1.5), ("exchange", 0.0), ("rise", 0.5)]
        await store.refresh()
        (hour,) = await store.hours("total_consumption")
        assert hour["total_consumption"] == 2.0


async def test_an_exchange_recorded_afterwards_mends_what_was_counted(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        unit = await mount(store.connection, T0 - timedelta(days=1))
        await store.say(said(0, 400.0), said(130, 900.0), said(131, 901.0))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, 501.0]
        exchange = T0 + timedelta(minutes=50)
        await store.connection.execute("UPDATE iot.unit SET mounted_to = $2 WHERE id = $1", unit, exchange)
        await mount(store.connection, exchange)
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, 1.0]
        assert [day["total_consumption"] for day in await store.days()] == [1.0]


async def test_the_same_hardware_mounted_again_counts_on(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        away = T0 + timedelta(minutes=1)
        await mount(store.connection, T0 - timedelta(days=1), away, serial="W-17")
        await mount(store.connection, T0 + timedelta(minutes=5), serial="W-17")
        await store.say(said(0, 400.0), said(6, 401.0))
        assert await steps(store) == [("first", 0.0), ("rise", 1.0)]


async def test_a_unit_that_feeds_a_channel_ends_its_register_too(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        unit = await mount(store.connection, T0 - timedelta(days=1))
        await store.connection.execute(f"{DEVICE} (2, 'branch', 'Branch', 'probe')")
        await store.connection.execute("INSERT INTO iot.channel VALUES ($1, 'b', 2)", unit)
        await store.say(said(0, 400.0, device_id=2), said(61, 950.0, device_id=2))
        await store.refresh()
        await store.connection.execute("UPDATE iot.unit SET mounted_to = $1", T0 + timedelta(minutes=9))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours(device=2)] == [0.0, 0.0]


async def test_a_late_reading_moves_consumption_to_its_own_hour(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        await store.say(said(0, 10.0), said(600, 16.0))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, 6.0]
        await store.say(said(300, 14.0))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, 4.0, 2.0]


async def test_a_reading_that_is_marked_bad_afterwards_no_longer_counts(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        await store.say(said(0, 10.0), said(61, 900.0), said(122, 12.0))
        await store.refresh()
        await store.say(said(61, 900.0, quality=Quality.BAD, correction=True))
        await store.refresh()
        assert [hour["total_consumption"] for hour in await store.hours()] == [0.0, None, 2.0]


async def test_a_day_ends_at_midnight_of_the_zone_for_meters_too(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        for text, total in [("23:30", 10.0), ("23:59", 11.0)]:
            await store.say(observation({"total": total}, time=at(f"2026-11-20T{text}:00+07:00")))
        await store.say(observation({"total": 15.0}, time=at("2026-11-21T00:30:00+07:00")))
        await store.refresh()
        assert [day["total_consumption"] for day in await store.days()] == [1.0, 4.0]
        found = await store.connection.fetch(
            "SELECT * FROM telemetry.consumption('probe', 'total', ARRAY[1], $1, $2)",
            at("2026-11-21T00:00:00+07:00"),
            at("2026-11-22T00:00:00+07:00"),
        )
        assert [(row["device_id"], row["consumption"]) for row in found] == [(1, 4.0)]


async def test_a_metric_that_is_not_there_is_named(dsn: str) -> None:
    async with probe(dsn, METER) as store:
        with pytest.raises(asyncpg.UndefinedColumnError, match="no metric nosuch"):
            await store.connection.fetch("SELECT * FROM telemetry.meter_steps('probe', 'nosuch', NULL, now(), now())")


# ---------------------------------------------------------------- against a plain model
@dataclass(frozen=True)
class Register:
    """What a field of meters does: readings by minute, and when units were exchanged."""

    readings: dict[int, tuple[float, Quality]]
    exchanges: tuple[int, ...]


def consumption(register: Register, calendar: Calendar) -> dict[datetime, float]:
    """Work out consumption an hour as a person would with pencil and paper."""
    used: dict[datetime, float] = defaultdict(float)
    before: tuple[int, float] | None = None
    for minute, (total, quality) in sorted(register.readings.items()):
        if quality >= Quality.CALIBRATION:
            continue
        step = 0.0
        if before is not None and not any(before[0] < end <= minute for end in register.exchanges):
            step = total - before[1]
            if step < 0 and before[1] >= 0.9 * MODULUS and total <= 0.1 * MODULUS:
                step += MODULUS
            elif step < 0 and total < before[1] / 2:
                step = total
        used[calendar.hour_of(T0 + timedelta(minutes=minute))] += step
        before = (minute, total)
    return dict(used)


READING = st.tuples(
    st.one_of(st.integers(0, 999), st.sampled_from([0, 1, 2, 950, 990, 999])).map(float),
    st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.UNCERTAIN, Quality.CALIBRATION, Quality.BAD]),
)
REGISTERS = st.builds(
    Register,
    st.dictionaries(st.integers(0, 60 * 30), READING, min_size=1, max_size=12),
    st.lists(st.integers(1, 60 * 30), max_size=2, unique=True).map(lambda ends: tuple(sorted(ends))),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(register=REGISTERS, data=st.data())
async def test_consumption_equals_the_plain_model_in_any_order_of_arrival(
    dsn: str, register: Register, data: st.DataObject
) -> None:
    order: Sequence[int] = data.draw(st.permutations(sorted(register.readings)))
    pieces = data.draw(st.integers(1, len(order)))
    async with probe(dsn, METER) as store:
        await store.connection.execute(
            "TRUNCATE telemetry.probe, telemetry_rollup.probe_used, iot.rollup_due, iot.unit CASCADE"
        )
        start = T0 - timedelta(days=1)
        for minute in register.exchanges:
            await mount(store.connection, start, start := T0 + timedelta(minutes=minute))
        await mount(store.connection, start)
        for piece in range(pieces):
            if batch := [
                said(minute, register.readings[minute][0], quality=register.readings[minute][1])
                for minute in order[piece::pieces]
            ]:
                await store.say(*batch)
                await store.refresh()
        rows = await store.connection.fetch("SELECT time, total_consumption FROM telemetry_rollup.probe_used")
        found = {row["time"]: row["total_consumption"] for row in rows}
        assert found == pytest.approx(consumption(register, Calendar("Asia/Ho_Chi_Minh")))


async def test_a_metric_that_becomes_a_counter_has_consumption_from_before(any_migrated_dsn: str) -> None:
    readings = [said(minute, float(minute)) for minute in range(0, 240, 30)]
    async with probe(any_migrated_dsn) as store:  # there the total is no counter
        await store.connection.execute(f"{DEVICE} (1, 'meter', 'Meter', 'probe')")
        await store.say(*readings)
        await store.refresh()
        assert "total_consumption" not in (await store.hours())[0]
    async with probe(any_migrated_dsn, METER) as store:
        await store.refresh()
        hours = await store.hours("total_consumption AS used")
        assert [row["used"] for row in hours] == [30.0, 60.0, 60.0, 60.0]
        assert sum(row["used"] for row in await store.days("total_consumption AS used")) == 210.0
