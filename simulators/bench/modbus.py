"""`iot bench modbus`: unit ids behind gateways, polled, decoded and stored; what they saw against what is stored.

`ratio` is what asking alone costs our driver, against pymodbus' client on the same gateways.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.api import shapes
from simulators.bench import Say
from simulators.bench.gateways import Field, Seen
from simulators.bench.pymodbus_poller import Polled, Rounds
from simulators.bench.report import percentiles, report
from simulators.bench.sampled import table_of
from simulators.bench.stage import EMBEDDED, Stage, core, database, scratch

REGISTERS: Final = 20
INTERVAL_S: Final = 10.0
MOST_CORE: Final = 0.4
"""Of one core, for polling, decoding and storing together."""
MOST_LATE_S: Final = 1.0
_SETTLE_S: Final = 2 * INTERVAL_S
_ALONE_S: Final = 2 * INTERVAL_S
_METRICS: Final = REGISTERS // 2
_CLASS: Final = "bench_meter"
_COUNT: Final = f"SELECT count(*) FROM telemetry.{_CLASS} WHERE time > $1 AND time <= $2"
_TWICE: Final = f"""
SELECT count(*) FROM (
    SELECT time - lag(time) OVER (PARTITION BY device_id ORDER BY time) AS gap
    FROM telemetry.{_CLASS} WHERE time > $1 AND time <= $2
) AS gaps WHERE gap < $3
"""
_ALONE: Final = {"driver": "driver_poller", "pymodbus": "pymodbus_poller"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `answer_ms` is how long each device takes to answer."""

    units: int = 5_000
    gateways: int = 50
    seconds: float = 30.0
    answer_ms: float = 5.0
    store: str = EMBEDDED
    baseline: bool = True
    profile: bool = False


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the benchmark and give its result."""
    per_gateway = -(-options.units // options.gateways)
    field = Field(options.gateways, per_gateway, REGISTERS, options.answer_ms / 1000)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        _write_profile(folder / "profiles")
        dsn = await stack.enter_async_context(database(folder, options.store))
        served = await stack.enter_async_context(_gateways(field))
        settings = {"IOT_PROFILES": str(folder / "profiles"), "IOT_MODBUS_CONNECTIONS": str(options.gateways)}
        async with core(folder, dsn, settings, sampled=options.profile) as stage:
            await _register(stage, served.ports, per_gateway, say)
            result = await _measure(stage, served, options, say)
            memory, versions = stage.memory_peak_mb(), await stage.versions()
        if options.baseline:
            alone = {name: await _alone(program, field, folder / "profiles", say) for name, program in _ALONE.items()}
            result["alone"] = alone
            result["ratio"] = round(alone["driver"]["cpu_us_per_poll"] / alone["pymodbus"]["cpu_us_per_poll"], 2)
    on_time = result["late_ms"].get("max", 0.0) <= 1000 * MOST_LATE_S and result["silent"] == 0
    light = result["core_share"] < MOST_CORE and result.get("ratio", 0) <= 1
    return report(
        "modbus",
        options,
        ok=on_time and light and result["lost"] == result["duplicate"] == 0,
        versions={**versions, "pymodbus": version("pymodbus")},
        **result,
        targets={"core_share": MOST_CORE, "late_ms": 1000 * MOST_LATE_S, "ratio": 1},
        memory_peak_mb=memory,
    )


class _Served:
    """The gateways' process."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int]) -> None:
        self._process = process
        self.ports = ports

    async def seen(self) -> Seen:
        """Say what was asked since the last time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return msgspec.json.decode(await self._process.stdout.readline(), type=Seen)


@asynccontextmanager
async def _gateways(field: Field) -> AsyncIterator[_Served]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.bench.gateways", limit=2**24,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(field) + b"\n")
        yield _Served(process, msgspec.json.decode(await process.stdout.readline(), type=list[int]))
    finally:
        process.stdin.close()
        await process.wait()


async def _register(stage: Stage, ports: list[int], per_gateway: int, say: Say) -> None:
    new = [
        shapes.DeviceNew(
            key=f"bench-{port}-{unit}", profile="bench-meter", address=f"127.0.0.1:{port}/{unit}", simulated=True
        )
        for port in ports
        for unit in range(1, per_gateway + 1)
    ]
    for first in range(0, len(new), shapes.MAX_BATCH):
        say("bench.step_register", first / len(new))
        await stage.client.add_devices(new[first : first + shapes.MAX_BATCH])


async def _measure(stage: Stage, served: _Served, options: Options, say: Say) -> dict[str, Any]:
    await _wait(_SETTLE_S, "bench.step_settle", say)
    if options.profile:
        stage.begin_profile()
    before, began = stage.cpu(), time.perf_counter()
    await served.seen()
    first = datetime.now(UTC)
    await _wait(options.seconds, "bench.step_poll", say)
    seen = await served.seen()
    last, after, took = datetime.now(UTC), stage.cpu(), time.perf_counter() - began
    profile = await stage.end_profile() if options.profile else []
    stored, twice = await _settled(stage, first, last)
    late = [max(0.0, gap - INTERVAL_S) * 1000 for gap in seen.gaps_s]
    cpu = {name: round(after[name] - before[name], 2) for name in after} | {"gateways": round(seen.cpu_s, 2)}
    events = await stage.events()
    return {
        "polls": seen.polls,
        "polls_per_s": round(seen.polls / took, 1),
        "readings_per_s": round(_METRICS * seen.polls / took),
        "core_share": round((after["core"] - before["core"]) / took, 3),
        "late_ms": percentiles(late),
        "silent": seen.silent,
        "cpu_s": cpu,
        "cpu_us_per_poll": {name: round(used / max(seen.polls, 1) * 1e6, 1) for name, used in cpu.items()},
        "events": {name: count for name, count in events.items() if name.startswith("modbus_")},
        "lost": max(seen.polls - stored - options.gateways, 0),  # each may have one answer on its way
        "duplicate": twice,
        **({"profile": table_of(profile, seen.polls)} if profile else {}),
    }


async def _wait(seconds: float, step: str, say: Say) -> None:
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        say(step, passed / seconds)
        await asyncio.sleep(min(0.25, seconds - passed))


async def _settled(stage: Stage, first: datetime, last: datetime) -> tuple[int, int]:
    """Count the rows of a stretch of time once no more of them come, and those of polls that are there twice."""
    connection = await asyncpg.connect(stage.dsn)
    try:
        rows, before = 0, -1
        while rows != before:
            await asyncio.sleep(1.0)
            before, rows = rows, await connection.fetchval(_COUNT, first, last)
        return rows, await connection.fetchval(_TWICE, first, last, timedelta(seconds=INTERVAL_S / 4))
    finally:
        await connection.close()


async def _alone(program: str, field: Field, profiles: Path, say: Say) -> dict[str, Any]:
    """Let one client alone ask the same gateways as often; what is said is neither decoded nor stored."""
    async with _gateways(field) as served:
        rounds = Rounds(served.ports, field.units, field.registers, INTERVAL_S, _ALONE_S)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"simulators.bench.{program}", str(profiles),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        asking = asyncio.create_task(process.communicate(msgspec.json.encode(rounds)), name=program)
        await _wait(_ALONE_S, "bench.step_baseline", say)
        # The driver's log may come before it.
        polled = msgspec.json.decode((await asking)[0].splitlines()[-1], type=Polled)
    return {
        "polls": polled.polls,
        "cpu_s": round(polled.cpu_s, 2),
        "cpu_us_per_poll": round(polled.cpu_s / max(polled.polls, 1) * 1e6, 1),
    }


def _write_profile(folder: Path) -> None:
    """Write a class of ten metrics and a model that has them in twenty registers."""
    own = folder / _CLASS
    own.mkdir(parents=True)
    metric = "  m{n}: {{title: {{vi: Số {n}, en: Number {n}}}, ucum: V, precision: 1}}\n"
    point = "    m{n}: {{address: {address}, type: float32}}\n"
    (own / "class.yaml").write_text(
        "title: {vi: Đồng hồ thử, en: Bench meter}\nmetrics:\n" + "".join(metric.format(n=n) for n in range(_METRICS)),
        encoding="utf-8",
    )
    words = ", ".join(["0x4248", "0x0000"] * _METRICS)
    values = ", ".join(f"m{n}: 50" for n in range(_METRICS))
    (own / "bench_meter.yaml").write_text(
        "model: bench-meter\nvendor: iot-core\ntitle: {vi: Đồng hồ thử, en: Bench meter}\n"
        f"source: this benchmark\ninterval: {INTERVAL_S:g}s\nmodbus:\n  points:\n"
        + "".join(point.format(n=n, address=2 * n) for n in range(_METRICS))
        + f'examples: [{{registers: {{"holding:0": [{words}]}}, values: {{{values}}}}},'
        " {registers: {}, held: truncated}]\n",
        encoding="utf-8",
    )
