"""The worker: takes uplinks from the drivers, flushes them by size or age, acknowledges after COMMIT.

While the store is away a batch is tried again until it is written; nothing is acknowledged and `emit` refuses more.
What people's lives hang on has a lane of its own, so that a fire waits for no storm: its uplinks are neither behind
others in a queue nor in one transaction with them. A sender is in one lane, so its order is kept, and lanes meet in the
database no more than workers do.

A batch that the database refuses for its data is bisected until the poison uplink stands alone; that one is held. So is
one that the database does not write in time, for a whole that is too slow once would be too slow for ever.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.counters import Counters
from iot_core.errors import StoreUnavailable
from iot_core.ingest.flush import Flush
from iot_core.ingest.limit import RateLimit
from iot_core.ingest.prepare import Prepare, Work
from iot_core.model import Outcome, Reason, Settle, Uplink
from iot_core.store.connection import AWAY, LATE, RETRY

log = structlog.get_logger()


_NATIVE: Final = "iot:"
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 2.0
_RETRY_WITHIN_S: Final = 0.05
_UNKNOWN_KEPT: Final = 200
"""Uplinks kept of one sender that nobody registered; beyond it they are counted only."""
_UNKNOWN_SENDERS: Final = 10_000


@dataclass(slots=True, eq=False)
class _Lane:
    """A queue with one writer behind it."""

    urgent: bool = False
    queue: deque[Uplink] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Ingest:
    """Two bounded queues with one writer behind each."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        prepare: Prepare,
        flush: Flush,
        counters: Counters,
        *,
        queue: int,
        batch: int,
        batch_s: float,
        limit: RateLimit,
    ) -> None:
        self._pool = pool
        self._prepare = prepare
        self._flush = flush
        self._counters = counters
        self._ordinary = _Lane()
        self._urgent = _Lane(urgent=True)
        self._lanes = (self._ordinary, self._urgent)
        self._most = queue
        self._batch = batch
        self._batch_s = batch_s
        self._limit = limit
        self._room = asyncio.Event()
        self._settled = asyncio.Event()
        self._away_since: datetime | None = None
        self._in_hand = 0
        self._closing = False
        self._unknown: dict[str, int] = {}
        counters.gauge("ingest_queue", lambda: sum(len(lane.queue) for lane in self._lanes))

    @property
    def away_since(self) -> datetime | None:
        """Since when the store does not answer, None while it does."""
        return self._away_since

    @property
    def idle(self) -> bool:
        """Whether everything that was emitted is committed."""
        return not self._in_hand and not any(lane.queue for lane in self._lanes)

    def lag_s(self) -> float:
        """Return how long the oldest waiting uplink has waited, in seconds."""
        waiting = [lane.queue[0].received_at for lane in self._lanes if lane.queue]
        return (datetime.now(UTC) - min(waiting)).total_seconds() if waiting else 0.0

    async def emit(self, uplink: Uplink) -> None:
        """Take an uplink; wait for room. Raises StoreUnavailable while the store is away."""
        lane = self._urgent if self._prepare.urgent(uplink.address) else self._ordinary
        while self._closing or (len(lane.queue) >= self._most and self._away_since is None):
            self._room.clear()
            await self._room.wait()
        if self._away_since is not None:
            raise StoreUnavailable
        lane.queue.append(uplink)
        lane.news.set()

    async def run(self) -> None:
        """Flush until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(self._ordinary), name="ingest ordinary")
                group.create_task(self._work(self._urgent), name="ingest urgent")
        finally:
            self._in_hand = 0

    async def _work(self, lane: _Lane) -> None:
        """Empty a lane. The next batch is prepared while the database is busy with this one; order is kept."""
        following: asyncio.Task[list[Work]] | None = None
        try:
            while True:
                works = await (following or self._next(lane))
                following = asyncio.create_task(self._next(lane), name="ingest next")
                for part in self._flush.parts(self._bound_unknown(works), now=datetime.now(UTC)):
                    await self._store_all(part)
                await self._acknowledge(works)
                self._in_hand -= len(works)
                self._settled.set()
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait([following])

    async def _next(self, lane: _Lane) -> list[Work]:
        uplinks = await self._collect(lane)
        if lane.urgent:  # these have no limit
            return [self._prepare(uplink) for uplink in uplinks]
        now = time.monotonic()
        above = self._limit.above([uplink.address for uplink in uplinks], now, self._prepare.limited)
        if not above:
            return [self._prepare(uplink) for uplink in uplinks]
        return [
            self._above_limit(uplink, now) if position in above else self._prepare(uplink)
            for position, uplink in enumerate(uplinks)
        ]

    def _above_limit(self, uplink: Uplink, now: float) -> Work:
        sampled = self._limit.sampled(uplink.address, now)
        if not sampled:
            self._counters.count("ingest_rate_dropped")
        return self._prepare.above_limit(uplink, sampled=sampled)

    def close(self) -> None:
        """Take nothing more: who emits from now on waits for the end, unacknowledged."""
        self._closing = True

    async def drain(self) -> None:
        """Wait until everything emitted is committed; the caller bounds the wait."""
        while not self.idle:
            self._settled.clear()
            await self._settled.wait()

    async def _collect(self, lane: _Lane) -> list[Uplink]:
        """Take a batch: what is there once the first uplink is `batch_s` old, or `batch` of them."""
        queue, news = lane.queue, lane.news
        while not queue:
            news.clear()
            await news.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._batch_s):
                while len(queue) < self._batch:
                    news.clear()
                    await news.wait()
        taken = [queue.popleft() for _ in range(min(self._batch, len(queue)))]
        self._in_hand += len(taken)
        self._room.set()
        return taken

    async def _store_all(self, works: Sequence[Work]) -> None:
        """Store a batch whatever it takes: wait for the store, meet other workers again, isolate poison."""
        wait = _FIRST_WAIT_S
        while works:
            try:
                async with self._pool.acquire() as connection:
                    await self._flush(connection, works, now=datetime.now(UTC))
            except RETRY:
                self._counters.count("ingest_retried")
                await asyncio.sleep(random.uniform(0, _RETRY_WITHIN_S))  # noqa: S311 - two that met must not meet again
            except asyncpg.ConfigurationLimitExceededError as exc:
                # A limit on one transaction (TimescaleDB's on decompressing): half of it may fit. It is not AWAY.
                self._store_back()
                await self._isolate(works, exc)
                return
            except AWAY as exc:
                notice_cancellation()
                self._store_away(exc)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_S)
                if isinstance(exc, LATE) and len(works) > 1:  # tried whole again it might never be in time
                    await self._store_halves(works)
                    return
            except Exception as exc:  # noqa: BLE001
                # Whatever it is, it must not stop the rest of the batch, and its uplink must not be lost.
                self._store_back()
                await self._isolate(works, exc)
                return
            else:
                self._store_back()
                return

    async def _store_halves(self, works: Sequence[Work]) -> None:
        half = len(works) // 2
        await self._store_all(works[:half])
        await self._store_all(works[half:])

    async def _isolate(self, works: Sequence[Work], refusal: Exception) -> None:
        if len(works) > 1:
            await self._store_halves(works)
            return
        log.warning("ingest.refused", address=works[0].uplink.address, error=type(refusal).__name__)
        self._counters.count("ingest_refused")
        await self._hold(works[0], f"{type(refusal).__name__}: {refusal}")

    async def _hold(self, work: Work, detail: str) -> None:
        """Keep an uplink that the database refuses; where that is refused too, its bytes alone.

        It must be kept, whatever it is: one that is never acknowledged holds up all that came after it. A database that
        does not take bytes either takes nothing, so the store is away.
        """
        bare = False
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await self._flush.hold_whole(connection, work, detail, bare=bare)
            except (*AWAY, *RETRY) as exc:
                notice_cancellation()
                self._store_away(exc)
                await asyncio.sleep(_FIRST_WAIT_S)
            except Exception as exc:
                if isinstance(exc, asyncpg.ForeignKeyViolationError) and work.unit is not None:
                    # Its device was taken out of the registry after it was prepared: it is a stranger's now.
                    work.unit = None
                    work.numbers.clear()
                elif bare:
                    self._store_away(exc)
                    await asyncio.sleep(_LONGEST_WAIT_S)
                else:
                    log.exception("ingest.cannot_hold", address=work.uplink.address)
                    self._counters.count("ingest_held_as_bytes")
                    bare = True
            else:
                self._store_back()
                return

    def _store_away(self, exc: BaseException) -> None:
        if self._away_since is None:
            self._away_since = datetime.now(UTC)
            self._room.set()
            log.warning("store.away", error=type(exc).__name__)

    def _store_back(self) -> None:
        if self._away_since is not None:
            log.info("store.back", after_s=round((datetime.now(UTC) - self._away_since).total_seconds(), 1))
            self._away_since = None

    def _bound_unknown(self, works: Sequence[Work]) -> list[Work]:
        """Leave out uplinks of unknown senders beyond their bound: acknowledged and counted, not kept."""
        return [
            work
            for work in works
            if not work.dropped and (work.unit is not None or self._keep_unknown(work.uplink.address))
        ]

    def _keep_unknown(self, address: str) -> bool:
        kept = self._unknown.get(address, 0)
        if kept >= _UNKNOWN_KEPT or (kept == 0 and len(self._unknown) >= _UNKNOWN_SENDERS):
            self._counters.count("ingest_unknown_dropped")
            return False
        self._unknown[address] = kept + 1
        return True

    def forget_unknown(self, address: str) -> None:
        """Give a sender its bound back, when it was registered."""
        self._unknown.pop(address, None)

    async def _acknowledge(self, works: Sequence[Work]) -> None:
        now = datetime.now(UTC)
        held = 0
        latencies: list[float] = []
        together: dict[Settle, tuple[list[Any], dict[tuple[str, str], list[int]]]] = {}
        for work in works:
            uplink = work.uplink
            held += 0 if work.dropped else len(work.problems)
            if work.observations:
                latencies.append((now - uplink.received_at).total_seconds())
            if uplink.settle is not None:
                tokens, numbers = together.setdefault(uplink.settle, ([], {}))
                tokens.append(uplink.token)
                if work.numbers and uplink.address.startswith(_NATIVE):
                    for _, run, seq in work.numbers:
                        numbers.setdefault((uplink.address[len(_NATIVE) :], run), []).append(seq)
            else:
                await _tell(uplink.done, _outcome(work))
        for settle, (tokens, numbers) in together.items():
            await _tell(settle, tokens, numbers)
        self._counters.commit_latencies(latencies)
        self._counters.count("ingest_uplinks", len(works))
        self._counters.count("ingest_stored", sum([len(work.observations) for work in works]))
        self._counters.count("ingest_held", held)


async def _tell(done: Callable[..., Awaitable[None]], *told: object) -> None:
    try:
        await done(*told)
    except Exception:
        # The row is committed; a driver that cannot say so gets the uplink again and merging absorbs it.
        log.exception("ingest.acknowledge_failed")


def _outcome(work: Work) -> Outcome:
    problems = work.problems
    recognised = not (problems and problems[0].reason is Reason.UNKNOWN_ADDRESS and work.unit is None)
    return Outcome(len(work.observations), tuple(problems), recognised)
