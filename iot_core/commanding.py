"""Send commands: hold them against class and profile, give them to the driver, and hear what a native device answers.

    checked_params -> is it online? -> Driver.send -> sent -> commands/result (native) -> succeeded | failed

Each state is true when it is said. What is not sent now is not sent at all: nothing queues here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from iot_core.errors import CommandRejected, DeviceUnreachable, NotFoundError, RequestError
from iot_core.model import Command, CommandState
from iot_core.profiles import checked_params

if TYPE_CHECKING:
    from iot_core.driver import Driver
    from iot_core.model import MountedUnit
    from iot_core.profiles import Profiles

__all__ = ["Commanding", "Sent"]

log = structlog.get_logger()

EXPIRES: Final = timedelta(minutes=1)
"""A device that gets a command later than that must not carry it out."""
_LONGEST_DETAIL: Final = 200
_SAID: Final = {"delivered": CommandState.DELIVERED, "succeeded": CommandState.SUCCEEDED, "failed": CommandState.FAILED}
_LAST: Final = frozenset({CommandState.SUCCEEDED, CommandState.FAILED})


@dataclass(frozen=True, slots=True)
class Sent:
    """How far a command came."""

    id: int
    state: CommandState
    detail: str = ""


class _Result(msgspec.Struct, frozen=True):
    """What a native device publishes on `commands/result`."""

    id: int
    state: str
    detail: str = ""


@dataclass(slots=True)
class Commanding:
    """The drivers by the scheme of their addresses, and who waits for which answer."""

    units: Iterable[MountedUnit]
    profiles: Profiles
    online: Callable[[int], Awaitable[bool | None]]
    """Says whether a device is there, None where it never said; by its number."""
    drivers: dict[str, Driver] = field(default_factory=dict)
    _waiting: dict[int, tuple[str, asyncio.Queue[Sent]]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(time.time_ns() // 1_000))

    async def send(self, device_key: str, name: str, params: Mapping[str, object], *, wait_s: float) -> Sent:
        """Send a command, and for a native device wait up to `wait_s` for its own word.

        Raises NotFoundError without a mounted unit, RequestError for a command or parameter that its class does not
        know, CommandRejected when model or device refuses, DeviceUnreachable when it is not there.
        """
        unit = self._unit(device_key)
        device_class = self.profiles.classes.get(unit.class_key)
        kind = device_class.command(name) if device_class is not None else None
        if kind is None:
            known = ", ".join(each.key for each in (device_class.commands if device_class else ())) or "-"
            raise RequestError("command.unknown", command=name, device_class=unit.class_key, known=known)
        checked = checked_params(kind, params)
        native = unit.address.startswith("iot:")
        if native and await self.online(unit.device_id) is not True:
            raise DeviceUnreachable("command.offline", device=device_key)
        command = Command(id=next(self._numbers), name=name, params=checked, expires=datetime.now(UTC) + EXPIRES)
        heard: asyncio.Queue[Sent] = asyncio.Queue()
        self._waiting[command.id] = (device_key, heard)
        try:
            await self._driver(unit).send(unit, command)
            sent = Sent(command.id, CommandState.SENT)
            return await _word(heard, sent, wait_s) if native else sent
        finally:
            del self._waiting[command.id]

    def answered(self, device_key: str, payload: bytes) -> None:
        """Take what a device published on `commands/result`; nobody may answer for another device."""
        try:
            said = msgspec.json.decode(payload, type=_Result)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.info("command.unreadable_result", device=device_key)
            return
        asked, heard = self._waiting.get(said.id, ("", None))
        state = _SAID.get(said.state)
        if heard is None or asked != device_key or state is None:
            log.info("command.late_result", device=device_key, id=said.id)
            return
        heard.put_nowait(Sent(said.id, state, said.detail[:_LONGEST_DETAIL]))

    def _driver(self, unit: MountedUnit) -> Driver:
        scheme = unit.address.partition(":")[0]
        driver = self.drivers.get({"iot": "mqtt", "lorawan": "mqtt"}.get(scheme, scheme))
        if driver is None:
            raise CommandRejected("command.no_driver", device=unit.device_key, protocol=scheme)
        return driver

    def _unit(self, device_key: str) -> MountedUnit:
        found = next((unit for unit in self.units if unit.device_key == device_key), None)
        if found is None:
            raise NotFoundError("asking.not_mounted", key=device_key)
        return found


async def _word(heard: asyncio.Queue[Sent], sent: Sent, wait_s: float) -> Sent:
    """Wait for the last word of a device; what it said until then when that does not come."""
    try:
        async with asyncio.timeout(wait_s):
            while sent.state not in _LAST:
                sent = await heard.get()
    except TimeoutError:
        pass
    return sent
