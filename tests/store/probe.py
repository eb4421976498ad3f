"""A class's table with its rollups on a real database, for tests: say observations, refresh, read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from iot_core.model import DeviceClass, Observation
from iot_core.store import due
from iot_core.store.connection import prepare
from iot_core.store.migrate import migrate
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.refresh import Refresh
from iot_core.store.tables import ensure_tables, fix_zone, read_rollups
from iot_core.store.telemetry import TelemetryTable
from iot_core.store.tier import Tier, find_tier
from tests.classes import PROBE


@dataclass
class Probe:
    """One class on a database, driven as the ingest path and the housekeeping drive it."""

    connection: asyncpg.Connection
    table: TelemetryTable
    refresher: Refresh
    tier: Tier
    noted: bool = True

    @property
    def key(self) -> str:
        return self.table.table.name

    async def say(self, *batch: Observation) -> None:
        """Merge a batch and note its hours, in one transaction."""
        if self.tier is Tier.PLAIN:
            await ensure_partitions(self.connection, self.key, sorted({week_of(each.time) for each in batch}))
        async with self.connection.transaction():
            await self.table.merge(self.connection, batch)
            notes = list(due.notes(self.key, [(each.device_id, each.time) for each in batch]))
            await due.note(self.connection, notes)

    async def refresh(self) -> None:
        await self.refresher.once(self.connection)

    async def hours(self, columns: str = "*", device: int = 1) -> list[dict[str, Any]]:
        return await self._rows("1h", columns, device)

    async def days(self, columns: str = "*", device: int = 1) -> list[dict[str, Any]]:
        return await self._rows("1d", columns, device)

    async def _rows(self, size: str, columns: str, device: int) -> list[dict[str, Any]]:
        rows = await self.connection.fetch(
            f'SELECT {columns} FROM telemetry."{self.key}_{size}" WHERE device_id = $1 ORDER BY time', device
        )
        return [dict(row) for row in rows]


@asynccontextmanager
async def probe(
    dsn: str, device_class: DeviceClass = PROBE, zone: str = "Asia/Ho_Chi_Minh", more: Sequence[DeviceClass] = ()
) -> AsyncIterator[Probe]:
    """Bring a database up to date with one class while the block lasts."""
    connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    try:
        await prepare(connection)
        await migrate(connection)
        await fix_zone(connection, zone)
        tier = (await find_tier(connection)).tier
        tables = await ensure_tables(connection, [device_class, *more], tier)
        refresher = Refresh(await read_rollups(connection, tables), tier)
        yield Probe(connection, TelemetryTable(tables[device_class.key]), refresher, tier)
    finally:
        await connection.close()


def at(text: str) -> datetime:
    """Read a time with its zone."""
    return datetime.fromisoformat(text)
