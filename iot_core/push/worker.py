"""The worker that empties the outbox: woken by NOTIFY and a timer, a bounded number of sends for each target.

A target that hangs holds its own places only; its messages wait in the table, not in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import aiohttp
import asyncpg
import structlog

from iot_core.cancelled import notice_cancellation
from iot_core.push import outbox
from iot_core.push.outbox import Endpoint, Message
from iot_core.push.webhook import Answer, open_session, send
from iot_core.settings import Settings
from iot_core.store.connection import AWAY, RETRY, listening, outlasting

log = structlog.get_logger()

PLACES: Final = 4
"""Messages on their way to one target at once."""
LONGEST_PAUSE_S: Final = 300.0
_LOOK_S: Final = 30.0
_STORE_AWAY_S: Final = 1.0
_LEASE_MARGIN_S: Final = 2.0
_KEEP: Final = timedelta(days=30)
_TIDY_S: Final = 3600.0


async def run_push(pool: asyncpg.Pool, settings: Settings) -> None:
    """Deliver the outbox until cancelled."""
    worker = Worker(pool, settings)
    async with AsyncExitStack() as sessions, asyncio.TaskGroup() as group:
        group.create_task(worker.listen(), name="push listen")
        group.create_task(worker.tidy(), name="push tidy")
        await worker.dispatch(group, sessions)


def pause(attempts: int) -> timedelta:
    """Choose how long to wait after a failure: full jitter, so that many messages do not come back at once."""
    ceiling = min(LONGEST_PAUSE_S, 2.0 ** min(attempts, 10))
    return timedelta(seconds=random.uniform(0, ceiling))  # noqa: S311 - spreads load, guards nothing


class Worker:
    """Owns the sends in flight and one session for each target."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings.push
        self._wake = asyncio.Event()
        self._in_flight: Counter[int] = Counter()
        self._failing: set[int] = set()
        self._sessions: dict[int, aiohttp.ClientSession] = {}
        self._lease = timedelta(seconds=self._settings.timeout_s + _LEASE_MARGIN_S)

    async def listen(self) -> None:
        """Wake the dispatcher on every COMMIT that put something into the outbox."""
        while True:
            with outlasting():
                async with listening(self._pool, "iot_outbox") as notices:
                    while True:
                        self._wake.set()  # also for what came while nobody listened
                        await notices.next()
            await asyncio.sleep(_STORE_AWAY_S)

    async def tidy(self) -> None:
        """Delete what was delivered or given up long ago."""
        while True:
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    await outbox.forget(connection, _KEEP)
            await asyncio.sleep(_TIDY_S)

    async def dispatch(self, group: asyncio.TaskGroup, sessions: AsyncExitStack) -> None:
        """Claim what is due and hand it to senders, for ever."""
        away = False
        while True:
            self._wake.clear()
            try:
                wait = await self._claim(group, sessions)
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

    async def _claim(self, group: asyncio.TaskGroup, sessions: AsyncExitStack) -> float:
        """Start a sender for every message that is due and has a place; say how many seconds nothing will be due."""
        async with self._pool.acquire() as connection:
            for target in await outbox.ready(connection):
                places = PLACES - self._in_flight[target.id]
                if places <= 0:
                    continue  # a sender that ends wakes us
                session = await self._session(target, sessions)
                for message in await outbox.claim(connection, target.id, places, self._lease):
                    self._in_flight[target.id] += 1
                    group.create_task(self._deliver(target, session, message), name=f"push {target.key}")
            next_in = await outbox.until_next(connection)
        return _LOOK_S if next_in is None else min(_LOOK_S, max(0.01, next_in.total_seconds()))

    async def _session(self, target: Endpoint, sessions: AsyncExitStack) -> aiohttp.ClientSession:
        if target.id not in self._sessions:
            opened = open_session(allow_private=self._settings.allow_private, timeout_s=self._settings.timeout_s)
            self._sessions[target.id] = await sessions.enter_async_context(opened)
        return self._sessions[target.id]

    async def _deliver(self, target: Endpoint, session: aiohttp.ClientSession, message: Message) -> None:
        """Send one message once and note what became of it. If the store is away by then, the lease runs out."""
        try:
            answer = await send(
                session,
                target.url,
                target.secret,
                message.message_id,
                message.body,
                allow_private=self._settings.allow_private,
            )
            with outlasting(*RETRY):
                async with self._pool.acquire() as connection:
                    await self._note(connection, target, message, answer)
        finally:
            self._in_flight[target.id] -= 1
            self._wake.set()

    async def _note(self, connection: asyncpg.Connection, target: Endpoint, message: Message, answer: Answer) -> None:
        if answer.error is None:
            await outbox.mark_delivered(connection, message, answer.status)
            if target.id in self._failing:
                self._failing.discard(target.id)
                log.info("push.recovered", target=target.key)
                await outbox.hurry(connection, target.id)
            return
        dead = message.age >= timedelta(hours=self._settings.give_up_after_h)
        await outbox.mark_failed(
            connection,
            message,
            status=answer.status,
            error=answer.error,
            again_in=pause(message.attempts),
            dead=dead,
        )
        if dead:
            log.warning("push.given_up", target=target.key, message=message.message_id, error=answer.error)
        if not answer.refused and target.id not in self._failing:
            self._failing.add(target.id)
            log.warning("push.failing", target=target.key, error=answer.error)
