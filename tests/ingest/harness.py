"""The ingest path as the core wires it, on a real database, without drivers: tests emit uplinks themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from iot_core.alarms.evaluate import Evaluator
from iot_core.counters import Counters
from iot_core.ingest.flush import Flush
from iot_core.ingest.limit import RateLimit
from iot_core.ingest.load import Loader
from iot_core.ingest.prepare import Prepare, Work
from iot_core.ingest.worker import Ingest
from iot_core.model import Outcome, Uplink
from iot_core.registry.directory import Directory
from iot_core.settings import Settings
from iot_core.store.completeness import Model, note_models
from iot_core.store.connection import open_pool
from iot_core.store.migrate import migrate
from iot_core.store.rollups import Rollup
from iot_core.store.tables import ensure_tables, read_rollups
from iot_core.store.tier import Tier, find_tier
from tests.classes import shipped


@dataclass
class Path:
    """A running ingest path and what became of each uplink."""

    pool: asyncpg.Pool
    ingest: Ingest
    directory: Directory
    prepare: Prepare
    flush: Flush
    evaluator: Evaluator
    counters: Counters
    loader: Loader
    tier: Tier
    rollups: Mapping[str, Rollup]
    outcomes: list[Outcome] = field(default_factory=list)

    async def say(self, key: str, payload: bytes | str, **more: Any) -> Outcome:
        """Send one uplink of a native device and wait for what became of it."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def done(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            answer.set_result(outcome)

        body = payload.encode() if isinstance(payload, str) else payload
        fields: dict[str, Any] = {"driver": "mqtt", "address": f"iot:{key}", "payload": body, "done": done, **more}
        await self.ingest.emit(Uplink(**fields))
        async with asyncio.timeout(60):
            return await answer

    def prepare_said(self, key: str, time: datetime) -> Work:
        """Prepare what a native air station says at a time, without emitting it."""
        payload = f'{{"time": "{time.isoformat()}", "pm25": 1}}'.encode()
        return self.prepare(Uplink(driver="mqtt", address=f"iot:{key}", payload=payload))

    async def rows(self, class_key: str = "air_quality") -> list[dict[str, Any]]:
        """Read the class's table."""
        return [dict(row) for row in await self.pool.fetch(f'SELECT * FROM telemetry."{class_key}" ORDER BY time')]

    async def held(self) -> list[tuple[str, Any]]:
        """Read reasons and parts of what was held, in order."""
        return [
            (row["reason"], row["part"]) for row in await self.pool.fetch("SELECT * FROM iot.held_uplink ORDER BY id")
        ]

    async def add(self, key: str, class_key: str = "air_quality", profile: str = "", address: str = "") -> int:
        """Register a device with one unit, as the registry does."""
        device: int = await self.pool.fetchval(
            "INSERT INTO iot.device (key, name, class_key) VALUES ($1, $1, $2) RETURNING id", key, class_key
        )
        await self.pool.execute(
            "INSERT INTO iot.unit (device_id, profile, address, mounted_from) VALUES ($1, $2, $3, $4)",
            device,
            profile or f"native-{class_key.replace('_', '-')}",
            address or f"iot:{key}",
            datetime(2026, 1, 1, tzinfo=UTC),
        )
        await self.reload()
        return device

    async def reload(self) -> None:
        """Take the registry as it is now."""
        async with self.pool.acquire() as connection:
            await self.directory.load(connection)


@asynccontextmanager
async def running(dsn: str, settings: Settings | None = None) -> AsyncIterator[Path]:
    """Run an ingest path while the block lasts."""
    settings = settings or Settings()
    async with open_pool(dsn, settings.store) as pool:
        profiles = shipped()
        counters = Counters()
        directory, evaluator = Directory(), Evaluator(profiles)
        async with pool.acquire() as connection:
            await migrate(connection)
            tier = (await find_tier(connection)).tier
            tables = await ensure_tables(connection, profiles.classes.values(), tier)
            await note_models(
                connection,
                (Model(each.model, each.class_key, each.interval, each.metrics) for each in profiles.all()),
            )
            rollups = await read_rollups(connection, tables)
            await directory.load(connection)
            await evaluator.load(connection)
        prepare = Prepare(directory, profiles, tables, settings.ingest.max_payload)
        after = {key: settings.retention.columnstore_after(key) for key in tables} if tier is Tier.COMMUNITY else {}
        flush = Flush(tables, tier, evaluator, after)
        ingest = Ingest(
            pool, prepare, flush, counters,
            queue=settings.ingest.queue, batch=settings.ingest.batch, batch_s=0.01,
            limit=RateLimit(settings.ingest.device_rate, settings.ingest.device_burst),
        )  # fmt: skip
        task = asyncio.create_task(ingest.run(), name="ingest")
        try:
            yield Path(
                pool, ingest, directory, prepare, flush, evaluator, counters, Loader(tables, tier), tier, rollups
            )
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
