"""Which driver reaches a unit, and by which name a device's unit is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from iot_core.errors import CommandRejected, NotFoundError

if TYPE_CHECKING:
    from iot_core.driver import Driver
    from iot_core.model import Command, CommandState, MountedUnit

__all__ = ["NATIVE", "Reach"]

NATIVE: Final = "iot:"
_BY_MQTT: Final = {"iot": "mqtt", "lorawan": "mqtt", "sparkplug": "mqtt"}


@dataclass(slots=True)
class Reach:
    """The mounted units and the drivers by the scheme of their addresses."""

    units: Iterable[MountedUnit]
    drivers: dict[str, Driver] = field(default_factory=dict)

    def driver(self, unit: MountedUnit) -> Driver:
        """Find a unit's driver. Raises CommandRejected."""
        scheme = unit.address.partition(":")[0]
        driver = self.drivers.get(_BY_MQTT.get(scheme, scheme))
        if driver is None:
            raise CommandRejected("command.no_driver", device=unit.device_key, protocol=scheme)
        return driver

    async def send(self, unit: MountedUnit | None, device_key: str, command: Command) -> CommandState:
        """Send by the unit's driver. Raises as `Driver.send`, NotFoundError where no unit is mounted any more."""
        if unit is None:
            raise NotFoundError("asking.not_mounted", key=device_key)
        return await self.driver(unit).send(unit, command)

    def unit(self, device_key: str) -> MountedUnit:
        """Find the unit mounted at a device. Raises NotFoundError."""
        found = next((unit for unit in self.units if unit.device_key == device_key), None)
        if found is None:
            raise NotFoundError("asking.not_mounted", key=device_key)
        return found

    def by_key(self) -> dict[str, MountedUnit]:
        """Give all mounted units by their device's key."""
        return {unit.device_key: unit for unit in self.units}
