"""What a team would write without us: an aiomqtt subscriber, one INSERT a reading into a narrow table.

`measure_baseline` runs this file as a process: `python -m simulators.bench.baseline HOST PORT` with the DSN on standard
input says `ready`, then stores until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import Any, Final

import aiomqtt
import asyncpg
import msgspec

from simulators.bench.brokers import open_broker
from simulators.bench.publisher import Load, Login
from simulators.bench.stage import database, scratch
from simulators.bench.stations import METRICS
from simulators.ports import LOOPBACK

__all__ = ["measure_baseline"]

_SECONDS: Final = 10.0
_DEVICES: Final = 1_000
_AHEAD: Final = 1_000
_LOOK_S: Final = 0.25
_READY_S: Final = 30.0

CREATE = """
CREATE TABLE reading (time timestamptz NOT NULL, device text NOT NULL, metric text NOT NULL, value double precision,
    PRIMARY KEY (device, metric, time))
"""
INSERT = "INSERT INTO reading (time, device, metric, value) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"


async def measure_baseline(store: str) -> dict[str, Any]:
    """Run it with the same broker program, database server and messages; publish no further ahead than it keeps up."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        dsn = await stack.enter_async_context(database(folder, store))
        port = await stack.enter_async_context(open_broker(folder))
        subscriber = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulators.bench.baseline", LOOPBACK, str(port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(_end, subscriber)
        assert subscriber.stdin is not None
        assert subscriber.stdout is not None
        subscriber.stdin.write(dsn.encode() + b"\n")
        async with asyncio.timeout(_READY_S):
            await subscriber.stdout.readline()
        logins = tuple(Login(f"bench-{n:06}", "", "", (f"bench-{n:06}",)) for n in range(_DEVICES))
        publisher = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulators.bench.publisher",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(_end, publisher)
        assert publisher.stdin is not None
        load = Load(host=LOOPBACK, port=port, logins=logins, seconds=10 * _SECONDS)
        publisher.stdin.write(msgspec.json.encode(load) + b"\n")
        return {"messages_per_s": await _rate(dsn, publisher.stdin), "seconds": _SECONDS}


async def _rate(dsn: str, pace: asyncio.StreamWriter) -> float:
    """Measure from the first stored reading on."""
    connection = await asyncpg.connect(dsn)
    try:
        first, began = 0.0, 0.0
        while True:
            stored: float = await connection.fetchval("SELECT count(*) FROM reading") / METRICS
            elapsed = time.perf_counter() - began
            if stored and not began:
                first, began = stored, time.perf_counter()
            elif began and elapsed >= _SECONDS:
                return round((stored - first) / elapsed, 1)
            pace.write(b"%d\n" % (stored + _AHEAD))
            await asyncio.sleep(_LOOK_S)
    finally:
        await connection.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def main(host: str, port: int, dsn: str) -> None:
    """Subscribe and insert."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(CREATE)
    async with aiomqtt.Client(host, port, identifier="baseline") as client:
        await client.subscribe("iot/v1/+/telemetry", qos=1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async for message in client.messages:
            device = str(message.topic).split("/")[2]
            said = json.loads(message.payload)
            at = datetime.fromisoformat(said.pop("time"))
            said.pop("seq")
            for metric, value in said.items():
                await connection.execute(INSERT, at, device, metric, value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.readline().strip()))
