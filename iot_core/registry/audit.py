"""Who changed what: an operation for every deed, a row for each thing it changed, in the transaction of the write.

Never a secret: what stands here is shown to whoever may read it, for years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

__all__ = ["ASKED", "Asked", "Change", "Entry", "Operation", "changes_of", "entries", "operation", "record"]

_RECORD: Final = """
WITH operation AS (
    INSERT INTO iot.operation (by, action, effective_at, undoes, request) VALUES ($1, $2, $3, $4, $5) RETURNING id
), rows AS (
    INSERT INTO iot.audit (by, action, operation, subject, before, after, address, via)
    SELECT $1, $2, operation.id, change.subject, change.before, change.after, $9, $10
    FROM operation, unnest($6::text[], $7::jsonb[], $8::jsonb[]) AS change (subject, before, after)
)
SELECT id FROM operation
"""
_ENTRIES: Final = """
SELECT audit.id, audit.at, audit.by, audit.action, audit.subject, audit.before, audit.after, audit.operation,
    audit.address, audit.via, operation.effective_at, operation.undoes, operation.undone_by
FROM iot.audit LEFT JOIN iot.operation ON operation.id = audit.operation
WHERE ($1::text IS NULL OR subject = ANY(ARRAY['device/' || $1, 'area/' || $1, 'push/' || $1, 'token/' || $1,
        'user/' || $1, 'batch/' || $1])
        OR subject IN (SELECT unnest(ARRAY['command-order/' || c.order_id, 'command/' || c.id])
            FROM iot.command c JOIN iot.device d ON d.id = c.device_id WHERE d.key = $1))
    AND ($2::text IS NULL OR audit.by = $2) AND ($3::timestamptz IS NULL OR audit.at >= $3)
    AND ($4::bigint IS NULL OR audit.operation = $4) AND split_part(subject, '/', 1) <> ALL ($5)
    AND ($7::integer[] IS NULL
        OR subject IN (SELECT 'device/' || key FROM iot.device WHERE area_id = ANY($7)
            UNION ALL SELECT 'area/' || key FROM iot.area WHERE id = ANY($7))
        OR EXISTS (SELECT FROM iot.command c JOIN iot.device d ON d.id = c.device_id
            WHERE c.order_id = CASE WHEN subject LIKE 'command-order/%' THEN split_part(subject, '/', 2)::bigint END
                AND d.area_id = ANY($7)))
ORDER BY audit.id DESC LIMIT $6
"""
_ONE: Final = "SELECT id, at, by, action, effective_at, undoes, undone_by FROM iot.operation WHERE id = $1 FOR UPDATE"
_CHANGES: Final = "SELECT subject, before, after FROM iot.audit WHERE operation = $1 ORDER BY id"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing before and after: None where it was not there. `subject` is `device/aq-001`."""

    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One deed of one person."""

    id: int
    at: datetime
    by: str
    action: str
    effective_at: datetime | None
    undoes: int | None
    undone_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the audit; entries written before operations were numbered have none."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    operation: int | None
    effective_at: datetime | None
    undoes: int | None
    undone_by: int | None
    address: str | None = None
    via: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """From where a request came, with which token where it came for a user, and under which idempotency key."""

    address: str | None = None
    via: str | None = None
    request: str | None = None


_NOWHERE: Final = Asked()
ASKED: Final = ContextVar("asked", default=_NOWHERE)
"""Of the request that this task answers. What the core does by itself comes from nowhere."""


async def record(
    connection: asyncpg.Connection,
    by: str,
    action: str,
    *changes: Change,
    effective_at: datetime | None = None,
    undoes: int | None = None,
) -> int:
    """Write what `by` did, inside the caller's transaction; give the operation's number, by which it can be undone."""
    asked = ASKED.get()
    number: int = await connection.fetchval(
        _RECORD, by, action, effective_at, undoes, asked.request,
        [each.subject for each in changes], [each.before for each in changes], [each.after for each in changes],
        asked.address, asked.via,
    )  # fmt: skip
    return number


async def entries(
    connection: asyncpg.Connection,
    *,
    key: str | None = None,
    by: str | None = None,
    since: datetime | None = None,
    operation: int | None = None,
    hidden: Sequence[str] = (),
    areas: frozenset[int] | None = None,
    limit: int = 100,
) -> list[Entry]:
    """List what was changed, the newest first: of one key, by one person, since a time, in one operation.

    `hidden` names kinds of things (`push`, `token`) that are left out; with `areas`, only changes of these areas and
    of devices that stand in them are given.
    """
    within = None if areas is None else list(areas)
    return [Entry(**row) for row in await connection.fetch(_ENTRIES, key, by, since, operation, hidden, limit, within)]


async def operation(connection: asyncpg.Connection, number: int) -> Operation | None:
    """Find an operation and lock it, so that it is undone once."""
    row = await connection.fetchrow(_ONE, number)
    return None if row is None else Operation(**row)


async def changes_of(connection: asyncpg.Connection, number: int) -> Sequence[Change]:
    """Give what an operation changed, in the order it did."""
    return [Change(**row) for row in await connection.fetch(_CHANGES, number)]
