"""The Modbus driver: keeps one task for each gateway in step with the mounted units.

units -> plans by gateway -> Gateway (one connection, one request at a time) -> Outbox -> emit
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

import structlog

from drivers.modbus.address import Endpoint, parse
from drivers.modbus.connections import Connections
from drivers.modbus.gateway import Gateway, Plan
from drivers.modbus.outbox import Outbox
from drivers.modbus.spool import Spool
from iot_core.driver import Driver, DriverContext, Emit, Units
from iot_core.errors import CommandRejected, ConfigError, NotFoundError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot_core.model import Command, MountedUnit

log = structlog.get_logger()

Plans = dict[Endpoint, dict[str, Plan]]


class ModbusDriver(Driver):
    """Polls `modbus://HOST:PORT/UNIT_ID`."""

    scheme: ClassVar[str] = "modbus"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._settings = context.settings.modbus
        self._plans: Plans = {}
        self._unusable: set[tuple[str, str]] = set()
        self._ready = asyncio.Event()

    async def run(self, units: Units, emit: Emit) -> None:
        """Poll until cancelled."""
        with ExitStack() as stack:
            outbox = Outbox(emit, self._open_spool(stack), self.context.count)
            connections = Connections(self._settings.connections)
            gateways: dict[Endpoint, tuple[Gateway, asyncio.Task[None]]] = {}
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(outbox.drain(), name="modbus spool")
                while True:
                    self._plans = self._planned(units.with_scheme(self.scheme))
                    self._follow(tasks, gateways, connections, outbox)
                    self._ready.set()
                    await units.changed()

    async def send(self, unit: MountedUnit, command: Command) -> None:
        """Refuse: writing registers is not supported."""
        raise CommandRejected("driver.no_commands", device=unit.device_key, command=command.name, protocol="Modbus")

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
        gateways: dict[Endpoint, tuple[Gateway, asyncio.Task[None]]],
        connections: Connections,
        outbox: Outbox,
    ) -> None:
        """Start, change and end the tasks of gateways as the plans say."""
        for endpoint in gateways.keys() - self._plans.keys():
            gateways.pop(endpoint)[1].cancel()
        for endpoint, plans in self._plans.items():
            if endpoint not in gateways:
                count, timeout_s = self.context.count, self._settings.timeout_s
                gateway = Gateway(endpoint, connections, outbox.put, count, timeout_s)
                gateways[endpoint] = gateway, tasks.create_task(gateway.run(), name=f"modbus {endpoint}")
            gateways[endpoint][0].set_plans(plans)

    def _planned(self, units: Iterable[MountedUnit]) -> Plans:
        """Say what to ask whom. A unit that cannot be polled is named in the log once and left out."""
        plans: defaultdict[Endpoint, dict[str, Plan]] = defaultdict(dict)
        for unit in units:
            try:
                address = parse(unit.address)
                plans[address.endpoint][unit.address] = self._plan(unit, address.unit_id)
            except (ConfigError, NotFoundError) as exc:
                self._leave_out(unit, exc.code)
        return {endpoint: mine for endpoint, mine in plans.items() if mine}

    def _plan(self, unit: MountedUnit, unit_id: int) -> Plan:
        profile = self.context.profiles.get(unit.profile)
        reads = profile.modbus.reads(self._settings.max_gap, tuple(unit.channels)) if profile.modbus else ()
        if not reads:
            raise ConfigError("driver.modbus_no_registers", model=unit.profile)
        return Plan(unit.address, unit_id, profile.interval.total_seconds(), reads)

    def _leave_out(self, unit: MountedUnit, code: str) -> None:
        if (unit.address, code) not in self._unusable:
            self._unusable.add((unit.address, code))
            log.warning("modbus.unusable", unit=unit.address, device=unit.device_key, reason=code)
