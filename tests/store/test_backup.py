"""A backup holds every row as it was in one moment, on every server; what is damaged is found before it replaces."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from iot_core.errors import ConfigError, StartError
from iot_core.store.backup import Manifest, backup, manifest_of, replacing, restore, scratch_database
from tests.classes import T0, observation
from tests.store.probe import probe


async def fill(dsn: str) -> None:
    async with probe(dsn) as store:
        await store.say(*(
            observation({"level": n / 10, "mode": "busy"}, time=T0 + timedelta(hours=n), extra={"đ": n})
            for n in range(400)
        ))  # fmt: skip
        await store.refresh()
        await store.connection.execute("INSERT INTO iot.area (key, name) VALUES ('hl', 'Hạ Long')")


async def test_a_backup_comes_back_with_every_row(any_dsn: str, tmp_path: Path) -> None:
    await fill(any_dsn)
    file = tmp_path / "iot.backup"
    made = await backup(any_dsn, file)
    assert made == manifest_of(file)
    assert made.tables["telemetry.probe"].rows == 400
    assert made.tables["telemetry_rollup.probe_1h"].rows == 400
    assert file.stat().st_mode & 0o077 == 0
    async with scratch_database(any_dsn) as scratch:
        assert await restore(scratch, file, made) == []
        connection = await asyncpg.connect(scratch)
        assert await connection.fetchval("SELECT count(*) FROM telemetry.probe_1d") > 0
        assert await connection.fetchval("SELECT name FROM iot.area") == "Hạ Long"
        await connection.close()


async def test_a_table_that_differs_is_named_and_nothing_is_replaced(dsn: str, tmp_path: Path) -> None:
    await fill(dsn)
    file = tmp_path / "iot.backup"
    made = await backup(dsn, file)
    made.tables["iot.area"] = made.tables["iot.device"]
    with pytest.raises(ZeroDivisionError):
        await restore_and_give_up(dsn, file, made)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM telemetry.probe") == 400
    assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname LIKE 'iot_scratch%'") == 0
    await connection.close()


async def restore_and_give_up(dsn: str, file: Path, made: Manifest) -> None:
    async with replacing(dsn) as (new, _):
        assert await restore(new, file, made) == ["iot.area"]
        raise ZeroDivisionError


async def test_a_database_in_use_is_not_replaced(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    with pytest.raises(StartError, match=r"backup\.in_use"):
        async with replacing(dsn):
            pass
    await connection.close()


async def test_a_damaged_file_or_a_missing_manifest_is_refused(dsn: str, tmp_path: Path) -> None:
    await fill(dsn)
    file = tmp_path / "iot.backup"
    made = await backup(dsn, file)
    file.write_bytes(file.read_bytes()[:-3000])
    async with scratch_database(dsn) as scratch:
        with pytest.raises(StartError, match=r"backup\.failed"):
            await restore(scratch, file, made)
    (tmp_path / "iot.backup.manifest").unlink()
    with pytest.raises(ConfigError, match=r"backup\.no_manifest"):
        manifest_of(file)
