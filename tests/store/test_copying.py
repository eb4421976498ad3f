"""A COPY ends when its connection is lost or silent: asyncpg itself would wait for room to write for ever."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from iot_core.settings import Store
from iot_core.store import connection as store
from iot_core.store.connection import AWAY, copying, open_pool
from tests.faults.proxy import Proxy, proxy
from tests.servers import Postgres

MORE_THAN_THE_SOCKETS_HOLD = b"x\n" * 16_000_000


@asynccontextmanager
async def copied_into(server: Postgres, port: int) -> AsyncIterator[tuple[Proxy, asyncio.Task[None]]]:
    """Give a proxy that went silent, and a COPY of a pooled connection that stands still behind it."""
    with server.database() as dsn:
        parts = urlsplit(dsn)
        socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        through = f"postgresql://iot@127.0.0.1:{port}{parts.path}"
        async with (
            proxy(port, lambda: asyncio.open_unix_connection(socket)) as line,
            open_pool(through, Store()) as pool,
        ):
            await pool.execute("CREATE TABLE t (said text)")

            async def copy() -> None:
                async with pool.acquire() as connection:
                    line.silence()
                    async with copying(connection):
                        source = io.BytesIO(MORE_THAN_THE_SOCKETS_HOLD)
                        await connection.copy_to_table("t", source=source, format="text")

            copying_in = asyncio.create_task(copy())
            try:
                yield line, copying_in
            finally:
                copying_in.cancel()
                await asyncio.wait([copying_in])


async def test_a_copy_ends_when_its_connection_is_lost(postgres_server: Postgres, free_port: Callable[[], int]) -> None:
    async with copied_into(postgres_server, free_port()) as (line, copy):
        await asyncio.wait([copy], timeout=0.5)
        assert not copy.done()
        line.hang_up()
        await asyncio.wait([copy], timeout=60)
        assert copy.done()
        assert isinstance(copy.exception(), AWAY)


async def test_a_copy_into_a_silent_line_ends_at_its_deadline(
    postgres_server: Postgres, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_COPY_WITHIN_S", 0.5)
    async with copied_into(postgres_server, free_port()) as (_, copy):
        await asyncio.wait([copy], timeout=60)
        assert copy.done()
        assert isinstance(copy.exception(), AWAY)


async def test_a_copy_that_is_refused_says_why(dsn: str) -> None:
    async with open_pool(dsn, Store()) as pool, pool.acquire() as connection:
        await connection.execute("CREATE TABLE t (n integer)")
        with pytest.raises(asyncpg.DataError):
            async with copying(connection):
                await connection.copy_to_table("t", source=io.BytesIO(b"no number\n"), format="text")
        assert await connection.fetchval("SELECT 1") == 1
