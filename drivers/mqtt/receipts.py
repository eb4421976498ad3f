"""Receipts: tells native units which of their numbered messages are committed, over a connection of its own.

flush --note--> waiting: (key, run) -> numbers --every 0.2 s--> iot/v1/KEY/stored {"run": r, "seq": [[1228, 1234]]}

At QoS 0, because a lost receipt costs nothing: a device sends again what no receipt covered, and what is stored already
is told again. Every receipt begins as far back as the numbers told by this core stand without a gap, so the next one
also covers a lost one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from drivers.mqtt.backoff import Backoff
from drivers.mqtt.session import opened
from iot_core.errors import DriverUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from iot_core.driver import DriverContext

__all__ = ["Receipts", "ranges"]

log = structlog.get_logger()

Run = tuple[str, str]
"""A device's key and its run."""
_EVERY_S: Final = 0.2
_MOST_WAITING: Final = 500_000
"""Numbers. The broker may refuse this connection for long while it takes the one that telemetry comes over."""
_REMEMBERED: Final = 100_000


class Receipts:
    """Collects what is committed and tells it, one message a unit and run however many flushes it took."""

    def __init__(self, context: DriverContext, *, most: int = _MOST_WAITING) -> None:
        self._context = context
        self._most = most
        self._waiting: dict[Run, list[int]] = {}
        self._numbers = 0
        self._told: dict[Run, tuple[int, int]] = {}
        self._news = asyncio.Event()
        self._backoff = Backoff()

    def note(self, numbers: Mapping[Run, Sequence[int]]) -> None:
        """Take up what a flush committed; beyond its bound it is dropped and counted: the device sends it again."""
        for run, mine in numbers.items():
            if self._numbers + len(mine) > self._most:
                self._context.count("mqtt_receipts_dropped", len(mine))
                continue
            self._numbers += len(mine)
            self._waiting.setdefault(run, []).extend(mine)
        self._news.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            try:
                await self._connection()
            except DriverUnavailable:
                log.debug("mqtt.receipts_away")
            await self._backoff.wait()

    async def _connection(self) -> None:
        mqtt = self._context.settings.mqtt
        async with opened(self._context.broker, mqtt, f"{mqtt.client_id}-receipts", keep=False) as session:
            self._backoff.succeeded()
            while session.up:
                await self._news.wait()
                self._news.clear()
                waiting, self._waiting, self._numbers = self._waiting, {}, 0
                if not session.publish(self._messages(waiting)):
                    self.note(waiting)
                    return
                self._context.count("mqtt_receipts", len(waiting))
                await session.written()
                await asyncio.sleep(_EVERY_S)

    def _messages(self, waiting: Mapping[Run, Sequence[int]]) -> Iterator[tuple[str, bytes]]:
        if len(self._told) > _REMEMBERED:
            self._told.clear()
        for run, numbers in waiting.items():
            found = ranges(numbers, self._told.get(run))
            self._told[run] = found[-1]
            body = msgspec.json.encode({"run": run[1], "seq": found})
            yield f"iot/v1/{run[0]}/stored", body


def ranges(numbers: Iterable[int], told: tuple[int, int] | None = None) -> list[tuple[int, int]]:
    """Join numbers, and the range told last if they touch it, into closed ranges: 5 9 after (1, 4) -> (1, 5) (9, 9)."""
    joined: list[tuple[int, int]] = []
    ordered = [(number, number) for number in sorted(set(numbers))]
    if told is not None and ordered[0][0] <= told[1] + 1 and ordered[-1][1] >= told[0] - 1:
        ordered = sorted([*ordered, told])
    for first, last in ordered:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
