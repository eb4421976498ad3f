"""Databases of every released schema, with data, come up to date and keep all of it; two cores at once do it once."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from click.testing import CliRunner

from iot_core.cli.root import iot
from iot_core.errors import StartError
from iot_core.profiles import load
from iot_core.store import due
from iot_core.store.convert import convert
from iot_core.store.migrate import migrate
from iot_core.store.refresh import Refresh
from iot_core.store.tables import ensure_tables, read_rollups
from iot_core.store.tier import Tier, find_tier

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASED = sorted(Path(__file__).parent.joinpath("released").glob("*.sql"))
TABLES = ("area", "device", "unit", "device_status", "seq_range", "held_uplink", "alarm", "alarm_event", "rule_state",
          "push_target", "outbox", "token", "audit",
          "fixed_setting WHERE key <> 'core_id'")  # fmt: skip


async def restored(dsn: str, released: Path) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(released.read_text(encoding="utf-8"))
    await connection.close()


async def counted(dsn: str) -> Mapping[str, int]:
    connection = await asyncpg.connect(dsn)
    relations = [*(f"iot.{name}" for name in TABLES), "telemetry.air_quality", "telemetry.water_meter"]
    found = {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in relations}
    await connection.close()
    return found


async def brought_up(dsn: str) -> tuple[Tier, dict[str, Any]]:
    """Start as a core does, and give its tier and what a day of the meter says."""
    connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    try:
        await migrate(connection)
        tier = (await find_tier(connection)).tier
        tables = await ensure_tables(connection, load().classes.values(), tier)
        refresh = Refresh(await read_rollups(connection, tables), tier)
        await refresh.once(connection)
        day = await connection.fetchrow(
            "SELECT * FROM telemetry.water_meter_1d WHERE time = $1", datetime(2026, 11, 18, 17, tzinfo=UTC)
        )
        return tier, dict(day) if day else {}
    finally:
        await connection.close()


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
async def test_a_released_database_keeps_everything_and_its_history_gets_rollups(any_dsn: str, released: Path) -> None:
    await restored(any_dsn, released)
    before = await counted(any_dsn)
    assert min(before.values()) > 0
    tier, day = await brought_up(any_dsn)
    assert tier is Tier.PLAIN, "tables stay what they are, whatever extension the database has"
    assert await counted(any_dsn) == before
    assert (day["volume_count"], round(day["volume_consumption"], 9)) == (48, 14.4)


async def test_two_cores_that_start_at_once_migrate_once(empty_dsn: str) -> None:
    await restored(empty_dsn, RELEASED[0])
    before = await counted(empty_dsn)
    starts = await asyncio.gather(*(brought_up(empty_dsn) for _ in range(3)))
    assert {tier for tier, _ in starts} == {(starts[0])[0]}
    assert await counted(empty_dsn) == before
    connection = await asyncpg.connect(empty_dsn)
    applied = await connection.fetch("SELECT migration_id FROM public._pogo_migration")
    await connection.close()
    assert len(applied) == len({row[0] for row in applied})


async def died(dsn: str) -> int:
    """Convert one partition that has rows, and die; give how many rows came so far."""
    came: list[int] = []

    def told(_: str, rows: int) -> None:
        came.append(rows)
        if rows:
            raise InterruptedError

    connection = await asyncpg.connect(dsn)
    try:
        with pytest.raises(InterruptedError):
            await convert(connection, load().classes.values(), told=told)
    finally:
        await connection.close()
    return sum(came)


@pytest.mark.timescaledb
async def test_tables_become_hypertables_where_they_are(timescale_dsn: str) -> None:
    await restored(timescale_dsn, RELEASED[0])
    await brought_up(timescale_dsn)
    before = await counted(timescale_dsn)
    first = await died(timescale_dsn)
    with pytest.raises(StartError, match=r"store\.converting"):
        await brought_up(timescale_dsn)
    done = await asyncio.to_thread(
        lambda: CliRunner().invoke(
            iot, ["--output", "json", "db", "move", "--in-place"], env={"IOT_STORE_DSN": timescale_dsn}
        )
    )
    assert done.exit_code == 0, (done.output, done.exception)
    said = json.loads(done.stdout)
    assert min(first, said["rows"]) > 0, "it goes on where it stood"
    assert first + said["rows"] >= 120
    tier, day = await brought_up(timescale_dsn)
    assert tier is not Tier.PLAIN
    assert await counted(timescale_dsn) == before
    assert round(day["volume_consumption"], 9) == 14.4
    connection = await asyncpg.connect(timescale_dsn)
    await due.note(connection, [("water_meter", day["time"], day["time"], "")])
    await connection.close()
    assert (await brought_up(timescale_dsn))[1] == day
