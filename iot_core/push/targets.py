"""Push targets: add, list with their backlog, change, remove, send a test message, bring dead letters back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.messages import text
from iot_core.model import Severity
from iot_core.push.definition import Definition, checked, shown
from iot_core.push.outbox import ADD, MOST_URGENT, new_message_id, sealed_as
from iot_core.push.webhook import new_secret
from iot_core.store.vault import Vault

_COLUMNS: Final = (
    "key", "kind", "url", "secret", "accepts_simulated", "min_severity", "format", "language", "template", "classes",
    "areas", "hours", "watchdog", "heartbeat_s", "options",
)  # fmt: skip
# A removed target's name can be given again; its old messages are dead.
ADD_TARGET: Final = f"""
INSERT INTO iot.push_target AS t ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))})
ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])},
    created_at = now(), changed_at = clock_timestamp(), removed_at = NULL, heartbeat_at = NULL, old_secret = NULL,
    old_secret_until = NULL
WHERE t.removed_at IS NOT NULL RETURNING t.id
"""
LIST: Final = """
SELECT t.id, t.key, t.kind, t.url, t.accepts_simulated, t.min_severity, t.created_at, t.format, t.language, t.template,
    t.classes, t.areas, t.hours, t.watchdog, t.heartbeat_s, t.heartbeat_at, t.options ? 'cert' AS mtls,
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
WHERE t.removed_at IS NULL AND t.kind <> 'ngsi' AND ($1::text IS NULL OR t.key = $1) ORDER BY t.key
"""
REMOVE: Final = "UPDATE iot.push_target SET removed_at = now() WHERE key = $1 AND removed_at IS NULL RETURNING id"
BURY: Final = """
UPDATE iot.outbox SET dead_at = clock_timestamp(), last_error = 'removed'
WHERE target_id = $1 AND delivered_at IS NULL AND dead_at IS NULL
"""
FIND: Final = "SELECT id FROM iot.push_target WHERE key = $1 AND removed_at IS NULL"
ROTATE: Final = """
UPDATE iot.push_target SET old_secret = secret, old_secret_until = clock_timestamp() + $3, secret = $2,
    changed_at = clock_timestamp()
WHERE key = $1 AND removed_at IS NULL AND kind = 'webhook' RETURNING id
"""
REVIVE: Final = """
UPDATE iot.outbox o SET dead_at = NULL, revived_at = clock_timestamp(), next_at = clock_timestamp(), attempts = 0
FROM iot.push_target t
WHERE t.id = o.target_id AND t.removed_at IS NULL AND o.dead_at IS NOT NULL AND o.created_at >= t.created_at
    AND ($1::text IS NULL OR t.key = $1) AND ($2::text IS NULL OR o.message_id = $2)
"""
USED: Final = """
SELECT key FROM iot.escalation_chain WHERE removed_at IS NULL
    AND EXISTS (SELECT FROM jsonb_array_elements(steps) AS step WHERE step ->> 'target' = $1) ORDER BY key LIMIT 1
"""
AREAS_UNKNOWN: Final = (
    "SELECT key FROM unnest($1::text[]) AS key WHERE NOT EXISTS (SELECT FROM iot.area a WHERE a.key = key.key)"
)
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
    format: str
    language: str
    template: str | None
    classes: Sequence[str]
    areas: Sequence[str]
    hours: str
    watchdog: bool
    heartbeat_s: int | None
    heartbeat_at: datetime | None
    mtls: bool


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
    url: str = "",
    secret: str | None = None,
    *,
    allow_private: bool = False,
    vault: Vault | None = None,
    **facts: Any,
) -> tuple[Target, str]:
    """Add a target (`facts` are fields of Definition); give it and, this once, its secret.

    Raises RequestError or ConflictError.
    """
    asked = Definition(key=key, url=url, secret=secret, **facts)
    said = await checked(asked, allow_private=allow_private)
    if unknown := await connection.fetchval(AREAS_UNKNOWN, list(said.areas)):
        raise NotFoundError("registry.no_area", key=unknown)
    kept = said if vault is None else _sealed(said, vault)
    added = await connection.fetchval(ADD_TARGET, *(_plain(getattr(kept, name)) for name in _COLUMNS))
    if added is None:
        raise ConflictError("push.exists", key=key)
    return await get_target(connection, key), (said.secret or "") if said.kind == "webhook" else ""


def _sealed(said: Definition, vault: Vault) -> Definition:
    about = sealed_as(said.key)
    options = {name: vault.seal_text(value, about) if name == "key" else value for name, value in said.options.items()}
    return replace(said, secret=vault.seal_text(said.secret, about) if said.secret else said.secret, options=options)


async def rotate(
    connection: asyncpg.Connection,
    key: str,
    keep: timedelta,
    secret: str | None = None,
    *,
    vault: Vault | None = None,
) -> str:
    """Give a webhook a new secret; the old one goes on signing beside it for a time. Raises NotFoundError.

    A target without a secret of ours (mqtt, syslog...) raises RequestError.
    """
    chosen = new_secret() if secret is None else secret
    if (
        await connection.fetchval(
            ROTATE, key, chosen if vault is None else vault.seal_text(chosen, sealed_as(key)), keep
        )
        is None
    ):
        target = await get_target(connection, key)
        raise RequestError("push.no_secret", key=key, kind=target.kind)
    return chosen


async def revive(connection: asyncpg.Connection, key: str | None = None, message_id: str | None = None) -> int:
    """Bring dead letters back for another 24 hours; say how many. Raises NotFoundError for a target not there."""
    if key is not None:
        await get_target(connection, key)
    done: str = await connection.execute(REVIVE, key, message_id)
    count = int(done.rpartition(" ")[2])
    if count:
        await connection.execute("SELECT pg_notify('iot_outbox', '')")
    return count


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
    """Remove a target; what waits for it is given up. Raises NotFoundError, ConflictError while a chain names it."""
    async with connection.transaction():
        if (chain := await connection.fetchval(USED, key)) is not None:
            raise ConflictError("push.in_chain", key=key, chain=chain)
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
    encoded = msgspec.json.encode(body).decode()
    await connection.execute(ADD, [target_id], [None], [message_id], [encoded], [MOST_URGENT])
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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _target(row: asyncpg.Record) -> Target:
    return Target(**{**row, "url": shown(row["kind"], row["url"]), "min_severity": Severity(row["min_severity"])})
