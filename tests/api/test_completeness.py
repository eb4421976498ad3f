"""Expected against stored, gaps, silent and undeclared metrics, missing numbers; on every tier, and in SQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.api.shapes import AreaNew, CompletenessQuery
from iot_core.store.calendar import Calendar
from iot_core.store.refresh import Refresh
from iot_core.store.tables import read_rollups
from iot_core.store.tier import find_tier
from tests.api.city import City, served

MINUTE = timedelta(minutes=1)
DAY = Calendar("Asia/Ho_Chi_Minh").day_of(datetime.now(UTC) - timedelta(days=1))
DAY_END = Calendar("Asia/Ho_Chi_Minh").day_after(DAY)


@pytest.fixture
async def any_city(any_shipped_dsn: str, free_port: Callable[[], int]) -> AsyncIterator[City]:
    async with served(any_shipped_dsn, free_port()) as made:
        async with made.client() as client:
            await client.add_area(AreaNew(key="ward", name="Phường"))
        yield made


async def mount(
    city: City, key: str, since: datetime = DAY - timedelta(days=1), area: str | None = "ward"
) -> timedelta:
    """Add a device that speaks as often as its profile says; give that interval."""
    await city.add(key, "air_quality", area=area)
    await city.path.pool.execute("UPDATE iot.unit SET mounted_from = $1 WHERE address = 'iot:' || $2", since, key)
    await city.path.reload()
    interval: timedelta = city.path.prepare._profiles.get("native-air-quality").interval
    return interval


async def say(city: City, key: str, start: datetime, end: datetime, every: timedelta, **values: float) -> None:
    elements = [
        {"time": (start + every * n).isoformat(), "seq": n, **(values or {"pm25": 5})}
        for n in range((end - start) // every)
    ]
    for first in range(0, len(elements), 500):
        await city.path.say(key, json.dumps(elements[first : first + 500]))


async def rolled_up(city: City) -> None:
    async with city.path.pool.acquire() as connection:
        tier = (await find_tier(connection)).tier
        await Refresh(await read_rollups(connection, ["air_quality"]), tier).once(connection)


async def test_a_day_of_an_area_is_one_share_and_each_device_has_its_own(any_city: City) -> None:
    every = await mount(any_city, "aq-whole")
    await mount(any_city, "aq-half")
    await mount(any_city, "aq-new", DAY + timedelta(hours=18))
    await mount(any_city, "aq-dead")
    noon = DAY + timedelta(hours=12)
    await say(any_city, "aq-whole", DAY, DAY_END, every)
    await say(any_city, "aq-half", DAY, noon, every / 2)  # twice as often does not make up for the afternoon
    await say(any_city, "aq-new", DAY + timedelta(hours=18), DAY_END, every)
    await rolled_up(any_city)
    day = timedelta(days=1) // every
    async with any_city.client() as client:
        found = await client.completeness(CompletenessQuery(area="ward"))
    assert (found.start, found.end, found.zone) == (DAY, DAY_END, "Asia/Ho_Chi_Minh")
    shares = {each.device: (each.expected, each.stored, each.share) for each in found.items}
    assert shares == {
        "aq-whole": (day, day, 1.0),
        "aq-half": (day, day // 2, 0.5),
        "aq-new": (day // 4, day // 4, 1.0),
        "aq-dead": (day, 0, 0.0),
    }
    assert (found.expected, found.stored) == (day * 13 // 4, day * 7 // 4)
    gaps = {each.device: [(gap.start, gap.end) for gap in each.gaps] for each in found.items}
    assert gaps == {
        "aq-whole": [],
        "aq-half": [(noon - every / 2, DAY_END)],
        "aq-new": [],
        "aq-dead": [(DAY, DAY_END)],
    }
    rows = await any_city.path.pool.fetch("SELECT * FROM iot.completeness WHERE day = $1 ORDER BY device", DAY)
    in_sql = {row["device"]: (row["expected"], row["stored"], row["share"]) for row in rows}
    assert in_sql == shares
    assert {row["area"] for row in rows} == {"ward"}


async def test_silent_and_undeclared_metrics_and_missing_numbers_are_named(any_city: City) -> None:
    every = await mount(any_city, "aq-1")
    await say(any_city, "aq-1", DAY - timedelta(hours=1), DAY, every, pm25=5, co2=400)
    await any_city.path.say("aq-1", json.dumps({"time": DAY.isoformat(), "pm25": 5, "pm99": 1, "seq": 9_000}))
    await any_city.path.pool.execute("UPDATE iot.held_uplink SET received_at = $1", DAY + MINUTE)
    await rolled_up(any_city)
    last = timedelta(hours=1) // every - 1
    async with any_city.client() as client:
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1"))).items
    assert found.silent == ("co2",)
    assert found.undeclared == {"pm99": 1}
    assert [(each.run, each.first, each.last) for each in found.missing] == [("", last + 1, 8_999)]


async def test_no_gap_is_where_no_unit_was_mounted(city: City) -> None:
    every = await mount(city, "aq-1", DAY + timedelta(hours=6), None)
    pool = city.path.pool
    await pool.execute("UPDATE iot.unit SET mounted_to = $1", DAY + timedelta(hours=9))
    await pool.execute(
        "INSERT INTO iot.unit (device_id, profile, address, mounted_from) SELECT device_id, profile, address, $1"
        " FROM iot.unit",
        DAY + timedelta(hours=12),
    )
    await city.path.reload()
    await say(city, "aq-1", DAY + timedelta(hours=13), DAY + timedelta(hours=14), every)
    await rolled_up(city)
    async with city.client() as client:
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1"))).items
    assert (found.expected, found.stored) == (15 * timedelta(hours=1) // every, timedelta(hours=1) // every)
    assert [((gap.start - DAY) / MINUTE, (gap.end - DAY) / MINUTE) for gap in found.gaps] == [
        (360, 540), (720, 780), (840 - every / MINUTE, 1440),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reported", "interval_s"), [({"interval": 600}, 600.0), ({"interval": "soon"}, 60.0), ({"interval": 0}, 60.0)]
)
async def test_what_a_device_was_set_to_is_what_is_expected_of_it(
    city: City, reported: dict[str, object], interval_s: float
) -> None:
    await mount(city, "aq-1", area=None)
    await city.path.pool.execute("INSERT INTO iot.twin (device_id, reported) SELECT id, $1 FROM iot.device", reported)
    await say(city, "aq-1", DAY, DAY_END, timedelta(minutes=10))
    await rolled_up(city)
    async with city.client() as client:
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1"))).items
        read = await client.telemetry("aq-1", start=DAY, end=DAY_END)
    assert bool(read.gaps) is (interval_s == 60.0)
    assert (found.interval_s, found.expected, found.stored) == (interval_s, 86_400 // interval_s, 144)
    assert (found.gaps == ()) is (interval_s == 600.0)


async def test_a_span_that_is_not_over_expects_nothing_of_the_future(any_city: City) -> None:
    now = datetime.now(UTC)
    every = await mount(any_city, "aq-1", now - timedelta(hours=2))
    async with any_city.client() as client:
        found = await client.completeness(
            CompletenessQuery(devices="aq-1", start=now - timedelta(hours=3), end=now + timedelta(hours=3))
        )
    assert found.expected == timedelta(hours=2) // every
