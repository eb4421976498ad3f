"""Writes what became of commands, many at once, and settles what devices said once it is committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import structlog

from iot_core.registry.commands import Step, note
from iot_core.store.connection import AWAY, RETRY

if TYPE_CHECKING:
    import asyncpg

    from iot_core.model import Settle, Uplink

__all__ = ["Ledger"]

log = structlog.get_logger()

_MOST: Final = 10_000
_TOGETHER_S: Final = 0.02
_AGAIN_S: Final = 0.5


class Ledger:
    """A bounded list of steps with one writer behind it; whoever adds to a full one waits."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._steps: list[tuple[Step, Uplink | None]] = []
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._changed = asyncio.Event()

    async def add(self, step: Step, heard: Uplink | None = None) -> None:
        """Take a step; `heard` is settled after its COMMIT."""
        while len(self._steps) >= _MOST:
            self._room.clear()
            await self._room.wait()
        self._steps.append((step, heard))
        self._news.set()

    async def changed(self, within_s: float) -> None:
        """Wait until something was written, but not longer than that."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def touch(self) -> None:
        """Wake whoever waits for a change."""
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    async def run(self) -> None:
        """Write until cancelled; while the store is away nothing is settled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(_TOGETHER_S)
            self._news.clear()
            taken, self._steps = self._steps, []
            self._room.set()
            await self._write([step for step, _ in taken])
            await _settle([heard for _, heard in taken if heard is not None])
            self.touch()

    async def _write(self, steps: list[Step]) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    found = await note(connection, steps)
            except (*AWAY, *RETRY) as exc:
                log.warning("command.store_away", reason=type(exc).__name__)
                await asyncio.sleep(_AGAIN_S)
            else:
                if len(found) < len({step.id for step in steps}):
                    log.info("command.unknown_answered", ids=sorted({step.id for step in steps} - set(found))[:10])
                return


async def _settle(heard: list[Uplink]) -> None:
    together: dict[Settle, list[Any]] = defaultdict(list)
    for uplink in heard:
        if uplink.settle is not None:
            together[uplink.settle].append(uplink.token)
    for settle, tokens in together.items():
        await settle(tokens, {})
