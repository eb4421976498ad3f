"""What rules cost on the ingest path: the worker's CPU a message, with 100,000 (device, rule) pairs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.alarms.evaluate import Evaluator
from iot_core.model import Observation
from iot_core.profiles.load import load
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from simulators.bench import Say
from simulators.bench.alarm_ground import DETECTOR, detectors, ground, running

__all__ = ["cost"]

_Unit = Mapping[str, Any]
_BATCH: Final = 1_000
_BATCHES: Final = 60
_OPEN_EVERY: Final = 100
"""One device in so many has an alarm open while all of them speak."""
_MOST_US: Final = 10.0
_VALUES: Final = {
    "smoke": False, "heat": False, "co": 3.0, "temperature": 28.5, "battery": 80.0, "fault": False,
}  # fmt: skip


async def cost(store: str, devices: int, say: Say) -> dict[str, Any]:
    """Judge messages of detectors, the class with the most rules; `ok` within the mark, also while some are open."""
    async with ground(store) as place:
        async with running(place) as stage:
            await detectors(stage, devices, say)
        async with open_pool(place.dsn, Store()) as pool, pool.acquire() as connection:
            evaluator = Evaluator(load())
            await evaluator.load(connection)
            units = await connection.fetch("SELECT id, device_id FROM iot.unit ORDER BY device_id")
            pairs = sum(len(evaluator.book.at(unit["device_id"], DETECTOR).watches) for unit in units)
            clock = datetime.now(UTC) - timedelta(hours=1)
            judging = _Judging(connection, evaluator, units, say)
            quiet = await judging.run(clock)
            faulty = units[::_OPEN_EVERY]
            await judging.flush([_said(unit, clock + timedelta(minutes=5), fault=True) for unit in faulty])
            some = await judging.run(clock + timedelta(minutes=10), frozenset(unit["device_id"] for unit in faulty))
            opened = sum(bool(evaluator.open_at(unit["device_id"])) for unit in units)
    return {
        "ok": max(quiet, some) <= _MOST_US and opened == len(faulty),
        "pairs": pairs, "devices_with_an_open_alarm": opened, "messages": _BATCH * _BATCHES,
        "us_a_message": {"nothing_open": round(quiet, 2), "one_in_a_hundred_open": round(some, 2)},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Judging:
    connection: asyncpg.Connection
    evaluator: Evaluator
    units: Sequence[_Unit]
    say: Say

    async def run(self, clock: datetime, faulty: frozenset[int] = frozenset()) -> float:
        """Judge batches; give the CPU microseconds a message."""
        used, size = 0.0, min(_BATCH, len(self.units))
        for number in range(_BATCHES):
            self.say("bench_alarms.step_cost", number / _BATCHES)
            clock += timedelta(seconds=1)
            turn = [self.units[(number * size + n) % len(self.units)] for n in range(size)]
            batch = [_said(unit, clock, fault=unit["device_id"] in faulty) for unit in turn]
            began = time.process_time()
            await self.flush(batch)
            used += time.process_time() - began
        return used / (_BATCHES * size) * 1e6

    async def flush(self, batch: Sequence[Observation]) -> None:
        """Judge one batch, as ingest does."""
        async with self.connection.transaction():
            pending = await self.evaluator.evaluate(self.connection, batch, now=datetime.now(UTC))
        self.evaluator.committed(pending)


def _said(unit: _Unit, clock: datetime, *, fault: bool) -> Observation:
    return Observation(
        device_id=unit["device_id"], unit_id=unit["id"], class_key=DETECTOR, time=clock, received_at=clock,
        values={**_VALUES, "fault": fault}, simulated=True,
    )  # fmt: skip
