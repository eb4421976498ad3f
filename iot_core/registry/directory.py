"""The mounted units in memory: who speaks at which address. Follows the registry by NOTIFY."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from iot_core.model import MountedUnit
from iot_core.store.connection import listening, outlasting

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger()

CHANNEL: Final = "iot_registry"
_RETRY_S: Final = 1.0
_NO_CHANNELS: Final[Mapping[str, int]] = {}

UNITS = """
SELECT u.id AS unit_id, u.device_id, u.profile, u.address, u.mounted_from, u.mounted_to,
    d.key AS device_key, d.class_key, d.simulated,
    (SELECT jsonb_object_agg(c.channel, c.device_id) FROM iot.channel c WHERE c.unit_id = u.id) AS channels
FROM iot.unit u JOIN iot.device d ON d.id = u.device_id
ORDER BY u.address, u.mounted_from
"""
CLASSES = """
SELECT d.id, d.class_key FROM iot.device d WHERE EXISTS (SELECT FROM iot.channel c WHERE c.device_id = d.id)
"""


class Directory:
    """A live view of the mounted units (driver.Units), and who was mounted at an address before."""

    def __init__(self) -> None:
        self._mounted: dict[str, MountedUnit] = {}
        self._earlier: dict[str, list[tuple[MountedUnit, datetime]]] = {}
        self._channel_classes: dict[int, str] = {}
        self._change = asyncio.Event()

    def at(self, address: str) -> MountedUnit | None:
        """Return the unit mounted at `address`, or None."""
        return self._mounted.get(address)

    def owner(self, unit: MountedUnit, time: datetime) -> MountedUnit:
        """Return whose reading it is: the unit that was mounted at this address at `time`, else the one there now."""
        if time >= unit.mounted_from:
            return unit
        for earlier, mounted_to in reversed(self._earlier.get(unit.address, ())):
            if earlier.mounted_from <= time < mounted_to:
                return earlier
        return unit

    def class_of(self, unit: MountedUnit, device_id: int) -> str:
        """Return the class of a device that `unit` feeds."""
        return unit.class_key if device_id == unit.device_id else self._channel_classes.get(device_id, unit.class_key)

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        """Return the units whose address starts with `scheme:`."""
        return [unit for address, unit in self._mounted.items() if address.startswith(f"{scheme}:")]

    def __iter__(self) -> Iterator[MountedUnit]:
        """Go through all mounted units."""
        return iter(list(self._mounted.values()))

    def __len__(self) -> int:
        """Count the mounted units."""
        return len(self._mounted)

    async def changed(self) -> None:
        """Wait until a unit was mounted, dismounted or changed."""
        await self._change.wait()

    def touch(self) -> None:
        """Tell everybody who follows units to look again: their profiles changed."""
        told, self._change = self._change, asyncio.Event()
        told.set()

    async def load(self, connection: asyncpg.Connection) -> None:
        """Read the registry anew."""
        mounted: dict[str, MountedUnit] = {}
        earlier: dict[str, list[tuple[MountedUnit, datetime]]] = {}
        async with connection.transaction():
            async for row in connection.cursor(UNITS, prefetch=1000):
                unit = _unit(row)
                if row["mounted_to"] is None:
                    before = self._mounted.get(unit.address)  # 100,000 that did not change need no room twice
                    mounted[unit.address] = before if before == unit else unit
                else:
                    earlier.setdefault(unit.address, []).append((unit, row["mounted_to"]))
        self._channel_classes = {row["id"]: row["class_key"] for row in await connection.fetch(CLASSES)}
        self._mounted, self._earlier = mounted, earlier
        self.touch()

    async def follow(self, pool: asyncpg.Pool) -> None:
        """Reload whenever the registry changes; until cancelled. Changes during a reload cause one more."""
        while True:
            with outlasting():
                async with listening(pool, CHANNEL) as notices:
                    while True:
                        await self.load(notices.connection)
                        await notices.next()
            log.warning("directory.store_away")
            await asyncio.sleep(_RETRY_S)


def _unit(row: asyncpg.Record) -> MountedUnit:
    return MountedUnit(
        unit_id=row["unit_id"],
        device_id=row["device_id"],
        device_key=row["device_key"],
        class_key=sys.intern(row["class_key"]),
        profile=sys.intern(row["profile"]),
        address=row["address"],
        mounted_from=row["mounted_from"],
        simulated=row["simulated"],
        channels=row["channels"] or _NO_CHANNELS,
    )
