"""`iot bench ingest`: MQTT QoS 1, six metrics a message, rules on, acknowledged after commit; counted at both ends."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import StartError
from simulators.bench import Say
from simulators.bench.baseline import measure_baseline
from simulators.bench.brokers import open_broker
from simulators.bench.publisher import Load, Login, Sent
from simulators.bench.report import report
from simulators.bench.sampled import table_of
from simulators.bench.stage import EMBEDDED, Stage, core, database, scratch
from simulators.bench.stations import METRICS, count, register, spoken

__all__ = ["Options", "logins", "publishing", "run", "settled"]

_CONNECTIONS: Final = 1_000
_AHEAD: Final = 10_000
"""How many messages may be published and not yet stored: enough to keep everyone busy, too few for a queue to grow."""
_LOOK_S: Final = 0.25
_STANDS_STILL_S: Final = 15.0
_BUCKET: Final = re.compile(r'iot_commit_seconds_bucket\{le="(.+)"\}')


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `rate` 0 publishes as fast as it is stored; `against` so many devices is measured as well.

    `burst`: how many observations a device says one after the other before it is the next one's turn, at full speed.
    """

    devices: int = 1_000
    seconds: float = 10.0
    rate: float = 0.0
    burst: int = 10
    store: str = EMBEDDED
    baseline: bool = False
    profile: bool = False
    receipts: bool = True
    against: int | None = None


class Watched(msgspec.Struct):
    """What was seen while it ran: [seconds, messages stored] and the core's memory."""

    stored: list[tuple[float, int]] = []
    memory_mb: float = 0.0

    def slowest_per_s(self, seconds: float) -> int:
        """Give the slowest stretch of `seconds`."""
        ticks = [self.stored[0], *(b for a, b in pairwise(self.stored) if b[0] // seconds > a[0] // seconds)]
        return round(min(((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(ticks)), default=0))


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the benchmark and give its result."""
    result = await _staged(options, say)
    if options.against:
        few = await _staged(msgspec.structs.replace(options, devices=options.against, profile=False), say)
        result["flat_cost"] = _flat_cost(options.against, result["cpu_us_per_message"], few["cpu_us_per_message"])
        result["ok"] = result["ok"] and few["ok"]
    if options.baseline:
        say("bench.step_baseline", 0.0)
        result["baseline"] = await measure_baseline(options.store)
        result["ratio"] = round(result["messages_per_s"] / result["baseline"]["messages_per_s"], 1)
    return result


def _flat_cost(against: int, many: dict[str, float], few: dict[str, float]) -> dict[str, float]:
    """Say how many times as dear a message is as with `against` devices: to the core, the database, and both."""
    parts = {name: round(many[name] / few[name], 2) for name in ("core", "database") if few[name]}
    both = [used["core"] + used["database"] for used in (many, few)]
    return {"against_devices": against, **parts, "both": round(both[0] / both[1], 2)}


async def _staged(options: Options, say: Say) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        settings = {"IOT_MQTT_RECEIPTS": "true" if options.receipts else "false"}
        settings["IOT_INGEST_DEVICE_RATE"] = "1000000"  # a few devices stand for many here
        if options.devices > _CONNECTIONS:  # few connections speak for many devices, which no account of ours may
            port = await stack.enter_async_context(open_broker(folder))
            settings |= {"IOT_MQTT_BROKER": "external", "IOT_MQTT_PORT": str(port)}
        stage = await stack.enter_async_context(core(folder, dsn, settings, sampled=options.profile))
        return await _measure(stage, options, say)


async def _measure(stage: Stage, options: Options, say: Say) -> dict[str, Any]:
    accounts = await register(stage, options.devices, say)
    await spoken(stage)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
    load = Load(
        host="127.0.0.1", port=stage.mqtt_port, logins=logins(accounts), seconds=options.seconds, rate=options.rate,
        burst=options.burst, start=start.isoformat(),
    )  # fmt: skip
    if options.profile:
        stage.begin_profile()
    before, began = stage.cpu(), time.perf_counter()
    sent, watched = await _publish(stage, load, say)
    await settled(stage, sent.acknowledged, say)
    took, after = time.perf_counter() - began, stage.cpu()
    commit_s = await _percentiles(stage)
    profile = await stage.end_profile() if options.profile else []
    rows, held = await count(stage)
    lost, duplicate = max(sent.acknowledged - rows, 0), max(rows - sent.written, 0)
    cpu = {name: round(after[name] - before[name], 2) for name in after} | {"publisher": round(sent.cpu_s, 2)}
    return report(
        "ingest",
        options,
        ok=lost == duplicate == held == 0,
        versions=await stage.versions(),
        messages=sent.acknowledged,
        messages_per_s=round(sent.acknowledged / took),
        readings_per_s=round(METRICS * sent.acknowledged / took),
        slowest_5s_per_s=watched.slowest_per_s(5.0),
        commit_s=commit_s,
        **(await _latency(stage, commit_s) if options.rate else {}),
        cpu_s=cpu,
        cpu_us_per_message={name: round(used / max(sent.acknowledged, 1) * 1e6, 1) for name, used in cpu.items()},
        start_s=stage.start_s,
        memory_mb=watched.memory_mb,
        memory_peak_mb=stage.memory_peak_mb(),
        lost=lost,
        duplicate=duplicate,
        held=held,
        **({"profile": table_of(profile, sent.acknowledged)} if profile else {}),
    )


def logins(accounts: list[tuple[str, str]]) -> tuple[Login, ...]:
    """Give every device a connection, or, beyond a thousand, share that many among all."""
    if len(accounts) <= _CONNECTIONS:
        return tuple(Login(key, key, secret, (key,)) for key, secret in accounts)
    keys = [key for key, _ in accounts]
    return tuple(Login(f"bench-{n}", "", "", tuple(keys[n::_CONNECTIONS])) for n in range(_CONNECTIONS))


async def _publish(stage: Stage, load: Load, say: Say) -> tuple[Sent, Watched]:
    """Run the publisher, and let it write no further ahead of the store than the bound."""
    watched, began = Watched(stored=[(0.0, 0)]), time.perf_counter()
    async with publishing(load) as (said, numbers):
        while not said.done():
            stored = (await stage.events()).get("ingest_stored", 0)
            elapsed = time.perf_counter() - began
            watched.stored.append((elapsed, stored))
            watched.memory_mb = max(watched.memory_mb, stage.memory_mb())
            say("bench.step_publish", elapsed / load.seconds)
            numbers.write(b"%d\n" % (stored + _AHEAD))
            await asyncio.wait([said], timeout=_LOOK_S)
        return said.result(), watched


@asynccontextmanager
async def publishing(load: Load) -> AsyncIterator[tuple[asyncio.Task[Sent], asyncio.StreamWriter]]:
    """Run the publisher; give the task that ends with what it sent, and where a paced one is told how far it may go."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.bench.publisher",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(load) + b"\n")
    said = asyncio.create_task(_said(process, process.stdout), name="publisher")
    try:
        yield said, process.stdin
    finally:
        said.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _said(process: asyncio.subprocess.Process, out: asyncio.StreamReader) -> Sent:
    said = await out.read()
    if await process.wait():
        raise StartError("bench.publisher_failed", exit_code=process.returncode)
    return msgspec.json.decode(said, type=Sent)


async def settled(stage: Stage, wanted: int, say: Say) -> None:
    """Wait until the core stored everything, or stores nothing more; what it never stores shows in the rows."""
    stored, moved = -1, time.perf_counter()
    while time.perf_counter() - moved < _STANDS_STILL_S:
        before, stored = stored, (await stage.events()).get("ingest_stored", 0)
        if stored >= wanted:
            return
        if stored != before:
            moved = time.perf_counter()
        say("bench.step_settle", stored / wanted)
        await asyncio.sleep(0.1)


async def _percentiles(stage: Stage) -> dict[str, float]:
    """Read percentiles off the core's histogram of arrival to COMMIT: the upper bound of the bucket they fall in."""
    matches = ((_BUCKET.fullmatch(name), count) for name, count in (await stage.metrics()).items())
    buckets = [(float(match[1]), count) for match, count in matches if match]
    total = buckets[-1][1] if buckets else 0.0
    return {
        f"p{share}": next((bound for bound, count in buckets if count >= total * share / 100), 0.0)
        for share in (50, 99, 99.5)
    }


_ARRIVAL: Final = """
SELECT percentile_cont(ARRAY[0.5, 0.995]) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM received_at - time) * 1000)
FROM telemetry.air_quality
"""


async def _latency(stage: Stage, commit_s: dict[str, float]) -> dict[str, Any]:
    """Bound the time from publishing (which a paced message carries) to COMMIT.

    At most 0.5 % of the messages were later at the core than the one bound, and 0.5 % later from there to COMMIT than
    the other, so 99 % of them took no longer than both together.
    """
    connection = await asyncpg.connect(stage.dsn)
    try:
        median, most = (float(each) for each in await connection.fetchval(_ARRIVAL))
    finally:
        await connection.close()
    return {
        "publish_to_core_ms": {"p50": round(median, 1), "p99.5": round(most, 1)},
        "publish_to_commit_ms": {"p99": round(most + 1000 * commit_s["p99.5"], 1)},
    }
