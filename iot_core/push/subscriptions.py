"""NGSI-LD subscriptions as rows.

Each has a push target of kind `ngsi`, so that its notifications are delivered, tried again and proven like alarms.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from iot_core.errors import NotFoundError
from iot_core.push.addresses import check_reachable, parse_url, shown_url
from iot_core.push.outbox import new_message_id, sealed_as
from iot_core.push.webhook import new_secret
from iot_core.store.vault import Vault

__all__ = ["MOST_WAITING", "add", "due", "list_", "notify", "remove", "shown"]

MOST_WAITING: Final = 100
"""Notifications that may wait for a subscriber; what it misses then is in the next one."""
TARGET: Final = """
INSERT INTO iot.push_target (key, kind, url, secret) VALUES ($1, 'ngsi', $2, $3) RETURNING id
"""
ADD: Final = """
INSERT INTO iot.ngsi_subscription (id, target_id, body, household, seen_at) VALUES ($1, $2, $3, $4, clock_timestamp())
"""
LIST: Final = """
SELECT s.id, s.body, s.told_at, s.created_at, t.url,
    (SELECT count(*) FROM iot.outbox o WHERE o.target_id = t.id AND o.delivered_at IS NOT NULL) AS sent,
    (SELECT max(delivered_at) FROM iot.outbox o WHERE o.target_id = t.id) AS succeeded_at,
    EXISTS (SELECT FROM iot.outbox o WHERE o.target_id = t.id AND o.delivered_at IS NULL AND o.last_error IS NOT NULL)
        AS failing
FROM iot.ngsi_subscription s JOIN iot.push_target t ON t.id = s.target_id
WHERE $1::text IS NULL OR s.id = $1 ORDER BY s.created_at
"""
DUE: Final = """
SELECT s.id, s.target_id, s.body, s.household, s.seen_at FROM iot.ngsi_subscription s
WHERE s.told_at IS NULL OR s.told_at + make_interval(secs => (s.body->>'throttling')::float8) <= clock_timestamp()
FOR UPDATE SKIP LOCKED
"""
WAITING: Final = """
SELECT count(*) FROM iot.outbox WHERE target_id = $1 AND delivered_at IS NULL AND dead_at IS NULL
"""
TOLD: Final = "UPDATE iot.ngsi_subscription SET seen_at = $2, told_at = clock_timestamp() WHERE id = $1"
MESSAGE: Final = "INSERT INTO iot.outbox (target_id, message_id, body, urgency) VALUES ($1, $2, $3, 3)"


async def add(
    connection: asyncpg.Connection,
    said: Mapping[str, Any],
    *,
    allow_private: bool,
    household: bool,
    vault: Vault,
) -> tuple[str, str]:
    """Add a subscription; give its id and, this once, what its notifications are signed with.

    Raises RequestError for an endpoint that must not be reached.
    """
    url = parse_url(said["notification"]["endpoint"]["uri"])
    await check_reachable(url.host or "", url.port or 0, allow_private=allow_private)
    made = said.get("id") or f"urn:ngsi-ld:Subscription:{uuid.uuid4()}"
    key = f"ngsi-{uuid.uuid4().hex[:20]}"
    secret = new_secret()
    target = await connection.fetchval(TARGET, key, str(url), vault.seal_text(secret, sealed_as(key)))
    await connection.execute(ADD, made, target, dict(said), household)
    return str(made), secret


async def list_(connection: asyncpg.Connection, id_: str | None = None) -> Sequence[asyncpg.Record]:
    """List subscriptions, or give one. Raises NotFoundError."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(LIST, id_)
    if id_ is not None and not rows:
        raise NotFoundError("ngsi.not_found", id=id_)
    return rows


async def remove(connection: asyncpg.Connection, id_: str) -> None:
    """Remove a subscription; what waits for it is given up. Raises NotFoundError."""
    target = await connection.fetchval("DELETE FROM iot.ngsi_subscription WHERE id = $1 RETURNING target_id", id_)
    if target is None:
        raise NotFoundError("ngsi.not_found", id=id_)
    await connection.execute("UPDATE iot.push_target SET removed_at = now() WHERE id = $1", target)
    await connection.execute(
        "UPDATE iot.outbox SET dead_at = clock_timestamp(), last_error = 'removed'"
        " WHERE target_id = $1 AND delivered_at IS NULL AND dead_at IS NULL",
        target,
    )


async def due(connection: asyncpg.Connection) -> Sequence[asyncpg.Record]:
    """Lock the subscriptions that may be told something now, for this transaction."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(DUE)
    return [row for row in rows if await connection.fetchval(WAITING, row["target_id"]) < MOST_WAITING]


async def notify(
    connection: asyncpg.Connection, row: asyncpg.Record, data: Sequence[Mapping[str, Any]], seen_at: datetime
) -> None:
    """Put a notification (5.8.6) into the outbox, and remember how far it went."""
    body = {
        "id": f"urn:ngsi-ld:Notification:{uuid.uuid4()}",
        "type": "Notification",
        "subscriptionId": row["id"],
        "notifiedAt": seen_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": list(data),
    }
    await connection.execute(MESSAGE, row["target_id"], new_message_id(), body)
    await connection.execute(TOLD, row["id"], seen_at)


def shown(row: asyncpg.Record) -> dict[str, Any]:
    """Write a subscription as it is answered."""
    body = {name: value for name, value in row["body"].items() if value not in (None, [], ())}
    body["entities"] = [{name: value for name, value in each.items() if value is not None} for each in body["entities"]]
    notification = {
        **body["notification"], "endpoint": {**body["notification"]["endpoint"], "uri": shown_url(row["url"])},
        "status": "failed" if row["failing"] else "ok", "timesSent": row["sent"],
    }  # fmt: skip
    if row["succeeded_at"] is not None:
        notification["lastSuccess"] = row["succeeded_at"].isoformat().replace("+00:00", "Z")
    return {**body, "id": row["id"], "type": "Subscription", "notification": notification, "status": "active"}
