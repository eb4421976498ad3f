"""What a team would write without us: an aiomqtt subscriber, one INSERT a reading into a narrow table.

Run as `python -m simulators.bench.baseline HOST PORT` with the DSN on standard input; it says `ready`, then stores
until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime

import aiomqtt
import asyncpg

CREATE = """
CREATE TABLE reading (time timestamptz NOT NULL, device text NOT NULL, metric text NOT NULL, value double precision,
    PRIMARY KEY (device, metric, time))
"""
INSERT = "INSERT INTO reading (time, device, metric, value) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"


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
            time = datetime.fromisoformat(said.pop("time"))
            said.pop("seq")
            for metric, value in said.items():
                await connection.execute(INSERT, time, device, metric, value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.readline().strip()))
