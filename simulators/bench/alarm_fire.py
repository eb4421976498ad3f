"""A fire's way from the detector's uplink to the receipt, under full ingest and beside targets that are dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from simulators.bench import Say
from simulators.bench.alarm_ground import detectors, ground, running, speaker, until
from simulators.bench.ingest import logins, publishing
from simulators.bench.publisher import Load
from simulators.bench.report import percentiles
from simulators.bench.stage import Stage
from simulators.bench.stations import register, spoken
from simulators.ports import free_port

__all__ = ["fire"]

_STATIONS: Final = 1_000
_RATE: Final = 3_000.0
_DETECTORS: Final = 60
_METRICS: Final = ("smoke", "heat", "co_alarm", "gas", "call_point")
_NO_BOUND: Final = 10**9
_SETTLE_S: Final = 2.0
_PATIENCE_S: Final = 30.0
_MOST_MS: Final = 300.0


async def fire(store: str, seconds: float, say: Say) -> dict[str, Any]:
    """Raise fires evenly over `seconds`; `ok` when all came, 99 % of them in time."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(ground(store))
        stage = await stack.enter_async_context(running(place))
        await stack.enter_async_context(_dead_targets(stage))
        await place.told(stage)
        keys = await detectors(stage, _DETECTORS, say)
        accounts = await register(stage, _STATIONS, say)
        await spoken(stage)
        load = Load("127.0.0.1", place.mqtt_port, logins(accounts), seconds + 2 * _SETTLE_S, _RATE)
        speaks = await stack.enter_async_context(speaker(place))
        before = (await stage.events()).get("ingest_stored", 0)
        async with publishing(load) as (sent, numbers):
            numbers.write(b"%d\n" % _NO_BOUND)
            await asyncio.sleep(_SETTLE_S)
            fires = [(key, metric) for metric in _METRICS for key in keys]
            for number, (key, metric) in enumerate(fires):
                say("bench_alarms.step_fire", number / len(fires))
                await speaks.say(key, metric)
                await asyncio.sleep(seconds / len(fires))
            stored = (await stage.events()).get("ingest_stored", 0) - before
            told = await sent

        async def all_there() -> bool:
            return len(speaks.latencies_ms(place.center)) == len(fires)

        await until(all_there, _PATIENCE_S)
        took = speaks.latencies_ms(place.center)
        said = percentiles(took)
    return {
        "ok": len(took) == len(fires) and said["p99"] <= _MOST_MS,
        "fires": len(fires), "receipts": len(took), "uplink_to_receipt_ms": said,
        "ingest_per_s": round(told.written / told.seconds), "stored_meanwhile": stored, "dead_targets": 3,
    }  # fmt: skip


@asynccontextmanager
async def _dead_targets(stage: Stage) -> AsyncIterator[None]:
    """Add one that refuses, one that takes and never answers, one that answers with an error."""
    hold: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hold.append(writer)

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(hang, "127.0.0.1", 0) as hanging,
        await asyncio.start_server(fail, "127.0.0.1", 0) as failing,
    ):
        ports = {
            "refuses": free_port(), "hangs": hanging.sockets[0].getsockname()[1],
            "fails": failing.sockets[0].getsockname()[1],
        }  # fmt: skip
        for key, port in ports.items():
            await stage.client.add_push(key, f"http://127.0.0.1:{port}/", accepts_simulated=True)
        yield
        for writer in hold:
            writer.close()
