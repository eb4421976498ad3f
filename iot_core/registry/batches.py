"""Batch keys: what a factory run of devices carries to claim itself with, limited in count, time, profile, network."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final

from iot_core.errors import NotFoundError, RequestError
from iot_core.registry.audit import Change, record
from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import hash_secret

if TYPE_CHECKING:
    import asyncpg

    from iot_core.profiles import Profiles

__all__ = ["Batch", "Network", "batches", "create", "one", "revoke"]

Network = IPv4Network | IPv6Network
_LETTERS: Final = "23456789abcdefghjkmnpqrstuvwxyz"  # none that is read as another one: it stands on labels
_NAME: Final = 8
_COLUMNS: Final = """
batch.id, batch.key, batch.name, batch.most, batch.profile, batch.networks, batch.until, batch.created_at,
batch.created_by, batch.revoked_at, (SELECT count(*) FROM iot.claim WHERE batch_id = batch.id) AS claimed,
(SELECT count(*) FROM iot.claim WHERE batch_id = batch.id AND state = 'waiting') AS waiting
"""
_CREATE: Final = """
INSERT INTO iot.batch (key, name, secret_hash, most, profile, networks, until, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_LIST: Final = f"SELECT {_COLUMNS} FROM iot.batch ORDER BY batch.id DESC LIMIT 1000"
_ONE: Final = f"SELECT {_COLUMNS} FROM iot.batch WHERE batch.key = $1"
_REVOKE: Final = "UPDATE iot.batch SET revoked_at = now() WHERE key = $1 AND revoked_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A factory run. `claimed` of `most` devices have claimed themselves, `waiting` of them for a person's word."""

    id: int
    key: str
    name: str
    most: int
    profile: str | None
    networks: tuple[Network, ...]
    until: datetime
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    claimed: int
    waiting: int

    @property
    def state(self) -> str:
        """`revoked`, `expired`, `exhausted` or `open`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.until <= datetime.now(UTC):
            return "expired"
        return "exhausted" if self.claimed >= self.most else "open"


async def create(
    connection: asyncpg.Connection,
    profiles: Profiles,
    *,
    count: int,
    until: datetime,
    profile: str | None = None,
    networks: Sequence[str] = (),
    name: str = "",
    by: str,
) -> tuple[Batch, str]:
    """Make a batch key; its secret exists in clear only here. Raises RequestError, NotFoundError for the profile."""
    if profile is not None:
        profiles.get(profile)
    if until <= datetime.now(UTC):
        raise RequestError("batch.until_past", until=until.isoformat())
    allowed = [_network(each) for each in networks]
    key, secret = "b_" + "".join(secrets.choice(_LETTERS) for _ in range(_NAME)), new_secret()
    async with connection.transaction():
        await connection.execute(_CREATE, key, name, hash_secret(secret), count, profile, allowed, until, by)
        after = {
            "count": count, "until": until, "profile": profile, "networks": [str(each) for each in allowed],
            "name": name,
        }  # fmt: skip
        await record(connection, by, "batch.create", Change(f"batch/{key}", after=after))
    return await one(connection, key), secret


async def batches(connection: asyncpg.Connection) -> list[Batch]:
    """List batches, the newest first."""
    return [_batch(row) for row in await connection.fetch(_LIST)]


async def one(connection: asyncpg.Connection, key: str) -> Batch:
    """Find a batch. Raises NotFoundError."""
    row = await connection.fetchrow(_ONE, key)
    if row is None:
        raise NotFoundError("batch.none", key=key)
    return _batch(row)


async def revoke(connection: asyncpg.Connection, key: str, *, by: str) -> Batch:
    """End a batch key: from now on it opens nothing, not even for a claim that waits. Again, it changes nothing."""
    async with connection.transaction():
        before = await one(connection, key)
        if (await connection.execute(_REVOKE, key)).endswith(" 1"):
            change = Change(f"batch/{key}", before={"state": before.state}, after={"state": "revoked"})
            await record(connection, by, "batch.revoke", change)
    return await one(connection, key)


def _batch(row: asyncpg.Record) -> Batch:
    return Batch(**{**row, "networks": tuple(row["networks"])})


def _network(said: str) -> Network:
    try:
        return ip_network(said.strip(), strict=False)
    except ValueError:
        raise RequestError("batch.bad_network", network=said) from None
