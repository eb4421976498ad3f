"""What the database can do: three tiers, found by asking it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import asyncpg


class Tier(StrEnum):
    """How telemetry is laid out; every relation has the same name on each."""

    COMMUNITY = "timescaledb-community"
    APACHE = "timescaledb-apache"
    PLAIN = "postgresql"


@dataclass(frozen=True, slots=True)
class Found:
    """The tier with the versions it was found by."""

    tier: Tier
    server: str
    extension: str | None


async def find_tier(connection: asyncpg.Connection) -> Found:
    """Find the tier, creating the TimescaleDB extension where the server has it ready."""
    server = await connection.fetchval("SHOW server_version")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"):
        offered = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
            " AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'"
        )
        if not offered:
            return Found(Tier.PLAIN, server, None)
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except asyncpg.InsufficientPrivilegeError:
            return Found(Tier.PLAIN, server, None)
    extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    licence = await connection.fetchval("SELECT current_setting('timescaledb.license', true)")
    return Found(Tier.COMMUNITY if licence == "timescale" else Tier.APACHE, server, extension)
