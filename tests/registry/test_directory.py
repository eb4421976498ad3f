"""The directory follows the registry change by change, and is then what a fresh reading of everything would give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from iot_core.registry import devices, maintenance, rotation
from iot_core.registry.directory import Directory
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from tests.classes import shipped


class Counted(Directory):
    """Counts how often everything was read."""

    whole = 0

    async def _load(self, connection: asyncpg.Connection) -> None:
        self.whole += 1
        await super()._load(connection)


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(migrated_dsn, Store()) as made:
        yield made


@pytest.fixture
async def directory(pool: asyncpg.Pool) -> AsyncIterator[Counted]:
    made = Counted()
    following = asyncio.create_task(made.follow(pool))
    try:
        await until(lambda: made.whole == 1)
        yield made
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def fresh(pool: asyncpg.Pool) -> dict[str, Any]:
    made = Directory()
    async with pool.acquire() as connection:
        await made.load(connection)
    return state(made)


def state(directory: Directory) -> dict[str, Any]:
    return {"mounted": {unit.address: unit for unit in directory}, "earlier": directory._earlier}


def lamp(key: str, **more: Any) -> devices.NewDevice:
    return devices.NewDevice(key=key, class_key="streetlight", **more)


async def test_what_changes_is_read_alone_and_the_rest_left_as_it_was(pool: asyncpg.Pool, directory: Counted) -> None:
    profiles = shipped()
    async with pool.acquire() as connection:
        await devices.add(connection, profiles, [lamp("a"), lamp("b")], by="test")
        await until(lambda: len(directory) == 2)
        other = directory.at("iot:b")
        await devices.replace_unit(connection, profiles, "a", serial="S2", by="test")
        await until(lambda: len(directory._earlier) == 1)
        assert state(directory) == await fresh(pool)
        assert directory.at("iot:b") is other
        await devices.remove(connection, "a", by="test")
        await until(lambda: directory.at("iot:a") is None)
        assert state(directory) == await fresh(pool)
        await devices.restore(connection, "a", by="test")
        await until(lambda: directory.at("iot:a") is not None)
        await connection.execute("UPDATE iot.device SET simulated = true WHERE key = 'a'")
        await until(lambda: all(unit.simulated for unit in directory if unit.address == "iot:a"))
    assert state(directory) == await fresh(pool)
    assert directory.whole == 1


async def test_an_address_that_goes_from_one_device_to_another_is_the_others(
    pool: asyncpg.Pool, directory: Counted
) -> None:
    profiles = shipped()

    def meter(key: str) -> devices.NewDevice:
        return devices.NewDevice(key=key, profile="tuf-2000m", address="10.0.3.7/4")

    async with pool.acquire() as connection:
        await devices.add(connection, profiles, [meter("meter-1")], by="test")
        async with connection.transaction():
            await devices.remove(connection, "meter-1", by="test")
            await devices.add(connection, profiles, [meter("meter-2")], by="test")
        address = "modbus://10.0.3.7:502/4"
        await until(lambda: (unit := directory.at(address)) is not None and unit.device_key == "meter-2")
    assert state(directory) == await fresh(pool)


async def test_a_thousand_at_once_are_read_without_reading_everybody(pool: asyncpg.Pool, directory: Counted) -> None:
    async with pool.acquire() as connection:
        await devices.add(connection, shipped(), [lamp(f"lamp-{number}") for number in range(1_001)], by="test")
    await until(lambda: len(directory) == 1_001)
    assert directory.whole == 1
    assert state(directory) == await fresh(pool)


async def test_more_than_can_be_named_are_read_with_all_others(pool: asyncpg.Pool, directory: Counted) -> None:
    await pool.execute("SELECT iot.tell_units(ARRAY(SELECT generate_series(1, 10001)))")
    await until(lambda: directory.whole == 2)
    await pool.execute("SELECT iot.tell_units(ARRAY[]::integer[])")
    async with pool.acquire() as connection:
        await devices.add(connection, shipped(), [lamp("a")], by="test")
    await until(lambda: len(directory) == 1)
    assert directory.whole == 2


async def test_a_unit_whose_secret_was_revoked_is_known_until_it_has_a_new_one(
    pool: asyncpg.Pool, directory: Counted
) -> None:
    def revoked() -> list[str]:
        return sorted(unit.device_key for unit in directory if unit.revoked)

    def vendor(key: str, gateway: str | None = None) -> devices.NewDevice:
        return devices.NewDevice(key=key, profile="tasmota-energy", address=key, gateway=gateway)

    async with pool.acquire() as connection:
        await devices.add(connection, shipped(), [lamp("gw"), vendor("plug")], by="test")
        await devices.add(connection, shipped(), [lamp("behind", gateway="gw"), vendor("child", "gw")], by="test")
        await until(lambda: len(directory) == 4)
        await rotation.revoke(connection, "plug", by="test")
        await rotation.revoke(connection, "child", by="test")  # its gateway speaks for it
        await until(lambda: revoked() == ["plug"])
        await rotation.revoke(connection, "gw", by="test")  # a lamp behind it signs in by itself
        await until(lambda: revoked() == ["child", "gw", "plug"])
        assert state(directory) == await fresh(pool)
        await rotation.rotate(connection, "gw", at_once=False, by="test")
        await until(lambda: revoked() == ["plug"])
        await devices.remove(connection, "plug", by="test")
        await devices.restore(connection, "plug", by="test")  # still nobody gets in as it
        await until(lambda: any(unit.device_key == "plug" for unit in directory))
        assert revoked() == ["plug"]
        await rotation.rotate(connection, "plug", at_once=False, by="test")
        await until(lambda: not revoked())
    assert state(directory) == await fresh(pool)
    assert directory.whole == 1


async def test_the_units_of_a_protocol_are_those_of_now(pool: asyncpg.Pool, directory: Counted) -> None:
    def keys(scheme: str) -> list[str]:
        return sorted(unit.device_key for unit in directory.with_scheme(scheme))

    profiles = shipped()
    async with pool.acquire() as connection:
        await devices.add(connection, profiles, [lamp("a")], by="test")
        await until(lambda: keys("iot") == ["a"])
        polled = directory.with_scheme("modbus")
        assert list(polled) == []
        meter = devices.NewDevice(key="m", profile="tuf-2000m", address="10.0.3.7/4")
        await devices.add(connection, profiles, [lamp("b"), meter], by="test")
        await until(lambda: keys("modbus") == ["m"])
        assert keys("iot") == ["a", "b"]
        meters = directory.with_scheme("modbus")
        await devices.remove(connection, "a", by="test")
        await until(lambda: keys("iot") == ["b"])
        assert directory.with_scheme("modbus") is meters
        await devices.remove(connection, "m", by="test")
        await until(lambda: keys("modbus") == [])


async def test_rows_that_are_deleted_are_missed(pool: asyncpg.Pool, directory: Counted) -> None:
    async with pool.acquire() as connection:
        await devices.add(connection, shipped(), [lamp("a")], by="test")
        await until(lambda: len(directory) == 1)
        await connection.execute("DELETE FROM iot.unit")
    await until(lambda: len(directory) == 0)


async def test_windows_are_followed_without_reading_units(pool: asyncpg.Pool, directory: Counted) -> None:
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        await devices.add(connection, shipped(), [lamp("a", labels=("east",))], by="test")
        await until(lambda: len(directory) == 1)
        device_id = directory.at("iot:a").device_id  # type: ignore[union-attr]
        await maintenance.begin(connection, label="east", ends=now + timedelta(hours=1), by="test")
        await until(lambda: directory.window(device_id, now + timedelta(minutes=1)) is not None)
        await devices.add(connection, shipped(), [lamp("b", labels=("east",))], by="test")
        await until(lambda: len(directory) == 2)
        other = directory.at("iot:b").device_id  # type: ignore[union-attr]
        await until(lambda: directory.window(other, now + timedelta(minutes=1)) is not None)
    assert directory.whole == 1


async def test_what_a_channel_feeds_is_followed(pool: asyncpg.Pool, directory: Counted) -> None:
    profiles = shipped()
    several = next(each for each in profiles.all() if each.channels)
    async with pool.acquire() as connection:
        new = devices.NewDevice(key="panel", profile=several.model, address="10.0.3.9/1")
        await devices.add(connection, profiles, [new, lamp("far")], by="test")
        await until(lambda: len(directory) == 2)
        await connection.execute(
            "INSERT INTO iot.channel SELECT unit.id, 'x', device.id FROM iot.unit, iot.device"
            " WHERE unit.device_id = (SELECT id FROM iot.device WHERE key = 'panel') AND device.key = 'far'"
        )
        await until(lambda: any(unit.channels for unit in directory))
    assert state(directory) == await fresh(pool)
    assert directory.whole == 1
