"""What the simulated devices said, noted as they said it: one line an observation, an array of five makes five."""

from __future__ import annotations

import time as clock
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from iot_core.model import Value

PROTOCOLS: Final = ("mqtt", "coap", "modbus")


@dataclass(slots=True, eq=False)
class Sent:
    """One observation on its way. `time` is what the message said, None when it said none."""

    protocol: str
    device: str
    time: datetime | None
    values: Mapping[str, Value]
    sent_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    acknowledged: bool = False


@dataclass(slots=True, eq=False)
class Ledger:
    """All observations of a run. `committed_ms` are times from sending to knowing that the row is committed."""

    sent: list[Sent] = field(default_factory=list)
    published: Counter[str] = field(default_factory=Counter)
    committed_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    broken: int = 0
    """Messages handed over that nobody can read."""
    problems: Counter[str] = field(default_factory=Counter)
    listeners: list[Callable[[Sent], None]] = field(default_factory=list)
    """Called with each observation at the moment it is sent."""

    def send(
        self, protocol: str, device: str, said: Iterable[tuple[datetime | None, Mapping[str, Value]]]
    ) -> Sequence[Sent]:
        """Note what is about to be sent in one message."""
        now = datetime.now(UTC)
        lines = [Sent(protocol, device, time, values, now) for time, values in said]
        self.sent += lines
        self.published[protocol] += len(lines)
        for line in lines:
            for listener in self.listeners:
                listener(line)
        return lines

    def acknowledge(self, lines: Iterable[Sent]) -> None:
        """Note that the other end took responsibility for them."""
        for line in lines:
            line.acknowledged = True

    def take(self) -> list[Sent]:
        """Give what was sent since the last time, and forget it."""
        taken, self.sent = self.sent, []
        return taken


class Stopwatch:
    """Milliseconds since it was made, by the monotonic clock."""

    def __init__(self) -> None:
        self._from = clock.perf_counter()

    def ms(self) -> float:
        """Read it."""
        return (clock.perf_counter() - self._from) * 1000
