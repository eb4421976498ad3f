"""Expected against stored, gaps, silent and undeclared metrics, missing numbers; on every tier, and in SQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.api.shapes import AreaNew, CompletenessQuery
from iot_core.store.calendar import Calendar
from iot_core.store.numbers import KEEP, begin_day
from iot_core.store.refresh import Refresh
from iot_core.store.tables import read_rollups
from iot_core.store.tier import find_tier
from tests.api.city import City, served

MINUTE = timedelta(minutes=1)
CALENDAR = Calendar("Asia/Ho_Chi_Minh")


def yesterday() -> datetime:
    return CALENDAR.day_of(datetime.now(UTC) - timedelta(days=1))


DAY = yesterday()
"""Asked for by its name: midnight may come between the reading of this file and a test."""
DAY_END = CALENDAR.day_after(DAY)
ONE = timedelta(days=1)


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
        found = await client.completeness(CompletenessQuery(area="ward", start=DAY, end=DAY_END))
        before = yesterday()
        unasked = await client.completeness(CompletenessQuery(area="ward"))
    assert (found.start, found.end, found.zone) == (DAY, DAY_END, "Asia/Ho_Chi_Minh")
    assert unasked.start in {before, yesterday()}
    assert unasked.end == CALENDAR.day_after(unasked.start)
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
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1", start=DAY, end=DAY_END))).items
    assert found.silent == ("co2",)
    assert found.undeclared == {"pm99": 1}
    assert [(each.run, each.first, each.last) for each in found.missing] == [("", last + 1, 8_999)]


async def began(city: City, day: datetime) -> bool:
    """Be the core that notes how far the numbers have come when a day begins."""
    async with city.path.pool.acquire() as connection:
        return await begin_day(connection, CALENDAR, day + MINUTE)


async def count(city: City, *numbers: int, run: str = "") -> None:
    await city.path.say(
        "aq-1", json.dumps([{"seq": each, "run": run, "pm25": 5, "time": DAY.isoformat()} for each in numbers])
    )


async def by_numbers(city: City, day: datetime) -> tuple[str | None, int, int] | None:
    """Give the source, and what the numbers of a civil day make expected and stored; the same in SQL."""
    async with city.client() as client:
        all_of_it = await client.completeness(CompletenessQuery(devices="aq-1", start=day, end=day + ONE))
    (found,) = all_of_it.items
    assert all_of_it.numbers == found.numbers
    row = await city.path.pool.fetchrow("SELECT * FROM iot.completeness WHERE day = $1", day)
    numbers = found.numbers
    assert (row["numbers_expected"], row["numbers_stored"]) == (
        numbers and numbers.expected,
        numbers and numbers.stored,
    )
    assert (row["source"], row["expected"], row["stored"]) == (found.source, found.expected, found.stored)
    return None if numbers is None else (found.source, numbers.expected, numbers.stored)


async def test_numbers_say_what_was_expected_of_a_day_where_no_interval_does(city: City) -> None:
    await mount(city, "aq-1", DAY - 5 * ONE, None)
    await city.path.pool.execute("UPDATE iot.profile SET every = NULL")
    await count(city, *range(10))
    assert await by_numbers(city, DAY) is None  # nobody knows with which number any day began
    assert await began(city, DAY - ONE)
    await count(city, 10, 11)
    assert await began(city, DAY)
    assert not await began(city, DAY)
    await count(city, 12, 13, 16, 16, 12, 17)
    await count(city, 3, 5, run="restarted")
    assert await began(city, DAY_END)
    await count(city, 18)
    assert await by_numbers(city, DAY - 2 * ONE) is None
    assert await by_numbers(city, DAY - ONE) == ("seq", 2, 2)
    assert await by_numbers(city, DAY) == ("seq", 6 + 3, 4 + 2)
    assert await by_numbers(city, DAY_END) == ("seq", 1, 1)
    await count(city, 15)  # late, from its buffer
    assert await by_numbers(city, DAY) == ("seq", 9, 7)
    await city.path.pool.execute("UPDATE iot.profile SET every = interval '1 minute'")
    assert await by_numbers(city, DAY) == ("interval", 9, 7)


async def test_numbers_count_for_the_day_in_which_the_core_last_ran_and_are_known_for_a_while(city: City) -> None:
    await mount(city, "aq-1", DAY - 5 * ONE, None)
    assert await began(city, DAY - 3 * ONE)
    await count(city, 1, 2, 4)
    assert await began(city, DAY)  # it was away for two midnights
    await count(city, 5)
    assert await by_numbers(city, DAY - 3 * ONE) == ("interval", 4, 3)
    assert await by_numbers(city, DAY - 2 * ONE) is None
    assert await by_numbers(city, DAY) == ("interval", 1, 1)
    assert await began(city, DAY + KEEP)  # what was noted is forgotten, but for where the days began that stay
    await count(city, 6)
    pool = city.path.pool
    kept = await pool.fetchval("SELECT count(*) FROM iot.seq_day WHERE start < $1", DAY)
    marks = await pool.fetch("SELECT start, next FROM iot.seq_mark ORDER BY start")
    assert (kept, [tuple(mark) for mark in marks]) == (0, [(DAY - 2 * ONE, 5), (DAY + ONE, 6)])


async def test_a_share_is_whole_only_if_nothing_is_missing(city: City) -> None:
    await mount(city, "aq-1", DAY, None)
    await began(city, DAY)
    await count(city, 1, 100_000)
    await city.path.pool.execute("UPDATE iot.seq_range SET seqs = '{[1,50),[51,100000]}'")
    async with city.client() as client:
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1", start=DAY, end=DAY_END))).items
    assert found.numbers is not None
    assert (found.numbers.expected, found.numbers.stored, found.numbers.share) == (100_000, 99_999, 0.9999)


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
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1", start=DAY, end=DAY_END))).items
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
        (found,) = (await client.completeness(CompletenessQuery(devices="aq-1", start=DAY, end=DAY_END))).items
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
