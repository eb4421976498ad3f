"""`iot bench size`: bytes a reading, raw and compressed, and what rollups cost.

Air stations of the simulated city speak once a minute, six metrics a message, some days back; written by the store's
own merge, on a database of the benchmark's own. A reading is one metric's value; sizes are with indexes. The mark for
compressed readings is for what sensors say (docs/decisions/004); with `--digits class` the figure stands without one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from math import log2
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.model import Observation, Value
from iot_core.profiles import load
from iot_core.settings import Retention
from iot_core.store import due
from iot_core.store.connection import prepare
from iot_core.store.info import read_info
from iot_core.store.migrate import migrate
from iot_core.store.nightly import ensure_columnstore
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.refresh import Refresh
from iot_core.store.tables import ensure_tables, fix_zone, read_rollups
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tier import Found, Tier, find_tier
from simulators.bench.report import report
from simulators.bench.stage import EMBEDDED, database, scratch
from simulators.physics.air import AirStation
from simulators.physics.chance import between

Say = Callable[[str, float], None]
METRICS: Final = ("pm25", "pm10", "no2", "o3", "temperature", "humidity")
RAW: Final = 24
COMPRESSED: Final = 4
"""Bytes a reading, indexes included, that the platform promises."""
KEY: Final = "air_quality"
SENSOR: Final = "sensor"
_SENSOR_DECIMALS: Final = {"pm25": 0, "pm10": 0, "no2": 1, "o3": 1, "temperature": 1, "humidity": 1}
"""As registers of shipped models say it: particles in whole ug/m3 (Milesight AM319, Aerasgard RFTM, Enginique), the air
to 0.1 Cel and 0.1 %. For gases 0.1 ug/m3 is finer than electrochemical cells are."""
_AGGREGATE: Final = f'SELECT device_id, avg(pm25_avg), max(pm25_max) FROM telemetry."{KEY}_1d" GROUP BY device_id'


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `digits`: values as sensors resolve them, or to the last decimal that the class keeps."""

    devices: int = 20
    hours: int = 72
    digits: str = SENSOR
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the benchmark and give its result."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC", "jit": "off"})
        stack.push_async_callback(connection.close)
        await prepare(connection)
        await migrate(connection)
        await fix_zone(connection, "Asia/Ho_Chi_Minh")
        found = await find_tier(connection)
        device_class = load().classes[KEY]
        table = TelemetryTable((await ensure_tables(connection, [device_class], found.tier))[KEY])
        await _register(connection, options.devices)
        wrote_s, steps = await _write(connection, table, found.tier, options, say)
        result = await _measure(connection, found, say)
    small = options.digits != SENSOR or (result["compressed_bytes_per_reading"] or 0) <= COMPRESSED
    return report(
        "size",
        options,
        ok=result["bytes_per_reading"] <= RAW and small,
        versions={"postgresql": found.server, "timescaledb": found.extension or ""},
        readings_per_s=round(result["readings"] / wrote_s),
        entropy_bytes_per_reading=round(steps.entropy() / 8, 2),
        **result,
    )


async def _register(connection: asyncpg.Connection, devices: int) -> None:
    await connection.execute(
        "INSERT INTO iot.device (key, name, class_key)"
        " SELECT 'station-' || i, 'Station', $1 FROM generate_series(1, $2) i",
        KEY,
        devices,
    )


class Steps:
    """How much values say: the entropy of the steps between a device's readings of a metric, in last decimals.

    What an ideal coder of whole numbers would need for the values alone, without their times.
    """

    def __init__(self, decimals: Mapping[str, int]) -> None:
        self.decimals = decimals
        self._before: dict[tuple[int, str], int] = {}
        self._steps: dict[str, Counter[int]] = {key: Counter() for key in METRICS}

    def take(self, batch: Iterable[Observation]) -> None:
        for each in batch:
            for key in METRICS:
                whole = round(float(each.values[key]) * 10 ** self.decimals[key])
                before = self._before.get((each.device_id, key))
                if before is not None:
                    self._steps[key][whole - before] += 1
                self._before[each.device_id, key] = whole

    def entropy(self) -> float:
        """Give bits a reading."""
        return sum(map(_entropy, self._steps.values())) / len(METRICS)


def _entropy(counts: Counter[int]) -> float:
    total = counts.total()
    return -sum(number / total * log2(number / total) for number in counts.values())


def _decimals(table: TelemetryTable, options: Options) -> Mapping[str, int]:
    declared = {metric.key: metric.precision for metric in table.table.device_class.metrics}
    return _SENSOR_DECIMALS if options.digits == SENSOR else declared


async def _write(
    connection: asyncpg.Connection, table: TelemetryTable, tier: Tier, options: Options, say: Say
) -> tuple[float, Steps]:
    """Write hour by hour as it would have come; give the seconds that the database took, and what the values said."""
    steps = Steps(_decimals(table, options))
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=options.hours)
    spent = 0.0
    for hour in range(options.hours):
        batch = list(_hour(steps.decimals, options.devices, start + timedelta(hours=hour)))
        steps.take(batch)
        before = time.perf_counter()
        if tier is Tier.PLAIN:
            await ensure_partitions(connection, KEY, [week_of(batch[0].time)])
        async with connection.transaction():
            await table.merge(connection, batch)
            await due.note(connection, list(due.notes(KEY, [(each.device_id, each.time) for each in batch])))
        spent += time.perf_counter() - before
        say("bench_size.write", hour / options.hours)
    return spent, steps


def _hour(decimals: Mapping[str, int], devices: int, start: datetime) -> Iterator[Observation]:
    for minute in range(60):
        for device in range(1, devices + 1):
            moment = start + timedelta(minutes=minute, seconds=device % 60)
            said = AirStation(1, device).at(moment)
            values: dict[str, Value] = {key: round(float(said[key]), decimals[key]) for key in METRICS}
            received = moment + timedelta(microseconds=round(between(20_000, 400_000, device, moment.isoformat())))
            yield Observation(
                device_id=device, unit_id=1, class_key=KEY, time=moment, received_at=received, values=values
            )


async def _measure(connection: asyncpg.Connection, found: Found, say: Say) -> dict[str, Any]:
    rollups = await read_rollups(connection, [KEY])
    say("bench_size.rollups", 1.0)
    before = time.perf_counter()
    hours = await Refresh(rollups, found.tier).once(connection)
    refresh_s = time.perf_counter() - before
    if found.tier is Tier.COMMUNITY:
        await ensure_columnstore(connection, rollups, found.tier, Retention())
        await connection.execute(f"SELECT compress_chunk(c) FROM show_chunks('telemetry.{KEY}') c", timeout=600)
    await connection.execute("ANALYZE", timeout=600)
    info = await read_info(connection, found, rollups.values(), Retention(), now=datetime.now(UTC), disk_free=None)
    (each,) = info.classes
    raw = each.raw_bytes / each.readings
    if each.compressed_readings:
        uncompressed = await connection.fetchval(
            f"SELECT sum(before_compression_total_bytes) FROM hypertable_columnstore_stats('telemetry.{KEY}')"
        )
        raw = int(uncompressed) / each.compressed_readings
    return {
        "tier": str(found.tier),
        "readings": each.readings,
        "bytes_per_reading": round(raw, 2),
        "compressed_bytes_per_reading": each.compressed_bytes_per_reading,
        "rollup_bytes_per_reading": round(each.rollup_bytes / each.readings, 2),
        "rollup_hours": hours,
        "rollup_us_per_row": round(refresh_s / each.rows * 1e6, 2),
        "aggregate_ms": await _milliseconds(connection, _AGGREGATE),
    }


async def _milliseconds(connection: asyncpg.Connection, query: str) -> float:
    await connection.fetch(query)
    before = time.perf_counter()
    await connection.fetch(query)
    return round((time.perf_counter() - before) * 1000, 1)
