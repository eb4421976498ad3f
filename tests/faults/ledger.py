"""What senders were told is safe, held against what the tables have: every one there, each exactly once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

START: Final = datetime(2026, 11, 20, tzinfo=UTC)
METRIC: Final = "co2"
"""Carries the number of each message, so that a row says which message made it, even without a time of its own."""
STORED: Final = f"SELECT d.key, t.{METRIC}::bigint FROM telemetry.air_quality t JOIN iot.device d ON d.id = t.device_id"

Said = tuple[str, int]
"""Device key, number of the message."""


def at(number: int) -> datetime:
    """Say when message `number` was measured."""
    return START + timedelta(seconds=number)


def body(number: int, *, timed: bool = True) -> str:
    """Write message `number`; without a time, `seq` alone tells a redelivery."""
    said = {"time": at(number).isoformat()} if timed else {}
    return json.dumps({**said, "seq": number, METRIC: number})


async def connect(dsn: str, *, within_s: float = 60.0) -> asyncpg.Connection:
    """Connect to a database that may be away for a moment."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def locked(dsn: str, table: str) -> AsyncIterator[None]:
    """Hold a table so that nobody else reads or writes it."""
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@dataclass(slots=True)
class Ledger:
    """Everything that senders of one run had acknowledged."""

    acknowledged: set[Said] = field(default_factory=set)
    silent: set[Said] = field(default_factory=set)
    """Sent, and never heard of again: may be stored or not."""

    def note(self, key: str, numbers: Iterable[int]) -> None:
        self.acknowledged.update((key, number) for number in numbers)

    async def verdict(self, dsn: str) -> Verdict:
        """Read the tables."""
        connection = await connect(dsn)
        try:
            stored = Counter((row[0], row[1]) for row in await connection.fetch(STORED))
        finally:
            await connection.close()
        return Verdict(
            acknowledged=len(self.acknowledged),
            stored=len(stored),
            lost=sorted(self.acknowledged - stored.keys()),
            doubled=sorted(said for said, times in stored.items() if times > 1),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it."""

    acknowledged: int
    stored: int
    lost: list[Said]
    doubled: list[Said]

    @property
    def sound(self) -> bool:
        return not self.lost and not self.doubled

    def __str__(self) -> str:
        lost = f"{len(self.lost)} lost {self.lost[:5]}"
        return f"{self.acknowledged} acknowledged, {self.stored} stored, {lost}, doubled {self.doubled[:5]}"
