"""Other operations centers that send us their alarms: each with a secret that it signs with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import is_key
from iot_core.store.vault import Vault

__all__ = ["Center", "add", "find", "list_", "remove"]

ADD: Final = """
INSERT INTO iot.center (key, name, secret, area_id) VALUES ($1, $2, $3, (SELECT id FROM iot.area WHERE key = $4))
ON CONFLICT DO NOTHING RETURNING id
"""
LIST: Final = """
SELECT c.id, c.key, c.name, c.secret, c.area_id, r.key AS area, c.created_at, c.heard_at FROM iot.center c
LEFT JOIN iot.area r ON r.id = c.area_id
WHERE c.removed_at IS NULL AND ($1::text IS NULL OR c.key = $1) ORDER BY c.key
"""
REMOVE: Final = "UPDATE iot.center SET removed_at = now() WHERE key = $1 AND removed_at IS NULL RETURNING id"
HEARD: Final = "UPDATE iot.center SET heard_at = clock_timestamp() WHERE id = $1"
KNOWN: Final = "SELECT EXISTS (SELECT FROM iot.area WHERE key = $1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Center:
    """A center; `secret` is sealed; `area` is where its alarms are when they do not say a place that we know."""

    id: int
    key: str
    name: str
    secret: str = field(repr=False)
    area_id: int | None
    area: str | None
    created_at: datetime
    heard_at: datetime | None


async def add(
    connection: asyncpg.Connection, key: str, name: str, secret: str, area: str | None, *, vault: Vault
) -> Center:
    """Add a center. Raises RequestError, NotFoundError for the area, ConflictError."""
    if not is_key(key):
        raise RequestError("push.bad_key", key=key)
    if area is not None and not await connection.fetchval(KNOWN, area):
        raise NotFoundError("registry.no_area", key=area)
    if await connection.fetchval(ADD, key, name, vault.seal_text(secret, f"center/{key}"), area) is None:
        raise ConflictError("center.exists", key=key)
    return await find(connection, key)


async def find(connection: asyncpg.Connection, key: str) -> Center:
    """Give a center. Raises NotFoundError."""
    row = await connection.fetchrow(LIST, key)
    if row is None:
        raise NotFoundError("center.not_found", key=key)
    return Center(**row)


async def list_(connection: asyncpg.Connection) -> list[Center]:
    """List the centers."""
    return [Center(**row) for row in await connection.fetch(LIST, None)]


async def remove(connection: asyncpg.Connection, key: str) -> None:
    """Stop taking a center's alarms; those that it has sent stay. Raises NotFoundError."""
    if await connection.fetchval(REMOVE, key) is None:
        raise NotFoundError("center.not_found", key=key)
