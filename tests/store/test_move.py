"""Everything moves to another database of any tier, and a move that was interrupted goes on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from click.testing import CliRunner

from iot_core.cli.root import iot
from iot_core.profiles import load
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.retention import drop_old
from iot_core.store.tables import ensure_tables, stored_rollups
from iot_core.store.tier import find_tier
from iot_core.store.verify import verify, weeks_of
from tests.classes import T0, observation
from tests.store.probe import Probe, probe

if TYPE_CHECKING:
    from iot_core.model import Observation

_WAITS = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database d ON d.oid = database WHERE NOT granted AND datname = current_database()
)
"""
METER = load().classes["water_meter"]
OLD = T0 - timedelta(days=60)


def reading(hours: int, volume: float, **more: Any) -> Observation:
    said = observation({"volume": volume, "leak": False}, time=OLD + timedelta(hours=hours), **more)
    said.class_key = "water_meter"
    return said


async def fill(store: Probe) -> None:
    """A year in small: a device, rows over ten weeks whose oldest are gone already, an exchanged unit."""
    await store.connection.execute(
        "INSERT INTO iot.device (key, name, class_key) VALUES ('m-1', 'Đồng hồ', 'water_meter')"
    )
    await store.connection.execute(
        "INSERT INTO iot.unit (device_id, profile, address, mounted_from)"
        " VALUES (1, 'native-water-meter', 'iot:m-1', $1)",
        OLD - timedelta(days=1),
    )
    for hours in range(0, 60 * 24, 7):
        await store.say(reading(hours, hours / 10, extra={"rssi": -70}))
    await store.refresh()
    rollup = store.refresher.rollups["water_meter"]
    await drop_old(store.connection, rollup, store.tier, now=T0, keep=timedelta(days=40))


async def everything(dsn: str) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    try:
        found = {}
        for relation in ("water_meter", "water_meter_1h", "water_meter_1d"):
            rows = await connection.fetch(f"SELECT * FROM telemetry.{relation} ORDER BY device_id, time")
            found[relation] = [dict(zip(row.keys(), map(rounded, row.values()), strict=True)) for row in rows]
        for table in ("device", "unit", "metric"):
            found[table] = [dict(row) for row in await connection.fetch(f"SELECT * FROM iot.{table} ORDER BY 1, 2")]
        return found
    finally:
        await connection.close()


def rounded(value: Any) -> Any:
    """Forget the last digits: numbers that are added up in another order differ in them."""
    return round(value, 9) if isinstance(value, float) else value


def refused(source: str, target: str) -> bool:
    env = {"IOT_STORE_DSN": source, "IOT_MOVE_TO": target}
    return CliRunner().invoke(iot, ["db", "move"], env=env).exit_code != 0


def run(source: str, target: str) -> Any:
    done = CliRunner().invoke(
        iot, ["--output", "json", "db", "move"], env={"IOT_STORE_DSN": source, "IOT_MOVE_TO": target}
    )
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture
async def filled(dsn: str) -> str:
    async with probe(dsn, METER) as store:
        await fill(store)
    return dsn


async def test_everything_is_on_the_other_side_and_a_second_run_copies_nothing(filled: str, any_dsn: str) -> None:
    first = await asyncio.to_thread(run, filled, any_dsn)
    second = await asyncio.to_thread(run, filled, any_dsn)
    assert first["rows"] == second["rows"] > 100
    assert first["weeks_copied"] == first["weeks"]
    assert second["weeks_copied"] == 0
    before, after = await everything(filled), await everything(any_dsn)
    for relation, rows in before.items():
        assert after[relation] == rows, relation
    await works(any_dsn)


async def works(dsn: str) -> None:
    """A moved database takes rows, refreshes, and its rollups equal its rows."""
    async with probe(dsn, METER) as store:
        await store.say(reading(60 * 24 + 1, 150.0))
        await store.refresh()
        rollup = (await stored_rollups(store.connection))["water_meter"]
        tier = (await find_tier(store.connection)).tier
        spans = await weeks_of(store.connection, rollup)
        assert [each.differences async for each in verify(store.connection, rollup, tier, spans)] == [()] * len(spans)
        assert await store.connection.fetchval("INSERT INTO iot.area (key, name) VALUES ('a', 'A') RETURNING id") == 1


async def test_a_move_that_died_in_the_middle_goes_on(filled: str, migrated_dsn: str) -> None:
    target = migrated_dsn
    await asyncio.to_thread(run, filled, target)
    connection = await asyncpg.connect(target)
    week = week_of(T0 - timedelta(days=20))
    await connection.execute(
        "DELETE FROM telemetry.water_meter WHERE time >= $1 AND time < $2", week, week + timedelta(days=3)
    )
    await connection.close()
    again = await asyncio.to_thread(run, filled, target)
    assert again["weeks_copied"] == 1
    assert (await everything(filled))["water_meter"] == (await everything(target))["water_meter"]


async def test_a_move_that_was_killed_in_mid_copy_goes_on_and_copies_no_week_twice(
    filled: str, migrated_dsn: str
) -> None:
    target = migrated_dsn
    late = week_of(T0 - timedelta(days=10))
    connection = await asyncpg.connect(target)
    await ensure_tables(connection, [METER])
    await ensure_partitions(connection, "water_meter", [late])
    stands_still = connection.transaction()
    await stands_still.start()
    await connection.execute(f'LOCK TABLE telemetry_part."water_meter_{late:%Y%m%d}"')
    env = {**os.environ, "IOT_STORE_DSN": filled, "IOT_MOVE_TO": target}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "iot_core.cli", "db", "move",
        env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await waits_for_lock(target)
    finally:
        process.kill()
        await process.wait()
    await stands_still.rollback()
    await connection.close()
    again = await asyncio.to_thread(run, filled, target)
    assert 0 < again["weeks_copied"] < again["weeks"]
    before, after = await everything(filled), await everything(target)
    for relation, rows in before.items():
        assert after[relation] == rows, relation


async def waits_for_lock(dsn: str) -> None:
    """Wait until somebody there waits for a lock."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(_WAITS):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def test_a_target_with_devices_of_its_own_is_refused(filled: str, migrated_dsn: str) -> None:
    async with probe(migrated_dsn, METER) as store:
        await store.connection.execute("INSERT INTO iot.device (key, name, class_key) VALUES ('x', 'X', 'probe')")
    for target in (migrated_dsn, filled):
        assert await asyncio.to_thread(refused, filled, target)
