"""Secrets at rest: sealed for the row they stand in, and sealed anew when the master key is rotated, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from iot_core.errors import StartError
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from iot_core.store.reseal import reseal, rotate
from iot_core.store.vault import Vault, is_sealed
from tests.core import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANY = 1_500


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path / "master.keys")
    made.make()
    return made


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(migrated_dsn, Store()) as opened:
        yield opened


def test_what_is_sealed_is_opened_again_and_never_twice_the_same(vault: Vault) -> None:
    first, second = (vault.seal(b"hush", "credential/1/login") for _ in range(2))
    assert first != second
    assert b"hush" not in first
    assert vault.open(first, "credential/1/login") == vault.open(second, "credential/1/login") == b"hush"
    assert vault.open_text(vault.seal_text("mật khẩu", "a"), "a") == "mật khẩu"


def test_a_secret_does_not_open_in_another_row_nor_when_a_bit_was_changed(vault: Vault) -> None:
    sealed = vault.seal(b"hush", "credential/1/login")
    with pytest.raises(StartError, match=r"key\.cannot_open"):
        vault.open(sealed, "credential/2/login")
    head, _, body = sealed.rpartition(b":")
    other = head + b":" + (b"B" if body[:1] == b"A" else b"A") + body[1:]
    with pytest.raises(StartError, match=r"key\.cannot_open"):
        vault.open(other, "credential/1/login")


def test_the_file_of_master_keys_is_closed_and_another_one_opens_nothing(vault: Vault, tmp_path: Path) -> None:
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    assert vault.make() is False
    sealed = vault.seal(b"hush", "a")
    stranger = Vault(tmp_path / "other")
    stranger.make()
    with pytest.raises(StartError, match=r"key\.cannot_open"):
        stranger.open(sealed, "a")
    vault.path.write_text("{}")
    with pytest.raises(StartError, match=r"key\.unreadable"):
        vault.seal(b"hush", "a")


async def test_what_an_older_version_kept_in_clear_is_sealed(pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as connection:
        await _units(connection, 3)
        assert [done async for done in reseal(connection, vault)] == [3]
        rows = await connection.fetch("SELECT unit_id, secret FROM iot.credential ORDER BY unit_id")
    assert all(is_sealed(row["secret"]) for row in rows)
    opened = [vault.open(row["secret"], f"credential/cam-{row['unit_id']}/login") for row in rows]
    assert opened == [b"secret 1", b"secret 2", b"secret 3"]


async def test_rotation_killed_at_any_moment_goes_on_and_loses_nothing(
    pool: asyncpg.Pool, vault: Vault, migrated_dsn: str
) -> None:
    """A process rotates and is killed with SIGKILL: before the first row, in the middle, and once more later."""
    async with pool.acquire() as connection:
        await _units(connection, MANY)
        async for _ in reseal(connection, vault):
            pass
        old = vault.current
        for share, batches in ((0, 1), (0.3, 3), (0.6, 3)):
            process = await _rotating(migrated_dsn, vault.path, batches=batches)
            await until(lambda: len(vault.keys.keys) == 2, what="a second key")
            await until(partial(_done, pool, old, share), what=f"{share} of the secrets sealed anew")
            process.send_signal(signal.SIGKILL)
            await process.wait()
            assert len(vault.keys.keys) == 2, "both keys are there until every secret is sealed anew"
            await _all_open(connection, vault)
        last = await _rotating(migrated_dsn, vault.path)
        assert await last.wait() == 0
        assert (vault.current, list(vault.keys.keys)) == ("k2", ["k2"])
        await _all_open(connection, vault)


async def test_a_running_core_opens_what_either_key_sealed_and_seals_with_the_new_one(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    running = Vault(vault.path)
    async with pool.acquire() as connection:
        await _units(connection, 300)
        async for _ in reseal(connection, vault):
            pass
        before = running.seal(b"hush", "a")
        async for _ in rotate(connection, vault):
            await _all_open(connection, running)
    assert running.current == "k2"
    with pytest.raises(StartError, match=r"key\.cannot_open"):
        running.open(before, "a")  # it stood in no row


async def _units(connection: asyncpg.Connection, count: int) -> None:
    await connection.execute(
        "INSERT INTO iot.device (key, name, class_key) SELECT 'cam-' || n, 'cam', 'camera'"
        " FROM generate_series(1, $1) n",
        count,
    )
    await connection.execute(
        "INSERT INTO iot.unit (device_id, profile, address) SELECT id, 'x', 'iot:' || key FROM iot.device ORDER BY id"
    )
    await connection.execute(
        "INSERT INTO iot.credential (unit_id, kind, secret) SELECT id, 'login', ('secret ' || id)::bytea FROM iot.unit"
    )


async def _rotating(dsn: str, path: Path, *, batches: int = MANY) -> asyncio.subprocess.Process:
    """Rotate in a process of its own, which stands still after so many batches."""
    program = (
        "import asyncio, sys, asyncpg\n"
        "from pathlib import Path\n"
        "from iot_core.store.reseal import rotate\n"
        "from iot_core.store.vault import Vault\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        "    left = int(sys.argv[3])\n"
        "    async for _ in rotate(connection, Vault(Path(sys.argv[2]))):\n"
        "        left -= 1\n"
        "        if not left:\n"
        "            await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, dsn, str(path), str(batches), env=dict(os.environ)
    )


async def _done(pool: asyncpg.Pool, old: str, share: float) -> bool:
    left = await pool.fetchval(
        "SELECT count(*) FROM iot.credential WHERE substring(secret FROM 1 FOR 12) = $1", f"sealed:1:{old}:".encode()
    )
    return bool(left <= MANY * (1 - share))


async def _all_open(connection: asyncpg.Connection, vault: Vault) -> None:
    for row in await connection.fetch("SELECT unit_id, secret FROM iot.credential"):
        opened = vault.open(row["secret"], f"credential/cam-{row['unit_id']}/login")
        assert opened == f"secret {row['unit_id']}".encode()
