"""Open data: stations by the hour, households only in groups that are large enough."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

from iot_core.api.shapes import AreaNew
from iot_core.store.refresh import Refresh
from tests.api.city import City

DAY = str((datetime.now(UTC) - timedelta(days=9)).date())


async def _rolled_up(city: City) -> None:
    async with city.path.pool.acquire() as connection:
        while await Refresh(city.path.rollups, city.path.tier).once(connection):
            pass


async def _home(city: City, number: int, area: str, litres: float) -> None:
    key = f"wm-{area}-{number}"
    await city.add(key, "water_meter", area=area)
    for hour, volume in ((1, 100.0), (20, 100.0 + litres / 1000)):
        await city.path.say(key, json.dumps({"time": f"{DAY}T{hour:02}:00:00+07:00", "volume": volume}))


async def test_households_are_told_in_groups_only(city: City) -> None:
    async with city.client() as client:
        for key in ("large", "small"):
            await client.add_area(AreaNew(key=key, name=key, latitude=20.9, longitude=107.1))
    for number in range(10):
        await _home(city, number, "large", 250)
    await _home(city, 1, "small", 9_000)
    await city.add("aq-1", "air_quality", name="=1+1", latitude=20.9, longitude=107.1)
    await city.path.say("aq-1", json.dumps({"time": f"{DAY}T08:10:00+07:00", "pm25": 37.4}))
    await _rolled_up(city)
    for role in ("viewer", "admin"):
        water = await city.ask("GET", f"/open-data?class=water_meter&day={DAY}", role=role)
        assert water.headers["Content-Type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(water.data.decode()))
        assert (row["key"], row["meters"], float(row["volume"])) == ("large", "10", 2.5)
        assert b"wm-" not in water.data
        assert b"small" not in water.data
    air = await city.ask("GET", f"/open-data?class=air_quality&day={DAY}&format=geojson")
    (feature,) = air.json["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [107.1, 20.9]}
    assert (feature["properties"]["pm25"], feature["properties"]["time"]) == (37.4, f"{DAY}T01:00:00+00:00")
    table = await city.ask("GET", f"/open-data?class=air_quality&day={DAY}")
    assert b"'=1+1" in table.data
    assert (await city.ask("GET", f"/open-data?class=ship&day={DAY}")).status == 404
    assert (await city.ask("GET", f"/open-data?class=air_quality&day={DAY}", role=None)).status == 401


async def test_rows_of_a_household_are_exported_for_the_right_only(city: City) -> None:
    await city.add("wm-1", "water_meter")
    await city.path.say("wm-1", f'{{"time": "{DAY}T08:00:00+07:00", "volume": 1}}')
    await city.add("aq-1", "air_quality")
    await city.path.say("aq-1", f'{{"time": "{DAY}T08:00:00+07:00", "pm25": 1}}')
    for role, seen in (("viewer", False), ("technician", False), ("operator", True)):
        everything = await city.ask("GET", "/telemetry/export", role=role)
        assert (b"wm-1" in everything.data, b"aq-1" in everything.data) == (seen, True), role
        alone = await city.ask("GET", "/telemetry/export?class=water_meter", role=role)
        assert alone.status == (200 if seen else 403), alone.data
    await city.path.pool.execute("UPDATE iot.device SET labels = '{public}' WHERE key = 'wm-1'")
    assert b"wm-1" in (await city.ask("GET", "/telemetry/export", role="viewer")).data
