"""What the database can do: three tiers, found by asking it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import asyncpg

from iot_core.errors import StartError

ASIDE: Final = "telemetry_aside"
"""The schema that tables wait in while they are converted."""
_PARTITIONED: Final = """
SELECT EXISTS (SELECT FROM pg_class WHERE relkind = 'p' AND relnamespace = to_regnamespace('telemetry'))
"""


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


async def find_tier(connection: asyncpg.Connection, *, converting: bool = False) -> Found:
    """Find the tier, creating the TimescaleDB extension where the server has it ready.

    Tables that plain PostgreSQL made stay what they are when the extension comes later, until `iot db move --in-place`.
    Raises StartError in the middle of that.
    """
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
    if not converting:
        if await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", ASIDE):
            raise StartError("store.converting")
        if await connection.fetchval(_PARTITIONED):
            return Found(Tier.PLAIN, server, extension)
    licence = await connection.fetchval("SELECT current_setting('timescaledb.license', true)")
    return Found(Tier.COMMUNITY if licence == "timescale" else Tier.APACHE, server, extension)
