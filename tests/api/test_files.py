"""Rows out and in again: exactly as they were, in lines and in CSV; what cannot be taken is named by its row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.api.shapes import ExportQuery
from iot_core.cli.rows import FIXED, csv_cells, read_csv, read_ndjson
from iot_core.cli.telemetry_export import _run as write_file
from iot_core.cli.telemetry_import import _run as read_file
from iot_core.errors import ForbiddenError
from iot_core.model import Metric, MetricType, Title
from iot_core.store.tables import ensure_tables
from iot_core.store.tier import find_tier
from tests.api.city import City, served
from tests.classes import shipped

AT = (datetime.now(UTC) - timedelta(days=9)).replace(hour=1, minute=0, second=0, microsecond=123456)


@pytest.fixture
async def any_city(any_shipped_dsn: str, free_port: Callable[[], int]) -> AsyncIterator[City]:
    async with served(any_shipped_dsn, free_port()) as made:
        yield made


async def populate(city: City) -> None:
    await city.add("aq-1", "air_quality", name="Trạm Hồng Bàng")
    await city.add("sl-1", "streetlight", name="=HYPERLINK(1)")
    await city.add("wm-1", "water_meter")
    elements: list[dict[str, Any]] = []
    for minute in range(2_100):
        at = AT + timedelta(minutes=minute)
        body: dict[str, Any] = {"time": at.isoformat(), "pm25": minute / 10, "humidity": 40 + minute % 200}
        if minute % 7 == 0:
            body |= {"quality": "02", "extra": {"ghi chú": "ồn\nào", "n": [1, None]}}
        elements.append(body)
    await city.path.say("aq-1", json.dumps(elements[:1_100]))
    await city.path.say("aq-1", json.dumps(elements[1_100:]))
    await city.path.say(
        "sl-1", json.dumps({"time": AT.isoformat(), "power": 85.2, "on": True, "energy": 123456.789012})
    )
    await city.path.say("wm-1", json.dumps({"time": AT.isoformat(), "volume": 99999.999}))


async def stored(city: City) -> list[list[Any]]:
    return [
        [tuple(row) for row in await city.path.pool.fetch(f"SELECT * FROM telemetry.{each} ORDER BY device_id, time")]
        for each in ("air_quality", "streetlight", "water_meter")
    ]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_what_is_exported_comes_back_exactly_and_twice_changes_nothing(any_city: City, form: str) -> None:
    city = any_city
    await populate(city)
    before = await stored(city)
    async with city.client() as client:
        lines = [line async for line in client.export(ExportQuery())]
        assert len(lines) == 2_102
        read = read_csv(as_csv(lines)) if form == "csv" else read_ndjson(line.decode() for line in lines)
        rows = [row for _, row in read if isinstance(row, dict)]
        for table in ("air_quality", "streetlight", "water_meter"):
            await city.path.pool.execute(f"DELETE FROM telemetry.{table}")
        await city.path.pool.execute("DELETE FROM iot.device_status")
        for _ in range(2):
            for first in range(0, len(rows), 500):
                done = await client.load(rows[first : first + 500])
                assert done.refused == ()
            assert await stored(city) == before
        assert (await client.latest("sl-1")).items[0].time == AT
    assert await city.path.pool.fetchval("SELECT count(*) FROM iot.rollup_due") > 0
    assert await city.path.pool.fetchval("SELECT count(*) FROM iot.alarm") == 0


def as_csv(lines: list[bytes]) -> list[str]:
    """Write them as the command does, and read the text back line by line as a file."""
    rows = [msgspec.json.decode(line) for line in lines]
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["values"]))
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    out.write("\ufeff")
    writer.writerow([*FIXED, *metrics])
    writer.writerows(csv_cells(row, metrics) for row in rows)
    return io.StringIO(out.getvalue(), newline="").readlines()


RETIRED = (
    Metric(key="nh3", title=Title(vi="nh3", en="nh3"), type=MetricType.FLOAT, precision=2, minimum=0, maximum=500),
    Metric(key="dose", title=Title(vi="dose", en="dose"), type=MetricType.FLOAT, precision=6),
    Metric(key="door", title=Title(vi="door", en="door"), type=MetricType.BOOL),
    Metric(key="mode", title=Title(vi="mode", en="mode"), type=MetricType.ENUM, members={"idle": 0, "busy": 1}),
)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_what_a_class_measures_no_more_is_exported_and_comes_back(
    shipped_dsn: str, free_port: Callable[[], int], tmp_path: Path, form: str
) -> None:
    connection = await asyncpg.connect(shipped_dsn)
    air = shipped().classes["air_quality"]
    await ensure_tables(
        connection, [replace(air, metrics=(*air.metrics, *RETIRED))], (await find_tier(connection)).tier
    )
    async with served(shipped_dsn, free_port()) as city:
        await populate(city)
        await connection.execute(
            "UPDATE telemetry.air_quality SET nh3 = 35.21, dose = 0.000123, door = false, mode = 1,"
            " bad = (SELECT 1::bigint << bit FROM iot.metric WHERE key = 'nh3') WHERE time = $1",
            AT,
        )
        before = await stored(city)
        file = tmp_path / f"all.{form}"
        async with city.client() as client:
            assert await write_file(client, ExportQuery(class_key="air_quality"), file, form) == 2_100
            first = file.read_text(encoding="utf-8-sig").splitlines()[:2]
            assert "35.21" in first[-1] if form == "csv" else '"nh3":35.21' in first[0]
            await connection.execute("DELETE FROM telemetry.air_quality")
            for _ in range(2):
                assert (await read_file(client, file, form, replace=False)).refused == 0
                assert await stored(city) == before
    await connection.close()


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_a_member_that_an_enum_lost_comes_back_and_a_class_that_is_gone_is_said(
    city: City, tmp_path: Path, form: str
) -> None:
    await city.add("aq-1", "air_quality")
    await city.add("st-1", "streetlight")
    await city.add("old-1", "streetlight")
    key, enum = next(
        (each.key, metric) for each in shipped().classes.values() for metric in each.metrics if metric.members
    )
    await city.add("en-1", key)
    member, number = next(iter(enum.members.items()))
    await city.path.say("en-1", json.dumps({"time": AT.isoformat(), enum.key: member}))
    assert number != 4321
    asked = f'SELECT "{enum.key}", bad, quality FROM telemetry."{key}"'
    async with city.path.pool.acquire() as connection, city.client() as client:
        await connection.execute(f'UPDATE telemetry."{key}" SET "{enum.key}" = 4321')
        await connection.execute("UPDATE iot.device SET class_key = 'sundial' WHERE key = 'old-1'")
        before = await connection.fetch(asked)
        file = tmp_path / f"all.{form}"
        left_out: dict[str, int] = {}
        assert await write_file(client, ExportQuery(devices="en-1,old-1"), file, form, left_out) == 1
        assert left_out == {"sundial": 1}
        await connection.execute(f'DELETE FROM telemetry."{key}"')
        assert (await read_file(client, file, form, replace=False)).refused == 0
        assert await connection.fetch(asked) == before


async def test_an_export_goes_on_behind_a_row_and_takes_a_span_of_some_devices(city: City) -> None:
    await populate(city)
    async with city.client() as client:
        whole = [line async for line in client.export(ExportQuery(devices="aq-1,sl-1"))]
        middle = msgspec.json.decode(whole[1_500])
        rest = [
            line
            async for line in client.export(
                ExportQuery(devices="aq-1,sl-1", after=f"{middle['device']} {middle['time']}")
            )
        ]
        span = [
            line
            async for line in client.export(
                ExportQuery(class_key="air_quality", start=AT + timedelta(minutes=5), end=AT + timedelta(minutes=8))
            )
        ]
    assert rest == whole[1_501:]
    assert span == whole[5:8]


async def test_each_row_that_cannot_be_taken_is_named_and_the_others_are_stored(any_city: City) -> None:
    city = any_city
    await city.add("aq-1", "air_quality")
    await city.path.say("aq-1", json.dumps({"time": AT.isoformat(), "pm25": 1}))
    at = AT.isoformat()
    rows: list[dict[str, Any]] = [
        {"device": "aq-1", "time": at, "values": {"pm25": 2, "pm10": 7}},
        {"device": "nobody", "time": at, "values": {"pm25": 2}},
        {"device": "aq-1", "time": "noon", "values": {"pm25": 2}},
        {"device": "aq-1", "time": "2019-01-01T00:00:00Z", "values": {"pm25": 2}},
        {"device": "aq-1", "time": f"{AT:%Y-%m-%d}T02:00:00Z", "values": {"pm25": "x", "smell": 1, "no2": 4}},
        {"device": "aq-1", "time": f"{AT:%Y-%m-%d}T03:00:00Z", "values": {"pm25": 3}, "colour": 1},
        {"device": "aq-1", "time": f"{AT:%Y-%m-%d}T04:00:00Z", "values": {"pm25": 4}, "extra": {"a": "\0"}},
        {"device": "aq-1", "time": f"{AT:%Y-%m-%d}T05:00:00Z", "values": {"pm25": 5}},
        {"device": "aq-1", "time": f"{AT:%Y-%m-%d}T05:00:00Z", "values": {"pm25": 6}},
    ]
    async with city.client() as client:
        done = await client.load(rows)
        replaced = await client.load([rows[0]], replace=True)
    assert [(each.index, each.code, each.whole) for each in done.refused] == [
        (0, "held.conflict", False),
        (1, "load.no_device", True),
        (2, "load.not_a_time", True),
        (3, "load.time", True),
        (4, "held.wrong_type", False),
        (4, "held.unknown_metric", False),
        (5, "api.unknown_key", True),
        (6, "api.bad_value", True),
        (8, "held.conflict", False),
    ]
    assert (done.rows, replaced.refused) == (4, ())
    found = await city.path.pool.fetch("SELECT pm25, pm10, no2 FROM telemetry.air_quality ORDER BY time")
    assert [tuple(row) for row in found] == [(2.0, 7.0, None), (None, None, 4.0), (5.0, None, None)]


async def test_a_row_that_contradicts_is_named_once_beside_rows_that_stand_twice(city: City) -> None:
    await city.add("aq-1", "air_quality")
    at = [(AT + timedelta(minutes=minute)).isoformat() for minute in range(3)]
    await city.path.say("aq-1", json.dumps({"time": at[1], "pm25": 1}))
    said = [(0, 5, 7), (1, 5, 7), (2, 5, 7), (0, 6, 8), (2, 5, 7)]
    rows: list[dict[str, Any]] = [
        {"device": "aq-1", "time": at[n], "values": {"pm25": pm25, "pm10": pm10}} for n, pm25, pm10 in said
    ]
    async with city.client() as client:
        done = await client.load(rows)
    assert [(each.index, each.code, each.detail) for each in done.refused] == [
        (1, "held.conflict", "pm25"), (3, "held.conflict", "pm25, pm10"),
    ]  # fmt: skip
    found = await city.path.pool.fetch("SELECT pm25, pm10 FROM telemetry.air_quality ORDER BY time")
    assert [tuple(row) for row in found] == [(5.0, 7.0), (1.0, 7.0), (5.0, 7.0)]


async def test_a_mark_that_stands_twice_in_a_file_is_one_mark(city: City) -> None:
    await city.add("aq-1", "air_quality")
    row = {"device": "aq-1", "time": AT.isoformat(), "values": {"pm25": 5, "pm10": 7}, "bad": ["pm25", "pm25"]}
    async with city.client() as client:
        assert (await client.load([row])).refused == ()
        (found,) = [msgspec.json.decode(line) async for line in client.export(ExportQuery())]
    assert found["bad"] == ["pm25"]


async def test_only_an_admin_may_write_history(city: City) -> None:
    async with city.client("operator") as client:
        with pytest.raises(ForbiddenError):
            await client.load([])


NAMES = st.text(max_size=20)
VALUES = st.dictionaries(
    st.sampled_from(["pm25", "mode", "on", "count"]),
    st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans(), st.just("busy")),
)
EXTRA = st.none() | st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=3)


@given(rows=st.lists(st.tuples(NAMES, VALUES, EXTRA), min_size=1, max_size=10))
def test_any_row_comes_back_from_csv_as_it_was(rows: list[tuple[str, dict[str, Any], Any]]) -> None:
    made = [
        {"device": "a", "name": name, "class": "c", "time": "t", "quality": "good", "bad": ["pm25"], "values": values}
        | ({} if extra is None else {"extra": extra})
        for name, values, extra in rows
    ]
    metrics = ["pm25", "mode", "on", "count"]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    out.write("\ufeff")
    writer.writerow([*FIXED, *metrics])
    writer.writerows(csv_cells(row, metrics) for row in made)
    back = [row for _, row in read_csv(io.StringIO(out.getvalue(), newline=""))]
    for before, after in zip(made, back, strict=True):
        assert isinstance(after, dict)
        name = after.pop("name", "")
        assert not name.startswith(("=", "+", "-", "@"))
        assert after == {key: value for key, value in before.items() if key != "name"}


def test_a_cell_may_be_as_long_as_a_message() -> None:
    row = {"device": "a", "time": "t", "values": {}, "extra": {"note": "ồ" * 200_000}}
    out = io.StringIO(newline="")
    csv.writer(out).writerows([FIXED, csv_cells(row, [])])
    ((_, back),) = read_csv(io.StringIO(out.getvalue(), newline=""))
    assert isinstance(back, dict)
    assert back["extra"] == row["extra"]


def test_what_is_no_number_is_never_taken_for_one_nor_for_nothing() -> None:
    cells = ["nan", "Infinity", "1_000", "1e999", "٣", "0x10", "1e5", "-.5", "7."]
    head = ",".join(f"m{n}" for n in range(len(cells)))
    ((_, row),) = read_csv([f"device,time,{head}\n", f"a,t,{','.join(cells)}\n"])
    assert isinstance(row, dict)
    assert list(row["values"].values()) == ["nan", "Infinity", "1_000", "1e999", "٣", "0x10", 100_000.0, -0.5, 7.0]
    assert [row for _, row in read_ndjson(['{"values": {"pm25": NaN}}', '{"values": {"pm25": 1}}'])] == [
        "load.not_json", {"values": {"pm25": 1}},
    ]  # fmt: skip


def test_a_cell_that_would_be_a_formula_is_text() -> None:
    cells = csv_cells({"device": "a", "name": "=cmd|' /C calc'!A0", "time": "t", "values": {"t": -5.5}}, ["t"])
    assert cells[1] == "'=cmd|' /C calc'!A0"
    assert cells[-1] == "-5.5"
