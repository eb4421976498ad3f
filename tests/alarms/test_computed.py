"""Rules over what is stored: each raises and returns, once, also with late data and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from iot_core.alarms.computed import DERIVED
from iot_core.profiles.rules import FORMULAS
from tests.alarms.city import MINUTE, T0, City, seen
from tests.alarms.test_language import have

if TYPE_CHECKING:
    from collections.abc import Sequence


async def look(city: City, minute: float) -> None:
    city.now = T0 + minute * MINUTE
    await city.timers().judge_computed(city.now)


CASES: Sequence[tuple[str, dict[str, Any], list[float], list[float]]] = [
    ("rises fast", {"rate_above": 60, "over": "10m"}, [0, 2, 4, 6, 8, 12], [12] * 6),
    ("falls fast", {"rate_below": -60, "over": "10m"}, [40, 38, 36, 34, 30, 20], [20] * 6),
    ("stuck", {"stuck_for": "10m"}, [5] * 6, [5, 6, 5, 6, 5, 6]),
    ("changed", {"changed": True, "over": "10m"}, [5, 5, 5, 5, 6, 6], [6] * 6),
    ("mean", {"rollup": "mean", "over": "10m", "above": 50}, [40, 60, 60, 60, 60, 60], [10] * 6),
    ("never still", {"rollup": "lowest", "over": "10m", "above": 1}, [2, 3, 2, 3, 2, 3], [2, 3, 0, 3, 2, 3]),
    ("twice the usual", {"rollup": "mean", "over": "10m", "times": 2}, [5, 5, 5, 5, 5, 40], [40] * 6),
]


@pytest.mark.parametrize(
    ("when", "raising", "returning"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_span_of_readings_raises_and_returns(
    city: City, when: dict[str, Any], raising: list[float], returning: list[float]
) -> None:
    await have(city, "tank.span", {"metric": "level", **when})
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, number * 115, level=value) for number, value in enumerate(raising)))
    await look(city, 9.8)
    assert await city.state(tank, "tank.span") == "active"
    await city.restart()
    await look(city, 9.9)
    await city.flush(*(seen(tank, 1200 + number * 115, level=value) for number, value in enumerate(returning)))
    await look(city, 29.8)
    assert await city.events() == ["raised", "cleared"]


async def test_alarm_of_what_is_stuck_shows_where_it_stands(city: City) -> None:
    await have(city, "tank.stuck", {"metric": "level", "stuck_for": "10m"})
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, number * 115, level=5) for number in range(6)))
    await look(city, 9.8)
    assert [(alarm.value, alarm.threshold) for alarm in await city.alarms()] == [(5.0, None)]


@pytest.mark.parametrize("minutes", [15, 20, 30])
async def test_river_that_rises_fast_is_noticed_by_gauges_that_speak_seldom(city: City, minutes: int) -> None:
    await have(city, "tank.rising", {"metric": "level", "rate_above": 0.5, "over": "60m"})
    tank = await city.device("tank-1")
    times = range(0, 61, minutes)
    await city.flush(*(seen(tank, minute * 60, level=minute / 60) for minute in times))
    await look(city, 60 + minutes / 2)
    assert await city.state(tank, "tank.rising") == "active"


async def test_mean_rises_with_its_steps(city: City) -> None:
    when = {"metric": "level", "rollup": "mean", "over": "10m", "above": 50}
    await have(city, "tank.mean", when, steps=[{"at": 70, "severity": "critical"}])
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60), seen(tank, 560, level=60))
    await look(city, 9.8)
    await city.flush(seen(tank, 1000, level=75), seen(tank, 1540, level=75))
    await look(city, 26)
    await look(city, 26.1)
    assert await city.events() == ["raised", "severity"]


async def test_mean_that_is_high_again_before_it_was_gone_for_long_stands(city: City) -> None:
    when = {"metric": "level", "rollup": "mean", "over": "10m", "above": 50}
    await have(city, "tank.mean", when, gone_for="20m")
    tank = await city.device("tank-1")
    for minute, level in ((0, 60), (15, 10), (30, 60)):
        await city.flush(*(seen(tank, minute * 60 + second, level=level) for second in (0, 560)))
        await look(city, minute + 9.8)
    city.now += 20 * MINUTE
    await city.timers().fire_due(city.now)
    assert await city.events() == ["raised"]


@pytest.mark.parametrize("rollup", ["mean", "lowest", "highest"])
async def test_readings_at_the_limit_are_not_above_it(city: City, rollup: str) -> None:
    await have(city, "tank.high_for_long", {"metric": "level", "rollup": rollup, "over": "10m", "above": 0.1})
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, second, level=0.1) for second in (0, 280, 560)))
    await look(city, 9.8)
    assert await city.events() == []
    await city.flush(*(seen(tank, 1000 + second, level=0.7) for second in (0, 280, 560)))
    await look(city, 26)
    assert await city.pool.fetchval("SELECT value FROM iot.alarm") == 0.7


async def test_late_reading_corrects_what_a_span_amounts_to(city: City) -> None:
    await have(city, "tank.mean", {"metric": "level", "rollup": "mean", "over": "10m", "above": 50})
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60), seen(tank, 560, level=60))
    await look(city, 9.8)
    await city.flush(*(seen(tank, 100 + number, level=1) for number in range(9)))
    await look(city, 9.9)
    assert await city.events() == ["raised", "cleared"]


async def test_metric_that_is_no_longer_said_is_silent_while_the_device_is_heard(city: City) -> None:
    await have(city, "tank.no_pressure", {"metric": "pressure", "silent_for": 3})
    tank, never = await city.device("tank-1"), await city.device("tank-2")
    await city.flush(seen(tank, 0, level=1, pressure=5), seen(never, 0, level=1))
    await city.flush(*(seen(device, 300, level=1) for device in (tank, never)))
    await look(city, 5)
    assert (await city.state(tank, "tank.no_pressure"), await city.state(never, "tank.no_pressure")) == (
        "active",
        "none",
    )
    await city.flush(seen(tank, 330, pressure=5))
    await look(city, 6)
    assert await city.events() == ["raised", "cleared"]


def test_every_formula_that_a_rule_may_name_is_worked_out() -> None:
    assert set(FORMULAS) == set(DERIVED)
