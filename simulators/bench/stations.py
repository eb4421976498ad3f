"""The devices of a benchmark: air-quality stations that say six metrics a message, and what is stored of them."""

from __future__ import annotations

from typing import Final

import asyncpg

from iot_core.api import shapes
from simulators.bench import Say
from simulators.bench.stage import Stage

__all__ = ["METRICS", "count", "register", "spoken"]

METRICS: Final = 6


async def register(stage: Stage, number: int, say: Say) -> list[tuple[str, str]]:
    """Register stations; give their keys, alike in length, and secrets."""
    accounts: list[tuple[str, str]] = []
    for first in range(0, number, shapes.MAX_BATCH):
        say("bench.step_register", first / number)
        keys = [f"bench-{n:06}" for n in range(first, min(first + shapes.MAX_BATCH, number))]
        added = await stage.client.add_devices(
            [shapes.DeviceNew(key=key, profile="native-air-quality", simulated=True) for key in keys]
        )
        accounts += [(each.device.key, each.secret or "") for each in added.items]
    return accounts


_SPOKEN: Final = (
    "UPDATE iot.device SET lifecycle = 'active'",
    """
    INSERT INTO iot.device_status (device_id, last_received_at, last_time)
    SELECT id, now(), now() - interval '1 day' FROM iot.device ON CONFLICT DO NOTHING
    """,
    "INSERT INTO iot.seq_range (unit_id, run, seqs) SELECT id, '', '{}' FROM iot.unit ON CONFLICT DO NOTHING",
    "VACUUM ANALYZE iot.device, iot.unit, iot.device_status, iot.seq_range",
)


async def spoken(stage: Stage) -> None:
    """Let every device have spoken once: what its first message costs is no part of what a message costs."""
    connection = await asyncpg.connect(stage.dsn)
    try:
        for statement in _SPOKEN:
            await connection.execute(statement, timeout=300)
    finally:
        await connection.close()


async def count(stage: Stage) -> tuple[int, int]:
    """Count the rows, and what was held."""
    connection = await asyncpg.connect(stage.dsn)
    try:
        rows: int = await connection.fetchval("SELECT count(*) FROM telemetry.air_quality")
        held: int = await connection.fetchval("SELECT count(*) FROM iot.held_uplink")
        return rows, held
    finally:
        await connection.close()
