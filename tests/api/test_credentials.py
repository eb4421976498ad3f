"""Credentials go in and never come out: not by the API, not by the audit, not by the command line."""

from __future__ import annotations

import asyncio

import pytest

from iot_core.api.routes import SERVICES
from iot_core.errors import NotFoundError
from iot_core.model import Credential
from iot_core.registry import pending
from iot_core.registry.directory import CHANNEL
from iot_core.registry.keep import Keep
from tests.api.city import City

PASSWORD = "Ba-Dinh-secret-77"


async def test_a_login_is_kept_for_drivers_and_shown_to_nobody(city: City) -> None:
    await city.add("cam-1")
    async with city.client("technician") as client:
        kept = await client.set_login("cam-1", "operator", PASSWORD)
        assert (kept.device, kept.kind, kept.username) == ("cam-1", "login", "operator")
        shown = repr(await client.device("cam-1")) + repr(kept)
    pool = city.path.pool
    unit = await pool.fetchval("SELECT id FROM iot.unit")
    found = await Keep(pool, city.app[SERVICES].vault).of(unit, "login")
    assert found is not None
    assert (found.public, found.secret) == ({"username": "operator"}, PASSWORD.encode())
    audit = str([dict(row) for row in await pool.fetch("SELECT * FROM iot.audit")])
    assert PASSWORD not in shown + audit + repr(found)
    async with city.client("technician") as client:
        await client.remove_device("cam-1")
        await client.restore_device("cam-1")
        unit = await pool.fetchval("SELECT id FROM iot.unit WHERE mounted_to IS NULL")
        assert await Keep(pool, city.app[SERVICES].vault).of(unit, "login") == found, "the camera hangs where it hung"
        await client.forget_login("cam-1")
        with pytest.raises(NotFoundError, match="no_credential"):
            await client.forget_login("cam-1")
    assert await Keep(pool, city.app[SERVICES].vault).of(unit, "login") is None


async def test_an_oscore_key_is_shown_once_and_made_anew_each_time(city: City) -> None:
    await city.add("wm-1")
    pool = city.path.pool
    async with city.client("technician") as client:
        one, two = await client.new_oscore("wm-1"), await client.new_oscore("wm-1", at_once=True)
    assert [one.pending, two.pending] == [False, False]
    assert one.master_secret != two.master_secret
    assert (len(bytes.fromhex(two.master_secret)), len(bytes.fromhex(two.master_salt))) == (16, 8)
    assert (two.recipient_id, two.url.endswith("/v1/wm-1/telemetry")) == ("00", True)
    unit = await pool.fetchval("SELECT id FROM iot.unit")
    assert int(two.sender_id, 16) == unit
    found = await Keep(pool, city.app[SERVICES].vault).of(unit, "oscore")
    assert found is not None
    assert found.secret.hex() == two.master_secret
    audit = str([dict(row) for row in await pool.fetch("SELECT * FROM iot.audit")])
    assert one.master_secret not in audit
    assert two.master_secret not in audit


async def test_a_second_oscore_key_waits_until_it_is_used_and_goes_on_with_its_numbers(city: City) -> None:
    await city.add("wm-1")
    pool, keep = city.path.pool, Keep(city.path.pool, city.app[SERVICES].vault)
    async with city.client("technician") as client:
        one, lost, two = [await client.new_oscore("wm-1") for _ in range(3)]
    assert [each.pending for each in (one, lost, two)] == [False, True, True]
    unit = await pool.fetchval("SELECT id FROM iot.unit")
    force, waits = await keep.of(unit, "oscore"), await keep.of(unit, "oscore_next")
    assert force is not None
    assert waits is not None
    assert (force.secret.hex(), waits.secret.hex()) == (one.master_secret, two.master_secret)
    assert not await keep.take_over(unit, "oscore", Credential({"salt": lost.master_salt}, b"")), "another one waits"
    await keep.reserve(unit, "oscore_next", 10)
    assert sorted(await asyncio.gather(*(keep.take_over(unit, "oscore", waits) for _ in range(5)))) == [False] * 4 + [
        True
    ]
    assert (await keep.of(unit, "oscore"), await keep.of(unit, "oscore_next")) == (waits, None)
    assert await keep.reserve(unit, "oscore", 10) == 10, "no number is given twice under one key"
    assert "confirmed" in str([dict(row) for row in await pool.fetch("SELECT * FROM iot.audit")])


async def test_an_oscore_key_that_waits_dies_with_a_revocation_at_once_a_month_or_when_forgotten(city: City) -> None:
    await city.add("wm-1")
    pool, keep = city.path.pool, Keep(city.path.pool, city.app[SERVICES].vault)
    unit = await pool.fetchval("SELECT id FROM iot.unit")
    async with city.client("technician") as client:

        async def waits() -> None:
            await client.new_oscore("wm-1", at_once=True)
            assert (await client.new_oscore("wm-1")).pending

        for end in (client.forget_oscore, client.revoke_secret):
            await waits()
            await end("wm-1")
            assert (await keep.of(unit, "oscore"), await keep.of(unit, "oscore_next")) == (None, None)
        await waits()
        await client.new_oscore("wm-1", at_once=True)
        assert await keep.of(unit, "oscore_next") is None
        await waits()
        await pool.execute("UPDATE iot.credential SET created_at = now() - interval '31 days'")
        assert await keep.of(unit, "oscore_next") is None
        async with pool.acquire() as connection:
            await pending.tidy(connection)
        assert await pool.fetchval("SELECT array_agg(kind) FROM iot.credential") == ["oscore"]
        await pool.execute("UPDATE iot.unit SET address = 'coap://127.0.0.1'")
        assert not (await client.new_oscore("wm-1")).pending, "we ask that one, so it cannot begin with the new one"


async def test_numbers_are_taken_once_by_whoever_takes_them(city: City) -> None:
    await city.add("wm-1")
    async with city.client("technician") as client:
        await client.new_oscore("wm-1")
    unit = await city.path.pool.fetchval("SELECT id FROM iot.unit")
    keep = Keep(city.path.pool, city.app[SERVICES].vault)
    taken = await asyncio.gather(*(keep.reserve(unit, "oscore", 10) for _ in range(20)))
    assert sorted(taken) == list(range(0, 200, 10))
    with pytest.raises(NotFoundError):
        await keep.reserve(unit, "login", 1)


async def test_a_key_made_anew_is_told_to_workers_and_numbers_taken_are_not(city: City) -> None:
    await city.add("wm-1")
    told: list[str] = []
    pool = city.path.pool
    async with pool.acquire() as connection, city.client("technician") as client:

        def note(*_: object) -> None:
            told.append(CHANNEL)

        await connection.add_listener(CHANNEL, note)
        unit = await pool.fetchval("SELECT id FROM iot.unit")
        await client.new_oscore("wm-1")
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0.01)
        told.clear()
        await Keep(pool, city.app[SERVICES].vault).reserve(unit, "oscore", 1_000)
        await client.set_login("wm-1", "a", "b")
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0.01)
        assert len(told) == 1, "the login alone"
        await connection.remove_listener(CHANNEL, note)


async def test_a_viewer_may_neither_set_nor_make(city: City) -> None:
    await city.add("wm-1")
    async with city.client("viewer") as client:
        for asked in (client.set_login("wm-1", "a", "b"), client.new_oscore("wm-1"), client.command("wm-1", "x", {})):
            with pytest.raises(Exception, match="forbidden"):
                await asked
