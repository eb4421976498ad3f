"""The mounted units in memory: who speaks at which address, and who is worked at. Follows the registry by NOTIFY.

A notification names the devices whose units changed, and only those are read; after an absence, or where they are too
many to be named, everything is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from iot_core.model import MountedUnit
from iot_core.registry import maintenance
from iot_core.registry.windows import NO_WINDOWS, Window
from iot_core.store.connection import listening, outlasting

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger()

CHANNEL: Final = "iot_registry"
WINDOWS: Final = "iot_maintenance"
_MOST: Final = 10_000
_RETRY_S: Final = 1.0
_NO_CHANNELS: Final[Mapping[str, int]] = {}

_UNITS: Final = """
SELECT u.id AS unit_id, u.device_id, u.profile, u.address, u.mounted_from, u.mounted_to,
    d.key AS device_key, d.class_key, d.simulated, d.retired_at IS NOT NULL AS retired,
    (SELECT jsonb_object_agg(c.channel, c.device_id) FROM iot.channel c WHERE c.unit_id = u.id) AS channels,
    CASE WHEN d.gateway_id IS NULL OR u.address LIKE 'iot:%' THEN u.revoked_at IS NOT NULL
         ELSE u.secret_hash IS NULL AND gateway.device_id IS NOT NULL END AS revoked
FROM iot.unit u JOIN iot.device d ON d.id = u.device_id
LEFT JOIN (
    SELECT DISTINCT device_id FROM iot.unit WHERE revoked_at IS NOT NULL AND mounted_to IS NULL
) gateway ON gateway.device_id = d.gateway_id
"""
_ALL: Final = f"{_UNITS} ORDER BY u.address, u.mounted_from"
# Not joined by OR, which no index answers: each claim of a new device would read everybody's row.
_SOME: Final = f"""{_UNITS} WHERE u.device_id IN (
    SELECT unnest($1::integer[])
    UNION SELECT id FROM iot.device WHERE gateway_id = ANY($1)
    UNION SELECT device_id FROM iot.unit WHERE address = ANY($2) AND mounted_to IS NULL)
ORDER BY u.mounted_to IS NULL, u.mounted_from
"""
CLASSES: Final = """
SELECT d.id, d.class_key FROM iot.device d WHERE EXISTS (SELECT FROM iot.channel c WHERE c.device_id = d.id)
"""


class _Earlier(NamedTuple):
    """A unit that was mounted at an address until some moment; `retired`: so is its device by now."""

    unit: MountedUnit
    mounted_to: datetime
    retired: bool


class Directory:
    """A live view of the mounted units (driver.Units), and who was mounted at an address before."""

    def __init__(self) -> None:
        self._mounted: dict[str, MountedUnit] = {}
        self._earlier: dict[str, list[_Earlier]] = {}
        self._of_scheme: dict[str, tuple[MountedUnit, ...]] = {}
        """What was asked for, until one of them changes: a city of 100,000 has few that are polled."""
        self._channel_classes: dict[int, str] = {}
        self._windows = NO_WINDOWS
        self._change = asyncio.Event()
        self._reading = asyncio.Lock()

    def at(self, address: str) -> MountedUnit | None:
        """Return the unit mounted at `address`, or None."""
        return self._mounted.get(address)

    def owner(self, unit: MountedUnit, time: datetime) -> MountedUnit:
        """Return whose reading it is: the unit that was mounted at this address at `time`, else the one there now."""
        if time >= unit.mounted_from:
            return unit
        for earlier in reversed(self._earlier.get(unit.address, ())):
            if earlier.unit.mounted_from <= time < earlier.mounted_to:
                return earlier.unit
        return unit

    def left(self, address: str) -> Sequence[MountedUnit]:
        """List the units that were mounted at an address where none is now, the last one first.

        Their devices live on elsewhere: one that is retired is told nothing more.
        """
        if address in self._mounted:
            return ()
        return [each.unit for each in reversed(self._earlier.get(address, ())) if not each.retired]

    def was_mounted(self, unit: MountedUnit, time: datetime) -> bool:
        """Say whether a unit hung at its address at a moment before it was taken away."""
        return any(
            each.unit.unit_id == unit.unit_id and each.unit.mounted_from <= time < each.mounted_to
            for each in self._earlier.get(unit.address, ())
        )

    def class_of(self, unit: MountedUnit, device_id: int) -> str:
        """Return the class of a device that `unit` feeds."""
        return unit.class_key if device_id == unit.device_id else self._channel_classes.get(device_id, unit.class_key)

    @property
    def worked_at(self) -> bool:
        """Whether any device at all is, was lately or will be inside a window."""
        return bool(self._windows)

    def window(self, device_id: int, at: datetime) -> Window | None:
        """Return the maintenance or test window that a device is inside at a moment."""
        return self._windows.at(device_id, at)

    def with_scheme(self, scheme: str) -> Iterable[MountedUnit]:
        """Return the units whose address starts with `scheme:`."""
        found = self._of_scheme.get(scheme)
        if found is None:
            begin = f"{scheme}:"
            found = tuple(unit for address, unit in self._mounted.items() if address.startswith(begin))
            self._of_scheme[scheme] = found
        return found

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
        """Read everything anew."""
        async with self._reading:
            await self._load(connection)
        self.touch()

    async def _load(self, connection: asyncpg.Connection) -> None:
        mounted: dict[str, MountedUnit] = {}
        earlier: dict[str, list[_Earlier]] = {}
        async with connection.transaction():
            async for row in connection.cursor(_ALL, prefetch=1000):
                unit = _unit(row)
                if row["mounted_to"] is None:
                    before = self._mounted.get(unit.address)  # 100,000 that did not change need no room twice
                    mounted[unit.address] = before if before == unit else unit
                else:
                    earlier.setdefault(unit.address, []).append(_Earlier(unit, row["mounted_to"], row["retired"]))
        self._channel_classes = {row["id"]: row["class_key"] for row in await connection.fetch(CLASSES)}
        self._windows = await maintenance.load(connection)
        self._mounted, self._earlier, self._of_scheme = mounted, earlier, {}

    async def reload(
        self, connection: asyncpg.Connection, devices: Iterable[int] = (), addresses: Iterable[str] = ()
    ) -> None:
        """Read the units of some devices anew: of those named, and of those mounted at these addresses."""
        async with self._reading:
            rows = await connection.fetch(_SOME, list(devices), list(addresses))
            if any(row["channels"] for row in rows) or self._channel_classes:
                self._channel_classes = {row["id"]: row["class_key"] for row in await connection.fetch(CLASSES)}
            for row in rows:  # dismounted ones first, so that one that takes an address over stays
                self._take(_unit(row), row["mounted_to"], retired=row["retired"])
        self.touch()

    def _take(self, unit: MountedUnit, mounted_to: datetime | None, *, retired: bool) -> None:
        self._of_scheme.pop(unit.address.partition(":")[0], None)
        before = self._mounted.get(unit.address)
        if mounted_to is None:
            self._mounted[unit.address] = before if before is not None and before == unit else unit
            return
        if before is not None and before.unit_id == unit.unit_id:
            del self._mounted[unit.address]
        others = [each for each in self._earlier.get(unit.address, ()) if each.unit.unit_id != unit.unit_id]
        now = [*others, _Earlier(unit, mounted_to, retired)]
        self._earlier[unit.address] = sorted(now, key=lambda each: each.unit.mounted_from)

    async def follow(self, pool: asyncpg.Pool) -> None:
        """Read what changes in the registry, until cancelled. Changes while reading cause one more."""
        while True:
            with outlasting():
                async with listening(pool, CHANNEL, WINDOWS) as notices:
                    await self.load(notices.connection)
                    while True:
                        await self._read(notices.connection, await notices.next())
            log.warning("directory.store_away")
            await asyncio.sleep(_RETRY_S)

    async def _read(self, connection: asyncpg.Connection, heard: set[tuple[str, str]]) -> None:
        named = [payload for channel, payload in heard if channel == CHANNEL]
        devices = {int(number) for payload in named for number in payload.split(",") if number}
        if "" in named or len(devices) > _MOST:
            await self.load(connection)
            return
        if devices:
            await self.reload(connection, devices)
        if (WINDOWS, "") in heard:
            self._windows = await maintenance.load(connection)


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
        revoked=row["revoked"],
    )
