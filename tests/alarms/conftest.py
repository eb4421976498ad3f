from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from iot_core.settings import Store
from iot_core.store.connection import open_pool
from iot_core.store.migrate import migrate
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import ensure_tables
from iot_core.store.tier import Tier, find_tier
from tests.alarms.city import DETECTOR, T0, TANK, City
from tests.conftest import DATABASES, database_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def with_tables(dsn: str) -> None:
    """Make the tables of both classes, once for all tests."""

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await migrate(connection)
            found = await find_tier(connection)
            for key in await ensure_tables(connection, [TANK, DETECTOR], found.tier):
                if found.tier is Tier.PLAIN:
                    await ensure_partitions(connection, key, [week_of(T0)])
        finally:
            await connection.close()

    asyncio.run(fill())


@pytest.fixture(params=DATABASES)
def tables_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh database with those tables, on every kind of server."""
    with database_of(request, with_tables) as made:
        yield made


@pytest.fixture
async def city(tables_dsn: str) -> AsyncIterator[City]:
    """Give a city on plain PostgreSQL, then on TimescaleDB."""
    async with open_pool(tables_dsn, Store()) as pool:
        async with pool.acquire() as connection:
            tables = await ensure_tables(connection, [TANK, DETECTOR], (await find_tier(connection)).tier)
            made = City(pool, tables)
            await made.evaluator.load(connection)
        yield made
