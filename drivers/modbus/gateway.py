"""The units behind one gateway or on one serial line: polled in turn, asked and written to in between.

turns -> poll, block by block --.
read now, write, survey ---------+-> one request at a time -> Link
                                      (first come, first served: a poll gives way after each of its requests)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from drivers.modbus import schedule
from drivers.modbus.blocks import Blocks, Merge
from drivers.modbus.link import Broken, Link, Malformed, Refused, Silent
from drivers.modbus.turns import Turns
from iot_core.errors import DeviceUnreachable
from iot_core.model import Uplink

if TYPE_CHECKING:
    from drivers.modbus.address import Place
    from drivers.modbus.connections import Connections
    from drivers.modbus.pdu import Block

log = structlog.get_logger()

TARGET_SILENT: Final = (0x0A, 0x0B)
"""Exceptions in which the gateway speaks for a unit behind it that it cannot reach."""
ILLEGAL: Final = (0x02, 0x03)
"""Exceptions that a block as a whole may earn, while its parts do not: illegal address, illegal length."""
NEVER: Final = datetime.min.replace(tzinfo=UTC)
_LATE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How one unit is polled. `timeout_s` and `pause_s` are its model's, None and 0 where that says nothing."""

    address: str
    unit_id: int
    interval: float
    atoms: tuple[Block, ...]
    gap: int
    merge: Merge
    timeout_s: float | None = None
    pause_s: float = 0.0


@dataclass(slots=True, eq=False)
class Polled:
    """A unit and how it has behaved."""

    plan: Plan
    due: float
    blocks: Blocks
    share: float
    """Its place in the interval."""
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
    received_at: datetime = NEVER

    @property
    def answered(self) -> bool:
        """Say whether the unit said anything at all."""
        return bool(self.registers or self.refused)


class Gateway:
    """Polls its units one after the other over one connection, until cancelled."""

    def __init__(
        self,
        place: Place,
        connections: Connections,
        deliver: Callable[[Uplink], Awaitable[None]],
        count: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        self._where = place
        self._connections = connections
        self._deliver = deliver
        self._count = count
        self._link = Link(place, timeout_s)
        self._now = asyncio.get_running_loop().time
        self._units: dict[str, Polled] = {}
        self._turns: Turns[Polled] = Turns()
        self._shortest = 0.0
        self._turn = asyncio.Lock()
        self._polling: Polled | None = None
        self._waker: asyncio.Future[None] | None = None
        self._failures = 0
        self._down_since = 0.0
        self._retry_at = 0.0

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        """Take over which units are to be polled; those that stay keep their place in time."""
        if {address: unit.plan for address, unit in self._units.items()} == plans:
            return
        before, self._units = self._units, {}
        for address, plan in plans.items():
            known = before.pop(address, None)
            if known is not None and known.plan == plan:
                self._units[address] = known
                continue
            if known is not None:
                self._turns.remove(known)
            due = schedule.first(address, plan.interval, self._now())
            blocks = Blocks(plan.atoms, plan.gap, plan.merge)
            unit = self._units[address] = Polled(plan, due, blocks, schedule.share(address))
            self._turns.put(unit)
        for gone in before.values():
            self._turns.remove(gone)
        self._shortest = min((plan.interval for plan in plans.values()), default=0.0)
        self._wake()

    def __contains__(self, address: str) -> bool:
        """Say whether a unit is polled here."""
        return address in self._units

    def plan(self, address: str) -> Plan:
        """Say how a unit is polled."""
        return self._units[address].plan

    async def run(self) -> None:
        """Poll whoever is due, until cancelled."""
        try:
            while True:
                now = self._now()
                unit = self._turns.take(now, self._shortest) if now >= self._retry_at else None
                if unit is None:
                    await self._sleep()
                else:
                    await self._poll(unit)
        finally:
            self._connections.forget(self._link)

    async def read_now(self, address: str) -> Uplink:
        """Ask a unit in between the polls. Raises DeviceUnreachable when it says nothing."""
        unit = self._units[address]
        if self._polling is not None and self._polling.failures:
            self._link.give_up()  # nobody waits for a person's answer behind one that is known to be silent
        async with self._connections.lend(self._link):
            cycle = await self._ask(unit)
        if not cycle.registers:
            raise DeviceUnreachable("modbus.says_nothing", device=address, reason=_reason(cycle))
        self._note(unit, cycle)
        if unit is not self._polling:
            self._place(unit)
        return _uplink(unit.plan, cycle)

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[Link]:
        """Hold the connection for a request; the poll goes on behind it. Raises Broken when there is no connection."""
        async with self._connections.lend(self._link), self._turn:
            if not self._link.connected:
                await self._connect()
            yield self._link

    def poll_soon(self, address: str) -> None:
        """Poll a unit next: something about it was changed."""
        unit = self._units.get(address)
        if unit is not None and unit is not self._polling:
            unit.due = self._now()
            self._turns.put(unit)
            self._wake()

    async def _sleep(self) -> None:
        """Wait until somebody is due or the units have changed."""
        loop = asyncio.get_running_loop()
        due = self._turns.next_due()
        self._waker = loop.create_future()
        timer = None if due is None else loop.call_at(schedule.beat(max(due, self._retry_at)), self._wake)
        try:
            await self._waker
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _poll(self, unit: Polled) -> None:
        self._polling = unit
        if unit.alive and self._now() - unit.due >= _LATE_S:
            self._count("modbus_polls_late")
        await self._connections.take(self._link)
        try:
            cycle = await self._ask(unit)
        finally:
            self._connections.give_back(self._link)
            self._polling = None
        if cycle.answered or not self._failures:  # a gateway that is away says nothing about its units
            self._note(unit, cycle)
        self._place(unit)
        if cycle.registers:
            self._count("modbus_cycles")
            await self._deliver(_uplink(unit.plan, cycle))

    def _place(self, unit: Polled) -> None:
        """Put a unit among those that wait for their turn, unless it is polled no more."""
        if self._units.get(unit.plan.address) is unit:
            self._turns.put(unit)

    async def _connect(self) -> None:
        try:
            await self._link.open()
        except Broken as exc:
            self._count("modbus_connect_failed")
            self._failures += 1
            self._retry_at = self._now() + schedule.reconnect_delay(self._failures)
            if self._failures == 1:
                self._down_since = self._now()
                log.warning("modbus.unreachable", gateway=str(self._where), units=len(self._units), reason=str(exc))
            raise
        if self._failures:
            self._failures = 0
            self._retry_at = 0.0
            after = round(self._now() - self._down_since, 1)
            log.info("modbus.recovered", gateway=str(self._where), after_s=after)

    async def _ask(self, unit: Polled) -> Cycle:
        """Ask for all blocks of a unit, and for the pieces of those that it refuses as a whole."""
        cycle, blocks = Cycle(), unit.blocks
        waiting = list(reversed(blocks.start(self._now())))
        while waiting:
            block = waiting.pop()
            name = f"{block.table}:{block.address}"
            try:
                cycle.registers[name] = await self._read(unit.plan, block)
                blocks.answered(block)
            except Refused as exc:
                self._count("modbus_exceptions")
                if exc.code in TARGET_SILENT:
                    cycle.failure = str(exc)
                    break
                pieces = blocks.refuse(block, self._now()) if exc.code in ILLEGAL else ()
                waiting.extend(reversed(pieces))
                if not pieces:
                    cycle.refused[name] = str(exc)
            except Malformed as exc:
                self._count("modbus_malformed")
                cycle.refused[name] = str(exc)
            except Silent as exc:
                self._count("modbus_timeouts")
                cycle.failure = str(exc)
                if cycle.answered and blocks.silent(block, self._now()):
                    cycle.refused[name] = str(exc)
                break
            except Broken as exc:
                cycle.failure = str(exc)
                break
        cycle.received_at = datetime.now(UTC)
        return cycle

    async def _read(self, plan: Plan, block: Block) -> list[int]:
        """Read a block; where the connection broke, once more on a new one, for that costs no timeout."""
        fresh = False
        while True:
            await self._turn.acquire()
            try:
                if not self._link.connected:
                    fresh = True
                    await self._connect()
                return await self._link.read(plan.unit_id, block, timeout_s=plan.timeout_s, pause_s=plan.pause_s)
            except Broken:
                if self._failures:
                    raise  # nobody there
                self._count("modbus_broken")
                if fresh:
                    raise
            finally:
                self._turn.release()

    def _note(self, unit: Polled, cycle: Cycle) -> None:
        """Set when the unit is due again, and log what has changed about it."""
        now, plan = self._now(), unit.plan
        unit.alive = cycle.answered
        if cycle.answered:
            self._note_answer(unit, cycle, now)
        else:
            unit.failures += 1
            if unit.failures == 1:
                unit.silent_since = now
                log.warning("modbus.unreachable", unit=plan.address, reason=cycle.failure)
            now += schedule.back_off(plan.interval, unit.failures)
        unit.due = schedule.next_slot(unit.share, plan.interval, now)

    def _note_answer(self, unit: Polled, cycle: Cycle, now: float) -> None:
        if unit.failures:
            unit.failures = 0
            log.info("modbus.recovered", unit=unit.plan.address, after_s=round(now - unit.silent_since, 1))
        if cycle.failure or not (cycle.refused or unit.refused or unit.blocks.learned):
            return
        left_out = {f"{atom.table}:{atom.address}": "left out" for atom in unit.blocks.left_out}
        refused = left_out | cycle.refused
        if refused.keys() != unit.refused.keys():
            unit.refused = refused
            log.warning("modbus.refused", unit=unit.plan.address, blocks=refused)


def _uplink(plan: Plan, cycle: Cycle) -> Uplink:
    return Uplink(driver="modbus", address=plan.address, registers=cycle.registers, received_at=cycle.received_at)


def _reason(cycle: Cycle) -> str:
    return cycle.failure or ", ".join(f"{block}: {why}" for block, why in cycle.refused.items())
