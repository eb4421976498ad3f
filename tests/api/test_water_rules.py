"""The shipped water rules over stored hours: a leak, a burst, a district's night; each raised once and returned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.timers import Timers
from iot_core.profiles import load
from iot_core.store.refresh import Refresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.api.city import City

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2026, 11, 19, 17, tzinfo=UTC)  # 2026-11-20 in Vietnam


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


async def test_night_flow_of_a_district_is_held_against_its_own_nights(city: City) -> None:
    await city.add("dma", "water_meter")
    for night in range(6):
        await flows(city, "dma", MIDNIGHT + 24 * night * HOUR + 2 * HOUR, [11.0, 10.0, 12.0])
    assert await look(city, MIDNIGHT + (24 * 5 + 6) * HOUR) == []
    await flows(city, "dma", MIDNIGHT + (24 * 6 + 2) * HOUR, [13.0, 12.0, 14.0])
    assert await look(city, MIDNIGHT + (24 * 6 + 4) * HOUR) == [], "the night is not over"
    assert await look(city, MIDNIGHT + (24 * 6 + 6) * HOUR) == [("dma", "night_flow", False)]
    await flows(city, "dma", MIDNIGHT + (24 * 7 + 2) * HOUR, [11.0, 10.0, 12.0])
    assert await look(city, MIDNIGHT + (24 * 7 + 6) * HOUR) == []
