"""Twins in their table: the configuration that a device should have, and the one that it says it has.

desired (version 3) --told--> device --reported {version, config, refused}--> reported
difference of one key: in_sync | pending | refused | drifted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError
from iot_core.registry.audit import Change, record

__all__ = [
    "CHANNEL", "Sync", "Twin", "change", "differences", "get", "later", "list_twins", "ordered", "report", "said_of",
    "told", "untold",
]  # fmt: skip

CHANNEL: Final = "iot_twin"

_SELECT: Final = """
SELECT d.id AS device_id, d.key, d.class_key, t.desired, t.version, t.changed_at, t.changed_by, t.reported,
    t.reported_version, t.reported_at, t.refused, t.told_version, t.orders
FROM iot.device d JOIN iot.twin t ON t.device_id = d.id
"""
_CHANGE: Final = """
INSERT INTO iot.twin AS t (device_id, desired, version, changed_at, changed_by)
VALUES ($1, jsonb_strip_nulls($2::jsonb), 1, clock_timestamp(), $3)
ON CONFLICT (device_id) DO UPDATE SET desired = jsonb_strip_nulls(t.desired || $2::jsonb), version = t.version + 1,
    changed_at = clock_timestamp(), changed_by = $3, next_at = clock_timestamp(),
    refused = t.refused - ARRAY(SELECT jsonb_object_keys($2::jsonb))
WHERE jsonb_strip_nulls(t.desired || $2::jsonb) <> t.desired
RETURNING t.version
"""
_REPORT: Final = """
INSERT INTO iot.twin AS t (device_id, reported, reported_version, reported_at, refused)
SELECT id, $2::jsonb, $3, $4, $5::jsonb FROM iot.device WHERE key = $1
ON CONFLICT (device_id) DO UPDATE SET reported = excluded.reported,
    reported_version = least(excluded.reported_version, t.version), reported_at = excluded.reported_at,
    refused = CASE WHEN excluded.reported_version >= t.version THEN excluded.refused ELSE t.refused END
WHERE t.reported_at IS NULL OR t.reported_at <= excluded.reported_at
"""
# A device that comes back is told again; the broker may have lost what it kept for it.
_UNTOLD: Final = f"""{_SELECT} LEFT JOIN iot.device_status s ON s.device_id = t.device_id
WHERE t.reported_version < t.version AND t.next_at <= clock_timestamp() AND d.retired_at IS NULL
    AND (t.told_version < t.version OR t.orders <> '{{}}' OR coalesce(s.online, false))
ORDER BY t.next_at LIMIT $1
"""
_TOLD: Final = """
UPDATE iot.twin SET told_version = $2, next_at = clock_timestamp() + $3 WHERE device_id = $1 AND version = $2
"""
_ORDERED: Final = """
UPDATE iot.twin SET orders = $2, reported = reported || $3::jsonb, refused = $4, told_version = $5,
    reported_version = CASE WHEN $6 THEN $5 ELSE reported_version END,
    reported_at = CASE WHEN $3::jsonb <> '{}' THEN clock_timestamp() ELSE reported_at END,
    next_at = clock_timestamp() + $7
WHERE device_id = $1 AND version = $5
"""
_LIST: Final = f"""{_SELECT}
WHERE d.retired_at IS NULL AND ($1::integer[] IS NULL OR d.area_id = ANY($1))
    AND (NOT $2 OR t.reported_version < t.version OR t.refused <> '{{}}' OR NOT t.reported @> t.desired)
ORDER BY d.key LIMIT $3
"""


class Sync(StrEnum):
    """Where one key stands."""

    IN_SYNC = "in_sync"
    PENDING = "pending"
    REFUSED = "refused"
    DRIFTED = "drifted"


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """A device's configuration, as it should be and as it says."""

    device_id: int
    key: str
    class_key: str
    desired: dict[str, Any] = {}
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str | None = None
    reported: dict[str, Any] = {}
    reported_version: int = 0
    reported_at: datetime | None = None
    refused: dict[str, str | dict[str, Any]] = {}
    """Why a key is not taken: in the device's own words, or as a code with its facts where the core says it."""
    told_version: int = 0
    orders: dict[str, int] = {}


def differences(twin: Twin) -> dict[str, Sync]:
    """Say of every desired key where it stands."""
    return {key: _difference(twin, key, wanted) for key, wanted in twin.desired.items()}


def _difference(twin: Twin, key: str, wanted: object) -> Sync:
    if key in twin.refused:
        return Sync.REFUSED
    if key in twin.reported and twin.reported[key] == wanted:
        return Sync.IN_SYNC
    return Sync.PENDING if twin.reported_version < twin.version else Sync.DRIFTED


async def get(connection: asyncpg.Connection, device_id: int) -> Twin | None:
    """Find a twin; None where nothing was ever desired nor said."""
    row = await connection.fetchrow(f"{_SELECT} WHERE d.id = $1", device_id)
    return None if row is None else msgspec.convert(dict(row), Twin)


async def change(
    connection: asyncpg.Connection, device_id: int, key: str, changes: Mapping[str, Any], *, by: str,
    version: int | None = None,
) -> Twin:  # fmt: skip
    """Change what is desired (null: no longer), in a transaction with its audit; the same again changes nothing.

    Raises ConflictError when `version` is not the one that stands.
    """
    async with connection.transaction():
        await connection.execute("SELECT FROM iot.device WHERE id = $1 FOR UPDATE", device_id)
        before = await get(connection, device_id)
        stands = before.version if before else 0
        if version is not None and version != stands:
            raise ConflictError("twin.changed_meanwhile", device=key, version=stands, asked=version)
        await connection.execute(_CHANGE, device_id, dict(changes), by)
        after = await get(connection, device_id)
        if after is None:  # there was nothing, and nothing is wanted
            return Twin(device_id=device_id, key=key, class_key="")
        if after.version != stands:
            change_ = Change(f"device/{key}", {"config": before.desired if before else {}}, {"config": after.desired})
            await record(connection, by, "device.configure", change_)
    return after


async def report(
    connection: asyncpg.Connection,
    key: str,
    config: Mapping[str, Any],
    version: int,
    *,
    at: datetime,
    refused: Mapping[str, str],
) -> None:
    """Keep what a device says of its configuration; an older word than the one that is kept changes nothing."""
    await connection.execute(_REPORT, key, dict(config), version, at, dict(refused))


async def untold(connection: asyncpg.Connection, most: int) -> list[Twin]:
    """List twins whose devices must be told something, or asked after."""
    return [msgspec.convert(dict(row), Twin) for row in await connection.fetch(_UNTOLD, most)]


async def told(connection: asyncpg.Connection, twin: Twin, again_in: Any) -> None:
    """Note that a device was told this version."""
    await connection.execute(_TOLD, twin.device_id, twin.version, again_in)


async def later(connection: asyncpg.Connection, twin: Twin, again_in: Any) -> None:
    """Note that a device could not be told, and when to try again."""
    statement = "UPDATE iot.twin SET next_at = clock_timestamp() + $3 WHERE device_id = $1 AND version = $2"
    await connection.execute(statement, twin.device_id, twin.version, again_in)


async def ordered(
    connection: asyncpg.Connection, twin: Twin, *, orders: Mapping[str, int], done: Mapping[str, Any],
    refused: Mapping[str, Any], over: bool, again_in: Any,
) -> None:  # fmt: skip
    """Note how far the commands are that carry a configuration."""
    await connection.execute(
        _ORDERED, twin.device_id, dict(orders), dict(done), dict(refused), twin.version, over, again_in
    )


async def said_of(connection: asyncpg.Connection, device_id: int, reported: Mapping[str, Any]) -> None:
    """Note what somebody read out of a device."""
    statement = """UPDATE iot.twin SET reported = jsonb_strip_nulls(reported || $2::jsonb),
        reported_at = clock_timestamp() WHERE device_id = $1"""
    await connection.execute(statement, device_id, dict(reported))


async def list_twins(
    connection: asyncpg.Connection, *, differing: bool, limit: int, areas: Sequence[int] | None = None
) -> list[Twin]:
    """List twins in key order, those only that differ when asked for."""
    return [msgspec.convert(dict(row), Twin) for row in await connection.fetch(_LIST, areas, differing, limit)]
