"""A connection that listens goes on listening through a silence, and notices when it is gone."""

from __future__ import annotations

import asyncio

import pytest

from iot_core.settings import Store
from iot_core.store import connection as store
from iot_core.store.connection import AWAY, listening, open_pool


async def test_a_silence_is_no_end(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_SILENCE_S", 0.02)
    async with open_pool(dsn, Store()) as pool, listening(pool, "quiet") as notices:
        waiting = asyncio.create_task(notices.next())
        await asyncio.sleep(0.3)  # a dozen silences long
        assert not waiting.done()
        await pool.execute("NOTIFY quiet")
        await asyncio.wait_for(waiting, 30)


async def test_an_end_is_noticed(dsn: str) -> None:
    async with open_pool(dsn, Store()) as pool, listening(pool, "quiet") as notices:
        waiting = asyncio.create_task(notices.next())
        await asyncio.sleep(0)
        await pool.execute("SELECT pg_terminate_backend($1)", notices.connection.get_server_pid())
        await asyncio.wait([waiting], timeout=30)
        assert waiting.done()
        assert isinstance(waiting.exception(), AWAY)
