"""`iot bench store`: how fast rows merge into an empty and into a full table, and how much room they take.

The path's own steps, without the path: observations -> packed COPY -> staged merge, one connection, batches of 5,000.
Room is told as it was written, and as the first night after a week's end leaves it: the mark is for that.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from math import sin
from pathlib import Path
from random import Random
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.model import Observation, Value
from iot_core.profiles import load
from iot_core.store.connection import prepare
from iot_core.store.migrate import migrate
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import ensure_tables, read_rollups
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tidy import tidy
from iot_core.store.tier import Tier, find_tier
from simulators.bench import Say
from simulators.bench.filling import METRICS, SIGNAL, compress, fill, hour_ago, rows_size
from simulators.bench.report import percentiles, report
from simulators.bench.stage import EMBEDDED, database, scratch

DEVICES: Final = 1_000
BATCH: Final = 5_000
MEASURED: Final = 60
"""Batches that are timed: 300,000 rows."""
_FULL_AT_LEAST: Final = 0.8
_RAW_BYTES: Final = 24.0
_COMPRESSED_BYTES: Final = 4.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: `rows` in the table before its rate is measured again."""

    rows: int = 2_000_000
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Measure; `ok` when the full table takes rows 0.8 times as fast at least, and a reading is small enough."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        connection, tier = await stack.enter_async_context(_ready(folder, options.store))
        found = await find_tier(connection)
        table = TelemetryTable((await ensure_tables(connection, load().classes.values(), tier))["air_quality"])
        empty = await _measure(connection, table, tier, 0, say)
        size = await rows_size(connection, tier)
        start = hour_ago(24 * 7) - timedelta(minutes=options.rows // DEVICES)
        rows = await fill(
            connection, tier, (1, DEVICES), start=start, end=hour_ago(24 * 7),
            done=lambda share: say("bench_store.step_fill", share),
        )  # fmt: skip
        full = await _measure(connection, table, tier, 1, say)
        bytes_raw = size / (MEASURED * BATCH * len(METRICS))
        readings = (rows + 2 * MEASURED * BATCH) * len(METRICS)
        written = await rows_size(connection, tier) / readings
        tidied = await _tidied(connection, tier, say)
        closed = await rows_size(connection, tier) / readings
        compressed = await _compressed(connection, tier, say) if tier is Tier.COMMUNITY else None
    ratio = round(full["rows_per_s"] / empty["rows_per_s"], 2)
    fits = closed <= _RAW_BYTES and (compressed is None or compressed <= _COMPRESSED_BYTES)
    return report(
        "store", options, ok=ratio >= _FULL_AT_LEAST and fits,
        versions={"postgresql": found.server, "timescaledb": found.extension or "-", "asyncpg": version("asyncpg")},
        tier=tier.value, signal=SIGNAL, metrics=len(METRICS), rows_before=rows,
        empty=empty, full=full, full_to_empty=ratio,
        bytes_per_reading=round(written, 2), bytes_per_reading_of_fresh_rows=round(bytes_raw, 2),
        bytes_per_reading_of_closed_weeks=round(closed, 2), indexes_made_anew=tidied,
        bytes_per_reading_compressed=compressed,
    )  # fmt: skip


@asynccontextmanager
async def _ready(folder: Path, store: str) -> AsyncIterator[tuple[asyncpg.Connection, Tier]]:
    async with database(folder, store) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await prepare(connection)
            await migrate(connection)
            yield connection, (await find_tier(connection)).tier
        finally:
            await connection.close()


async def _measure(
    connection: asyncpg.Connection, table: TelemetryTable, tier: Tier, turn: int, say: Say
) -> dict[str, Any]:
    """Time batches of new rows at the newest end; the two turns interleave and never meet."""
    start = hour_ago(24 * 6) + timedelta(seconds=30 * turn)
    if tier is Tier.PLAIN:
        await ensure_partitions(connection, "air_quality", sorted({week_of(start), week_of(start + timedelta(days=1))}))
    await connection.execute("CHECKPOINT")
    took: list[float] = []
    for number in range(MEASURED):
        rows = _batch(start + timedelta(minutes=number * BATCH // DEVICES), number)
        began = time.perf_counter()
        async with connection.transaction():
            conflicts = await table.merge(connection, rows)
        took.append(time.perf_counter() - began)
        assert not conflicts
        say(f"bench_store.step_{'full' if turn else 'empty'}", (number + 1) / MEASURED)
    rate = MEASURED * BATCH / sum(took)
    return {
        "rows_per_s": round(rate),
        "readings_per_s": round(rate * len(METRICS)),
        "batch_ms": percentiles([each * 1000 for each in took]),
    }


def _batch(start: datetime, seed: int) -> list[Observation]:
    noise = Random(seed).random
    rows = []
    for n in range(BATCH):
        at = start + timedelta(minutes=n // DEVICES)
        day = sin(n / 700)
        values: dict[str, Value] = {
            "pm25": round(25 + 15 * day + 3 * noise(), 1),
            "pm10": round(45 + 25 * day + 5 * noise(), 1),
            "temperature": round(27 + 5 * day + noise() / 2, 1),
            "humidity": round(75 - 15 * day + noise(), 1),
            "co2": float(round(430 + 60 * day + 8 * noise())),
            "pressure": round(1008 + 2 * day + noise() / 3, 1),
        }
        rows.append(
            Observation(
                device_id=n % DEVICES + 1, unit_id=1, class_key="air_quality", time=at, received_at=at, values=values
            )
        )
    return rows


async def _tidied(connection: asyncpg.Connection, tier: Tier, say: Say) -> int:
    """Do what the core does at night to weeks that are over, as if all of these were; give the number of indexes."""
    await connection.execute("ANALYZE telemetry.air_quality", timeout=600)  # as the server would have by then
    rollup = (await read_rollups(connection, ["air_quality"]))["air_quality"]
    say("bench_store.step_tidy", 0.0)
    number = 0
    async for each in tidy(connection, rollup, tier, datetime.now(UTC) + timedelta(days=15)):
        assert each.kept is None, each
        number += 1
    return number


async def _compressed(connection: asyncpg.Connection, tier: Tier, say: Say) -> float:
    """Compress the whole table; give its bytes a reading."""
    chunks = await compress(connection, tier, None, lambda share: say("bench_store.step_compress", share))
    size = await connection.fetchval(
        "SELECT sum(after_compression_total_bytes) FROM chunk_columnstore_stats('telemetry.air_quality')"
    )
    counts = " UNION ALL ".join(f"SELECT count(*) AS rows FROM {chunk}" for chunk in chunks)
    rows = await connection.fetchval(f"SELECT sum(rows) FROM ({counts}) c", timeout=600)
    return round(float(size) / (float(rows) * len(METRICS)), 2)
