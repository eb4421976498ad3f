"""Ask devices now: a driver reads one, and what it says runs through the ingest path like any other reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import CommandRejected, NotFoundError, StoreUnavailable
from iot_core.model import Outcome

if TYPE_CHECKING:
    from iot_core.driver import Driver, Emit
    from iot_core.model import MountedUnit
    from iot_core.profiles import Profiles

__all__ = ["Asked", "Asking"]

_COMMIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a device said just now. `stored` is False while the store is away: a driver may keep it until then."""

    device_key: str
    time: datetime
    values: Mapping[str, object]
    problems: tuple[str, ...]
    """Reasons why parts of it were held."""
    stored: bool


@dataclass(slots=True)
class Asking:
    """The drivers by the scheme of their addresses, and the way from them to the store."""

    units: Iterable[MountedUnit]
    profiles: Profiles
    emit: Emit
    drivers: dict[str, Driver] = field(default_factory=dict)

    async def read(self, device_id: int, device_key: str) -> Asked:
        """Read a device now, and store what it says.

        Raises NotFoundError without a mounted unit, DeviceUnreachable when it says nothing, CommandRejected where
        devices of its protocol speak by themselves.
        """
        unit, channel = self._unit(device_id, device_key)
        scheme = unit.address.partition(":")[0]
        driver = self.drivers.get(scheme)
        if driver is None:
            raise CommandRejected("driver.no_read", device=device_key, protocol=scheme)
        uplink = await driver.read(unit)
        committed: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def done(outcome: Outcome) -> None:
            if not committed.done():
                committed.set_result(outcome)

        uplink.done = done
        decoded = self.profiles.get(unit.profile).decode(uplink)
        values = next((dict(sample.values) for sample in decoded.samples if sample.channel == channel), {})
        stored, problems = False, tuple(str(problem.reason) for problem in decoded.problems)
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self.emit(uplink)
                outcome = await committed
            stored, problems = outcome.stored > 0, tuple(str(problem.reason) for problem in outcome.problems)
        except (TimeoutError, StoreUnavailable):
            pass  # the person still gets the values; the poll that follows is kept as usual
        return Asked(device_key, uplink.received_at, values, problems, stored)

    def survey(self, scheme: str, request: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Let a driver look for devices that nobody registered. Raises CommandRejected where none can."""
        driver = self.drivers.get(scheme)
        if driver is None:
            raise CommandRejected("driver.no_survey", protocol=scheme)
        return driver.survey(request)

    def _unit(self, device_id: int, device_key: str) -> tuple[MountedUnit, str]:
        """Find the unit that speaks for a device, and on which channel: its own, or one of another device's unit."""
        for unit in self.units:
            if unit.device_id == device_id:
                return unit, ""
            channel = next((name for name, fed in unit.channels.items() if fed == device_id), None)
            if channel is not None:
                return unit, channel
        raise NotFoundError("asking.not_mounted", key=device_key)
