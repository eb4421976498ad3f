"""`iot bench alarms` runs to its line of JSON; speeds are not judged here, what must never fail is."""

from __future__ import annotations

import pytest

from simulators.bench import alarms

pytestmark = pytest.mark.timeout(300)


async def test_alarm_bench_loses_nothing_in_a_storm_and_when_killed() -> None:
    steps: list[str] = []
    options = alarms.Options(parts=("storm", "kills"), storm=60, kills=1)
    result = await alarms.run(options, lambda step, _: steps.append(step))
    storm, kills = result["storm"], result["kills"]
    assert (storm["inside"], storm["incidents"], storm["fires"]) == (60, 1, 20)
    assert (kills["lost"], kills["without_receipt"], kills["doubles_with_another_id"]) == (0, 0, 0)
    assert {"bench_alarms.step_kill", "bench_alarms.step_storm"} <= set(steps)


async def test_alarm_bench_counts_what_rules_cost() -> None:
    result = await alarms.run(alarms.Options(parts=("cost",), devices=20), lambda *_: None)
    assert result["cost"]["pairs"] >= 20 * 17
    assert result["cost"]["devices_with_an_open_alarm"] == 1
