"""The driver: each camera is looked at once an interval, in its own time of it."""

from __future__ import annotations

import asyncio
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
import structlog

from drivers.camera.address import read_address
from drivers.camera.examine import examine, refusals
from iot_core.driver import Driver, DriverContext, Emit, Units
from iot_core.errors import CommandRejected, NotFoundError, StoreUnavailable
from iot_core.model import Uplink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot_core.model import Command, CommandState, MountedUnit

__all__ = ["CameraDriver"]

log = structlog.get_logger()

AT_ONCE: Final = 50
"""Cameras looked at in one moment, at most."""
LOGIN: Final = "login"
AGAIN_S: Final = 900.0
"""When a login that was refused is shown again, twice as long each time; cameras lock an account after 3 to 10 wrong
ones in half an hour."""
LONGEST_S: Final = 21_600.0


@dataclass(frozen=True, slots=True)
class _Refused:
    """A login that a camera refused: by what (`rtsp`, `onvif`), and when it is shown again."""

    login: tuple[str, str]
    by: frozenset[str]
    wait_s: float
    until: float


class CameraDriver(Driver):
    """Looks whether cameras work; asks for no picture and changes nothing."""

    scheme: ClassVar[str] = "camera"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._watched = 0
        self._refused: dict[str, _Refused] = {}

    async def run(self, units: Units, emit: Emit) -> None:
        """Look at all mounted cameras until cancelled."""
        watches: dict[str, tuple[MountedUnit, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                mounted = {unit.address: unit for unit in units.with_scheme(self.scheme)}
                for address, (unit, watch) in list(watches.items()):
                    if mounted.get(address) != unit:
                        watch.cancel()
                        del watches[address]
                for address, unit in mounted.items():
                    if address not in watches:
                        watch = group.create_task(self._watch(unit, emit), name=f"camera {unit.device_key}")
                        watches[address] = unit, watch
                self._watched = len(watches)
                self._refused = {address: each for address, each in self._refused.items() if address in mounted}
                await units.changed()

    async def send(self, unit: MountedUnit, command: Command) -> CommandState:
        """Refuse: looking changes nothing."""
        raise CommandRejected("driver.no_commands", device=unit.device_key, command=command.name, protocol="Camera")

    async def read(self, unit: MountedUnit) -> Uplink:
        """Look now; a person asks, who may have mended the login at the camera, so it is shown."""
        return await self._look(unit, asked=True)

    def address_line(self) -> str:
        """Say how many are looked at."""
        return f"{self._watched}"

    async def _watch(self, unit: MountedUnit, emit: Emit) -> None:
        interval = self._interval(unit)
        reachable = True
        while True:
            await asyncio.sleep(_until_due(unit.address, interval))
            try:
                async with self._room:
                    uplink = await self._look(unit)
                await emit(uplink)
            except CommandRejected as exc:
                log.warning("camera.unusable_address", device=unit.device_key, expected=exc.facts.get("expected"))
                return  # until the unit is changed
            except StoreUnavailable:
                self.context.count("camera_not_stored")  # the next look says it again
                continue
            now = b'"reachable":true' in uplink.payload
            if now is not reachable:
                log.info("camera.reachable" if now else "camera.unreachable", device=unit.device_key)
                reachable = now

    async def _look(self, unit: MountedUnit, *, asked: bool = False) -> Uplink:
        try:
            address = read_address(unit.address)
        except ValueError as exc:
            raise CommandRejected("camera.bad_address", address=unit.address, expected=str(exc)) from exc
        login, before = await self._login(unit), self._refused.get(unit.address)
        held = before is not None and before.login == login and not asked and time.monotonic() < before.until
        found = await examine(address, login, before.by if held and before is not None else frozenset())
        if not held and login is not None:
            self._remember(unit, login, found)
        return Uplink(driver=self.scheme, address=unit.address, payload=msgspec.json.encode(found), content_format=50)

    def _remember(self, unit: MountedUnit, login: tuple[str, str], found: Mapping[str, Any]) -> None:
        """Slow down with a login that was refused; say so once, and once when it is taken again."""
        before = self._refused.get(unit.address)
        if by := refusals(found):
            self.context.count("camera_login_refused")
            wait_s = AGAIN_S if before is None or before.login != login else min(2 * before.wait_s, LONGEST_S)
            self._refused[unit.address] = _Refused(login, by, wait_s, time.monotonic() + wait_s)
            if before is None or before.login != login:
                log.warning("camera.login_refused", device=unit.device_key, by=sorted(by), again_s=wait_s)
        elif "login" in found and self._refused.pop(unit.address, None) is not None:
            log.info("camera.login_accepted", device=unit.device_key)

    def _interval(self, unit: MountedUnit) -> float:
        try:
            return self.context.profiles.get(unit.profile).interval.total_seconds()
        except NotFoundError:
            return 60.0

    async def _login(self, unit: MountedUnit) -> tuple[str, str] | None:
        """Give the camera's login, None where none is kept for it."""
        if self.context.credentials is None:
            return None
        kept = await self.context.credentials.of(unit.unit_id, LOGIN)
        return None if kept is None else (str(kept.public.get("username", "")), kept.secret.decode())


def _until_due(address: str, interval_s: float) -> float:
    """Give the seconds to a camera's next turn: a grid of its own, so that a city is spread over the interval."""
    share = zlib.crc32(address.encode()) / 2**32 * interval_s
    return interval_s - (time.time() - share) % interval_s
