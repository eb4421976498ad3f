"""`iot bench ingest`: MQTT QoS 1, six metrics a message, rules on, acknowledged after commit; counted at both ends."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.errors import StartError
from iot_core.settings import environment
from simulators.bench.publisher import Load, Sent
from simulators.bench.stage import Stage, core, database, scratch
from simulators.ports import free_port

Say = Callable[[str, float], None]
"""Told what is going on, and how much of it is done (0 to 1)."""

METRICS: Final = 6
_BASELINE_S: Final = 10.0
_STANDS_STILL_S: Final = 15.0
_QUEUED: Final = "10000000"
"""The broker keeps all that is published faster than it is stored: the bench measures storing, not dropping."""
_STORED: Final = re.compile(rb'iot_events_total\{event="ingest_stored"\} ([0-9.e+]+)')
_BUCKET: Final = re.compile(rb'iot_commit_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)')


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `rate` 0 publishes as fast as it goes."""

    devices: int = 1_000
    seconds: float = 10.0
    rate: float = 0.0
    dsn: str = ""
    baseline: bool = False


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the benchmark and give its result."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.dsn))
        stage = await stack.enter_async_context(core(folder, dsn, {"IOT_MQTT_QUEUED_MESSAGES": _QUEUED}))
        result = await _measure(stage, options, say)
    if options.baseline:
        say("baseline", 0.0)
        result["baseline"] = await _baseline(options)
        result["ratio"] = round(result["messages_per_s"] / result["baseline"]["messages_per_s"], 1)
    return result


async def _measure(stage: Stage, options: Options, say: Say) -> dict[str, Any]:
    accounts = await _register(stage, options.devices, say)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
    load = Load(
        host="127.0.0.1",
        port=stage.mqtt_port,
        accounts=tuple(accounts),
        seconds=options.seconds,
        rate=options.rate,
        start=start.isoformat(),
    )
    before, began = stage.cpu(), time.perf_counter()
    publishing = asyncio.create_task(_publisher(load), name="publisher")
    while not publishing.done():
        say("publish", min(1.0, (time.perf_counter() - began) / options.seconds))
        await asyncio.sleep(0.2)
    sent = await publishing
    await _settled(stage, sent.acknowledged, say)
    took, after = time.perf_counter() - began, stage.cpu()
    rows = await _rows(stage.dsn)
    cpu = {name: round(after[name] - before[name], 2) for name in after}
    return {
        "bench": "ingest",
        "settings": msgspec.to_builtins(msgspec.structs.replace(options, dsn="given" if options.dsn else "embedded")),
        "machine": {"cores": os.cpu_count(), "cpu": _cpu_name(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("iot-core", "mqttium", "asyncpg", "msgspec")},
        "messages": sent.acknowledged,
        "messages_per_s": round(sent.acknowledged / took),
        "readings_per_s": round(METRICS * sent.acknowledged / took),
        "published_per_s": round(sent.acknowledged / sent.seconds),
        "commit_s": await _percentiles(stage),
        "cpu_s": {**cpu, "publisher": round(sent.cpu_s, 2)},
        "core_us_per_message": round(cpu["core"] / max(sent.acknowledged, 1) * 1e6, 1),
        "core_memory_peak_mb": stage.memory_peak_mb(),
        "lost": max(sent.acknowledged - rows, 0),
        "duplicate": max(rows - sent.written, 0),
    }


async def _register(stage: Stage, number: int, say: Say) -> list[tuple[str, str]]:
    accounts: list[tuple[str, str]] = []
    for first in range(0, number, shapes.MAX_BATCH):
        say("register", first / number)
        keys = [f"bench-{n}" for n in range(first, min(first + shapes.MAX_BATCH, number))]
        added = await stage.client.add_devices(
            [shapes.DeviceNew(key=key, profile="native-air-quality", simulated=True) for key in keys]
        )
        accounts += [(each.device.key, each.secret or "") for each in added.items]
    return accounts


async def _publisher(load: Load) -> Sent:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.bench.publisher",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(msgspec.json.encode(load))
    if process.returncode:
        raise StartError("bench.publisher_failed", exit_code=process.returncode)
    return msgspec.json.decode(out, type=Sent)


async def _settled(stage: Stage, wanted: int, say: Say) -> None:
    """Wait until the core stored everything, or stores nothing more; what it never stores shows in the rows."""
    stored, moved = -1, time.perf_counter()
    while time.perf_counter() - moved < _STANDS_STILL_S:
        before, stored = stored, await _stored(stage)
        if stored >= wanted:
            return
        if stored != before:
            moved = time.perf_counter()
        say("settle", stored / wanted)
        await asyncio.sleep(0.1)


async def _metrics(stage: Stage) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{stage.client.url}/metrics") as response:
        return await response.read()


async def _stored(stage: Stage) -> int:
    found = _STORED.search(await _metrics(stage))
    return int(float(found.group(1))) if found else 0


async def _percentiles(stage: Stage) -> dict[str, float]:
    """Read percentiles off the core's histogram of arrival to COMMIT: the upper bound of the bucket they fall in."""
    buckets = [(float(bound), float(count)) for bound, count in _BUCKET.findall(await _metrics(stage))]
    total = buckets[-1][1] if buckets else 0.0
    return {
        f"p{share}": next((bound for bound, count in buckets if count >= total * share / 100), 0.0)
        for share in (50, 99)
    }


async def _rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM telemetry.air_quality")
        return found
    finally:
        await connection.close()


async def _baseline(options: Options) -> dict[str, Any]:
    """Run what a team would write, with the same broker program, database server and messages."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        dsn = await stack.enter_async_context(database(folder, options.dsn))
        port = free_port()
        broker = await _open_broker(folder, port)
        stack.push_async_callback(_end, broker)
        subscriber = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulators.bench.baseline", "127.0.0.1", str(port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(_end, subscriber)
        assert subscriber.stdin is not None
        assert subscriber.stdout is not None
        subscriber.stdin.write(dsn.encode() + b"\n")
        async with asyncio.timeout(30):
            await subscriber.stdout.readline()
        accounts = tuple((f"bench-{n}", "") for n in range(min(options.devices, 1_000)))
        load = Load(host="127.0.0.1", port=port, accounts=accounts, seconds=_BASELINE_S)
        publishing = asyncio.create_task(_publisher(load), name="publisher")
        await asyncio.sleep(_BASELINE_S)
        readings = await _narrow_rows(dsn)
        await publishing
    return {"messages_per_s": round(readings / METRICS / _BASELINE_S, 1), "seconds": _BASELINE_S}


async def _open_broker(folder: Path, port: int) -> asyncio.subprocess.Process:
    program = shutil.which("mosquitto", path=f"{environment('PATH')}:/usr/sbin")
    if program is None:
        raise StartError("bench.no_mosquitto")
    config = folder / "open.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 1000000\nlog_type error\n")
    process = await asyncio.create_subprocess_exec(program, "-c", str(config), stderr=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return process
            await asyncio.sleep(0.05)


async def _narrow_rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM reading")
        return found
    finally:
        await connection.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


def _cpu_name() -> str:
    with suppress(OSError):
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return platform.machine()
