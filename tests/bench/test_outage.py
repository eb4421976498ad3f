"""`iot bench outage` and `iot bench start` run to their line of JSON; speeds are not judged here."""

from __future__ import annotations

import pytest

from simulators.bench import outage, start

pytestmark = pytest.mark.timeout(120)


async def test_the_outage_bench_loses_nothing_and_says_when_messages_were_live_again() -> None:
    steps: list[str] = []
    options = outage.Options(minutes=0.05, rate=200, devices=5)
    result = await outage.run(options, lambda step, _: steps.append(step))
    assert (result["lost"], result["duplicate"], result["held"]) == (0, 0, 0)
    assert result["messages"] > 200 * 3
    assert result["away_s"] >= 3
    assert result["behind_at_return"] >= 2
    assert result["live_again_s"] is not None
    assert {"bench_outage.step_away", "bench_outage.step_behind"} <= set(steps)


async def test_the_start_bench_starts_a_registered_core_anew() -> None:
    result = await start.run(start.Options(devices=20, times=2), lambda *_: None)
    assert result["ok"]
    assert result["start_s"]["max"] > 0
    assert result["memory_peak_mb"] > 20
