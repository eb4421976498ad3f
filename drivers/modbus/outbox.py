"""From a poll to the ingest path; while the store is away over the spool, in order.

* put -> emit -> ingest
* put -> spool -> drain -> emit -> ingest, as long as the spool holds anything

What was handed over and is not committed when the store goes away is spooled as well: it lies in memory only, and a
core that is killed in the outage would lose it. Stored after all and drained once more, it is the same row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from drivers.modbus.spool import Poll, Spool
from iot_core.errors import StoreUnavailable
from iot_core.model import Numbers, Outcome, Uplink

if TYPE_CHECKING:
    from iot_core.driver import Emit

log = structlog.get_logger()

BATCH = 200
RETRY_S = 1.0


class Outbox:
    """Hands uplinks over; nothing leaves the spool before its COMMIT."""

    def __init__(self, emit: Emit, spool: Spool | None, count: Callable[[str], None]) -> None:
        self._emit = emit
        self._spool = spool
        self._count = count
        self._order = asyncio.Lock()
        self._filled = asyncio.Event()
        self._spool_failed = False
        self._uncommitted: dict[int, Uplink] = {}
        self._handed_over = 0
        if spool is not None and len(spool):
            self._filled.set()

    async def put(self, uplink: Uplink) -> None:
        """Deliver a poll, now or through the spool."""
        if self._filled.is_set() or self._order.locked():
            async with self._order:
                if self._filled.is_set():
                    await self._keep(uplink)
                    return
        self._handed_over += 1
        uplink.token, uplink.settle = self._handed_over, self._settle
        self._uncommitted[uplink.token] = uplink
        try:
            await self._emit(uplink)
        except StoreUnavailable:
            async with self._order:
                await self._keep_uncommitted()

    async def _settle(self, tokens: Sequence[int], _: Numbers) -> None:
        for token in tokens:
            self._uncommitted.pop(token, None)

    async def _keep_uncommitted(self) -> None:
        """Spool what was handed over, in its order."""
        while self._uncommitted:
            await self._keep(self._uncommitted.pop(next(iter(self._uncommitted))))

    async def drain(self) -> None:
        """Bring the spool to the store whenever it answers, until cancelled."""
        while True:
            await self._filled.wait()
            if self._spool is None or not await self._drain_some(self._spool):
                await asyncio.sleep(RETRY_S)

    async def _drain_some(self, spool: Spool) -> bool:
        """Emit the oldest polls and remove those that were committed; say whether the store took any."""
        try:
            async with self._order:
                batch = await asyncio.to_thread(spool.oldest, BATCH)
                if not batch:
                    self._filled.clear()
                    return True
            taken = await self._emit_all(batch)
            await asyncio.to_thread(spool.remove, taken)
        except sqlite3.Error as exc:
            self._note_spool(exc)
            return False
        return bool(taken)

    async def _emit_all(self, batch: Sequence[tuple[int, Poll]]) -> list[int]:
        """Emit in order as far as the store takes them, and wait for their COMMIT."""
        taken: dict[int, asyncio.Event] = {}
        try:
            for number, poll in batch:
                committed = asyncio.Event()
                await self._emit(_uplink(poll, committed))
                taken[number] = committed
        except StoreUnavailable:
            pass
        for committed in taken.values():
            await committed.wait()
        return list(taken)

    async def _keep(self, uplink: Uplink) -> None:
        """Spool a poll, or count that it is lost."""
        if self._spool is None:
            self._count("modbus_dropped")
            return
        registers = {block: list(words) for block, words in (uplink.registers or {}).items()}
        try:
            dropped = await asyncio.to_thread(self._spool.add, Poll(uplink.address, uplink.received_at, registers))
        except sqlite3.Error as exc:
            self._note_spool(exc)
            self._count("modbus_dropped")
            return
        self._note_spool(None)
        self._filled.set()
        self._count("modbus_spooled")
        for _ in range(dropped):
            self._count("modbus_dropped")

    def _note_spool(self, error: sqlite3.Error | None) -> None:
        if error is not None and not self._spool_failed:
            log.error("modbus.spool_failed", error=str(error))
        self._spool_failed = error is not None


def _uplink(poll: Poll, committed: asyncio.Event) -> Uplink:
    async def done(_: Outcome) -> None:
        committed.set()

    return Uplink(
        driver="modbus", address=poll.address, registers=poll.registers, received_at=poll.received_at, done=done
    )
