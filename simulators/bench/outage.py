"""`iot bench outage`: the database goes away under a steady stream, comes back, and the core catches up."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.state import locked
from iot_core.store.server import embedded
from simulators.bench import Say
from simulators.bench.ingest import logins, publishing
from simulators.bench.publisher import Load
from simulators.bench.report import report
from simulators.bench.stage import Stage, core, scratch
from simulators.bench.stations import count, register

__all__ = ["Options", "run"]

_BEFORE_S: Final = 5.0
_AFTER_S: Final = 120.0
_NO_BOUND: Final = 10**9
_LIVE_S: Final = 1.0
"""A stored message no older than this, by its own time, was live."""
_LOOKS: Final = 5
"""How many looks in a row must find live messages."""
_LOOK_S: Final = 0.5
_STANDS_STILL_S: Final = 10.0
_TARGET_S: Final = 90.0
_NEWEST: Final = "SELECT max(last_time) FROM iot.device_status"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: minutes without a database, messages a second all the time."""

    minutes: float = 1.0
    rate: float = 1_000.0
    devices: int = 1_000


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Measure; `ok` when nothing is lost or doubled and live messages are stored at once again in time."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        (folder / "store").mkdir(mode=0o711)
        state = stack.enter_context(locked(folder / "store" / "state"))
        server = await stack.enter_async_context(AsyncExitStack())
        dsn = await server.enter_async_context(embedded(state))
        stage = await stack.enter_async_context(core(folder, dsn))
        accounts = await register(stage, options.devices, say)
        versions = await stage.versions()
        load = Load(
            "127.0.0.1", stage.mqtt_port, logins(accounts),
            _BEFORE_S + 60 * options.minutes + _AFTER_S, options.rate,
        )  # fmt: skip
        async with publishing(load) as (said, numbers):
            numbers.write(b"%d\n" % _NO_BOUND)  # what waits is the broker's here
            await _bar(_BEFORE_S, say, "bench_outage.step_before")
            await server.aclose()
            began = time.perf_counter()
            await _bar(60 * options.minutes, say, "bench_outage.step_away")
            away_s = time.perf_counter() - began
            await server.enter_async_context(embedded(state))
            live_s, away = await _until_live(stage, say)
            numbers.close()
            sent = await said
        rows, held = await _counted(stage, sent.acknowledged, say)
        memory, broker_memory = stage.memory_peak_mb(), stage.broker_memory_peak_mb()
    lost, duplicate = max(sent.acknowledged - rows, 0), max(rows - sent.written, 0)
    return report(
        "outage", options, ok=lost == duplicate == held == 0 and live_s is not None and live_s < _TARGET_S,
        versions=versions, messages=sent.acknowledged, away_s=round(away_s, 1), behind_at_return=away,
        live_again_s=live_s, target_s=_TARGET_S, memory_peak_mb=memory,
        broker_memory_peak_mb=broker_memory, lost=lost, duplicate=duplicate, held=held,
    )  # fmt: skip


async def _bar(seconds: float, say: Say, step: str) -> None:
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        say(step, elapsed / seconds)
        await asyncio.sleep(min(_LOOK_S, seconds - elapsed))


async def _until_live(stage: Stage, say: Say) -> tuple[float | None, float | None]:
    """Give the seconds from the database's return until what is stored is live again, and how far behind it began."""
    began, live, behind = time.perf_counter(), 0, None
    while (elapsed := time.perf_counter() - began) < _AFTER_S:
        say("bench_outage.step_behind", elapsed / _TARGET_S)
        with suppress(OSError, asyncpg.PostgresError):
            lag_s = await _lag_s(stage.dsn)
            behind = lag_s if behind is None else behind
            live = live + 1 if lag_s < _LIVE_S else 0
            if live == _LOOKS:
                return round(elapsed - (_LOOKS - 1) * _LOOK_S, 1), round(behind, 1)
        await asyncio.sleep(_LOOK_S)
    return None, None if behind is None else round(behind, 1)


async def _counted(stage: Stage, wanted: int, say: Say) -> tuple[int, int]:
    """Give the rows and what is held, once everything is there or nothing more comes.

    The core's own counter would end it too early: what the broker sent again after a cut is counted again.
    """
    found, moved = await count(stage), time.perf_counter()
    while sum(found) < wanted and time.perf_counter() - moved < _STANDS_STILL_S:
        say("bench.step_settle", sum(found) / wanted)
        await asyncio.sleep(_LOOK_S)
        before, found = found, await count(stage)
        if found != before:
            moved = time.perf_counter()
    return found


async def _lag_s(dsn: str) -> float:
    connection = await asyncpg.connect(dsn)
    try:
        newest: datetime = await connection.fetchval(_NEWEST)
    finally:
        await connection.close()
    return (datetime.now(UTC) - newest).total_seconds()
