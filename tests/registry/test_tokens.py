"""Tokens, codes and sessions on a real database."""

from __future__ import annotations

import asyncio
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from iot_core.errors import NotFoundError
from iot_core.registry import tokens
from iot_core.registry.rights import Right
from iot_core.registry.tokens import Kind
from iot_core.settings import Store
from iot_core.store.connection import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(migrated_dsn, Store()) as opened:
        yield opened


async def test_a_token_is_known_by_its_secret_of_which_only_a_hash_is_kept(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        made, secret = await tokens.create(connection, "Lan", "operator", by="test")
        found = await tokens.identify(connection, secret, Kind.TOKEN)
        assert found is not None
        assert found == made
        assert found.rights == (Right("operator"),)
        assert await tokens.identify(connection, secret + "x", Kind.TOKEN) is None
        assert await tokens.identify(connection, secret, Kind.SESSION) is None
        everything = await connection.fetchval(
            "SELECT string_agg(said, '') FROM (SELECT t::text FROM iot.token t UNION SELECT a::text FROM iot.audit a)"
            " AS rows (said)"
        )
    assert len(secret) >= 43
    assert secret not in everything


async def test_a_token_that_has_ended_is_unknown(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        _, short = await tokens.create(connection, "a", "viewer", by="test", life=timedelta(seconds=-1))
        lasting, secret = await tokens.create(connection, "b", "viewer", by="test", life=timedelta(hours=1))
        assert await tokens.identify(connection, short, Kind.TOKEN) is None
        await tokens.revoke(connection, lasting.id, by="test")
        assert await tokens.identify(connection, secret, Kind.TOKEN) is None
        with pytest.raises(NotFoundError):
            await tokens.revoke(connection, lasting.id, by="test")
        assert await tokens.tokens(connection) == []


async def test_of_many_who_come_with_one_code_exactly_one_signs_in(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        parent, _ = await tokens.create(connection, "a", "admin", by="test")
        _, code = await tokens.new_code(connection, parent.id, "Lan", "operator")

    async def sign_in() -> tuple[tokens.Token, str] | None:
        async with pool.acquire() as connection:
            return await tokens.sign_in_with_code(connection, code.lower().replace("-", " "))

    results = await asyncio.gather(*(sign_in() for _ in range(6)))
    sessions = [found for found in results if found is not None]
    assert len(sessions) == 1
    assert (sessions[0][0].name, sessions[0][0].role) == ("Lan", "operator")


async def test_a_code_is_good_for_ten_minutes_only(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        parent, _ = await tokens.create(connection, "a", "admin", by="test")
        made, code = await tokens.new_code(connection, parent.id, "Lan", "operator")
        assert made.expires_at is not None
        assert made.expires_at - made.created_at == timedelta(minutes=10)
        await connection.execute("UPDATE iot.token SET expires_at = now() - interval '1 s' WHERE kind = 'code'")
        assert await tokens.sign_in_with_code(connection, code) is None


async def test_sessions_and_codes_end_with_the_token_that_they_came_from(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        parent, secret = await tokens.create(connection, "a", "admin", by="test")
        _, code = await tokens.new_code(connection, parent.id, "Lan", "operator")
        first = await tokens.sign_in_with_token(connection, secret)
        assert first is not None
        assert await tokens.identify(connection, first[1], Kind.SESSION) == first[0]
        await tokens.revoke(connection, parent.id, by="test")
        assert await tokens.identify(connection, first[1], Kind.SESSION) is None
        assert await tokens.sign_in_with_code(connection, code) is None


async def test_the_local_command_line_keeps_a_token_that_works_and_gets_a_new_one_otherwise(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    async with pool.acquire() as connection:
        first = await tokens.ensure_local_token(connection, path)
        assert path.read_text().strip() == first
        path.chmod(0o644)
        assert await tokens.ensure_local_token(connection, path) == first
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await connection.execute("UPDATE iot.token SET revoked_at = now()")
        second = await tokens.ensure_local_token(connection, path)
        assert second != first
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.write_bytes(b"\xff\xfe")
        third = await tokens.ensure_local_token(connection, path)
        found = await tokens.identify(connection, third, Kind.TOKEN)
    assert found is not None
    assert found.role == "admin"
