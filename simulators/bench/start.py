"""`iot bench start`: how long a core takes until it is ready when a whole city is registered."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from simulators.bench import Say
from simulators.bench.report import percentiles, report
from simulators.bench.stage import EMBEDDED, core, database, scratch
from simulators.bench.stations import register

__all__ = ["Options", "run"]

_MOST_MB: Final = 300.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    devices: int = 100_000
    times: int = 3
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Register, then start core after core on the same state; `ok` when none holds more than it may."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        async with core(folder, dsn) as first:
            empty_s = first.start_s
            await register(first, options.devices, say)
            versions = await first.versions()
        took, held = [], []
        for number in range(options.times):
            say("bench_outage.step_start", number / options.times)
            async with core(folder, dsn) as stage:
                took.append(stage.start_s)
                held.append(stage.memory_peak_mb())
    return report(
        "start", options, ok=max(held) <= _MOST_MB, versions=versions, start_s=percentiles(took, digits=2),
        first_start_without_devices_s=empty_s, memory_peak_mb=max(held),
    )  # fmt: skip
