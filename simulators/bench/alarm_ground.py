"""What the alarm benchmarks stand on: a database, a broker that lets everyone in, a center that takes webhooks.

ground(store) -> running(ground) -> Stage        cores may come and go; database, broker and center stay
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiomqtt
import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.settings import Mqtt
from simulators.bench import Say
from simulators.bench.brokers import open_broker
from simulators.bench.stage import Stage, core, database, scratch
from simulators.receiver import Center, operations_center

__all__ = ["DETECTOR", "LEVEL", "Ground", "Speaker", "detectors", "ground", "level_rule", "running", "speaker", "until"]

DETECTOR: Final = "fire_detector"
LEVEL: Final = "air_quality.bench_level"
"""A rule without delay, so that each message can be a transition: CO2 above 1,000 ppm."""
_LOOK_S: Final = 0.05
_BACKLOG: Final = """
SELECT count(*) FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id
WHERE o.delivered_at IS NULL AND o.dead_at IS NULL AND t.key = ANY($1)
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where cores run. The center's target is called `center` once it is `told`."""

    folder: Path
    dsn: str
    mqtt_port: int
    center: Center

    async def value(self, query: str, *given: object) -> Any:
        """Read one value from the database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(query, *given)
        finally:
            await connection.close()

    async def backlog(self, *targets: str) -> int:
        """Count what waits for these targets."""
        count: int = await self.value(_BACKLOG, list(targets))
        return count

    async def told(self, stage: Stage) -> None:
        """Make the center a target."""
        added = await stage.client.add_push("center", self.center.url, accepts_simulated=True)
        self.center.secret = added.secret


@asynccontextmanager
async def ground(store: str) -> AsyncIterator[Ground]:
    """Start what stays while cores come and go."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        dsn = await stack.enter_async_context(database(folder, store))
        port = await stack.enter_async_context(open_broker(folder, Mqtt().window))  # as our own would have it
        yield Ground(folder, dsn, port, await stack.enter_async_context(operations_center()))


@asynccontextmanager
async def running(place: Ground, program: Sequence[str] = ("iot_core.cli",)) -> AsyncIterator[Stage]:
    """Run a core there."""
    settings = {
        "IOT_MQTT_BROKER": "external", "IOT_MQTT_PORT": str(place.mqtt_port), "IOT_PUSH_ALLOW_PRIVATE": "true",
        "IOT_INGEST_DEVICE_RATE": "1000000",
    }  # fmt: skip
    async with core(place.folder, place.dsn, settings, program=program) as stage:
        yield stage


async def detectors(stage: Stage, number: int, say: Say) -> list[str]:
    """Register fire detectors; give their keys."""
    keys = [f"fire-{n:04}" for n in range(number)]
    for first in range(0, number, shapes.MAX_BATCH):
        say("bench.step_register", first / number)
        some = keys[first : first + shapes.MAX_BATCH]
        await stage.client.add_devices(
            [shapes.DeviceNew(key=key, profile="native-fire-detector", simulated=True) for key in some]
        )
    return keys


async def level_rule(stage: Stage) -> None:
    """Make the rule `LEVEL`."""
    await stage.client.change_rule(
        LEVEL,
        shapes.RuleChange(body={
            "title": {"vi": "Mức đo thử", "en": "Bench level"}, "severity": "medium",
            "when": {"metric": "co2", "above": 1000}, "source": "iot bench alarms",
        }),
    )  # fmt: skip


class Speaker:
    """One connection that says something for any device, and when it did."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.said: dict[tuple[str, str], datetime] = {}

    async def say(self, key: str, metric: str) -> None:
        """Say that `metric` of a device is true; return when the broker has it."""
        now = datetime.now(UTC)
        self.said[key, metric] = now
        body = msgspec.json.encode({"time": now, metric: True})
        await self._client.publish(f"iot/v1/{key}/telemetry", body, qos=1)

    def latencies_ms(self, center: Center) -> list[float]:
        """Give the time from what was said to its receipt, of what has one."""
        first: dict[tuple[str, str], datetime] = {}
        for each in center.raised():
            data = each.said.data
            if data.alarm is not None and data.device is not None and data.device.key is not None:
                first.setdefault((data.device.key, data.alarm.rule.removeprefix(f"{DETECTOR}.")), each.at)
        return [1000 * (first[key] - at).total_seconds() for key, at in self.said.items() if key in first]


@asynccontextmanager
async def speaker(place: Ground) -> AsyncIterator[Speaker]:
    """Connect one."""
    async with aiomqtt.Client("127.0.0.1", place.mqtt_port, timeout=30) as client:
        yield Speaker(client)


async def until(holds: Callable[[], Awaitable[bool]], within_s: float) -> float | None:
    """Wait until something holds; give the seconds it took, None when it never did."""
    began = time.perf_counter()
    while not await holds():
        if time.perf_counter() - began > within_s:
            return None
        await asyncio.sleep(_LOOK_S)
    return time.perf_counter() - began
