"""`iot bench registry` runs to its line of JSON; speeds are not judged here."""

from __future__ import annotations

import pytest

from simulators.bench import registry

pytestmark = pytest.mark.timeout(180)


async def test_the_registry_bench_asks_imports_accepts_starts_and_commands() -> None:
    steps: list[str] = []
    options = registry.Options(devices=300, lamps=3, rows=20, claims=4, times=1)
    result = await registry.run(options, lambda step, _: steps.append(step))
    assert set(result["worst_p95_ms"]) == {"list", "search", "show"}
    assert (result["imported"]["added"], result["imported"]["again_changes"]) == (20, 0)
    assert result["claimed"]["secrets"] == result["claimed_mqtt"]["secrets"] == 4
    assert result["unknown_until_connected"]
    assert result["online_before_connected"] == 0
    assert set(result["presence_s"]) == {"p50", "p95", "p99", "max"}
    assert result["command_states"] == {"succeeded": 3}
    assert "bench_registry.step_command" in steps
