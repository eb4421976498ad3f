"""Every query of the dashboard runs on real databases; its JSON is what Grafana's own types and schemas accept."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import build
from iot_core.messages import text
from iot_core.profiles import load
from iot_core.store import due
from iot_core.store.calendar import Calendar
from iot_core.store.completeness import Model, note_models
from iot_core.store.connection import prepare
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.refresh import Refresh
from iot_core.store.tables import ensure_tables, fix_zone, read_rollups
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tier import Tier, find_tier
from tests.classes import PROBE, T0, observation
from tests.conftest import missing
from tests.grafana.macros import expand, quoted

SCHEMAS = Path(__file__).parents[3] / "shared" / "data" / "grafana-schema"
METERED = dataclasses.replace(
    PROBE,
    metrics=tuple(dataclasses.replace(each, counter=True) if each.key == "total" else each for each in PROBE.metrics),
)
AWKWARD = 'o\'hare "phường"'
ENGLISH = 'o\'hare "ward"'


def built(lang: str = "en") -> dict[str, Any]:
    return build({"probe": METERED}, lang)


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], variable["query"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["rawSql"]


async def city(dsn: str) -> tuple[asyncpg.Connection, bool]:
    """One device in an area with an awkward name, one without area, readings and an open alarm."""
    connection = await asyncpg.connect(dsn)
    await prepare(connection)
    tier = (await find_tier(connection)).tier
    tables = await ensure_tables(connection, [METERED], tier)
    if tier is Tier.PLAIN:
        await ensure_partitions(connection, "probe", [week_of(T0)])
    area = await connection.fetchval(
        "INSERT INTO iot.area (key, name, name_en) VALUES ('hare', $1, $2) RETURNING id", AWKWARD, ENGLISH
    )
    ids = [
        await connection.fetchval(
            "INSERT INTO iot.device (key, name, class_key, area_id, latitude, longitude)"
            " VALUES ($1, $1, 'probe', $2, 20.9, 107.1) RETURNING id",
            key,
            area_id,
        )
        for key, area_id in (("p1", area), ("p2", None))
    ]
    table = TelemetryTable(tables["probe"])
    async with connection.transaction():
        await table.merge(
            connection,
            [
                observation({"level": 10.0}, device_id=ids[0]),
                observation({"level": 20.0}, device_id=ids[0], time=T0 + timedelta(seconds=10)),
                observation({"level": 300.0}, device_id=ids[0], time=T0 + timedelta(seconds=20), bad=1),
                observation({"level": 5.0}, device_id=ids[1]),
            ],
        )
    await connection.execute(
        "INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, metric,"
        " raised_at, received_at)"
        " VALUES ('device', $1::integer, $1::integer, 'probe.high', 'high', 'Cao', 'High', 'level', $2, $2)",
        ids[0],
        T0,
    )
    return connection, tier is not Tier.PLAIN


def run(sql: str, areas: list[str], *, timescaledb: bool, days: float = 2 / 24) -> str:
    start = T0 - timedelta(hours=1 if days < 2 else 36)  # a bucket begins before what it holds
    return expand(
        sql,
        start=f"{start:%Y-%m-%dT%H:%M:%SZ}",
        end=f"{start + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}",
        interval_s=60,
        timescaledb=timescaledb,
        variables={"area": quoted(areas)},
    )


async def test_every_query_runs_and_shows_the_city(any_migrated_dsn: str) -> None:
    connection, timescaledb = await city(any_migrated_dsn)
    try:
        found = {}
        for title, sql in queries(built()):
            found[title] = await connection.fetch(run(sql, ["hare", "—"], timescaledb=timescaledb))
        assert [row["__text"] for row in found["area"]] == [ENGLISH, "—"]
        assert {row["key"]: row["state"] for row in found["Map of devices"]} == {"p1": "alarm", "p2": "never"}
        assert tuple(found["State of devices"][0]) == (1, 0, 1, 0)
        assert [row["alarm"] for row in found["Open alarms"]] == ["High"]
        assert [(row["device"], row["value"], row["quality"]) for row in found["Latest values"]] == [
            ("p1", 300.0, "bad"),
            ("p2", 5.0, "good"),
        ]
        chart = found["Probe · level"]
        assert {(row["metric"], row["value"]) for row in chart} == {("p1", 15.0), ("p2", 5.0)}
    finally:
        await connection.close()


@pytest.mark.parametrize("days", [10, 100])
async def test_a_long_span_is_drawn_from_rollups(migrated_dsn: str, days: int) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        await rolled_up(connection)
        await connection.execute("DELETE FROM telemetry.probe")  # only rollups can answer now
        chart = next(sql for title, sql in queries(built()) if title == "Probe · level")
        rows = await connection.fetch(run(chart, ["hare", "—"], timescaledb=timescaledb, days=days))
        short = await connection.fetch(run(chart, ["hare", "—"], timescaledb=timescaledb))
        assert {(row["metric"], row["value"]) for row in rows} == {("p1", 15.0), ("p2", 5.0)}
        assert short == []
    finally:
        await connection.close()


@pytest.mark.parametrize("days", [1, 10])
async def test_what_meters_counted_is_drawn_and_listed(any_migrated_dsn: str, days: int) -> None:
    connection, timescaledb = await city(any_migrated_dsn)
    try:
        tables = await ensure_tables(connection, [METERED], (await find_tier(connection)).tier)
        said = [
            observation({"total": 100.0 + 2.5 * hour}, device_id=1, time=T0 + timedelta(hours=hour, seconds=30))
            for hour in range(5)
        ]
        async with connection.transaction():
            await TelemetryTable(tables["probe"]).merge(connection, said)
        await rolled_up(connection)
        found = {
            title: await connection.fetch(run(sql, ["hare"], timescaledb=timescaledb, days=days))
            for title, sql in queries(built())
        }
        assert [tuple(row) for row in found["Probe · total · increase by device"]] == [("p1", 10.0)]
        drawn = [row["consumption"] for row in found["Probe · total · increase"] if row["consumption"]]
        assert drawn == ([2.5] * 4 if days == 1 else [10.0])
    finally:
        await connection.close()


async def test_the_last_whole_day_is_a_share_and_those_who_missed_some_of_it_are_listed(any_migrated_dsn: str) -> None:
    connection, timescaledb = await city(any_migrated_dsn)
    calendar = Calendar("Asia/Ho_Chi_Minh")
    day = calendar.day_of(datetime.now(UTC) - timedelta(days=1))
    try:
        tier = (await find_tier(connection)).tier
        tables = await ensure_tables(connection, [METERED], tier)
        if tier is Tier.PLAIN:
            await ensure_partitions(connection, "probe", sorted({week_of(day), week_of(day + timedelta(days=1))}))
        await note_models(connection, [Model("hourly", "probe", timedelta(hours=1), ["level"])])
        await connection.execute(
            "INSERT INTO iot.unit (device_id, profile, address, mounted_from)"
            " SELECT id, 'hourly', key, $1 FROM iot.device",
            day - timedelta(days=1),
        )
        said = [
            observation({"level": 1.0}, device_id=device, time=day + timedelta(hours=hour, minutes=5))
            for device, hours in ((1, 18), (2, 24))
            for hour in range(hours)
        ]
        async with connection.transaction():
            await TelemetryTable(tables["probe"]).merge(connection, said)
        await rolled_up(connection, day, calendar.day_after(day))
        found = {}
        for title, sql in queries(built()):
            asked = expand(
                sql,
                start=f"{day:%Y-%m-%dT%H:%M:%SZ}",
                end=f"{calendar.day_after(day) + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}",
                interval_s=60,
                timescaledb=timescaledb,
                variables={"area": quoted(["hare", "—"])},
            )
            found[title] = await connection.fetch(asked)
        assert [row["share"] for row in found[text("grafana.completeness", "en")]] == [42 / 48]
        missed = found[text("grafana.incomplete", "en")]
        columns = ("time", "device", "area", "expected", "stored", "share")
        assert [tuple(map(row.get, columns)) for row in missed] == [(day, "p1", ENGLISH, 24, 18, 0.75)]
    finally:
        await connection.close()


async def rolled_up(
    connection: asyncpg.Connection, start: datetime = T0, end: datetime = T0 + timedelta(hours=6)
) -> None:
    """Work out the rollups of what the city said."""
    await fix_zone(connection, "Asia/Ho_Chi_Minh")
    async with connection.transaction():
        await due.note(connection, [("probe", start, end, "")])
    await Refresh(await read_rollups(connection, ["probe"]), (await find_tier(connection)).tier).once(connection)


async def test_devices_of_one_name_are_drawn_apart(migrated_dsn: str) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        await connection.execute("UPDATE iot.device SET name = 'Trạm'")
        chart = next(sql for title, sql in queries(built()) if title == "Probe · level")
        rows = await connection.fetch(run(chart, ["hare", "—"], timescaledb=timescaledb))
        assert {(row["metric"], row["value"]) for row in rows} == {("Trạm · p1", 15.0), ("Trạm · p2", 5.0)}
    finally:
        await connection.close()


async def test_an_alarm_that_nobody_has_taken_stands_above_one_that_somebody_has(migrated_dsn: str) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        await connection.execute(
            "INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, raised_at,"
            " received_at, acknowledged_at, acknowledged_by)"
            " SELECT source_kind, source_id, device_id, 'probe.fire', 'critical', 'Cháy', 'Fire', $1, $1, $1, 'an'"
            " FROM iot.alarm",
            T0,
        )
        alarms = next(sql for title, sql in queries(built()) if title == "Open alarms")
        rows = await connection.fetch(run(alarms, ["hare", "—"], timescaledb=timescaledb))
        assert [row["alarm"] for row in rows] == ["High", "Fire"]
    finally:
        await connection.close()


async def test_the_list_of_alarms_is_that_of_the_page(migrated_dsn: str) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        await connection.execute(
            "WITH province AS (INSERT INTO iot.area (key, name) VALUES ('province', 'Tỉnh') RETURNING id)"
            " INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en,"
            " suppressed_by, raised_at, received_at)"
            " SELECT *, $1::timestamptz, $1 FROM ("
            "SELECT 'area', id, NULL::integer, 'flood', 'high', 'Mất điện', 'Power cut', NULL FROM province"
            " UNION ALL SELECT source_kind, source_id, device_id, 'probe.low', 'high', 'Thấp', 'Low', 'maintenance:1'"
            " FROM iot.alarm) told",
            T0 + timedelta(seconds=1),
        )
        alarms = next(sql for title, sql in queries(built()) if title == "Open alarms")
        for areas, shown in (
            (["hare", "—"], [("Power cut", "Tỉnh"), ("High", ENGLISH)]),
            (["—"], [("Power cut", "Tỉnh")]),
        ):
            rows = await connection.fetch(run(alarms, areas, timescaledb=timescaledb))
            assert [(row["alarm"], row["area"]) for row in rows] == shown
    finally:
        await connection.close()


def test_what_the_tables_hold_in_one_language_is_read_in_the_dashboards() -> None:
    said = json.dumps(built("vi"), ensure_ascii=False)
    for word in ("nguy cấp", "chưa xác nhận", "không chắc chắn", "dòng lệnh trên máy chủ", "kvarh", '"có"'):
        assert word in said, word


async def test_areas_are_called_as_each_language_calls_them_else_by_the_name_they_have(migrated_dsn: str) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        for lang, name in (("vi", AWKWARD), ("en", ENGLISH)):
            asked = {title: run(sql, ["hare"], timescaledb=timescaledb) for title, sql in queries(built(lang))}
            assert [row["__text"] for row in await connection.fetch(asked["area"])] == [name, "—"]
            rows = await connection.fetch(asked[text("grafana.alarms", lang)])
            assert [row["area"] for row in rows] == [name]
        await connection.execute("UPDATE iot.area SET name_en = NULL")
        rows = await connection.fetch(asked["area"])
        assert [row["__text"] for row in rows] == [AWKWARD, "—"]
    finally:
        await connection.close()


async def test_every_query_of_every_shipped_class_runs_in_both_languages(shipped_dsn: str) -> None:
    connection = await asyncpg.connect(shipped_dsn)
    try:
        for lang in ("vi", "en"):
            for title, sql in queries(build(load().classes, lang)):
                for days in (1, 10, 100):
                    asked = run(sql, ["hare"], timescaledb=False, days=days)
                    statement = await connection.prepare(asked)
                    assert statement.get_attributes(), title
    finally:
        await connection.close()


@pytest.mark.parametrize("areas", [["—"], []])
async def test_an_area_filter_filters_and_no_area_at_all_is_no_error(migrated_dsn: str, areas: list[str]) -> None:
    connection, timescaledb = await city(migrated_dsn)
    try:
        for title, sql in queries(built()):
            rows = await connection.fetch(run(sql, areas, timescaledb=timescaledb))
            if title == "Map of devices":
                assert [row["key"] for row in rows] == (["p2"] if areas else [])
    finally:
        await connection.close()


def test_variables_are_only_spelt_in_the_form_that_survives_quotes() -> None:
    for title, sql in queries(built()):
        spelt = re.findall(r"\$\{?\w+(?::\w+)?\}?", sql.replace("ARRAY[${area}]::text[]", ""))
        allowed = {
            "$__timeFilter", "$__timeGroupAlias", "$__interval", "$__timeFrom", "$__timeTo", "$__unixEpochFrom",
            "$__unixEpochTo",
        }  # fmt: skip
        assert set(spelt) <= allowed, title


def test_nothing_is_misspelt_for_the_sdk_to_drop() -> None:
    once = built()
    panels = {panel["id"]: panel for panel in once["panels"]}
    again = Dashboard.from_json(json.loads(json.dumps({**once, "panels": []}))).to_json()
    assert {key for key in once if key != "panels"} <= set(again)
    assert len(panels) == len(once["panels"]), "panel ids are set and differ"


def test_the_dashboard_fits_grafanas_own_schema() -> None:
    if not SCHEMAS.is_dir():
        missing(f"{SCHEMAS} is absent: Grafana's JSON Schemas are not part of this repository")
    schema = json.loads((SCHEMAS / "dashboard.jsonschema.json").read_text())
    # The published schema writes Go's `any` as an object; a name to match and a value to set are any JSON.
    schema["definitions"]["MatcherConfig"]["properties"]["options"] = {}
    schema["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    jsonschema.Draft7Validator({**schema, "$ref": "#/definitions/Dashboard"}).validate(built())
    for panel in built()["panels"]:
        options = json.loads((SCHEMAS / f"{panel['type']}.jsonschema.json").read_text())
        if "Options" in options.get("definitions", {}):
            jsonschema.Draft7Validator({**options, "$ref": "#/definitions/Options"}).validate(panel.get("options", {}))


def test_both_languages_are_said() -> None:
    assert built("vi")["title"] == "Thành phố"
    assert not {said for _, sql in queries(built("vi")) for said in re.findall(r"grafana\.\w+", sql)}


def test_no_tile_is_fetched_from_outside() -> None:
    assert "http" not in json.dumps(built())


def test_every_shipped_class_has_a_chart_of_its_own_in_a_place_of_its_own() -> None:
    classes = load().classes
    panels = build(classes, "vi")["panels"]
    drawn = [panel for panel in panels if panel["type"] == "timeseries"]
    charts = [panel for panel in drawn if panel["fieldConfig"]["defaults"]["custom"].get("drawStyle") != "bars"]
    assert len(charts) == len(classes) == 10
    assert len(drawn) - len(charts) == sum(metric.counter for each in classes.values() for metric in each.metrics)
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = {
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    assert len(taken) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)
