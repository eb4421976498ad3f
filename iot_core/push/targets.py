"""Push targets: add, list with their backlog, remove, send a test message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.messages import text
from iot_core.model import Severity, is_key
from iot_core.push.addresses import check_reachable, parse_url, shown_url
from iot_core.push.outbox import ADD, new_message_id
from iot_core.push.webhook import check_secret, new_secret

# A removed target's name can be given again; its old messages are dead.
ADD_TARGET: Final = """
INSERT INTO iot.push_target AS t (key, kind, url, secret, accepts_simulated, min_severity)
VALUES ($1, 'webhook', $2, $3, $4, $5)
ON CONFLICT (key) DO UPDATE SET url = excluded.url, secret = excluded.secret, created_at = now(), removed_at = NULL,
    accepts_simulated = excluded.accepts_simulated, min_severity = excluded.min_severity
WHERE t.removed_at IS NOT NULL RETURNING t.id
"""
LIST: Final = """
SELECT t.id, t.key, t.kind, t.url, t.accepts_simulated, t.min_severity, t.created_at,
    o.backlog, o.oldest_at, o.dead, o.last_delivered_at, e.last_status, e.last_error
FROM iot.push_target t
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE delivered_at IS NULL AND dead_at IS NULL) AS backlog,
        min(created_at) FILTER (WHERE delivered_at IS NULL AND dead_at IS NULL) AS oldest_at,
        count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead, max(delivered_at) AS last_delivered_at
    FROM iot.outbox WHERE target_id = t.id AND created_at >= t.created_at) o ON true
LEFT JOIN LATERAL (
    SELECT last_status, last_error FROM iot.outbox
    WHERE target_id = t.id AND last_error IS NOT NULL AND created_at >= t.created_at
    ORDER BY id DESC LIMIT 1) e ON true
WHERE t.removed_at IS NULL AND ($1::text IS NULL OR t.key = $1) ORDER BY t.key
"""
REMOVE: Final = "UPDATE iot.push_target SET removed_at = now() WHERE key = $1 AND removed_at IS NULL RETURNING id"
BURY: Final = """
UPDATE iot.outbox SET dead_at = clock_timestamp(), last_error = 'removed'
WHERE target_id = $1 AND delivered_at IS NULL AND dead_at IS NULL
"""
FIND: Final = "SELECT id FROM iot.push_target WHERE key = $1 AND removed_at IS NULL"
DELIVERY: Final = """
SELECT message_id, attempts, last_status, last_error, delivered_at, dead_at FROM iot.outbox WHERE message_id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target as it is listed. `url` is for people: without what could be a token."""

    id: int
    key: str
    kind: str
    url: str
    accepts_simulated: bool
    min_severity: Severity
    created_at: datetime
    backlog: int
    oldest_at: datetime | None
    dead: int
    last_delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How far one message has come."""

    message_id: str
    attempts: int
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    dead_at: datetime | None


async def add(
    connection: asyncpg.Connection,
    key: str,
    url: str,
    secret: str | None = None,
    *,
    accepts_simulated: bool = False,
    min_severity: Severity = Severity.LOW,
    allow_private: bool = False,
) -> tuple[Target, str]:
    """Add a webhook target; give it and, this once, its secret. Raises RequestError or ConflictError."""
    if not is_key(key):
        raise RequestError("push.bad_key", key=key)
    parsed = parse_url(url)
    await check_reachable(parsed, allow_private=allow_private)
    chosen = new_secret() if secret is None else check_secret(secret)
    added = await connection.fetchval(ADD_TARGET, key, str(parsed), chosen, accepts_simulated, min_severity)
    if added is None:
        raise ConflictError("push.exists", key=key)
    return await get_target(connection, key), chosen


async def list_targets(connection: asyncpg.Connection) -> list[Target]:
    """List the targets with their backlog, last error and last delivery."""
    return [_target(row) for row in await connection.fetch(LIST, None)]


async def get_target(connection: asyncpg.Connection, key: str) -> Target:
    """Give one target. Raises NotFoundError."""
    row = await connection.fetchrow(LIST, key)
    if row is None:
        raise NotFoundError("push.not_found", key=key)
    return _target(row)


async def remove(connection: asyncpg.Connection, key: str) -> None:
    """Remove a target; what waits for it is given up. Raises NotFoundError."""
    async with connection.transaction():
        removed = await connection.fetchval(REMOVE, key)
        if removed is None:
            raise NotFoundError("push.not_found", key=key)
        await connection.execute(BURY, removed)


async def enqueue_test(connection: asyncpg.Connection, key: str) -> str:
    """Put a test message into the outbox; give its message id, for `delivery`. Raises NotFoundError."""
    target_id = await connection.fetchval(FIND, key)
    if target_id is None:
        raise NotFoundError("push.not_found", key=key)
    message_id = new_message_id()
    body = {
        "type": "push.test",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {"target": key, "text": {"vi": text("push.test", "vi"), "en": text("push.test", "en")}},
    }
    await connection.execute(ADD, target_id, None, message_id, body)
    return message_id


async def delivery(connection: asyncpg.Connection, message_id: str) -> Delivery:
    """Say how far a message has come. Raises NotFoundError."""
    row = await connection.fetchrow(DELIVERY, message_id)
    if row is None:
        raise NotFoundError("push.message_not_found", id=message_id)
    return Delivery(**row)


def said_failure(code: str, lang: str = "") -> str:
    """Say the code of a failed try to a person."""
    kind, _, status = code.partition("_")
    if kind == "http" and status.isdigit():
        return text("push.failed_http", lang, status=status)
    return text(f"push.failed_{code}", lang)


def _target(row: asyncpg.Record) -> Target:
    return Target(**{**row, "url": shown_url(row["url"]), "min_severity": Severity(row["min_severity"])})
