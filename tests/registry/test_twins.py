"""Twins of devices that commands set, and of devices that cannot be told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from iot_core.commanding.twins import Twins
from iot_core.errors import DeviceUnreachable
from iot_core.profiles import load
from iot_core.registry import twin
from iot_core.settings import Store
from iot_core.store.connection import open_pool

PROFILES = load()


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Give a database with a lamp."""
    async with open_pool(migrated_dsn, Store()) as pool:
        await pool.execute("INSERT INTO iot.device (key, name, class_key) VALUES ('lamp-1', '', 'streetlight')")
        yield pool


async def one(pool: asyncpg.Pool) -> twin.Twin:
    async with pool.acquire() as connection:
        (found,) = await twin.list_twins(connection, differing=False, limit=9)
    return found


def telling(pool: asyncpg.Pool, units: dict[str, Any], driver: Any = None) -> Twins:
    reach = SimpleNamespace(by_key=lambda: units, driver=lambda _: driver)
    commanding: Any = SimpleNamespace(reach=reach)
    return Twins(pool, commanding, PROFILES)


async def test_a_key_that_is_taken_back_while_its_order_is_open_is_over(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO iot.twin (device_id, desired, version, told_version, orders, changed_at, changed_by)"
        """ SELECT id, '{}', 2, 1, '{"interval": 7}', now(), 'test' FROM iot.device"""
    )
    await telling(pool, {"lamp-1": SimpleNamespace(address="mqtt:tele/kerb_7")})._step()
    found = await one(pool)
    assert (found.orders, found.reported_version) == ({}, 2)
    async with pool.acquire() as connection:
        assert await twin.untold(connection, 9) == []


async def test_what_could_not_be_published_is_not_marked_as_told(pool: asyncpg.Pool) -> None:
    class Away:
        async def configure(self, *_: object) -> None:
            raise DeviceUnreachable("command.no_broker")

    await pool.execute(
        "INSERT INTO iot.twin (device_id, desired, version, changed_at, changed_by)"
        """ SELECT id, '{"interval": 7}', 1, now(), 'test' FROM iot.device"""
    )
    for units in ({}, {"lamp-1": SimpleNamespace(address="iot:lamp-1")}):
        await telling(pool, units, Away())._step()
        assert (await one(pool)).told_version == 0
        assert await pool.fetchval("SELECT next_at > clock_timestamp() FROM iot.twin"), "not at once again"
        await pool.execute("UPDATE iot.twin SET next_at = clock_timestamp()")
