"""`iot bench query`: how long people and dashboards wait: newest values, a month of a metric, aggregates of many.

A core over a month of 500 devices (one of them by the minute), and the rest of the city just heard. Each question is
asked over HTTP, whole answer read, and as the core itself reads it from the database.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg
import msgspec

from iot_core.profiles import load
from iot_core.state import StateDir
from iot_core.store import buckets, due, read
from iot_core.store.connection import SPANS_PLANNED, prepare
from iot_core.store.levels import Level, whole_buckets
from iot_core.store.newest_json import newest_json
from iot_core.store.refresh import Refresh
from iot_core.store.tables import read_calendar, read_rollups
from iot_core.store.tier import Tier, find_tier
from simulators.bench import Say
from simulators.bench.filling import SIGNAL, compress, fill, hour_ago
from simulators.bench.report import percentiles, report
from simulators.bench.stage import EMBEDDED, Stage, core, database, scratch
from simulators.bench.stations import register

MONTH: Final = timedelta(days=30)
MEASURED: Final = 500
AREA: Final = "bench"
TARGETS_MS: Final = {"latest_of_all": 100.0, "month_of_one_metric": 50.0, "month_of_500_devices": 300.0}
"""Median as the core reads it, and 95 of 100 over HTTP."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: devices in the city, minutes between rows of the 500, their days, how often each is asked."""

    devices: int = 10_000
    every: int = 5
    days: int = 30
    times: int = 20
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Measure; `ok` when every median is within its target, and over HTTP every 95th percentile."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        stage = await stack.enter_async_context(core(folder, dsn))
        await register(stage, options.devices, say)
        connection = await asyncpg.connect(dsn, server_settings={"jit": "off", "timezone": "UTC", **SPANS_PLANNED})
        stack.push_async_callback(connection.close)
        await prepare(connection)
        tier = (await find_tier(connection)).tier
        rows = await _fill(connection, tier, options, say)
        read_ms = {
            name: percentiles(await _times(ask, options.times, say, "bench_query.step_read"), digits=2)
            for name, ask in (await _reads(connection)).items()
        }
        http_ms, sizes = await _over_http(stage, options.times, say)
        versions = await stage.versions()
    ok = all(read_ms[name]["p50"] <= most and http_ms[name]["p95"] <= most for name, most in TARGETS_MS.items())
    return report(
        "query", options, ok=ok, versions=versions, tier=tier.value, signal=SIGNAL, rows=rows,
        read_ms=read_ms, http_ms=http_ms, answer_kb=sizes, targets_ms=TARGETS_MS,
    )  # fmt: skip


async def _fill(connection: asyncpg.Connection, tier: Tier, options: Options, say: Say) -> int:
    """Make a month of 500 devices, a moment of all others, their status and their rollups."""
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM iot.device ORDER BY id")]
    now = hour_ago(0)
    start = now - timedelta(days=options.days)
    every = timedelta(minutes=options.every)

    def done(share: float) -> None:
        say("bench_store.step_fill", share)

    rows = await fill(connection, tier, (ids[0], ids[0]), start=start, end=now)
    rows += await fill(connection, tier, (ids[1], ids[MEASURED - 1]), start=start, end=now, every=every, done=done)
    rows += await fill(connection, tier, (ids[MEASURED], ids[-1]), start=now - timedelta(minutes=2), end=now)
    await connection.execute("INSERT INTO iot.area (key, name) VALUES ($1, $1)", AREA)
    await connection.execute(
        "UPDATE iot.device SET area_id = (SELECT id FROM iot.area WHERE key = $1) WHERE id <= $2",
        AREA,
        ids[MEASURED - 1],
    )
    await connection.execute(_STATUS, now - timedelta(days=1), timeout=600)
    say("bench_query.step_rollups", 0.0)
    for day in range(options.days):
        first = start + timedelta(days=day)
        await due.note(connection, [("air_quality", first, first + timedelta(days=1), "")])
        await Refresh(await read_rollups(connection, ["air_quality"]), tier).once(connection)
        say("bench_query.step_rollups", (day + 1) / options.days)
    if tier is Tier.COMMUNITY:
        await compress(connection, tier, now - timedelta(days=7))
    await connection.execute("VACUUM ANALYZE", timeout=600)
    return rows


_STATUS: Final = """
INSERT INTO iot.device_status (device_id, last_received_at, last_time, said)
SELECT t.device_id, max(t.received_at), max(t.time), (
    SELECT sum(1::bigint << bit) FROM iot.metric
    WHERE class_key = 'air_quality' AND key IN ('pm25', 'pm10', 'temperature', 'humidity', 'co2', 'pressure')
) FROM telemetry.air_quality t WHERE t.time >= $1 GROUP BY t.device_id
ON CONFLICT (device_id) DO UPDATE SET last_time = excluded.last_time, said = excluded.said
"""


async def _reads(connection: asyncpg.Connection) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Give the questions as the core puts them to the database."""
    device_class = load().classes["air_quality"]
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM iot.device ORDER BY id")]
    pm25 = [metric for metric in device_class.metrics if metric.key == "pm25"]
    zone = (await read_calendar(connection)).zone
    now = datetime.now(UTC)
    hour, hour_end = whole_buckets(now - MONTH, now, Level.HOUR, zone)
    day, day_end = whole_buckets(now - MONTH, now, Level.DAY, zone)
    many = ids[:MEASURED]

    return {
        "latest_of_all": lambda: newest_json(connection, device_class, ids),
        "month_of_one_metric": lambda: buckets.buckets(
            connection, device_class, ids[0], Level.HOUR, start=hour, end=hour_end, metrics=pm25
        ),
        "month_of_one_metric_raw": lambda: read.points(
            connection, device_class, ids[0], pm25[0], start=now - MONTH, end=now, most=100_000
        ),
        "month_of_500_devices": lambda: buckets.stats(
            connection, device_class, Level.DAY, start=day, end=day_end, metrics=pm25, device_ids=many
        ),
        "month_of_500_devices_by_hours": lambda: buckets.stats(
            connection, device_class, Level.HOUR, start=hour, end=hour_end, metrics=pm25, device_ids=many
        ),
    }


async def _times(ask: Callable[[], Awaitable[Any]], times: int, say: Say, step: str) -> list[float]:
    """Ask some times over; the first time warms up."""
    await ask()
    took = []
    for number in range(times):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
        say(step, (number + 1) / times)
    return took


async def _over_http(stage: Stage, times: int, say: Say) -> tuple[dict[str, Any], dict[str, float]]:
    since = (datetime.now(UTC) - MONTH).isoformat().replace("+00:00", "Z")
    questions = {
        "latest_of_all": "/telemetry/latest?class=air_quality",
        "month_of_one_metric": f"/devices/bench-000000/telemetry?metrics=pm25&from={since}",
        "month_of_one_metric_chart": f"/devices/bench-000000/chart?metric=pm25&from={since}",
        "month_of_500_devices": f"/telemetry/stats?area={AREA}&metrics=pm25&from={since}",
    }
    http_ms: dict[str, Any] = {}
    sizes: dict[str, float] = {}
    token = {"Authorization": f"Bearer {StateDir(stage.folder / 'core').read_token()}"}
    async with aiohttp.ClientSession(headers=token) as session:
        for name, path in questions.items():

            async def ask(path: str = path) -> bytes:
                async with session.get(f"{stage.client.url}/api/v1{path}") as answer:
                    answer.raise_for_status()
                    return await answer.read()

            sizes[name] = round(len(await ask()) / 1000, 1)
            http_ms[name] = percentiles(await _times(ask, times, say, "bench_query.step_http"), digits=1)
    return http_ms, sizes
