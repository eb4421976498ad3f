"""A device gets another secret: the old one holds until the new one was shown, or dies at once.

one ---rotate---> one, next ---the next is shown, or a person confirms---> next
one ---revoke---> nobody gets in as this device until it is rotated
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iot_core.errors import ConflictError, NotFoundError
from iot_core.registry.audit import Change, record
from iot_core.registry.credentials import PENDING, PROMOTE, new_secret
from iot_core.registry.passwords import hash_secret

if TYPE_CHECKING:
    import asyncpg

__all__ = ["confirm", "revoke", "rotate"]

_UNIT: Final = f"""
SELECT unit.id, unit.address, unit.secret_hash IS NOT NULL AS has, {PENDING} AS next
FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE device.key = $1 AND unit.mounted_to IS NULL AND device.retired_at IS NULL
ORDER BY unit.secret_hash IS NULL, unit.mounted_from DESC, unit.id DESC LIMIT 1 FOR UPDATE OF unit
"""
_NEXT: Final = "UPDATE iot.unit SET next_hash = $2, next_since = now() WHERE id = $1"
_NOW: Final = "UPDATE iot.unit SET secret_hash = $2, next_hash = NULL, next_since = NULL WHERE id = $1"
_CERTIFICATES: Final = """
UPDATE iot.certificate SET revoked_at = now() FROM iot.device
WHERE device.id = device_id AND device.key = $1 AND revoked_at IS NULL
"""
_OSCORE: Final = "DELETE FROM iot.credential WHERE unit_id = $1 AND kind = 'oscore'"


async def rotate(connection: asyncpg.Connection, key: str, *, at_once: bool, by: str) -> str:
    """Make a new secret, given in clear only here. `at_once`: the old one dies now, as when it was stolen."""
    async with connection.transaction():
        unit = await _unit(connection, key)
        secret = new_secret()
        now = at_once or not unit["has"]
        await connection.execute(_NOW if now else _NEXT, unit["id"], hash_secret(secret))
        await record(
            connection, by, "device.rotate", Change(f"device/{key}", after={"secret": "new" if now else "pending"})
        )
    return secret


async def confirm(connection: asyncpg.Connection, key: str, *, by: str) -> None:
    """Let the pending secret take over. Raises ConflictError when none is pending."""
    async with connection.transaction():
        unit = await _unit(connection, key)
        if unit["next"] is None:
            raise ConflictError("secret.none_pending", key=key)
        await connection.execute(PROMOTE, unit["id"], unit["next"])
        await record(connection, by, "device.rotate", Change(f"device/{key}", after={"secret": "confirmed"}))


async def revoke(connection: asyncpg.Connection, key: str, *, by: str) -> None:
    """Let nobody in as this device: its secrets, OSCORE key and certificates die now. What it sent stays."""
    async with connection.transaction():
        unit = await _unit(connection, key)
        await connection.execute(_NOW, unit["id"], None)
        await connection.execute(_OSCORE, unit["id"])
        await connection.execute(_CERTIFICATES, key)
        await record(connection, by, "device.revoke", Change(f"device/{key}", after={"secret": "revoked"}))


async def _unit(connection: asyncpg.Connection, key: str) -> asyncpg.Record:
    row = await connection.fetchrow(_UNIT, key)
    if row is None:
        raise NotFoundError("registry.no_device", key=key)
    return row
