"""VN_AQI over HTTP: from the hours that are stored now, civil days, late data counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from iot_core.api.shapes import AqiQuery
from iot_core.errors import RequestError
from iot_core.store.calendar import Calendar
from tests.api.city import City

MIDNIGHT = Calendar("Asia/Ho_Chi_Minh").day_of(datetime.now(UTC) - timedelta(days=10))


async def say(city: City, hour: float, values: str) -> None:
    time = MIDNIGHT + timedelta(hours=hour, minutes=30)
    await city.path.say("air-1", f'{{"time": "{time.isoformat()}", {values}}}')


async def test_an_hour_is_indexed_by_its_nowcast_and_a_late_hour_changes_it(city: City) -> None:
    await city.add("air-1", "air_quality")
    decision = [26.9, 24.7, 20.5, 23.5, 19.5, 16.5, 19.0, 16.5, 20.3, 22.4, 19.6, 20.6]
    for hour, pm25 in enumerate(decision, 9):
        await say(city, hour, f'"pm25": {pm25}')
    await say(city, 20, '"o3": 136.1')
    evening = AqiQuery(start=MIDNIGHT + timedelta(hours=20), end=MIDNIGHT + timedelta(hours=21))
    async with city.client() as client:
        found = await client.aqi("air-1", evening)
        await say(city, 18.2, '"pm25": 90')
        later = await client.aqi("air-1", evening)
    assert [(each.value, each.dominant) for each in found.items] == [(43, "o3_1h")]
    assert found.items[0].parts == {"pm25": 41, "o3_1h": 43}
    assert later.items[0].parts["pm25"] > 41


async def test_a_day_is_a_civil_day(city: City) -> None:
    await city.add("air-1", "air_quality")
    for hour in range(-2, 26):
        await say(city, hour, f'"pm25": {55.7 if 0 <= hour < 24 else 500}')
    async with city.client() as client:
        found = await client.aqi("air-1", AqiQuery(start=MIDNIGHT, end=MIDNIGHT + timedelta(hours=24), by="day"))
    assert [(each.time, each.value) for each in found.items] == [(MIDNIGHT, 110)]
    assert found.zone == "Asia/Ho_Chi_Minh"


async def test_an_hour_without_enough_data_has_no_index(city: City) -> None:
    await city.add("air-1", "air_quality")
    await say(city, 5, '"pm25": 20')
    await say(city, 6, '"no2": 20')
    async with city.client() as client:
        found = await client.aqi("air-1", AqiQuery(start=MIDNIGHT, end=MIDNIGHT + timedelta(hours=24)))
    assert found.items == ()


async def test_an_hour_that_was_missed_is_indexed_from_the_two_before_it(city: City) -> None:
    """Decision 1459, 2.2.1: two of the newest three hours are enough; the second hour missed has none."""
    await city.add("air-1", "air_quality")
    for hour in range(3):
        await say(city, hour, '"pm25": 20')
    async with city.client() as client:
        found = await client.aqi("air-1", AqiQuery(start=MIDNIGHT, end=MIDNIGHT + timedelta(hours=24)))
    assert [(each.time - MIDNIGHT) // timedelta(hours=1) for each in found.items] == [1, 2, 3]


async def test_what_measures_no_particles_has_no_index(city: City) -> None:
    await city.add("lamp-1", "streetlight")
    async with city.client() as client:
        with pytest.raises(RequestError, match=r"aqi\.no_particles"):
            await client.aqi("lamp-1", AqiQuery())
