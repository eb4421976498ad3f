"""The shipped water rules over stored hours: a leak, a burst, a district's night; each raised once and returned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.lifecycle import list_alarms
from iot_core.alarms.timers import Timers
from iot_core.profiles import load
from iot_core.store.calendar import Calendar
from iot_core.store.refresh import Refresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.api.city import City

HOUR = timedelta(hours=1)
MIDNIGHT = Calendar("Asia/Ho_Chi_Minh").day_of(datetime.now(UTC) - timedelta(days=10))


async def flows(city: City, key: str, start: datetime, hours: Sequence[float]) -> None:
    """Say one flow in the middle of each hour, in one message."""
    said = [
        {"time": (start + n * HOUR + HOUR / 2).isoformat(), "flow": flow} for n, flow in enumerate(hours)
    ]  # fmt: skip
    await city.path.say(key, msgspec.json.encode(said).decode())


async def look(city: City, now: datetime) -> list[tuple[str, str, bool]]:
    """Look as a core that was just started does; give the open alarms: device, rule, whether simulated."""
    evaluator = Evaluator(load())
    async with city.path.pool.acquire() as connection:
        while await Refresh(city.path.rollups, city.path.tier).once(connection):
            pass
        await evaluator.load(connection)
    await Timers(city.path.pool, evaluator, lambda: now).judge_computed(now)
    rows = await city.path.pool.fetch(
        "SELECT d.key, a.rule, a.simulated FROM iot.alarm a JOIN iot.device d ON d.id = a.device_id"
        " WHERE a.cleared_at IS NULL AND a.rule LIKE 'water_meter.%flow' ORDER BY d.key, a.rule"
    )
    return [(row["key"], row["rule"].partition(".")[2], row["simulated"]) for row in rows]


async def test_house_leaks_until_an_hour_of_standstill_also_one_that_comes_late(city: City) -> None:
    await city.add("leaking", "water_meter", simulated=True)
    await city.add("healthy", "water_meter")
    await flows(city, "leaking", MIDNIGHT, [0.01] * 24)
    await flows(city, "healthy", MIDNIGHT, [*[0.3] * 23, 0.0])
    found = await look(city, MIDNIGHT + 24 * HOUR)
    assert found == [("leaking", "continuous_flow", True)]
    assert await look(city, MIDNIGHT + 24.2 * HOUR) == found
    await city.path.say("leaking", f'{{"time": "{(MIDNIGHT + 3 * HOUR).isoformat()}", "flow": 0}}')
    assert await look(city, MIDNIGHT + 24.5 * HOUR) == []


async def test_high_flow_of_two_hours_is_a_burst_but_in_a_main(city: City) -> None:
    await city.add("house", "water_meter")
    await city.add("main", "water_meter")
    await flows(city, "house", MIDNIGHT, [0.0, 1.6, 1.5])
    await flows(city, "main", MIDNIGHT, [40.0, 41.0, 42.0])
    assert await look(city, MIDNIGHT + 3 * HOUR) == [("house", "burst_flow", False)]
    await flows(city, "house", MIDNIGHT + 3 * HOUR, [0.2])
    assert await look(city, MIDNIGHT + 4 * HOUR) == []


async def district(city: City, *meters: tuple[str, str]) -> None:
    """Make a DMA with its meters: their keys and labels."""
    area = await city.path.pool.fetchval(
        "INSERT INTO iot.area (key, name, kind) VALUES ('dma-7', 'DMA 7', 'dma') RETURNING id"
    )
    for key, label in meters:
        await city.add(key, "water_meter")
        await city.path.pool.execute(
            "UPDATE iot.device SET area_id = $1, labels = ARRAY[$2] WHERE key = $3", area, label, key
        )


async def districts(city: City) -> list[tuple[str, float, str]]:
    """Give the open alarms of areas: area, value, state."""
    async with city.path.pool.acquire() as connection:
        found = await list_alarms(connection)
    return [
        (each.area_key or "", round(each.value or 0, 3), each.state.value) for each in found if each.device_id is None
    ]


async def test_night_flow_of_a_district_is_held_against_its_own_nights(city: City) -> None:
    await district(city, ("north", "inlet"), ("south", "inlet"), ("on", "outlet"), ("house", "household"))
    nights = [[10.0, 10.5]] * 6 + [[13.0, 12.0], [10.0, 10.5]]
    for night, flow in enumerate(nights):
        at = MIDNIGHT + 24 * night * HOUR + 2 * HOUR
        await flows(city, "north", at, flow)
        await flows(city, "south", at, [4.0, 4.0])
        await flows(city, "on", at, [4.0, 4.0])
        await flows(city, "house", at, [0.3 * night, 0.3 * night])
    assert await look(city, MIDNIGHT + (24 * 5 + 6) * HOUR) == []
    await look(city, MIDNIGHT + (24 * 6 + 3) * HOUR)
    assert await districts(city) == [], "the night is not over"
    assert await look(city, MIDNIGHT + (24 * 6 + 6) * HOUR) == [], "no meter's alarm"
    assert await districts(city) == [("dma-7", 1.2, "unacknowledged")]
    assert await look(city, MIDNIGHT + (24 * 6 + 7) * HOUR) == []
    assert await districts(city) == [("dma-7", 1.2, "unacknowledged")], "one alarm"
    await look(city, MIDNIGHT + (24 * 7 + 6) * HOUR)
    assert await districts(city) == [("dma-7", 1.2, "returned")]


async def test_night_that_one_inlet_did_not_tell_of_is_no_district_s_night(city: City) -> None:
    await district(city, ("north", "inlet"), ("south", "inlet"))
    for night in range(7):
        at = MIDNIGHT + 24 * night * HOUR + 2 * HOUR
        await flows(city, "north", at, [10.0, 10.0])
        await flows(city, "south", at, [10.0, 10.0] if night < 6 else [20.0])
    await look(city, MIDNIGHT + (24 * 6 + 6) * HOUR)
    assert await districts(city) == []
