"""The Modbus driver: keeps one task for each gateway or serial line in step with the mounted units.

units -> plans by place -> Gateway (one connection, one request at a time) -> Outbox -> emit
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

import structlog

from drivers.modbus.address import Line, Place, parse, parse_place
from drivers.modbus.allowed import require_allowed
from drivers.modbus.connections import Connections
from drivers.modbus.gateway import Gateway, Plan
from drivers.modbus.link import Broken
from drivers.modbus.lone import lone
from drivers.modbus.outbox import Outbox
from drivers.modbus.scan import TIMEOUT_S, Exchange, scan, unit_ids
from drivers.modbus.spool import Spool
from drivers.modbus.write import stands, write
from iot_core.driver import Driver, DriverContext, Emit, Units
from iot_core.errors import CommandRejected, ConfigError, DeviceUnreachable, NotFoundError
from iot_core.messages import text
from iot_core.model import CommandState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.modbus.blocks import Merge
    from drivers.modbus.pdu import Block
    from iot_core.model import Command, MountedUnit, Uplink, Value
    from iot_core.profiles import Profile
    from iot_core.profiles.modbus import RegisterWrite

log = structlog.get_logger()

Plans = dict[Place, dict[str, Plan]]


class ModbusDriver(Driver):
    """Polls units over TCP, RTU over TCP and serial lines (drivers/modbus/address.py)."""

    scheme: ClassVar[str] = "modbus"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._settings = context.settings.modbus
        self._plans: Plans = {}
        self._gateways: dict[Place, tuple[Gateway, asyncio.Task[None]]] = {}
        self._atoms: dict[tuple[str, ...], tuple[Profile, tuple[Block, ...]]] = {}
        """What the units of a model with the same channels are asked, and the profile that said so."""
        self._unusable: dict[str, str] = {}
        """Address -> why it cannot be polled, as the log was told."""
        self._ready = asyncio.Event()

    async def run(self, units: Units, emit: Emit) -> None:
        """Poll until cancelled."""
        with ExitStack() as stack:
            outbox = Outbox(emit, self._open_spool(stack), self.context.count)
            connections = Connections(self._settings.connections)
            stack.callback(self._gateways.clear)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(outbox.drain(), name="modbus spool")
                while True:
                    self._plans = self._planned(units.with_scheme(self.scheme))
                    self._follow(tasks, connections, outbox)
                    self._ready.set()
                    await units.changed()

    async def read(self, unit: MountedUnit) -> Uplink:
        """Ask a unit in between the polls."""
        return await self._gateway(unit).read_now(unit.address)

    async def survey(self, request: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Scan a place: `target`, `units`, `timeout_s`. In between the polls where the place is polled already."""
        place = parse_place(str(request["target"]))
        require_allowed(place, self._settings.gateways)
        units = unit_ids(str(request.get("units") or "1-247"), place)
        timeout_s = float(request.get("timeout_s") or TIMEOUT_S)
        done, total = 0, len(units)
        try:
            async with self._reached(place, timeout_s) as exchange:
                async for found in scan(place, units, self.context.profiles.all(), exchange, timeout_s):
                    done += 1
                    yield {"done": done, "total": total, "found": None if found is None else found.data()}
        except Broken as exc:
            raise CommandRejected("modbus.unreachable", place=str(place), reason=str(exc)) from exc
        yield {"done": total, "total": total, "found": None}

    @asynccontextmanager
    async def _reached(self, place: Place, timeout_s: float) -> AsyncIterator[Exchange]:
        """Give the way to a place: through the gateway that polls it, else over a connection of its own."""
        polled = self._gateways.get(place)
        if polled is not None:
            yield polled[0].exchange
            return
        async with lone(place, timeout_s) as exchange:
            yield exchange

    async def send(self, unit: MountedUnit, command: Command) -> CommandState:
        """Write registers as the profile says, and read them back: what reads as it was written is done."""
        writes = self._writes(unit, command)
        gateway = self._gateway(unit)
        await write(gateway, gateway.plan(unit.address), writes, device=unit.device_key)
        gateway.poll_soon(unit.address)
        shown = all(each.read_back for each in writes)
        return CommandState.SUCCEEDED if shown else CommandState.DELIVERED

    async def holds(self, unit: MountedUnit, command: Command) -> bool:
        """Read the registers that a command writes, and say whether they stand as it would leave them."""
        gateway = self._gateway(unit)
        return await stands(gateway, gateway.plan(unit.address), self._writes(unit, command), device=unit.device_key)

    def _writes(self, unit: MountedUnit, command: Command) -> Sequence[RegisterWrite]:
        profile = self.context.profiles.get(unit.profile)
        params = cast("Mapping[str, Value]", command.params)
        return profile.downlink(command.name, params, str(parse(unit.address).unit_id)).writes

    def _gateway(self, unit: MountedUnit) -> Gateway:
        """Find the gateway that polls a unit. Raises DeviceUnreachable where none does."""
        found = self._gateways.get(parse(unit.address).place)
        if found is None or unit.address not in found[0]:
            raise DeviceUnreachable("modbus.not_polled", device=unit.device_key, address=unit.address)
        return found[0]

    async def listening(self) -> None:
        """Wait until the polling of the units that are mounted now has begun."""
        await self._ready.wait()

    def address_line(self) -> str:
        """Say how much is polled."""
        units = sum(len(plans) for plans in self._plans.values())
        return text("driver.modbus_looks", units=units, gateways=len(self._plans))

    def _open_spool(self, stack: ExitStack) -> Spool | None:
        folder = self.context.spool
        if folder is None:
            return None
        try:
            return stack.enter_context(Spool(folder / "modbus.sqlite3", self._settings.spool_rows))
        except (sqlite3.Error, OSError) as exc:  # polling matters more than its buffer
            log.error("modbus.spool_failed", error=str(exc))  # noqa: TRY400 - the sentence says it all
            return None

    def _follow(
        self,
        tasks: asyncio.TaskGroup,
        connections: Connections,
        outbox: Outbox,
    ) -> None:
        """Start, change and end the tasks of gateways as the plans say."""
        gateways = self._gateways
        if not gateways and self._plans and not self._settings.gateways:
            log.warning("modbus.any_gateway", hint="modbus.gateways in iot.toml names those that may be asked")
        for place in gateways.keys() - self._plans.keys():
            gateways.pop(place)[1].cancel()
        for place, plans in self._plans.items():
            if place not in gateways:
                count, timeout_s = self.context.count, self._settings.timeout_s
                gateway = Gateway(place, connections, outbox.put, count, timeout_s)
                gateways[place] = gateway, tasks.create_task(gateway.run(), name=f"modbus {place}")
            gateways[place][0].set_plans(plans)

    def _planned(self, units: Iterable[MountedUnit]) -> Plans:
        """Say what to ask whom. A unit that cannot be polled is named in the log once and left out."""
        plans: defaultdict[Place, dict[str, Plan]] = defaultdict(dict)
        lines: dict[str, Line] = {}
        for unit in units:
            try:
                address = parse(unit.address)
                require_allowed(address.place, self._settings.gateways)
                plan = self._plan(unit, address.unit_id)
            except (ConfigError, NotFoundError) as exc:
                self._leave_out(unit, exc.code)
                continue
            place = address.place
            if isinstance(place, Line) and lines.setdefault(place.port, place) != place:
                self._leave_out(unit, "modbus.line_differs")
                continue
            self._unusable.pop(unit.address, None)
            plans[place][unit.address] = plan
        return dict(plans)

    def _plan(self, unit: MountedUnit, unit_id: int) -> Plan:
        profile = self.context.profiles.get(unit.profile)
        modbus = profile.modbus
        if profile.broken:
            raise ConfigError("profile.broken", model=unit.profile, reason=profile.broken)
        if modbus is None:
            raise ConfigError("driver.modbus_no_registers", model=unit.profile)
        alike = (unit.profile, *unit.channels)
        known = self._atoms.get(alike)
        if known is None or known[0] is not profile:  # thousands of units are planned anew whenever one is added
            known = self._atoms[alike] = profile, modbus.atoms(tuple(unit.channels))
        atoms = known[1]
        if not atoms:
            raise ConfigError("driver.modbus_no_registers", model=unit.profile)
        return Plan(
            address=unit.address,
            unit_id=unit_id,
            interval=profile.interval.total_seconds(),
            atoms=atoms,
            gap=modbus.most_gap(self._settings.max_gap),
            merge=cast("Merge", modbus.merge),
            timeout_s=modbus.timeout_s,
            pause_s=max(modbus.pause_s, self._settings.pause_s),
        )

    def _leave_out(self, unit: MountedUnit, code: str) -> None:
        if self._unusable.get(unit.address) != code:
            self._unusable[unit.address] = code
            log.warning("modbus.unusable", unit=unit.address, device=unit.device_key, reason=code)


driver = ModbusDriver
