"""A unit that feeds several devices: which one each channel speaks of (zones of a panel, lamps of a gateway)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry.audit import Change, record

if TYPE_CHECKING:
    import asyncpg

    from iot_core.profiles import Profiles

__all__ = ["Channel", "channels", "feed"]

_UNIT: Final = """
SELECT u.id, u.profile FROM iot.unit u JOIN iot.device d ON d.id = u.device_id
WHERE d.key = $1 AND u.mounted_to IS NULL AND d.retired_at IS NULL
"""
_MAPPED: Final = """
SELECT c.channel, d.key FROM iot.channel c JOIN iot.device d ON d.id = c.device_id WHERE c.unit_id = $1
ORDER BY c.channel
"""
_DEVICE: Final = "SELECT id FROM iot.device WHERE key = $1 AND retired_at IS NULL"
_MAP: Final = """
INSERT INTO iot.channel (unit_id, channel, device_id) VALUES ($1, $2, $3)
ON CONFLICT (unit_id, channel) DO UPDATE SET device_id = EXCLUDED.device_id
"""
_UNMAP: Final = "DELETE FROM iot.channel WHERE unit_id = $1 AND channel = $2"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a unit and the key of the device that it feeds; None: nobody said yet."""

    channel: str
    device: str | None


async def channels(connection: asyncpg.Connection, profiles: Profiles, key: str) -> list[Channel]:
    """List the channels of a device's unit: those of its profile, and those that are mapped. Raises NotFoundError."""
    unit = await _unit(connection, key)
    mapped = {row["channel"]: row["key"] for row in await connection.fetch(_MAPPED, unit["id"])}
    named = [name for name in profiles.get(unit["profile"]).channels if name]
    return [Channel(name, mapped.get(name)) for name in dict.fromkeys((*named, *mapped))]


async def feed(
    connection: asyncpg.Connection, profiles: Profiles, key: str, channel: str, device: str | None, *, by: str
) -> list[Channel]:
    """Let a channel of the unit at `key` feed a device, or none any more; give all of them.

    Raises NotFoundError for a device or channel that is not there, ConflictError for the unit's own device.
    """
    async with connection.transaction():
        unit = await _unit(connection, key)
        known = [each.channel for each in await channels(connection, profiles, key)]
        if known and channel not in known:
            raise NotFoundError("channel.unknown", channel=channel, key=key, known=", ".join(known[:20]))
        if not known and unit["profile"].startswith("native-"):  # others may name their channels in the message
            raise RequestError("channel.none", key=key, profile=unit["profile"])
        before = {row["channel"]: row["key"] for row in await connection.fetch(_MAPPED, unit["id"])}.get(channel)
        if device is None:
            await connection.execute(_UNMAP, unit["id"], channel)
        else:
            if device == key:
                raise ConflictError("channel.itself", key=key)
            found = await connection.fetchval(_DEVICE, device)
            if found is None:
                raise NotFoundError("channel.no_device", key=device)
            await connection.execute(_MAP, unit["id"], channel, found)
        was, now = ({"channel": channel, "device": each} for each in (before, device))
        await record(connection, by, "device.channel", Change(f"device/{key}", was, now))
        return await channels(connection, profiles, key)


async def _unit(connection: asyncpg.Connection, key: str) -> Any:
    unit = await connection.fetchrow(_UNIT, key)
    if unit is None:
        raise NotFoundError("channel.no_device", key=key)
    return unit
