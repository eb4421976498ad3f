"""Alarms and notices for push tests, and a worker that runs while a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg

from iot_core.model import Severity
from iot_core.push import Notice, enqueue, run_push
from iot_core.push.targets import add
from iot_core.settings import Push, Settings
from iot_core.store.vault import Vault
from tests.push.receiver import SECRET

T0 = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)


async def alarm(pool: asyncpg.Pool, rule: str = "tank.high") -> int:
    found: int = await pool.fetchval(
        "INSERT INTO iot.alarm (source_kind, source_id, rule, severity, title_vi, title_en, raised_at, received_at)"
        " SELECT 'outside', count(*), $1, 'high', 'Cao', 'High', now(), now() FROM iot.alarm RETURNING id",
        rule,
    )
    return found


async def tell(pool: asyncpg.Pool, alarm_id: int, *types: str, **facts: Any) -> int:
    """Put notices of an alarm into the outbox in one transaction each."""
    rows = 0
    for kind in types or ("alarm.raised",):
        notice = Notice(
            **{
                "type": kind,
                "at": T0,
                "alarm_id": alarm_id,
                "device_id": None,
                "severity": Severity.HIGH,
                "simulated": False,
                "alarm": {"id": alarm_id},
                **facts,
            }
        )
        async with pool.acquire() as connection, connection.transaction():
            rows += await enqueue(connection, [notice])
    return rows


async def target(pool: asyncpg.Pool, key: str, url: str, **facts: Any) -> None:
    async with pool.acquire() as connection:
        await add(connection, key, url, **{"secret": SECRET, "allow_private": True, **facts})


@asynccontextmanager
async def pushing(pool: asyncpg.Pool, vault: Vault | None = None, **facts: Any) -> AsyncIterator[None]:
    """Run a worker while the block lasts."""
    settings = Settings(push=Push(**{"allow_private": True, "timeout_s": 5.0, **facts}))
    task = asyncio.create_task(run_push(pool, settings, vault=vault))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled(pool: asyncpg.Pool, number: int) -> None:
    """Wait until so many messages are delivered or dead."""
    async with asyncio.timeout(60):
        while (
            await pool.fetchval("SELECT count(*) FROM iot.outbox WHERE delivered_at IS NOT NULL OR dead_at IS NOT NULL")
            < number
        ):
            await asyncio.sleep(0.01)


async def tried(pool: asyncpg.Pool, number: int) -> None:
    """Wait until so many messages have failed. One may have failed twice before another was tried at all."""
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM iot.outbox WHERE last_error <> ''") < number:
            await asyncio.sleep(0.01)
