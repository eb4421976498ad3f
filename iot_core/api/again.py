"""A write that is asked for twice is done once: answers are kept by idempotency key.

client --POST, Idempotency-Key: K--> done, committed, answer kept --x--   the answer is lost on the way
client --the same again------------> the same answer, from what was kept (ten minutes, sealed, also after a restart)

A core that is killed between COMMIT and keeping the answer has no answer to give; the operation carries the key, so the
repetition is refused with the number of what was done.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog
from aiohttp import web

from iot_core.errors import ConflictError, RequestError
from iot_core.registry.audit import ASKED
from iot_core.store.connection import AWAY

if TYPE_CHECKING:
    from iot_core.store.vault import Vault

__all__ = ["HEADER", "REPLAYED", "Again", "Said"]

log = structlog.get_logger()

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
_KEY: Final = re.compile(r"[A-Za-z0-9._-]{16,128}")
_LARGEST: Final = 4 * 1024 * 1024

Said = tuple[int, bytes]
"""Status and body."""

_FIND: Final = """
SELECT request, status, body FROM iot.answer
WHERE asker = $1 AND key = $2 AND created_at > now() - interval '10 minutes'
"""
_DONE: Final = "SELECT id FROM iot.operation WHERE request = $1 ORDER BY id LIMIT 1"
_KEEP: Final = """
INSERT INTO iot.answer (asker, key, request, status, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
_FORGET: Final = "DELETE FROM iot.answer WHERE created_at < now() - interval '10 minutes'"


class Again:
    """Does each write once."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault
        self._running: dict[tuple[str, str], tuple[bytes, asyncio.Future[Said]]] = {}

    async def once(
        self, asker: str, key: str, request: bytes, work: Callable[[], Awaitable[Said]]
    ) -> tuple[Said, bool]:
        """Do the work, or give what was answered before; say which (True: before).

        Raises RequestError for a key that is none, ConflictError for one that stands for another request, or whose
        write was done without an answer that could be kept.
        """
        if not _KEY.fullmatch(key):
            raise RequestError("api.bad_idempotency_key", header=HEADER)
        digest = hashlib.sha256(request).digest()
        running = self._running.get((asker, key))
        if running is not None:
            return await self._same(running, digest), True
        future: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._running[asker, key] = (digest, future)
        try:
            before = await self._before(asker, key, digest)
            if before is None:
                ASKED.set(replace(ASKED.get(), request=f"{asker}/{key}"))
                said = await work()
                if said[0] < 400:
                    await self._keep(asker, key, digest, said)
            else:
                said = before
        except BaseException as exc:
            future.set_exception(exc if isinstance(exc, Exception) else RequestError("api.try_again"))
            future.exception()  # seen, also when nobody waits
            raise
        finally:
            del self._running[asker, key]
        future.set_result(said)
        return said, before is not None

    async def _same(self, running: tuple[bytes, asyncio.Future[Said]], digest: bytes) -> Said:
        if running[0] != digest:
            raise ConflictError("api.other_request", header=HEADER)
        return await asyncio.shield(running[1])

    async def _before(self, asker: str, key: str, digest: bytes) -> Said | None:
        async with self._pool.acquire(timeout=10.0) as connection:
            row = await connection.fetchrow(_FIND, asker, key)
            if row is None:
                done = await connection.fetchval(_DONE, f"{asker}/{key}")
                if done is not None:
                    raise ConflictError("api.done_already", operation=done)
                return None
        if row["request"] != digest:
            raise ConflictError("api.other_request", header=HEADER)
        return row["status"], self._vault.open(row["body"], f"answer/{asker}/{key}")

    async def _keep(self, asker: str, key: str, digest: bytes, said: Said) -> None:
        """Keep an answer. The write is committed already: that it cannot be kept must not make it a failure."""
        status, body = said
        if len(body) > _LARGEST:
            return
        try:
            async with self._pool.acquire(timeout=10.0) as connection:
                await connection.execute(_FORGET)
                sealed = self._vault.seal(body, f"answer/{asker}/{key}")
                await connection.execute(_KEEP, asker, key, digest, status, sealed)
        except AWAY as exc:
            log.warning("api.answer_not_kept", reason=type(exc).__name__)


def request_of(request: web.Request, body: bytes) -> bytes:
    """Write down what a request asks for."""
    return b"\n".join((request.method.encode(), request.path_qs.encode(), body))
