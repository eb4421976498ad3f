"""Settles the ledger against the tables while the city runs: a long run needs no more memory than a short one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from simulators.verdict import Account, Same

if TYPE_CHECKING:
    from simulators.audit import Tables
    from simulators.ledger import Ledger

EVERY_S: Final = 20.0
GRACE: Final = timedelta(seconds=30)
"""How old an observation is before its row is asked for in earnest."""
_LOOK_S: Final = 0.25


class Bookkeeper:
    """Keeps the account of a run that began at `since`."""

    def __init__(self, tables: Tables, ledger: Ledger, same: Mapping[str, Same], since: datetime) -> None:
        self.account = Account(since=since)
        self._tables = tables
        self._ledger = ledger
        self._same = same
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Settle now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self._settle(datetime.now(UTC) - GRACE)

    async def close(self, patience_s: float) -> Account:
        """Wait until everything that was sent is in the tables, or patience ends; then close the account."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        missing = await self._settle(self.account.since)
        while missing and loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)
            missing = await self._settle(self.account.since)
        await self._settle(datetime.now(UTC) + timedelta(seconds=1))
        return self.account

    async def _settle(self, before: datetime) -> int:
        """Look into the tables; give how many observations have no row yet."""
        async with self._lock:
            rows = await self._tables.rows(self.account.since)
            taken = self._ledger.take()  # after the rows: a row can never come before what was sent
            return len(self.account.settle(taken, rows, self._same, before).lost)
