from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iot_core.settings import Store
from iot_core.store.connection import open_pool
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import ensure_tables
from iot_core.store.tier import Tier, find_tier
from tests.alarms.city import DETECTOR, T0, TANK, City

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def city(any_migrated_dsn: str) -> AsyncIterator[City]:
    """Give a city on plain PostgreSQL, then on TimescaleDB."""
    async with open_pool(any_migrated_dsn, Store()) as pool:
        async with pool.acquire() as connection:
            found = await find_tier(connection)
            tables = await ensure_tables(connection, [TANK, DETECTOR], found.tier)
            if found.tier is Tier.PLAIN:
                for key in tables:
                    await ensure_partitions(connection, key, [week_of(T0)])
            made = City(pool, tables)
            await made.evaluator.load(connection)
        yield made
