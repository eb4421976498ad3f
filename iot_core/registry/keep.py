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

__all__ = ["LAPSES", "WAITS", "Keep", "forget", "keep", "keep_beside"]

WAITS: Final = "_next"
"""Ends the kind of a credential that takes over when its device has used it; unused for so long, it lapses."""
LAPSES: Final = "interval '30 days'"
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
# Only a device that speaks first can show by itself which one it has.
_HELD: Final = """
SELECT EXISTS (SELECT FROM iot.credential JOIN iot.unit ON unit.id = unit_id
    WHERE unit_id = $1 AND credential.kind = $2 AND unit.address LIKE 'iot:%')
"""
_WAITING: Final = """
SELECT secret, device.key FROM iot.credential JOIN iot.unit ON unit.id = unit_id
JOIN iot.device ON device.id = unit.device_id WHERE unit_id = $1 AND credential.kind = $2 AND public = $3
FOR UPDATE OF credential
"""
_TAKE_OVER: Final = "UPDATE iot.credential SET kind = $3, secret = $4 WHERE unit_id = $1 AND kind = $2"
_OF: Final = f"""
SELECT public, secret, device.key FROM iot.credential JOIN iot.unit ON unit.id = unit_id
JOIN iot.device ON device.id = unit.device_id WHERE unit_id = $1 AND credential.kind = $2
    AND (credential.kind <> 'oscore_next' OR credential.created_at > now() - {LAPSES})
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
        await connection.execute(_FORGET, unit, f"{kind}{WAITS}")
        await connection.execute(_KEEP, unit, kind, public, vault.seal(secret, _about(device_key, kind)))
        await record(connection, by, f"device.{kind}", Change(f"device/{device_key}", after={kind: "set"}))
    return unit


async def keep_beside(
    connection: asyncpg.Connection,
    device_key: str,
    kind: str,
    public: Mapping[str, Any],
    secret: bytes,
    *,
    by: str,
    vault: Vault,
) -> int | None:
    """Keep a credential that takes over when its device uses it; give the unit's number.

    None, and nothing kept, where there is none yet, or for a device that does not speak first (`coap://`).
    `public` must be new with each credential: by it the device says which one it used.
    """
    async with connection.transaction():
        unit = await _unit(connection, device_key)
        if not await connection.fetchval(_HELD, unit, kind):
            return None
        waiting = f"{kind}{WAITS}"
        await connection.execute(_KEEP, unit, waiting, public, vault.seal(secret, _about(device_key, waiting)))
        await record(connection, by, f"device.{kind}", Change(f"device/{device_key}", after={kind: "pending"}))
    return unit


async def forget(connection: asyncpg.Connection, device_key: str, kind: str, *, by: str) -> bool:
    """Forget a credential; False when none was kept."""
    async with connection.transaction():
        unit = await _unit(connection, device_key)
        await connection.execute(_FORGET, unit, f"{kind}{WAITS}")
        gone = await connection.fetchval(_FORGET, unit, kind)
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

    async def take_over(self, unit_id: int, kind: str, used: Credential) -> bool:
        """Let the credential that waits take over, which its device has used, and the one before die.

        False when it is another that waits, or none. The numbers taken go on. Raises StoreUnavailable.
        """
        waiting = f"{kind}{WAITS}"
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(_WAITING, unit_id, waiting, used.public)
                if row is None:
                    return False
                key = row["key"]
                sealed = self._vault.seal(self._vault.open(row["secret"], _about(key, waiting)), _about(key, kind))
                await connection.execute(_FORGET, unit_id, kind)
                await connection.execute(_TAKE_OVER, unit_id, waiting, kind, sealed)
                await record(connection, key, f"device.{kind}", Change(f"device/{key}", after={kind: "confirmed"}))
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        return True
