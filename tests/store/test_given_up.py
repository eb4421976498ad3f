"""A session left behind on a silent line ends when we connect again: its locks would hold up the batch it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from iot_core.settings import Store
from iot_core.store.connection import AWAY, open_pool
from tests.faults.proxy import proxy
from tests.servers import Postgres


async def test_a_transaction_left_open_on_a_silent_line_does_not_hold_up_its_own_repetition(
    postgres_server: Postgres, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with postgres_server.database() as dsn:
        parts = urlsplit(dsn)
        socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        async with (
            proxy(port, lambda: asyncio.open_unix_connection(socket)) as line,
            open_pool(f"postgresql://iot@127.0.0.1:{port}{parts.path}", Store(statement_timeout_s=1)) as pool,
        ):
            await pool.execute("CREATE TABLE t (n integer PRIMARY KEY)")

            async def left_open() -> None:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (1)")
                    line.silence(forget=True)
                    await connection.execute("SELECT")

            with pytest.raises(AWAY):
                await left_open()
            await pool.execute("INSERT INTO t VALUES (1)", timeout=20)
            assert await pool.fetchval("SELECT count(*) FROM t") == 1
