"""A database that refuses to be connected to is away like one that is down: nothing is lost, nothing is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from iot_core.errors import StoreUnavailable
from tests.ingest.harness import running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_database_that_was_closed_meanwhile_is_away(dsn: str) -> None:
    name = urlsplit(dsn).path.strip("/")
    async with running(dsn) as path:
        await path.add("aq-1")
        admin = await asyncpg.connect(urlunsplit(urlsplit(dsn)._replace(path="/postgres")))
        try:
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            waiting = asyncio.create_task(path.say("aq-1", '{"seq": 1, "pm25": 1}'))

            async def away() -> bool:
                return path.ingest.away_since is not None

            await until(away)
            with pytest.raises(StoreUnavailable):
                await path.say("aq-1", '{"pm25": 2}')
            assert not waiting.done()
        finally:
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await admin.close()
        assert (await waiting).stored == 1
        assert await path.held() == []
