"""The story of one fire: the clocks it passed on its way from the detector to the operations center."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from simulators.ledger import Ledger, Sent

if TYPE_CHECKING:
    import asyncpg

    from simulators.audit import Raised, Tables
    from simulators.device import SimDevice
    from simulators.receiver import Center, Receipt

TARGET: Final = "trung-tam-dieu-hanh"
"""The key of the stand-in operations center among the push targets."""
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Way:
    """One alarm's way. `committed` is when the database told another connection: the first proof of the commit."""

    device: str
    rule: str
    ignited: datetime
    sent: datetime
    received: datetime
    alarm_written: datetime
    outbox_written: datetime
    committed: datetime | None
    receipt: datetime

    def ms(self, at: datetime) -> float:
        """Milliseconds since the detector sent."""
        return (at - self.sent).total_seconds() * 1000


class Fires:
    """Notes when burning detectors first said smoke."""

    def __init__(self, ledger: Ledger) -> None:
        self.burning: frozenset[str] = frozenset()
        self.ignited: datetime | None = None
        self.first: dict[str, Sent] = {}
        ledger.listeners.append(self._offered)

    def begin(self, devices: Sequence[SimDevice], at: datetime) -> None:
        """Say which detectors have a fire below them."""
        self.burning, self.ignited = frozenset(device.key for device in devices), at

    def explain(self, alarm: Raised) -> bool:
        """Say whether an alarm is in the script: at a detector above the fire, and not before it."""
        return alarm.device in self.burning and self.ignited is not None and alarm.recorded_at >= self.ignited

    def _offered(self, line: Sent) -> None:
        if line.device in self.burning and line.values.get("smoke") is True:
            self.first.setdefault(line.device, line)


class CommitEar:
    """Hears alarm events as the database announces them, which it does on COMMIT."""

    CHANNEL: Final = "iot_alarm"

    def __init__(self) -> None:
        self.heard: dict[int, datetime] = {}

    async def listen(self, connection: asyncpg.Connection[Any]) -> None:
        """Begin to listen."""
        await connection.add_listener(self.CHANNEL, self._hear)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        now = datetime.now(UTC)
        for each in str(payload).split(","):
            if each.isdigit() and len(self.heard) < 10_000:
                self.heard.setdefault(int(each), now)


async def way_of(center: Center, tables: Tables, fires: Fires, ear: CommitEar, since: datetime) -> Way:
    """Wait for the first alarm of the fire at the center, then look up each step of its way."""
    while True:
        for receipt in center.raised():
            if (way := await _way(receipt, tables, fires, ear, since)) is not None:
                return way
        await asyncio.sleep(_LOOK_S)


async def _way(receipt: Receipt, tables: Tables, fires: Fires, ear: CommitEar, since: datetime) -> Way | None:
    said = receipt.said.data
    if said.device is None or said.alarm is None or (sent := fires.first.get(said.device.key or "")) is None:
        return None
    raised = {alarm.id: alarm for alarm in await tables.raised(since)}
    pushed = await tables.pushed(TARGET, [said.alarm.id])
    alarm = raised.get(said.alarm.id)
    if alarm is None or not pushed or fires.ignited is None or not fires.explain(alarm):
        return None
    return Way(
        device=alarm.device,
        rule=alarm.rule,
        ignited=fires.ignited,
        sent=sent.sent_at,
        received=alarm.received_at,
        alarm_written=alarm.recorded_at,
        outbox_written=pushed[0].created_at,
        committed=ear.heard.get(await tables.raised_event(alarm.id)),
        receipt=receipt.at,
    )
