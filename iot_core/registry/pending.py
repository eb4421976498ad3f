"""A secret that waits to take over from the one before: kept as a hash, and sealed as long as it must still be sent.

    one --rotate--> one, next --the device has shown next--> next
                        '-- 30 days, nobody showed it --> one

Shown is: used over CoAP or at a broker that asks us, in a CONNECT to the claims' port, by its digest in the answer to
the command that brought it, or said so by a person.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from iot_core.errors import NotFoundError
from iot_core.registry.audit import Change, record
from iot_core.registry.keep import LAPSES

if TYPE_CHECKING:
    import asyncpg

    from iot_core.store.vault import Vault

__all__ = ["PENDING", "SOURCE", "clear", "forget", "overtake", "promote", "sealed_name", "shown", "tidy"]

SOURCE: Final = "rotation"
"""Of the command orders that bring such a secret."""
PENDING: Final = f"CASE WHEN unit.next_since > now() - {LAPSES} THEN unit.next_hash END"
"""The hash of the one that waits; one that nobody showed for a month lapses."""
_PROMOTE: Final = """
UPDATE iot.unit SET secret_hash = next_hash, next_hash = NULL, next_since = NULL WHERE id = $1 AND next_hash = $2
"""
_FORGET: Final = "DELETE FROM iot.credential WHERE unit_id = $1 AND kind = 'next'"
# Whoever showed it has it, whatever became of the command that was to bring it.
_BROUGHT: Final = """
UPDATE iot.command c SET state = 'succeeded', problem = NULL, trying_until = NULL, ended_at = clock_timestamp(),
    sent_at = coalesce(c.sent_at, clock_timestamp()), delivered_at = coalesce(c.delivered_at, clock_timestamp())
FROM iot.command_order o, iot.unit u
WHERE o.id = c.order_id AND o.source = 'rotation' AND u.id = $1 AND c.device_id = u.device_id
    AND c.ended_at IS NULL
"""
_OVERTAKE: Final = """
UPDATE iot.command c SET state = 'failed', ended_at = clock_timestamp(), trying_until = NULL,
    problem = '{"code": "secret.overtaken", "facts": {}}'
FROM iot.command_order o, iot.unit u
WHERE o.id = c.order_id AND o.source = 'rotation' AND u.id = ANY($1::integer[]) AND c.device_id = u.device_id
    AND c.ended_at IS NULL
"""
_CLEAR: Final = f"""
SELECT unit.id, {PENDING} AS next, credential.secret FROM iot.unit
JOIN iot.device ON device.id = unit.device_id JOIN iot.credential ON credential.unit_id = unit.id AND kind = 'next'
WHERE device.key = $1 AND unit.mounted_to IS NULL AND device.retired_at IS NULL
ORDER BY unit.mounted_from DESC, unit.id DESC LIMIT 1
"""
_LAPSED: Final = f"DELETE FROM iot.credential WHERE kind = 'oscore_next' AND created_at < now() - {LAPSES}"
_TIDY: Final = """
DELETE FROM iot.credential WHERE kind = 'next' AND NOT EXISTS (
    SELECT FROM iot.unit u JOIN iot.command c ON c.device_id = u.device_id JOIN iot.command_order o ON o.id = c.order_id
    WHERE u.id = credential.unit_id AND u.mounted_to IS NULL AND o.source = 'rotation' AND c.ended_at IS NULL)
"""


def sealed_name(device_key: str) -> str:
    """Name the row that a sealed secret is bound to, as store/reseal.py names it too."""
    return f"credential/{device_key}/next"


async def promote(connection: asyncpg.Connection, unit_id: int, following: str, *, key: str, by: str) -> bool:
    """Let the secret with the hash `following` take over, in the caller's transaction; False when it waits no more."""
    if await connection.execute(_PROMOTE, unit_id, following) == "UPDATE 0":
        return False
    await forget(connection, unit_id)
    await connection.execute(_BROUGHT, unit_id)
    await record(connection, by, "device.rotate", Change(f"device/{key}", after={"secret": "confirmed"}))
    return True


async def forget(connection: asyncpg.Connection, unit_id: int) -> None:
    """Forget the sealed copy: from now on it cannot be sent any more."""
    await connection.execute(_FORGET, unit_id)


async def overtake(connection: asyncpg.Connection, unit_ids: list[int]) -> None:
    """End commands that were to bring a secret which is not the one any more."""
    await connection.execute(_OVERTAKE, unit_ids)


async def clear(connection: asyncpg.Connection, vault: Vault, device_key: str) -> str:
    """Give the secret that waits for a device, to be sent to it. Raises NotFoundError when none does."""
    row = await connection.fetchrow(_CLEAR, device_key)
    if row is None or row["next"] is None:
        raise NotFoundError("secret.none_pending", key=device_key)
    return vault.open(row["secret"], sealed_name(device_key)).decode()


async def shown(connection: asyncpg.Connection, vault: Vault, device_key: str, proof: str) -> bool:
    """Let the secret that waits take over when `proof` is its SHA-256 in hexadecimal: the device has it, whole."""
    async with connection.transaction():
        row = await connection.fetchrow(f"{_CLEAR} FOR UPDATE OF unit", device_key)
        if row is None or row["next"] is None:
            return False
        digest = hashlib.sha256(vault.open(row["secret"], sealed_name(device_key))).hexdigest()
        if not hmac.compare_digest(digest.encode(), proof.lower().encode()):
            return False
        return await promote(connection, row["id"], row["next"], key=device_key, by=device_key)


async def tidy(connection: asyncpg.Connection) -> None:
    """Forget sealed copies that nothing is to bring any more, whose hashes hold on, and keys unused for a month."""
    await connection.execute(_TIDY)
    await connection.execute(_LAPSED)
