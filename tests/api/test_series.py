"""Spans at the level that suits them, charts, newest values and aggregates of many devices; on both tiers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Literal

import asyncpg
import msgspec
import pytest

from iot_core.api import series
from iot_core.api.reading import second_reader
from iot_core.api.shapes import AreaNew, Level, StatsQuery
from iot_core.errors import NotFoundError, RequestError
from iot_core.settings import Store
from iot_core.store import due
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.refresh import Refresh
from iot_core.store.tables import read_rollups
from iot_core.store.tier import find_tier
from tests.api.city import City, served, until

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = NOW - timedelta(days=5)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def any_city(any_shipped_dsn: str, free_port: Callable[[], int]) -> AsyncIterator[City]:
    async with served(any_shipped_dsn, free_port()) as made:
        yield made


async def fill(city: City, key: str, minutes: range, **values: str) -> None:
    """Store readings in SQL: pm25 as an expression of the minute `n`, humidity always implausible."""
    device = await city.path.pool.fetchval("SELECT id FROM iot.device WHERE key = $1", key)
    if await city.path.pool.fetchval(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = 'telemetry.air_quality'::regclass"
    ):
        async with city.path.pool.acquire() as connection:
            await ensure_partitions(connection, "air_quality", {week_of(START + MINUTE * n) for n in minutes})
    humidity = await city.path.pool.fetchval(
        "SELECT bit FROM iot.metric WHERE key = 'humidity' AND class_key = 'air_quality'"
    )
    await city.path.pool.execute(
        "INSERT INTO telemetry.air_quality (time, received_at, device_id, pm25, humidity, quality, bad)"
        f" SELECT $1::timestamptz + n * interval '1 minute', now(), $2, {values.get('pm25', 'n % 60')}, 400,"
        f" {values.get('quality', '0')}, {1 << humidity} FROM generate_series($3::integer, $4, $5) n",
        START, device, minutes.start, minutes.stop - 1, minutes.step,
    )  # fmt: skip
    ends = [(device, START + MINUTE * minutes[0]), (device, START + MINUTE * minutes[-1])]
    async with city.path.pool.acquire() as connection:
        await due.note(connection, [("air_quality", ends[0][1], ends[1][1], "")])


async def rolled_up(city: City, class_key: str = "air_quality") -> None:
    """Work out the rollups that are due."""
    async with city.path.pool.acquire() as connection:
        tier = (await find_tier(connection)).tier
        await Refresh(await read_rollups(connection, [class_key]), tier).once(connection)
        assert await connection.fetchval(f"SELECT count(*) FROM telemetry.{class_key}_1h") > 0


async def test_a_long_span_is_answered_by_the_hour_and_says_so(any_city: City) -> None:
    await any_city.add("aq-1", "air_quality")
    await fill(any_city, "aq-1", range(4_000))
    async with any_city.client() as client:
        found = await client.telemetry("aq-1", start=START, end=START + timedelta(days=4), metrics=["pm25", "humidity"])
        day = await client.telemetry("aq-1", start=START, end=NOW, metrics=["pm25"], level=Level.DAY)
    assert (found.level, found.zone, found.items) == (Level.HOUR, "Asia/Ho_Chi_Minh", ())
    first = found.buckets[0]
    assert first.time == START
    assert (first.values["pm25"].count, first.values["pm25"].min, first.values["pm25"].max) == (60, 0.0, 59.0)
    assert first.values["pm25"].avg == pytest.approx(29.5)
    assert first.values["pm25"].last == 59.0
    assert (first.values["humidity"].count, first.values["humidity"].bad) == (0, 60)
    assert [(gap.start, gap.end) for gap in found.gaps] == [(START + timedelta(hours=67), START + timedelta(days=4))]
    assert sum(each.values["pm25"].count for each in day.buckets) == 4_000


async def test_a_short_span_is_raw_and_shows_its_gaps(any_city: City) -> None:
    await any_city.add("aq-1", "air_quality")
    await fill(any_city, "aq-1", range(60))
    await fill(any_city, "aq-1", range(200, 260))
    async with any_city.client() as client:
        found = await client.telemetry("aq-1", start=START, end=START + 260 * MINUTE, metrics=["pm25"])
    assert found.level is Level.RAW
    assert len(found.items) == 120
    assert [(gap.start, gap.end) for gap in found.gaps] == [(START + 59 * MINUTE, START + 200 * MINUTE)]


async def test_calibration_and_bad_rows_are_in_no_bucket(any_city: City) -> None:
    await any_city.add("aq-1", "air_quality")
    await fill(any_city, "aq-1", range(30))
    await fill(any_city, "aq-1", range(30, 60), quality="2", pm25="999")
    async with any_city.client() as client:
        found = await client.telemetry("aq-1", start=START, end=NOW, metrics=["pm25"], level=Level.HOUR)
    (spread,) = [each.values["pm25"] for each in found.buckets if each.values]
    assert (spread.count, spread.max) == (30, 29.0)


async def test_a_chart_has_no_more_points_than_asked_and_only_real_ones(city: City) -> None:
    await city.add("aq-1", "air_quality")
    await fill(city, "aq-1", range(2_000), pm25="CASE WHEN n = 1234 THEN 500 ELSE 10 + n % 3 END")
    async with city.client() as client:
        chart = await client.chart("aq-1", "pm25", start=START, end=START + timedelta(days=2), points=100)
        with pytest.raises(RequestError, match=r"api\.no_metric"):
            await client.chart("aq-1", "smell")
    assert (chart.level, len(chart.items), chart.of, chart.ucum) == (Level.RAW, 100, 2_000, "ug/m3")
    assert max(point.value for point in chart.items) == 500.0
    assert [gap.start for gap in chart.gaps] == [START + 1_999 * MINUTE]


async def test_newest_values_of_many_devices_include_what_was_said_earlier(any_city: City) -> None:
    async with any_city.client() as client:
        await client.add_area(AreaNew(key="ward", name="Phường"))
    for key, area in (("aq-1", "ward"), ("aq-2", None), ("aq-3", "ward")):
        await any_city.add(key, "air_quality", area=area)
    at = NOW - timedelta(hours=3)
    for key in ("aq-1", "aq-2"):
        await any_city.path.say(key, json.dumps({"time": at.isoformat(), "pm25": 5, "co2": 410}))
        await any_city.path.say(key, json.dumps({"time": (at + MINUTE).isoformat(), "pm25": 6, "humidity": 400}))
    async with any_city.client() as client:
        (found,) = (await client.newest(area="ward")).items
        assert [each.device for each in (await client.newest(class_key="air_quality")).items] == ["aq-1", "aq-2"]
        assert (await client.newest(class_key="streetlight")).items == ()
        with pytest.raises(NotFoundError, match=r"registry\.no_area"):
            await client.newest(area="nowhere")
        one = await client.latest("aq-1")
    assert (found.time, found.values, found.bad) == (at + MINUTE, {"pm25": 6.0, "humidity": 400.0}, ("humidity",))
    assert [(each.metric, each.value, each.time) for each in found.earlier] == [("co2", 410.0, at)]
    together = {each.metric: each.value for each in found.earlier} | found.values
    assert together == {each.metric: each.value for each in one.items}


async def test_newest_values_that_the_database_writes_are_those_that_rows_would_give(
    any_city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, dict[str, object]] = {
        "lc-1": {"mode": "manual"},
        "sl-1": {"on": True, "dim": 40, "power": 61.5, "lamp_failure": False},
        "sl-2": {"on": False, "power": 0, "energy": 12.000001},
        "aq-1": {"pm25": 35.2, "co2": 446, "temperature": -0.1, "pressure": 1008.4},
        "aq-2": {"pm25": 0.1, "quality": "calibration"},
    }
    at = NOW - timedelta(minutes=5)
    for key, values in said.items():
        classes = {"lc": "lighting_cabinet", "sl": "streetlight", "aq": "air_quality"}
        await any_city.add(key, classes[key[:2]])
        await any_city.path.say(key, json.dumps({"time": at.isoformat(), **values}))
    async with any_city.client() as client:
        items = (await client.newest()).items
        one_by_one = {key: await client.latest(key) for key in said}
        monkeypatch.setattr(series, "_HALVED", 2)
        assert (await client.newest()).items == items
    assert [each.device for each in items] == sorted(said)
    for each in items:
        alone = one_by_one[each.device].items
        assert each.values == {one.metric: one.value for one in alone}
        assert {one.quality for one in alone} == {each.quality}
        assert (each.time, each.bad, each.earlier) == (at, (), ())
    shown = {each.device: dict(each.values) for each in items}
    assert all(shown[key] == said[key] for key in ("lc-1", "sl-1", "sl-2", "aq-1"))


async def test_newest_values_are_found_of_devices_silent_for_long_and_of_those_whose_last_row_is_gone(
    any_city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = {"aq-1": timedelta(hours=3), "aq-2": timedelta(days=20), "aq-3": timedelta(days=70)}
    for key, age in ages.items():
        await any_city.add(key, "air_quality")
        for minute, value in ((0, 5), (1, 6)):
            message = {"time": (NOW - age + minute * MINUTE).isoformat(), "pm25": value}
            await any_city.path.say(key, json.dumps(message | ({"co2": 400} if key == "aq-2" and not minute else {})))
    await any_city.path.pool.execute("DELETE FROM telemetry.air_quality WHERE time = $1", NOW - ages["aq-3"] + MINUTE)
    async with any_city.client() as client:
        found = {each.device: each for each in (await client.newest(class_key="air_quality")).items}
        monkeypatch.setattr(series, "_HALVED", 2)
        assert {each.device: each for each in (await client.newest(class_key="air_quality")).items} == found
    assert {key: each.time - NOW + ages[key] for key, each in found.items()} == {
        "aq-1": MINUTE, "aq-2": MINUTE, "aq-3": timedelta(0),
    }  # fmt: skip
    assert [found[key].values for key in ("aq-1", "aq-2", "aq-3")] == [{"pm25": 6.0}, {"pm25": 6.0}, {}]
    assert [(each.metric, each.value) for each in found["aq-2"].earlier] == [("co2", 400.0)]
    assert [(each.metric, each.value) for each in found["aq-3"].earlier] == [("pm25", 5.0)]


async def test_aggregates_are_the_same_at_every_level_and_by_every_group(any_city: City) -> None:
    for key in ("aq-1", "aq-2"):
        await any_city.add(key, "air_quality")
    await fill(any_city, "aq-1", range(0, 3_000, 7))
    await fill(any_city, "aq-2", range(0, 3_000, 11), pm25="100 + n % 7")
    await rolled_up(any_city)
    async with any_city.client() as client:
        found = {}
        for level in Level:
            asked = StatsQuery(class_key="air_quality", start=START, end=NOW, metrics="pm25", level=level)
            (found[level],) = (await client.stats(asked)).items
        by_device = await client.stats(
            StatsQuery(class_key="air_quality", start=START, end=NOW, metrics="pm25", by="device")
        )
        one = await client.stats(StatsQuery(devices="aq-2", start=START, end=NOW, metrics="pm25", by="time"))
        await any_city.add("sl-1", "streetlight")
        with pytest.raises(RequestError, match=r"read\.one_class"):
            await client.stats(StatsQuery(devices="aq-1,sl-1"))
    facts = {(each.count, each.min, each.max, each.devices, each.bad) for each in found.values()}
    assert facts == {(429 + 273, 0.0, 106.0, 2, 0)}
    assert len({round(each.avg or 0, 3) for each in found.values()}) == 1
    assert [(each.device, each.count) for each in by_device.items] == [("aq-1", 429), ("aq-2", 273)]
    assert sum(each.count for each in one.items) == 273
    assert {each.devices for each in one.items} == {1}


async def test_last_years_chart_is_by_the_areas_of_then_or_of_now(any_city: City) -> None:
    await any_city.add("aq-1", "air_quality")
    async with any_city.path.pool.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO iot.area (key, name) VALUES ('before', 'Before'), ('after', 'After')")
        move = "UPDATE iot.device SET area_id = (SELECT id FROM iot.area WHERE key = $1)"
        for area, since in (("before", START), ("after", START + 17 * 60 * MINUTE)):
            await connection.execute("SELECT set_config('iot.effective_at', $1, true)", since.isoformat())
            await connection.execute(move, area)
    await fill(any_city, "aq-1", range(0, 3_000, 10))
    await rolled_up(any_city)
    sides: tuple[Literal["now", "then"], ...] = ("now", "then")
    counted: dict[tuple[str, str], list[int]] = {}
    async with any_city.client() as client:
        for area, areas, level in product(("before", "after"), sides, (Level.RAW, Level.HOUR)):
            asked = StatsQuery(
                class_key="air_quality", area=area, areas=areas, level=level, metrics="pm25", start=START, end=NOW
            )
            items = (await client.stats(asked)).items
            counted.setdefault((area, areas), []).append(sum(each.count for each in items))
    assert counted == {
        ("before", "now"): [0, 0], ("after", "now"): [300, 300],
        ("before", "then"): [102, 102], ("after", "then"): [198, 198],
    }  # fmt: skip


async def test_what_a_meter_counted_is_whole_before_and_after_its_rollup(any_city: City) -> None:
    await any_city.add("wm-1", "water_meter")
    start = NOW - timedelta(hours=30)

    async def say(*hours: int) -> None:
        at = [{"time": (start + timedelta(hours=hour)).isoformat(), "volume": 100 + hour} for hour in hours]
        await any_city.path.say("wm-1", json.dumps(at))

    await say(*range(20))
    await rolled_up(any_city, "water_meter")
    await say(*range(22, 29), 20)  # and one that comes late makes old hours due
    whole = StatsQuery(devices="wm-1", start=start, end=NOW, metrics="volume")
    lately = StatsQuery(devices="wm-1", start=NOW - timedelta(hours=5), end=NOW, metrics="volume")

    async def counted() -> list[float | None]:
        found: list[float | None] = []
        async with any_city.client() as client:
            for asked in (whole, lately, *(msgspec.structs.replace(whole, level=level) for level in Level)):
                (item,) = (await client.stats(asked)).items
                found.append(item.used)
            hours = await client.telemetry("wm-1", start=start, end=NOW, metrics=["volume"], level=Level.HOUR)
        return [*found, sum(each.values["volume"].used or 0 for each in hours.buckets)]

    before = await counted()
    await rolled_up(any_city, "water_meter")
    assert before == await counted() == [28.0, 4.0, 28.0, 28.0, 28.0, 28.0]


async def test_a_reader_that_takes_too_long_is_stopped_with_a_sentence(
    shipped_dsn: str, free_port: Callable[[], int]
) -> None:
    async with served(shipped_dsn, free_port(), store=Store(read_timeout_s=1)) as city:
        await city.add("aq-1", "air_quality")
        await slow(city, 60)
        async with city.client() as client:
            with pytest.raises(RequestError, match=r"read\.too_long: seconds=1"):
                await client.telemetry("aq-1", start=START, end=NOW)


async def test_a_client_that_leaves_takes_its_query_along(city: City) -> None:
    await city.add("aq-1", "air_quality")
    await slow(city, 60)
    async with city.client() as client:
        asking = asyncio.create_task(client.telemetry("aq-1", start=START, end=NOW))
        await until(lambda: sleeping(city))
        asking.cancel()
    await until(lambda: awake(city))


async def test_a_second_reader_is_lent_only_while_another_stays_for_others(city: City) -> None:
    (services,) = [value for value in city.app.values() if hasattr(value, "readers")]
    async with AsyncExitStack() as stack:
        for _ in range(services.settings.store.readers - 2):
            await stack.enter_async_context(services.readers.acquire())
        async with second_reader(services) as second:
            assert second is not None
            assert await second.fetchval("SELECT 1") == 1
        await stack.enter_async_context(services.readers.acquire())
        async with second_reader(services) as second:
            assert second is None
    assert services.readers.get_idle_size() == services.readers.get_size()


async def test_an_asker_that_leaves_cancels_both_halves_and_gives_both_readers_back(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("aq-1", "aq-2"):
        await city.add(key, "air_quality")

    async def slow(connection: asyncpg.Connection, *_: object) -> None:
        await connection.execute("SELECT pg_sleep(15) AS half")

    async def at_work(many: int) -> bool:
        return bool(await city.path.pool.fetchval(_HALVES) == many)

    monkeypatch.setattr(series, "_HALVED", 2)
    monkeypatch.setattr(series, "newest_json", slow)
    asking = asyncio.create_task(city.ask("GET", "/telemetry/latest"))
    await until(lambda: at_work(2))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: at_work(0))
    (services,) = [value for value in city.app.values() if hasattr(value, "readers")]

    async def all_back() -> bool:
        return bool(services.readers.get_size() == services.readers.get_idle_size())

    await until(all_back)


_HALVES = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(15) AS half%' AND state = 'active'"


async def test_readers_are_bounded_by_the_server_and_cannot_write(city: City) -> None:
    (services,) = [value for value in city.app.values() if hasattr(value, "readers")]
    async with services.readers.acquire() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "20s"
        assert await connection.fetchval("SHOW transaction_read_only") == "on"


async def slow(city: City, seconds: int) -> None:
    """Make reading the class's table take long, for those who read it through the API."""
    await city.path.pool.execute(
        "ALTER TABLE telemetry.air_quality RENAME TO stored;"
        "CREATE VIEW telemetry.air_quality AS SELECT s.* FROM telemetry.stored s,"
        f" LATERAL (SELECT pg_sleep({seconds}) WHERE s.time IS NOT NULL OFFSET 0) z"
    )
    await city.path.pool.execute(
        "INSERT INTO telemetry.stored (time, received_at, device_id) SELECT $1, now(), id FROM iot.device",
        NOW - timedelta(hours=1),
    )


async def sleeping(city: City) -> int | None:
    found: int | None = await city.path.pool.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    return found


async def awake(city: City) -> bool:
    return await sleeping(city) is None
