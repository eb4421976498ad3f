"""`iot bench coap`: POST from many endpoints, six metrics a message, stored before 2.04; counted at both ends."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final

import msgspec

from iot_core.errors import StartError
from simulators.bench import Say
from simulators.bench.poster import Load, Sent
from simulators.bench.report import report
from simulators.bench.stage import EMBEDDED, Stage, core, database, scratch
from simulators.bench.stations import METRICS, count, register

TARGETS: Final = {"con": 2_000, "non": 3_000}
"""Messages a second that two cores should carry, publisher, core and database together."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `rate` 0 posts as fast as answers come; `confirmable` None measures both, one by one."""

    devices: int = 500
    seconds: float = 10.0
    rate: float = 0.0
    store: str = EMBEDDED
    confirmable: bool | None = None


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the benchmark and give its result."""
    kinds = ("con", "non") if options.confirmable is None else ("con" if options.confirmable else "non",)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        stage = await stack.enter_async_context(core(folder, dsn))
        accounts = tuple(await register(stage, options.devices, say))
        results = {kind: await _measure(stage, options, accounts, kind, say) for kind in kinds}
        memory, versions = stage.memory_peak_mb(), await stage.versions()
    # A rate that was asked for is no measurement of the highest one.
    fast = all(each["messages_per_s"] >= TARGETS[kind] for kind, each in results.items()) or options.rate > 0
    clean = all(each["lost"] == each["duplicate"] == each["refused_in_all"] == 0 for each in results.values())
    return report(
        "coap",
        options,
        ok=fast and clean,
        versions={**versions, "aiocoap": version("aiocoap")},
        **results,
        targets_per_s={kind: TARGETS[kind] for kind in kinds},
        memory_peak_mb=memory,
        lost=sum(each["lost"] for each in results.values()),
        duplicate=sum(each["duplicate"] for each in results.values()),
    )


async def _measure(
    stage: Stage, options: Options, accounts: tuple[tuple[str, str], ...], kind: str, say: Say
) -> dict[str, Any]:
    # A run of its own for each kind: else the second would only meet rows that are there.
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2 if kind == "con" else 1)
    load = Load("127.0.0.1", stage.coap_port, accounts, options.seconds, kind == "con", options.rate, start.isoformat())
    (rows, _), before, began = await count(stage), stage.cpu(), time.perf_counter()
    posting = asyncio.create_task(_post(load), name="poster")
    while not posting.done():
        say("bench.step_post", min(1.0, (time.perf_counter() - began) / options.seconds))
        await asyncio.wait([posting], timeout=0.2)
    sent, after = posting.result(), stage.cpu()
    new = (await count(stage))[0] - rows
    cpu = {name: round(after[name] - before[name], 2) for name in after}
    return {
        "messages": sent.acknowledged,
        "messages_per_s": round(sent.acknowledged / sent.seconds),
        "readings_per_s": round(METRICS * sent.acknowledged / sent.seconds),
        "answer_ms": sent.answer_ms,
        "repeated": sent.repeated,
        "refused": sent.refused,
        "refused_in_all": sum(sent.refused.values()),
        "cpu_s": {**cpu, "poster": round(sent.cpu_s, 2)},
        "core_us_per_message": round(cpu["core"] / max(sent.acknowledged, 1) * 1e6, 1),
        "lost": max(sent.acknowledged - new, 0),
        "duplicate": max(new - sent.written, 0),
    }


async def _post(load: Load) -> Sent:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.bench.poster", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(load))
    if process.returncode:
        raise StartError("bench.publisher_failed", exit_code=process.returncode)
    return msgspec.json.decode(out, type=Sent)
