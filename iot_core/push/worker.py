"""The worker that empties the outbox: woken by NOTIFY and a timer, a bounded number of sends for each target.

A target that hangs holds its own places only; its messages wait in the table, not in memory. While a target answers,
batches are claimed ahead and many are on their way at once; at its first failure what was not tried goes back. Receipts
are written together. Of one alarm the next event is claimed when the one before is written down as delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from typing import Final

import asyncpg
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.push import outbox
from iot_core.push.answer import Answer
from iot_core.push.outbox import Endpoint, Message
from iot_core.push.parcel import Parcel, pack
from iot_core.push.senders import Access, Sender, make_sender
from iot_core.push.senders.base import PLACES, Home
from iot_core.settings import Settings
from iot_core.store.connection import AWAY, RETRY, outlasting, wake_on
from iot_core.store.vault import Vault

log = structlog.get_logger()

FEWEST_AHEAD: Final = 40
MOST_AHEAD: Final = 400
"""Messages claimed ahead of a target that answers: twice as many each time, from few again after a failure."""
LONGEST_PAUSE_S: Final = 300.0
_LOOK_S: Final = 30.0
_LOOKS: Final = 3
"""Rounds at least while the watchdog's limit lasts: who has nothing to send does not stand still."""
_BUSY_LOOK_S: Final = 1.0
"""How late a second try may be while others are being sent."""
_ROUND_S: Final = 0.01
"""Between two rounds of claiming, and of writing receipts, so that each has several."""
_STORE_AWAY_S: Final = 1.0
_LEASE_MARGIN_S: Final = 2.0
_TIDY_S: Final = 3600.0
# Long ago, so that nobody holds one who was about to send.
REMOVED: Final = "SELECT id FROM iot.push_target WHERE id = ANY($1) AND removed_at < clock_timestamp() - $2::interval"


async def run_push(
    pool: asyncpg.Pool,
    settings: Settings,
    home: Home | None = None,
    beat: Callable[[], None] = lambda: None,
    *,
    vault: Vault | None = None,
) -> None:
    """Deliver the outbox until cancelled. `beat` is called whenever the dispatcher has come round."""
    worker = Worker(pool, settings, home, beat, vault=vault)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        stack.push_async_callback(worker.close)
        group.create_task(worker.listen(), name="push listen")
        group.create_task(worker.tidy(), name="push tidy")
        group.create_task(worker.mark(), name="push mark")
        await worker.dispatch(group)


def pause(attempts: int) -> timedelta:
    """Choose how long to wait after a failure: full jitter, so that many messages do not come back at once."""
    ceiling = min(LONGEST_PAUSE_S, 2.0 ** min(attempts, 10))
    return timedelta(seconds=random.uniform(0, ceiling))  # noqa: S311 - spreads load, guards nothing


@dataclass(slots=True)
class _Lane:
    """One target: its sender, what is claimed for it, and how it has answered last."""

    target: Endpoint
    sender: Sender
    queue: list[tuple[int, int, float, Message]] = field(default_factory=list)
    """A heap: urgency, id, by when to begin (a send that began later could outlive its lease; the loop's clock)."""
    busy: int = 0
    ahead: int = FEWEST_AHEAD
    failing: bool = False
    flowing: bool = False

    def wants(self) -> tuple[int, int]:
        """Say how many messages to claim, and how urgent they must be: a fire never waits for a place in the queue."""
        if not self.flowing:
            return (0 if self.queue else PLACES - self.busy), outbox.LEAST_URGENT
        if len(self.queue) <= self.ahead // 2:
            return self.ahead - len(self.queue), outbox.LEAST_URGENT
        return self.ahead, outbox.MOST_URGENT

    @property
    def places(self) -> int:
        """How many messages may be on their way at once."""
        return self.sender.places if self.flowing else PLACES


class Worker:
    """Owns the sends in flight and one sender for each target."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        settings: Settings,
        home: Home | None = None,
        beat: Callable[[], None] = lambda: None,
        *,
        vault: Vault | None = None,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._settings = settings.push
        self._zone = settings.timezone
        self._access = Access(allow_private=settings.push.allow_private, timeout_s=settings.push.timeout_s, home=home)
        self._beat = beat
        self._look_s = min(_LOOK_S, settings.push.watchdog_s / _LOOKS)
        self._wake = asyncio.Event()
        self._lanes: dict[int, _Lane] = {}
        self._shut: set[str] = set()
        self._receipts: list[tuple[int, int | None, str]] = []
        self._receipt = asyncio.Event()

    async def listen(self) -> None:
        """Wake the dispatcher on every COMMIT that put something into the outbox."""
        await wake_on(self._pool, "iot_outbox", self._wake)

    async def tidy(self) -> None:
        """Delete what was delivered or given up long ago, and close the senders of removed targets."""
        while True:
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    await outbox.forget(connection, timedelta(days=self._settings.keep_days))
                    removed = await connection.fetch(REMOVED, list(self._lanes), timedelta(seconds=_TIDY_S))
                for row in removed:
                    if not self._lanes[row["id"]].busy:
                        await self._lanes.pop(row["id"]).sender.close()
            await asyncio.sleep(_TIDY_S)

    async def mark(self) -> None:
        """Write down what was delivered: all that came together in one statement.

        What cannot be written down comes again when its lease is over, with the same id.
        """
        while True:
            await self._receipt.wait()
            await self._write_receipts()
            self._wake.set()  # of an alarm that we told of, the next event may go
            await asyncio.sleep(_ROUND_S)

    async def _write_receipts(self) -> None:
        self._receipt.clear()
        receipts, self._receipts = self._receipts, []
        with outlasting(*RETRY):
            async with self._pool.acquire() as connection:
                await outbox.mark_delivered(connection, receipts)

    async def close(self) -> None:
        """Write down what was still delivered, and give back what the senders keep open."""
        try:
            if self._receipts:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LEASE_MARGIN_S):
                        await self._write_receipts()
        finally:
            for lane in self._lanes.values():
                await lane.sender.close()

    async def dispatch(self, group: asyncio.TaskGroup) -> None:
        """Claim what is due and hand it to senders, for ever."""
        away = False
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._wake.clear()
            try:
                wait = await self._claim(group)
                self._beat()
                if away:
                    log.info("push.resumed")
                away = False
            except (*AWAY, *RETRY) as exc:
                notice_cancellation()
                wait = _STORE_AWAY_S
                if not away:
                    log.warning("push.store_away", reason=type(exc).__name__)
                away = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            await asyncio.sleep(began + _ROUND_S - loop.time())

    async def _claim(self, group: asyncio.TaskGroup) -> float:
        """Start senders for what is due and has a place; say how many seconds nothing will be due."""
        async with self._pool.acquire() as connection:
            for target in outbox.opened(await outbox.ready(connection), self._vault, self._shut):
                lane = await self._lane(target)
                if lane.target != target:
                    continue  # it was changed: first what was claimed for it as it was goes out
                most, urgency = lane.wants()
                if most > 0:  # else a sender that ends wakes us
                    await self._fill(connection, lane, most, urgency)
                for _ in range(min(lane.places - lane.busy, len(lane.queue))):
                    lane.busy += 1
                    group.create_task(self._empty(lane), name=f"push {target.key}")
            if any(lane.queue for lane in self._lanes.values()):
                return _BUSY_LOOK_S
            next_in = await outbox.until_next(connection)
        return self._look_s if next_in is None else min(self._look_s, max(0.01, next_in.total_seconds()))

    async def _fill(self, connection: asyncpg.Connection, lane: _Lane, most: int, urgency: int) -> None:
        timeout_s = self._settings.timeout_s
        lease_s = (2 if lane.flowing else 1) * timeout_s + _LEASE_MARGIN_S
        try_until = asyncio.get_running_loop().time() + lease_s - timeout_s
        claimed = await outbox.claim(connection, lane.target.id, most, timedelta(seconds=lease_s), urgency)
        for each in claimed:
            heappush(lane.queue, (each.urgency, each.id, try_until, each))
        if lane.flowing and len(claimed) == most:
            lane.ahead = min(MOST_AHEAD, 2 * lane.ahead)

    async def _lane(self, target: Endpoint) -> _Lane:
        lane = self._lanes.get(target.id)
        if lane is None or (lane.target != target and not lane.busy):
            if lane is not None:
                await lane.sender.close()
            lane = self._lanes[target.id] = _Lane(target, make_sender(target, self._access))
        return lane

    async def _empty(self, lane: _Lane) -> None:
        """Send what is claimed, one after the other. If the store is away by then, the leases run out."""
        try:
            while lane.queue and lane.busy <= lane.places:
                if asyncio.get_running_loop().time() > lane.queue[0][2]:
                    await self._give_back(lane)
                    break
                await self._deliver(lane, heappop(lane.queue)[3])
        finally:
            lane.busy -= 1
            self._wake.set()

    async def _give_back(self, lane: _Lane) -> None:
        rest, lane.queue = [message for *_, message in lane.queue], []
        if rest:
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    await outbox.give_back(connection, rest)

    async def _deliver(self, lane: _Lane, message: Message) -> None:
        try:
            parcel = await self._pack(lane.target, message)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:  # one bad body must not stop all targets
            log.warning(
                "push.unwritable", target=lane.target.key, message=message.message_id, reason=type(exc).__name__
            )
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    await self._note_failure(connection, lane, message, Answer(400, "unwritable"), None)
            return
        if parcel is None:
            return
        answer = await lane.sender.send(parcel)
        if answer.error is None:
            self._receipts.append((message.id, answer.status, parcel.digest))
            self._receipt.set()
            lane.flowing = True
            if lane.failing:
                lane.failing = False
                log.info("push.recovered", target=lane.target.key)
                with outlasting(*RETRY):
                    async with self._pool.acquire() as connection:
                        await outbox.hurry(connection, lane.target.id)
            return
        if not answer.refused:
            lane.flowing, lane.ahead = False, FEWEST_AHEAD
            await self._give_back(lane)
        with outlasting(*RETRY):
            async with self._pool.acquire() as connection:
                await self._note_failure(connection, lane, message, answer, parcel.digest)

    async def _pack(self, target: Endpoint, message: Message) -> Parcel | None:
        before = []
        if target.format == "cap" and message.alarm_id is not None:
            found = False
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    before = await outbox.earlier(connection, target.id, message)
                found = True
            if not found:
                return None
        return pack(
            message.body if target.kind != "mqtt" else {**message.body, "id": message.message_id},
            message_id=message.message_id,
            at=message.created_at,
            format_=target.format,
            language=target.language,
            template_=target.template,
            options=target.options,
            earlier=before,
            zone=self._zone,
        )

    async def _note_failure(
        self, connection: asyncpg.Connection, lane: _Lane, message: Message, answer: Answer, digest: str | None
    ) -> None:
        dead = message.age >= timedelta(hours=self._settings.give_up_after_h)
        error = answer.error or ""
        await outbox.mark_failed(
            connection,
            message,
            status=answer.status,
            error=error,
            again_in=pause(message.attempts),
            dead=dead,
            digest=digest,
        )
        if dead:
            log.warning("push.given_up", target=lane.target.key, message=message.message_id, error=error)
        if not answer.refused and not lane.failing:
            lane.failing = True
            log.warning("push.failing", target=lane.target.key, error=error)
