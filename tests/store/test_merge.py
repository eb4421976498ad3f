"""Merging into a class's table, on each tier, against a plain model of what DESIGN decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice, permutations
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot_core.model import Metric, MetricType, Observation, Quality, Title, Value
from iot_core.store.columns import ClassTable, column
from iot_core.store.connection import prepare
from iot_core.store.migrate import migrate
from iot_core.store.packing import Packer
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import ensure_tables
from iot_core.store.telemetry import Conflict, TelemetryTable
from iot_core.store.tier import Tier, find_tier
from tests.classes import PROBE, T0, observation

LEVEL = 1 << 0


@asynccontextmanager
async def probe(dsn: str) -> AsyncIterator[tuple[asyncpg.Connection, TelemetryTable]]:
    connection = await asyncpg.connect(dsn)
    try:
        await prepare(connection)
        await migrate(connection)
        tier = (await find_tier(connection)).tier
        tables = await ensure_tables(connection, [PROBE], tier)
        if tier is Tier.PLAIN:
            await ensure_partitions(connection, "probe", [week_of(T0)])
        yield connection, TelemetryTable(tables["probe"])
    finally:
        await connection.close()


async def merged(connection: asyncpg.Connection, table: TelemetryTable, *batch: Observation) -> list[Conflict]:
    async with connection.transaction():
        return await table.merge(connection, batch)


async def rows(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch("SELECT * FROM telemetry.probe ORDER BY device_id, time")]


def test_metrics_said_in_ever_another_order_fill_no_memory() -> None:
    kinds = {"level": "real", "total": "double precision", "count": "integer", "open": "boolean", "mode": "smallint"}
    columns = [column(each, bit, kinds[each.key]) for bit, each in enumerate(PROBE.metrics)]
    more = [column(replace(PROBE.metrics[0], key=f"m{number}"), 5 + number, "real") for number in range(3)]
    packer = Packer(ClassTable(PROBE, (*columns, *more)))
    values: dict[str, Value] = {"total": 1.0, "count": 1, "open": True, "mode": "busy", "m0": 1.0, "m1": 1.0, "m2": 1.0}
    packed = {packer.pack([observation(dict(order))]) for order in islice(permutations(values.items()), 3_000)}
    assert len(packed) == 1
    assert len(packer._layouts) <= 1_000


async def test_every_type_comes_back_as_it_was_stored(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        said: dict[str, Value] = {"level": -20.5, "total": 123456.789, "count": 7, "open": False, "mode": "busy"}
        await merged(connection, table, observation(said, extra={"rssi": -77}, bad=LEVEL, quality=Quality.UNCERTAIN))
        (row,) = await rows(connection)
        assert row["level"] == pytest.approx(-20.5)
        assert (row["total"], row["count"], row["open"], row["mode"]) == (123456.789, 7, False, 1)
        assert (row["extra"], row["bad"], row["quality"]) == ({"rssi": -77}, LEVEL, 1)
        assert (row["time"], row["received_at"], row["device_id"]) == (T0, T0, 1)


async def test_nulls_are_filled_and_null_never_erases(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        await merged(connection, table, observation({"level": 1.5}, extra={"a": 1}))
        later = T0 + timedelta(seconds=9)
        conflicts = await merged(
            connection, table, observation({"count": 3}, received_at=later, extra={"a": 2, "b": 3})
        )
        (row,) = await rows(connection)
        assert conflicts == []
        assert (row["level"], row["count"], row["received_at"]) == (1.5, 3, T0)
        assert row["extra"] == {"a": 1, "b": 3}


async def test_a_different_value_is_a_conflict_and_the_first_stays(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        await merged(connection, table, observation({"level": 1.5}))
        conflicts = await merged(connection, table, observation({"level": 1.6, "open": True}))
        (row,) = await rows(connection)
        assert conflicts == [Conflict(1, T0, ("level",))]
        assert (row["level"], row["open"]) == (1.5, True)


async def test_a_correction_replaces_what_it_says_and_leaves_the_rest(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        await merged(connection, table, observation({"level": 99.0, "count": 3}, bad=LEVEL))
        conflicts = await merged(connection, table, observation({"level": 2.0}, correction=True))
        (row,) = await rows(connection)
        assert conflicts == []
        assert (row["level"], row["count"], row["bad"]) == (2.0, 3, 0)


async def test_an_unchanged_row_is_not_written_again(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        each = observation({"level": 1.5, "mode": "idle"}, extra={"a": 1})
        await merged(connection, table, each)
        before = await connection.fetchval("SELECT xmin::text || ctid::text FROM telemetry.probe")
        await merged(connection, table, each)
        assert await connection.fetchval("SELECT xmin::text || ctid::text FROM telemetry.probe") == before


async def test_a_filled_metric_brings_its_own_bad_bit_only(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        await merged(connection, table, observation({"count": 1}))
        await merged(connection, table, observation({"level": 300.0, "count": 1}, bad=LEVEL))
        (row,) = await rows(connection)
        assert row["bad"] == LEVEL


async def test_latest_is_per_metric_with_its_own_time(any_migrated_dsn: str) -> None:
    async with probe(any_migrated_dsn) as (connection, table):
        device = await connection.fetchval(
            "INSERT INTO iot.device (key, name, class_key) VALUES ('p1', 'P1', 'probe') RETURNING id"
        )
        newer = T0 + timedelta(minutes=5)
        await merged(
            connection,
            table,
            observation({"level": 1.5, "open": True}, device_id=device),
            observation({"level": 2.5}, device_id=device, time=newer, bad=LEVEL),
        )
        found = await connection.fetch("SELECT * FROM telemetry.latest ORDER BY metric")
        assert [(row["class_key"], row["metric"], row["value"], row["time"], row["bad"]) for row in found] == [
            ("probe", "level", 2.5, newer, True),
            ("probe", "open", 1.0, T0, False),
        ]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from([1.5, 2.5, 300.0]),
        "count": st.integers(0, 2),
        "open": st.booleans(),
        "mode": st.sampled_from(["idle", "busy"]),
    },
)
SAID = st.builds(
    lambda values, minute, quality, correction: observation(
        values,
        time=T0 + timedelta(minutes=minute),
        quality=quality,
        correction=correction,
        bad=LEVEL if values.get("level") == 300.0 else 0,
    ),
    VALUES,
    st.integers(0, 2),
    st.sampled_from([Quality.GOOD, Quality.UNCERTAIN]),
    st.booleans(),
)


def plain_model(said: list[Observation]) -> dict[Any, tuple[dict[str, Value], int, int]]:
    """Section 7 in a dozen lines: one observation at a time, in order."""
    kept: dict[Any, tuple[dict[str, Value], int, int]] = {}
    for each in said:
        values, quality, bad = kept.get(each.time, ({}, each.quality, 0))
        for metric, value in each.values.items():
            if metric not in values or each.correction:
                bad = (bad & ~LEVEL) | (each.bad & LEVEL) if metric == "level" else bad
                values = {**values, metric: value}
        quality = each.quality if each.correction else max(quality, each.quality)
        kept[each.time] = (values, int(quality), bad)
    return kept


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(SAID, min_size=1, max_size=8))
async def test_merging_one_by_one_equals_the_plain_model(dsn: str, said: list[Observation]) -> None:
    async with probe(dsn) as (connection, table):
        await connection.execute("TRUNCATE telemetry.probe")
        for each in said:
            await merged(connection, table, msgspec.structs.replace(each, values=dict(each.values)))
        modes = {0: "idle", 1: "busy"}
        found = {
            row["time"]: (
                {
                    key: modes[row[key]] if key == "mode" else row[key]
                    for key in ("level", "count", "open", "mode")
                    if row[key] is not None
                },
                row["quality"],
                row["bad"],
            )
            for row in await rows(connection)
        }
        assert found == plain_model(said)


def test_the_statements_of_a_class_with_63_metrics_stay_short() -> None:
    metrics = tuple(Metric(key=f"m{n}", title=Title("v", "e"), type=MetricType.FLOAT) for n in range(63))
    columns = tuple(column(metric, bit, "double precision") for bit, metric in enumerate(metrics))
    wide = replace(PROBE, key="wide", metrics=metrics)
    table = TelemetryTable(ClassTable(wide, columns))
    assert len(table._correct) < 40_000
    assert len(table._fill) < 40_000
