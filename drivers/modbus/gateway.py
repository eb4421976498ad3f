"""The units behind one gateway: when each is due, what its cycle gives, what its silence costs the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from drivers.modbus import schedule
from drivers.modbus.link import Broken, Link, Malformed, Read, Refused, Silent
from iot_core.model import Uplink

if TYPE_CHECKING:
    from drivers.modbus.address import Endpoint
    from drivers.modbus.connections import Connections

log = structlog.get_logger()

TARGET_SILENT = (0x0A, 0x0B)
"""Exceptions in which the gateway speaks for a unit behind it that it cannot reach."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one unit is polled."""

    address: str
    unit_id: int
    interval: float
    reads: tuple[Read, ...]


@dataclass(slots=True)
class Polled:
    """A unit and how it has behaved."""

    plan: Plan
    due: float
    alive: bool = False
    """Whether it answered last time. A new unit has yet to prove itself."""
    failures: int = 0
    silent_since: float = 0.0
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Cycle:
    """What one round of questions to one unit gave."""

    registers: dict[str, Sequence[int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def answered(self) -> bool:
        """Say whether the unit said anything at all."""
        return bool(self.registers or self.refused)


class Gateway:
    """Polls its units one after the other over one connection, until cancelled."""

    def __init__(
        self,
        endpoint: Endpoint,
        connections: Connections,
        deliver: Callable[[Uplink], Awaitable[None]],
        count: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._deliver = deliver
        self._count = count
        self._link = Link(endpoint, timeout_s)
        self._now = asyncio.get_running_loop().time
        self._units: dict[str, Polled] = {}
        self._changed = asyncio.Event()
        self._failures = 0
        self._down_since = 0.0
        self._retry_at = 0.0

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        """Take over which units are to be polled; those that stay keep their place in time."""
        if {address: unit.plan for address, unit in self._units.items()} == plans:
            return
        before, self._units = self._units, {}
        for address, plan in plans.items():
            known = before.get(address)
            if known is not None and known.plan.interval == plan.interval:
                known.plan = plan
                self._units[address] = known
            else:
                self._units[address] = Polled(plan, schedule.first(address, plan.interval, self._now()))
        self._changed.set()

    async def run(self) -> None:
        """Poll whoever is due, until cancelled."""
        try:
            while True:
                unit = self._next()
                wait = None if unit is None else max(unit.due, self._retry_at) - self._now()
                if unit is not None and wait is not None and wait <= 0:
                    await self._poll(unit)
                else:
                    await self._sleep(wait)
        finally:
            self._connections.forget(self._link)

    def _next(self) -> Polled | None:
        """Pick the unit whose turn it is: of those due a living one first, so that the dead delay it once in all."""
        now = self._now()
        return min(
            self._units.values(),
            key=lambda unit: (unit.due > now, unit.due <= now and not unit.alive, unit.due),
            default=None,
        )

    async def _sleep(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _poll(self, unit: Polled) -> None:
        async with self._connections.lend(self._link):
            if not await self._connected():
                return
            cycle = await self._ask(unit.plan)
        if cycle.answered or not self._failures:  # a gateway that is away says nothing about its units
            self._note(unit, cycle)
        if cycle.registers:
            self._count("modbus_cycles")
            await self._deliver(
                Uplink(
                    driver="modbus",
                    address=unit.plan.address,
                    registers=cycle.registers,
                    received_at=cycle.received_at,
                )
            )

    async def _connected(self) -> bool:
        if self._link.connected:
            return True
        try:
            await self._link.open()
        except Broken:
            self._count("modbus_connect_failed")
            self._failures += 1
            self._retry_at = self._now() + schedule.reconnect_delay(self._failures)
            if self._failures == 1:
                self._down_since = self._now()
                log.warning("modbus.unreachable", gateway=str(self._endpoint), units=len(self._units))
            return False
        if self._failures:
            self._failures = 0
            after = round(self._now() - self._down_since, 1)
            log.info("modbus.recovered", gateway=str(self._endpoint), after_s=after)
        return True

    async def _ask(self, plan: Plan) -> Cycle:
        cycle = Cycle()
        for read in plan.reads:
            block = f"{read.table}:{read.address}"
            try:
                cycle.registers[block] = await self._read(plan.unit_id, read)
                cycle.received_at = datetime.now(UTC)
            except Refused as exc:
                self._count("modbus_exceptions")
                if exc.code in TARGET_SILENT:
                    cycle.failure = str(exc)
                    break
                cycle.refused[block] = str(exc)
            except Malformed:
                self._count("modbus_malformed")
                cycle.refused[block] = "malformed"
            except Silent:
                self._count("modbus_timeouts")
                cycle.failure = "timeout"
                break
            except Broken as exc:
                cycle.failure = str(exc)
                break
        return cycle

    async def _read(self, unit_id: int, read: Read) -> list[int]:
        """Read a block; where the connection broke, once more on a new one, for that costs no timeout."""
        try:
            return await self._link.read(unit_id, read)
        except Broken:
            self._count("modbus_broken")
            if not await self._connected():
                raise
            return await self._link.read(unit_id, read)

    def _note(self, unit: Polled, cycle: Cycle) -> None:
        """Set when the unit is due again, and log what has changed about it."""
        now, plan = self._now(), unit.plan
        if now - unit.due >= plan.interval and unit.alive:
            self._count("modbus_cycles_late")
        unit.alive = cycle.answered
        if cycle.answered:
            self._note_answer(unit, cycle, now)
        else:
            unit.failures += 1
            if unit.failures == 1:
                unit.silent_since = now
                log.warning("modbus.unreachable", unit=plan.address, reason=cycle.failure)
        unit.due = schedule.next_slot(
            plan.address, plan.interval, now + schedule.back_off(plan.interval, unit.failures)
        )

    def _note_answer(self, unit: Polled, cycle: Cycle, now: float) -> None:
        if unit.failures:
            unit.failures = 0
            log.info("modbus.recovered", unit=unit.plan.address, after_s=round(now - unit.silent_since, 1))
        if cycle.refused != unit.refused and not cycle.failure:
            unit.refused = cycle.refused
            log.warning("modbus.refused", unit=unit.plan.address, blocks=cycle.refused)
