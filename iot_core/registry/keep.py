"""What the core must be able to show to a unit, or to compute with: logins, OSCORE keys. Sealed, and nowhere else.

A device's own secret is only ever checked, so of that a hash is kept (credentials.py). These are used by the core
itself. They stand in one table that no view, export, audit row or log reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import NotFoundError, StoreUnavailable
from iot_core.model import Credential
from iot_core.registry.audit import Change, record
from iot_core.store.connection import AWAY

if TYPE_CHECKING:
    import asyncpg

    from iot_core.store.vault import Vault

__all__ = ["Keep", "forget", "keep"]

_UNIT: Final = """
SELECT unit.id, unit.address FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE device.key = $1 AND unit.mounted_to IS NULL AND device.retired_at IS NULL
ORDER BY unit.mounted_from DESC, unit.id DESC LIMIT 1
"""
_KEEP: Final = """
INSERT INTO iot.credential (unit_id, kind, public, secret) VALUES ($1, $2, $3, $4)
ON CONFLICT (unit_id, kind) DO UPDATE SET public = excluded.public, secret = excluded.secret, counter = 0,
    created_at = now()
"""
_FORGET: Final = "DELETE FROM iot.credential WHERE unit_id = $1 AND kind = $2 RETURNING unit_id"
_OF: Final = """
SELECT public, secret, device.key FROM iot.credential JOIN iot.unit ON unit.id = unit_id
JOIN iot.device ON device.id = unit.device_id WHERE unit_id = $1 AND credential.kind = $2
"""
_RESERVE: Final = """
UPDATE iot.credential SET counter = counter + $3 WHERE unit_id = $1 AND kind = $2 RETURNING counter - $3
"""


async def keep(
    connection: asyncpg.Connection,
    device_key: str,
    kind: str,
    public: Mapping[str, Any],
    secret: bytes,
    *,
    by: str,
    vault: Vault,
) -> int:
    """Keep a credential of the unit mounted at a device, instead of the one before; give the unit's number."""
    async with connection.transaction():
        unit = await _unit(connection, device_key)
        await connection.execute(_KEEP, unit, kind, public, vault.seal(secret, _about(device_key, kind)))
        await record(connection, by, f"device.{kind}", Change(f"device/{device_key}", after={kind: "set"}))
    return unit


async def forget(connection: asyncpg.Connection, device_key: str, kind: str, *, by: str) -> bool:
    """Forget a credential; False when none was kept."""
    async with connection.transaction():
        gone = await connection.fetchval(_FORGET, await _unit(connection, device_key), kind)
        if gone is not None:
            await record(connection, by, f"device.{kind}", Change(f"device/{device_key}", after={kind: "forgotten"}))
    return gone is not None


def _about(device_key: str, kind: str) -> str:
    return f"credential/{device_key}/{kind}"


async def _unit(connection: asyncpg.Connection, device_key: str) -> int:
    row = await connection.fetchrow(_UNIT, device_key)
    if row is None:
        raise NotFoundError("registry.no_device", key=device_key)
    found: int = row["id"]
    return found


class Keep:
    """What drivers see of it (driver.Credentials)."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault

    async def of(self, unit_id: int, kind: str) -> Credential | None:
        """Give a unit's credential, None where none is kept. Raises StoreUnavailable."""
        try:
            row = await self._pool.fetchrow(_OF, unit_id, kind)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        if row is None:
            return None
        return Credential(row["public"], self._vault.open(row["secret"], _about(row["key"], kind)))

    async def reserve(self, unit_id: int, kind: str, count: int) -> int:
        """Take `count` numbers that nobody ever takes again; give the first. Raises StoreUnavailable, NotFoundError."""
        try:
            first: int | None = await self._pool.fetchval(_RESERVE, unit_id, kind, count)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        if first is None:
            raise NotFoundError("registry.no_credential", kind=kind)
        return first
