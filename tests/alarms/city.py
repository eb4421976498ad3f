"""A small city for alarm tests: two classes, a real database, a flush like the ingest path's, a clock one can set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from iot_core.alarms.alarm import AlarmRow
from iot_core.alarms.evaluate import Evaluator, Pending
from iot_core.alarms.lifecycle import list_alarms
from iot_core.alarms.timers import Pace, Timers
from iot_core.model import (
    AlarmRule,
    Comparison,
    DeviceClass,
    Metric,
    MetricType,
    Observation,
    Quality,
    Severity,
    Title,
    Value,
)
from iot_core.store import status
from iot_core.store.columns import ClassTable
from iot_core.store.telemetry import TelemetryTable

T0 = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def title(words: str) -> Title:
    return Title(f"{words} (vi)", words)


TANK = DeviceClass(
    key="tank",
    title=title("Tank"),
    metrics=(
        Metric(key="level", title=title("Level"), type=MetricType.FLOAT, minimum=0, maximum=100),
        Metric(key="pressure", title=title("Pressure"), type=MetricType.FLOAT, minimum=0, maximum=10),
        Metric(key="valve", title=title("Valve"), type=MetricType.ENUM, members={"shut": 0, "open": 1, "stuck": 2}),
    ),
    rule_bodies={
        "high": {
            "title": {"vi": "Level high (vi)", "en": "Level high"},
            "severity": "high",
            "when": {"metric": "level", "above": 80.0},
            "hysteresis": 5.0,
            "source": "test",
            "runbook": {"vi": "Đóng van", "en": "Shut the valve"},
        }
    },
    rules=(
        AlarmRule(
            key="tank.high",
            title=title("Level high"),
            severity=Severity.HIGH,
            comparison=Comparison.ABOVE,
            metric="level",
            threshold=80.0,
            hysteresis=5.0,
            runbook=Title("Đóng van", "Shut the valve"),
        ),
        AlarmRule(
            key="tank.dry",
            title=title("Pressure low"),
            severity=Severity.LOW,
            comparison=Comparison.BELOW,
            metric="pressure",
            threshold=1.0,
            on_delay=5 * MINUTE,
        ),
        AlarmRule(
            key="tank.stuck",
            title=title("Valve stuck"),
            severity=Severity.MEDIUM,
            comparison=Comparison.EQUALS,
            metric="valve",
            threshold="stuck",
        ),
        AlarmRule(
            key="tank.silent",
            title=title("Tank silent"),
            severity=Severity.LOW,
            comparison=Comparison.SILENT,
            threshold=3.0,
        ),
    ),
)
DETECTOR = DeviceClass(
    key="detector",
    title=title("Detector"),
    life_safety=True,
    metrics=(
        Metric(key="smoke", title=title("Smoke"), type=MetricType.BOOL),
        Metric(key="temperature", title=title("Temperature"), type=MetricType.FLOAT, minimum=-40, maximum=150),
        Metric(key="co", title=title("CO"), type=MetricType.FLOAT, minimum=0, maximum=1000),
    ),
    rules=(
        AlarmRule(
            key="detector.smoke",
            title=title("Fire"),
            severity=Severity.CRITICAL,
            comparison=Comparison.EQUALS,
            metric="smoke",
            threshold=True,
            latched=True,
        ),
        AlarmRule(
            key="detector.silent",
            title=title("Detector silent"),
            severity=Severity.HIGH,
            comparison=Comparison.SILENT,
            threshold=3.0,
        ),
    ),
)


@dataclass(frozen=True)
class Model:
    model: str
    interval: timedelta


class Knowledge:
    """Classes and profiles as the evaluator sees them."""

    classes: Mapping[str, DeviceClass] = {"tank": TANK, "detector": DETECTOR}

    def all(self) -> Sequence[Model]:
        return (Model("slow", timedelta(minutes=10)), Model("quick", MINUTE))


@dataclass
class City:
    """Flushes batches as ingest does: judge, merge, note who was heard, commit, tell the evaluator."""

    pool: asyncpg.Pool
    tables: Mapping[str, ClassTable]
    evaluator: Evaluator = field(default_factory=lambda: Evaluator(Knowledge()))
    now: datetime = T0

    def bit(self, class_key: str, metric: str) -> int:
        return next(1 << column.bit for column in self.tables[class_key].columns if column.name == metric)

    async def device(self, key: str, class_key: str = "tank", **more: Any) -> int:
        facts = {"simulated": False, "gateway_id": None, "profile": "quick", "lifecycle": "active", **more}
        device_id: int = await self.pool.fetchval(
            "INSERT INTO iot.device (key, name, class_key, simulated, gateway_id, lifecycle, latitude, longitude)"
            " VALUES ($1, $1, $2, $3, $4, $5, 20.95, 107.07) RETURNING id",
            key,
            class_key,
            facts["simulated"],
            facts["gateway_id"],
            facts["lifecycle"],
        )
        await self.pool.execute(
            "INSERT INTO iot.unit (device_id, profile, address, mounted_from) VALUES ($1, $2, $3, $4)",
            device_id,
            facts["profile"],
            f"iot:{key}",
            T0 - timedelta(days=30),
        )
        return device_id

    async def flush(self, *observations: Observation, on: asyncpg.Connection | None = None) -> Pending:
        if on is None:
            async with self.pool.acquire() as connection:
                return await self.flush(*observations, on=connection)
        async with on.transaction():
            pending = await self.write(on, observations)
        self.evaluator.committed(pending)
        return pending

    async def write(self, connection: asyncpg.Connection, observations: Sequence[Observation]) -> Pending:
        pending = await self.evaluator.evaluate(connection, observations, now=self.now)
        for class_key, table in self.tables.items():
            mine = {(each.device_id, each.time): each for each in observations if each.class_key == class_key}
            if mine:
                await TelemetryTable(table).merge(connection, list(mine.values()))
        known = {row["id"] for row in await connection.fetch("SELECT id FROM iot.device")}
        heard = {
            each.device_id: (each.received_at, each.time, 0)
            for each in sorted(observations, key=lambda each: each.time)
            if each.device_id in known
        }
        await status.mark_heard(connection, heard)
        return pending

    async def alarms(self, *, open_only: bool = False) -> list[AlarmRow]:
        async with self.pool.acquire() as connection:
            return list(reversed(await list_alarms(connection, open_only=open_only)))

    async def events(self) -> list[str]:
        rows = await self.pool.fetch("SELECT kind FROM iot.alarm_event ORDER BY id")
        return [row["kind"] for row in rows]

    async def state(self, device_id: int, rule: str) -> str:
        found: str | None = await self.pool.fetchval(
            "SELECT state FROM iot.rule_state WHERE source_id = $1 AND rule = $2", device_id, rule
        )
        return found or "none"

    def timers(self, pace: Pace | None = None) -> Timers:
        return Timers(self.pool, self.evaluator, lambda: self.now, pace or Pace(grace=timedelta(0), grace_intervals=0))

    async def restart(self) -> None:
        """Forget everything but the database."""
        self.evaluator = Evaluator(Knowledge())
        async with self.pool.acquire() as connection:
            await self.evaluator.load(connection)


def seen(device_id: int, seconds: float, /, **facts: Any) -> Observation:
    """Make an observation `seconds` after T0, arrived at once."""
    return at(device_id, seconds, seconds, **facts)


def at(
    device_id: int,
    seconds: float,
    arrived: float,
    /,
    *,
    class_key: str = "tank",
    quality: Quality = Quality.GOOD,
    bad: int = 0,
    simulated: bool = False,
    correction: bool = False,
    **values: Value,
) -> Observation:
    """Make an observation measured and arrived at seconds after T0."""
    return Observation(
        device_id=device_id,
        unit_id=1,
        class_key=class_key,
        time=T0 + seconds * SECOND,
        received_at=T0 + arrived * SECOND,
        values=values,
        quality=quality,
        bad=bad,
        simulated=simulated,
        correction=correction,
    )


def smoke(device_id: int, seconds: float, arrived: float | None = None, **more: Any) -> Observation:
    """Make a detector's reading: smoke, unless `smoke=False`."""
    facts = {"class_key": "detector", "smoke": True, **more}
    return at(device_id, seconds, seconds if arrived is None else arrived, **facts)
