"""Look into the tables, by SQL of our own: rows, held uplinks, alarms, the outbox. Nothing here asks the core."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.model import DeviceClass, MetricType, Value
from simulators.device import SimDevice
from simulators.ledger import Ledger, Sent, Stopwatch
from simulators.verdict import Stored

_IDS: Final = "SELECT id, key FROM iot.device WHERE key = ANY($1)"
_HELD: Final = (
    "SELECT count(*) FROM iot.held_uplink WHERE received_at >= $1 AND (device_id = ANY($2) OR address = ANY($3))"
)
_RAISED: Final = """
SELECT a.id, d.key AS device, a.rule, a.raised_at, a.received_at, a.recorded_at
FROM iot.alarm a JOIN iot.device d ON d.id = a.device_id
WHERE a.device_id = ANY($2) AND a.recorded_at >= $1 ORDER BY a.id
"""
_PUSHED: Final = """
SELECT o.alarm_id, o.message_id, o.created_at, o.delivered_at
FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id
WHERE t.key = $1 AND o.alarm_id = ANY($2) AND o.body->>'type' = 'alarm.raised' ORDER BY o.id
"""
_EVENT: Final = "SELECT min(id) FROM iot.alarm_event WHERE alarm_id = $1 AND kind = 'raised'"


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm as the tables have it. `recorded_at` is the clock when its row was written, inside the transaction."""

    id: int
    device: str
    rule: str
    raised_at: datetime
    received_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Pushed:
    """A raised alarm's message in the outbox."""

    alarm_id: int
    message_id: str
    created_at: datetime
    delivered_at: datetime | None


class Tables:
    """The tables, as far as the city's devices are concerned."""

    def __init__(
        self,
        connection: asyncpg.Connection[Any],
        classes: Mapping[str, DeviceClass],
        devices: Sequence[SimDevice],
        start: datetime,
    ) -> None:
        self._connection = connection
        self._start = start
        self._classes = classes
        self._devices = devices
        self._keys: dict[int, str] = {}

    async def know(self) -> None:
        """Learn the numbers of the devices."""
        rows = await self._connection.fetch(_IDS, [device.key for device in self._devices])
        self._keys = {row["id"]: row["key"] for row in rows}

    async def rows(self, since: datetime) -> list[Stored]:
        """Read every row of the city's devices that was received from `since` on.

        What was measured before the run began waited somewhere since an earlier one, and is not ours to count.
        """
        found: list[Stored] = []
        for device_class in self._classes.values():
            rows = await self._connection.fetch(_rows_of(device_class), list(self._keys), since, self._start)
            found += [_stored(self._keys[row["device_id"]], device_class, row) for row in rows]
        return found

    async def held(self, since: datetime) -> int:
        """Count held uplinks, and parts of them, of the city's devices."""
        addresses = [device.address for device in self._devices]
        count: int = await self._connection.fetchval(_HELD, since, list(self._keys), addresses)
        return count

    async def raised(self, since: datetime) -> list[Raised]:
        """List alarms that were raised at the city's devices."""
        return [Raised(*row.values()) for row in await self._connection.fetch(_RAISED, since, list(self._keys))]

    async def pushed(self, target: str, alarms: Iterable[int]) -> list[Pushed]:
        """List the messages that a target was to get about raised alarms."""
        return [Pushed(*row.values()) for row in await self._connection.fetch(_PUSHED, target, list(alarms))]

    async def raised_event(self, alarm: int) -> int:
        """Give the number of the event that raised an alarm: what the database announces on commit."""
        number: int = await self._connection.fetchval(_EVENT, alarm)
        return number

    async def has(self, line: Sent, device_class: DeviceClass) -> bool:
        """Say whether an observation that carries its time is visible, which means committed."""
        table = f'telemetry."{device_class.key}"'
        device_id = next(number for number, key in self._keys.items() if key == line.device)
        sql = f"SELECT EXISTS (SELECT FROM {table} WHERE device_id = $1 AND time = $2)"
        visible: bool = await self._connection.fetchval(sql, device_id, line.time)
        return visible


def _rows_of(device_class: DeviceClass) -> str:
    columns = ", ".join(f'"{metric.key}"' for metric in device_class.metrics)
    return (
        f'SELECT device_id, time, received_at, {columns} FROM telemetry."{device_class.key}"'
        " WHERE device_id = ANY($1) AND received_at >= $2 AND time >= $3"
    )


def _stored(key: str, device_class: DeviceClass, row: asyncpg.Record) -> Stored:
    values: dict[str, Value] = {}
    for metric in device_class.metrics:
        if (value := row[metric.key]) is not None:
            names = {number: name for name, number in metric.members.items()}
            values[metric.key] = names[value] if metric.type is MetricType.ENUM else value
    return Stored(key, row["time"], row["received_at"], values)


class CommitProbe:
    """Measures the time from publishing over MQTT to the commit: looks for one observation at a time until it is there.

    The broker answers a device before the core commits, so its word measures nothing; what a second connection sees is
    committed. CoAP's 2.04 comes after the commit and needs no probe.
    """

    EVERY_S: Final = 0.2
    LOOK_S: Final = 0.002
    PATIENCE_S: Final = 10.0

    def __init__(self, tables: Tables, classes: Mapping[str, str], ledger: Ledger) -> None:
        self._tables = tables
        self._class_of = classes
        self._ledger = ledger
        self._next: asyncio.Future[tuple[Sent, Stopwatch]] | None = None
        ledger.listeners.append(self._offered)

    def _offered(self, line: Sent) -> None:
        if self._next is not None and not self._next.done() and line.protocol == "mqtt" and line.time is not None:
            age = datetime.now(UTC) - line.time
            if age < timedelta(seconds=1):  # an array's older elements were measured long before they were sent
                self._next.set_result((line, Stopwatch()))

    async def run(self, classes: Mapping[str, DeviceClass]) -> None:
        """Measure until cancelled."""
        while True:
            self._next = asyncio.get_running_loop().create_future()
            line, watch = await self._next
            device_class = classes[self._class_of[line.device]]
            while watch.ms() < self.PATIENCE_S * 1000:
                if await self._tables.has(line, device_class):
                    self._ledger.committed_ms.append(watch.ms())
                    break
                await asyncio.sleep(self.LOOK_S)
            await asyncio.sleep(self.EVERY_S)
