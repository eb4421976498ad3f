"""A device gets another secret: the old one holds until the new one was shown, or dies at once.

one ---rotate, deliver---> one, next ---the next is shown, or a person confirms---> next
one ---revoke---> nobody gets in as this device until it is rotated

`rotate` shows the new one to a person. `deliver` shows it to nobody: a command takes it to the device itself, by the
way on which the device has shown its old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from iot_core.errors import ConflictError, NotFoundError
from iot_core.registry import commands, pending
from iot_core.registry.audit import Change, record
from iot_core.registry.commands import New
from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import hash_secret
from iot_core.registry.pending import PENDING

if TYPE_CHECKING:
    import asyncpg

    from iot_core.store.vault import Vault

__all__ = ["COMMAND", "Terms", "confirm", "deliver", "revoke", "rotate"]

COMMAND: Final = "secret"
"""The command that takes a new secret to a device. Its parameter stands in no table: it is filled in when it leaves."""
_UNIT: Final = f"""
SELECT unit.id, unit.address, unit.secret_hash IS NOT NULL AS has, {PENDING} AS next
FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE device.key = $1 AND unit.mounted_to IS NULL AND device.retired_at IS NULL
ORDER BY unit.secret_hash IS NULL, unit.mounted_from DESC, unit.id DESC LIMIT 1 FOR UPDATE OF unit
"""
_DEVICES: Final = """
SELECT device.id AS device_id, device.key, unit.id, unit.address, unit.secret_hash IS NOT NULL AS has
FROM iot.device LEFT JOIN LATERAL (
    SELECT id, address, secret_hash FROM iot.unit WHERE device_id = device.id AND mounted_to IS NULL
    ORDER BY secret_hash IS NULL, mounted_from DESC, id DESC LIMIT 1
) unit ON true
WHERE device.key = ANY($1) AND device.retired_at IS NULL ORDER BY device.key
"""
_HOLD: Final = """
SELECT id, secret_hash IS NOT NULL AND mounted_to IS NULL AS has FROM iot.unit
WHERE id = ANY($1::integer[]) ORDER BY id FOR UPDATE
"""
_NEXT: Final = "UPDATE iot.unit SET next_hash = $2, next_since = now() WHERE id = $1"
_NEXT_OF_MANY: Final = """
UPDATE iot.unit SET next_hash = made.hash, next_since = now()
FROM unnest($1::integer[], $2::text[]) AS made (id, hash) WHERE unit.id = made.id
"""
_KEEP: Final = """
INSERT INTO iot.credential (unit_id, kind, secret) SELECT id, 'next', sealed
FROM unnest($1::integer[], $2::bytea[]) AS made (id, sealed)
ON CONFLICT (unit_id, kind) DO UPDATE SET secret = excluded.secret, created_at = now()
"""
_NOW: Final = """
UPDATE iot.unit SET secret_hash = $2, next_hash = NULL, next_since = NULL, revoked_at = NULL WHERE id = $1
"""
# One that signs in nowhere by itself has nothing to be taken back: another speaks for it.
_REVOKE: Final = """
UPDATE iot.unit SET secret_hash = NULL, next_hash = NULL, next_since = NULL, revoked_at = now()
WHERE id = $1 AND (secret_hash IS NOT NULL OR address LIKE 'iot:%')
"""
_CERTIFICATES: Final = """
UPDATE iot.certificate SET revoked_at = now() FROM iot.device
WHERE device.id = device_id AND device.key = $1 AND revoked_at IS NULL
"""
_OSCORE: Final = "DELETE FROM iot.credential WHERE unit_id = $1 AND kind IN ('oscore', 'oscore_next')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How new secrets go out: for how long they are sent, how many a second, after how many failures no more."""

    within: timedelta
    selector: str = ""
    rate: float | None = None
    stop_after: int | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    """A new secret: its hash, and sealed."""

    unit_id: int
    hashed: str
    sealed: bytes


async def rotate(connection: asyncpg.Connection, key: str, *, at_once: bool, by: str) -> str:
    """Make a new secret, given in clear only here. `at_once`: the old one dies now, as when it was stolen."""
    async with connection.transaction():
        unit = await _unit(connection, key)
        secret = new_secret()
        now = at_once or not unit["has"]
        await connection.execute(_NOW if now else _NEXT, unit["id"], hash_secret(secret))
        await _forget(connection, unit["id"])
        await record(
            connection, by, "device.rotate", Change(f"device/{key}", after={"secret": "new" if now else "pending"})
        )
    return secret


async def deliver(connection: asyncpg.Connection, vault: Vault, keys: Sequence[str], terms: Terms, *, by: str) -> int:
    """Make new secrets and order that they are brought to their devices; give the order's number.

    A device that cannot be told becomes a failed command with the reason when there are several; for a single one it is
    raised: NotFoundError, or ConflictError for a device that has no way of its own (a vendor's, or one without a
    secret).
    """
    rows = await connection.fetch(_DEVICES, list(keys))
    found = {row["key"] for row in rows}
    for key in keys:
        if key not in found:
            raise NotFoundError("registry.no_device", key=key)
    refused = {row["key"]: error for row in rows if (error := _no_way(row)) is not None}
    if len(rows) == 1 and refused:
        raise refused[rows[0]["key"]]
    meant = [(row["id"], row["key"]) for row in rows if row["key"] not in refused]
    made = await asyncio.to_thread(_make, vault, meant)
    async with connection.transaction():
        # Making them takes seconds for a city: whoever was revoked or taken down meanwhile is brought none.
        held = {row["id"]: row["has"] for row in await connection.fetch(_HOLD, [each.unit_id for each in made])}
        refused |= {key: ConflictError("secret.no_way_in", key=key) for unit_id, key in meant if not held[unit_id]}
        if len(rows) == 1 and refused:
            raise refused[rows[0]["key"]]
        meant = [(unit_id, key) for unit_id, key in meant if held[unit_id]]
        made = [each for each in made if held[each.unit_id]]
        units = [each.unit_id for each in made]
        await pending.overtake(connection, units)
        await connection.execute(_NEXT_OF_MANY, units, [each.hashed for each in made])
        await connection.execute(_KEEP, units, [each.sealed for each in made])
        new = [
            New(device_id=row["device_id"], presence=True, problem=_problem(refused.get(row["key"]))) for row in rows
        ]
        order, _ = await commands.create(
            connection, COMMAND, {}, new, by=by, source=pending.SOURCE, expires_at=datetime.now(UTC) + terms.within,
            selector=terms.selector, rate=terms.rate, stop_after=terms.stop_after,
        )  # fmt: skip
        changes = [Change(f"device/{key}", after={"secret": "pending"}) for _, key in meant]
        if changes:
            await record(connection, by, "device.rotate", *changes)
    return order


async def confirm(connection: asyncpg.Connection, key: str, *, by: str) -> None:
    """Let the pending secret take over. Raises ConflictError when none is pending."""
    async with connection.transaction():
        unit = await _unit(connection, key)
        if unit["next"] is None:
            raise ConflictError("secret.none_pending", key=key)
        await pending.promote(connection, unit["id"], unit["next"], key=key, by=by)


async def revoke(connection: asyncpg.Connection, key: str, *, by: str) -> None:
    """Let nobody in as this device: its secrets, OSCORE key and certificates die now. What it sent stays.

    What it says over MQTT is held from now on: not every broker can be made to end a connection that stands.
    """
    async with connection.transaction():
        unit = await _unit(connection, key)
        await connection.execute(_REVOKE, unit["id"])
        await _forget(connection, unit["id"])
        await connection.execute(_OSCORE, unit["id"])
        await connection.execute(_CERTIFICATES, key)
        await record(connection, by, "device.revoke", Change(f"device/{key}", after={"secret": "revoked"}))


async def _forget(connection: asyncpg.Connection, unit_id: int) -> None:
    """Nothing is on its way to this unit any more."""
    await pending.overtake(connection, [unit_id])
    await pending.forget(connection, unit_id)


async def _unit(connection: asyncpg.Connection, key: str) -> asyncpg.Record:
    row = await connection.fetchrow(_UNIT, key)
    if row is None:
        raise NotFoundError("registry.no_device", key=key)
    return row


def _no_way(row: asyncpg.Record) -> ConflictError | None:
    """Say why a device cannot be brought a secret over its own line."""
    if row["id"] is None or not row["address"].startswith("iot:"):
        return ConflictError("secret.not_native", key=row["key"])
    return None if row["has"] else ConflictError("secret.no_way_in", key=row["key"])


def _problem(error: ConflictError | None) -> dict[str, object] | None:
    return None if error is None else {"code": error.code, "facts": dict(error.facts), "kind": "rejected"}


def _make(vault: Vault, units: Sequence[tuple[int, str]]) -> list[_Made]:
    """Make secrets, whose only copies are hashes and sealed; of a city this takes seconds."""
    made = []
    for unit_id, key in units:
        secret = new_secret()
        made.append(_Made(unit_id, hash_secret(secret), vault.seal(secret.encode(), pending.sealed_name(key))))
    return made
