"""`iot bench quiet`: a healthy city is stored and every default rule tried over it."""

from __future__ import annotations

from simulators.bench import quiet


async def test_the_quiet_bench_stores_a_city_and_tries_every_rule_over_it() -> None:
    steps: list[str] = []
    found = await quiet.run(quiet.Options(devices=20, days=1, every=3600), lambda step, _: steps.append(step))
    assert found["ok"], found
    assert found["rows"] >= 20 * 24 * 0.5
    assert found["rules_tried"] > 40
    assert {"bench_quiet.step_fill", "bench_quiet.step_try"} <= set(steps)
