"""`iot bench size` measures on a database of its own and says what it found."""

from __future__ import annotations

from simulators.bench.size import Options, run


async def test_a_small_run_counts_every_reading() -> None:
    steps: list[str] = []
    result = await run(Options(devices=2, hours=2), lambda step, _: steps.append(step))
    assert (result["readings"], result["tier"]) == (2 * 120 * 6, "postgresql")
    assert result["bytes_per_reading"] > 0
    assert 0 < result["entropy_bytes_per_reading"] < 2
    assert {"bench_size.write", "bench_size.rollups"} <= set(steps)
