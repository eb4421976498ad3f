"""Who may log in follows the registry, through a cache that forgets in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from iot_core.errors import StoreUnavailable
from iot_core.registry.credentials import Authenticator, Sender, accounts, senders
from iot_core.registry.passwords import hash_secret
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from tests.broker.bench import add_device, pool_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_mounted_units_with_a_secret_have_an_account(migrated_dsn: str) -> None:
    async with pool_of(migrated_dsn) as pool, pool.acquire() as conn:
        await add_device(pool, "aq-1")
        await add_device(pool, "aq-2")
        await add_device(pool, "aq-3")
        await pool.execute("UPDATE iot.unit SET mounted_to = now() WHERE address = 'iot:aq-2'")
        await pool.execute("UPDATE iot.device SET retired_at = now() WHERE key = 'aq-3'")
        assert [line.partition(":")[0] for line in (await accounts(conn)).splitlines()] == ["aq-1"]


async def test_of_two_mounted_units_the_newest_ones_secret_counts(migrated_dsn: str) -> None:
    async with pool_of(migrated_dsn) as pool, pool.acquire() as conn:
        old = await add_device(pool, "aq-1")
        await pool.execute(
            "INSERT INTO iot.unit (device_id, profile, address, secret_hash, mounted_from)"
            " SELECT device_id, profile, 'mqtt:tele/x', $1, now() + interval '1 s' FROM iot.unit",
            hash_secret("newer"),
        )
        assert len((await accounts(conn)).splitlines()) == 1
        authenticate = Authenticator(pool)
        assert await authenticate("aq-1", "newer")
        assert not await authenticate("aq-1", old)


async def test_vendor_units_are_listed_with_the_gateway_that_may_speak_for_them(migrated_dsn: str) -> None:
    async with pool_of(migrated_dsn) as pool, pool.acquire() as conn:
        await add_device(pool, "gw-1")
        await add_device(pool, "plug-1", profile="acme", address="mqtt:tele/p1", gateway="gw-1")
        assert await senders(conn) == [Sender("plug-1", "acme", "mqtt:tele/p1", "gw-1")]


@pytest.mark.parametrize("watched", [True, False])
async def test_a_secret_is_checked_and_a_changed_one_counts_at_once(migrated_dsn: str, *, watched: bool) -> None:
    async with pool_of(migrated_dsn) as pool:
        authenticate = Authenticator(pool)
        watching = asyncio.create_task(authenticate.watch()) if watched else None
        secret = await add_device(pool, "aq-1")
        assert await authenticate("aq-1", secret)
        assert await authenticate("aq-1", secret)
        assert not await authenticate("aq-1", "wrong")
        assert not await authenticate("aq-9", secret)
        assert not await authenticate("../etc", secret)
        await pool.execute("UPDATE iot.unit SET secret_hash = $1", hash_secret("changed"))
        await until(lambda: authenticate("aq-1", "changed"))
        assert not await authenticate("aq-1", secret)
        if watching is not None:
            watching.cancel()


async def wait_for_watch(authenticate: Authenticator) -> None:
    async with asyncio.timeout(60):
        while authenticate._cache is None:
            await asyncio.sleep(0.01)


async def test_what_is_known_is_answered_without_the_database_until_the_registry_is_out_of_sight(
    migrated_dsn: str,
) -> None:
    asked: list[object] = []
    async with open_pool(migrated_dsn, Store()) as pool:
        authenticate = Authenticator(Counting(pool, asked))
        secret = await add_device(pool, "aq-1")  # before anybody listens: news of it would come at any time
        watching = asyncio.create_task(authenticate.watch())
        await wait_for_watch(authenticate)
        await until(lambda: authenticate("aq-1", secret))
        asked.clear()
        for _ in range(5):
            assert await authenticate("aq-1", secret)
            assert not await authenticate("aq-1", "wrong")
        assert not asked
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        async with asyncio.timeout(60):
            while authenticate._cache is not None:
                await asyncio.sleep(0.01)
        assert await authenticate("aq-1", secret)
        assert asked
        watching.cancel()


async def test_without_a_store_the_answer_is_not_no(migrated_dsn: str) -> None:
    async with open_pool(migrated_dsn, Store()) as pool:
        authenticate = Authenticator(pool)
    with pytest.raises(StoreUnavailable):
        await authenticate("aq-1", "secret")


class Counting:
    """A pool that notes what is fetched through it."""

    def __init__(self, pool: asyncpg.Pool, asked: list[object]) -> None:
        self._pool = pool
        self._asked = asked
        self.acquire = pool.acquire

    async def fetchrow(self, query: str, *arguments: object) -> object:
        self._asked.append(arguments)
        return await self._pool.fetchrow(query, *arguments)
