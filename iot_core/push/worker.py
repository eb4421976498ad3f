"""The worker that empties the outbox: woken by NOTIFY and a timer, a bounded number of sends for each target.

A target that hangs holds its own places only; its messages wait in the table, not in memory. While a target answers,
a batch is claimed at once; at its first failure what was not tried goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.push import outbox
from iot_core.push.answer import Answer
from iot_core.push.outbox import Endpoint, Message
from iot_core.push.parcel import Parcel, pack
from iot_core.push.senders import Access, Sender, make_sender
from iot_core.push.senders.base import Home
from iot_core.settings import Settings
from iot_core.store.connection import AWAY, RETRY, outlasting, wake_on
from iot_core.store.vault import Vault

log = structlog.get_logger()

PLACES: Final = 4
"""Messages on their way to one target at once."""
BATCH: Final = 40
"""Messages claimed at once of a target that answers."""
LONGEST_PAUSE_S: Final = 300.0
_LOOK_S: Final = 30.0
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
    queue: deque[Message] = field(default_factory=deque)
    busy: int = 0
    failing: bool = False
    flowing: bool = False
    try_until: float = 0.0
    """By the loop's clock: a send that began later could outlive its lease."""


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
        self._wake = asyncio.Event()
        self._lanes: dict[int, _Lane] = {}
        self._shut: set[str] = set()
        self._receipts: list[tuple[int, int | None, str]] = []
        self._receipt = asyncio.Event()
        self._marked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

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
        """Write down what was delivered: all that came together in one statement."""
        while True:
            await self._receipt.wait()
            self._receipt.clear()
            receipts, self._receipts = self._receipts, []
            marked, self._marked = self._marked, asyncio.get_running_loop().create_future()
            noted = False
            try:
                with outlasting(*RETRY):
                    async with self._pool.acquire() as connection:
                        await outbox.mark_delivered(connection, receipts)
                    noted = True
            finally:
                if not marked.done():
                    marked.set_result(noted)

    async def close(self) -> None:
        """Give back what the senders keep open."""
        for lane in self._lanes.values():
            await lane.sender.close()

    async def dispatch(self, group: asyncio.TaskGroup) -> None:
        """Claim what is due and hand it to senders, for ever."""
        away = False
        while True:
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

    async def _claim(self, group: asyncio.TaskGroup) -> float:
        """Start senders for what is due and has a place; say how many seconds nothing will be due."""
        async with self._pool.acquire() as connection:
            for target in outbox.opened(await outbox.ready(connection), self._vault, self._shut):
                lane = await self._lane(target)
                places = PLACES - lane.busy
                if lane.queue or places <= 0:
                    continue  # a sender that ends wakes us
                most = BATCH if lane.flowing else places
                lease_s = (2 if lane.flowing else 1) * self._settings.timeout_s + _LEASE_MARGIN_S
                now = asyncio.get_running_loop().time()
                lane.queue.extend(await outbox.claim(connection, target.id, most, timedelta(seconds=lease_s)))
                lane.try_until = now + lease_s - self._settings.timeout_s
                for _ in range(min(places, len(lane.queue))):
                    lane.busy += 1
                    group.create_task(self._empty(lane), name=f"push {target.key}")
            next_in = await outbox.until_next(connection)
        return _LOOK_S if next_in is None else min(_LOOK_S, max(0.01, next_in.total_seconds()))

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
            while lane.queue:
                if asyncio.get_running_loop().time() > lane.try_until:
                    await self._give_back(lane)
                    break
                await self._deliver(lane, lane.queue.popleft())
        finally:
            lane.busy -= 1
            self._wake.set()

    async def _give_back(self, lane: _Lane) -> None:
        rest, lane.queue = list(lane.queue), deque()
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
            await self._marked
            lane.flowing = True
            if lane.failing:
                lane.failing = False
                log.info("push.recovered", target=lane.target.key)
                with outlasting(*RETRY):
                    async with self._pool.acquire() as connection:
                        await outbox.hurry(connection, lane.target.id)
            return
        if not answer.refused:
            lane.flowing = False
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
