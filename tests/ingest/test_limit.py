"""A device that says far too much is acknowledged and counted, and a sample of it is held; never in a fire class."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from iot_core.ingest.limit import RateLimit
from iot_core.settings import Ingest, Settings
from tests.classes import T0
from tests.ingest.harness import Path, running

TIGHT = Settings(ingest=Ingest(device_rate=1, device_burst=20))


COUNTS = """
SELECT d.key, count(*) FROM telemetry.air_quality t JOIN iot.device d ON d.id = t.device_id GROUP BY d.key
"""


async def flood(path: Path, key: str, metric: str, number: int) -> None:
    """Say `number` things at once."""
    said = (f'{{"time": "{(T0 + timedelta(seconds=n)).isoformat()}", "{metric}": 1}}' for n in range(number))
    await asyncio.gather(*(path.say(key, each) for each in said))


async def test_above_its_rate_a_device_is_counted_and_sampled_and_the_others_are_unaffected(dsn: str) -> None:
    async with running(dsn, TIGHT) as path:
        await path.add("mad")
        await path.add("sane")
        await asyncio.gather(flood(path, "mad", "pm25", 300), path.say("sane", '{"pm25": 7}'))
        rows = await path.pool.fetch(COUNTS)
        held = await path.held()
    stored = {row["key"]: row["count"] for row in rows}
    assert stored["sane"] == 1
    assert 20 <= stored["mad"] <= 40
    assert [reason for reason, _ in held] == ["rate"]
    assert path.counters.total("ingest_rate_dropped") == 300 - stored["mad"] - 1
    assert len(path.outcomes) == 301


async def test_a_fire_detector_is_never_limited(dsn: str) -> None:
    async with running(dsn, TIGHT) as path:
        await path.add("smoke-1", "fire_detector")
        await flood(path, "smoke-1", "battery", 100)
        assert len(await path.rows("fire_detector")) == 100
        assert path.counters.total("ingest_rate_dropped") == 0


@given(st.lists(st.tuples(st.floats(0.05, 5), st.integers(0, 60)), max_size=40))
def test_no_more_than_burst_and_rate_ever_passes(batches: list[tuple[float, int]]) -> None:
    limit, now, passed = RateLimit(10, 50), 1000.0, 0
    limit.above([], now, lambda _: True)
    began = now
    for pause, number in batches:
        now += pause
        above = limit.above(["a"] * number + ["b"], now, lambda _: True)
        assert number not in above, "the other one is never touched"
        passed += number - len(above)
        assert passed <= 50 + 10 * (now - began) + 1
