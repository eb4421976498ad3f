"""Senders that nobody registered, and uplinks that could not be used."""

from typing import Any, Final

import asyncpg

from iot_core.api import shapes
from iot_core.api.routes import Call, NoQuery, get
from iot_core.messages import text
from iot_core.registry.found import short

_SHOWN: Final = 2_000
_SENDERS: Final = 1_000

# Not the view iot.inbox, which gathers every payload of a sender to show the last one.
_INBOX: Final = f"""
WITH sender AS (
    SELECT address, count(*) AS messages, min(received_at) AS first_at, max(received_at) AS last_at, max(id) AS last_id
    FROM iot.held_uplink WHERE reason = 'unknown_address' GROUP BY address ORDER BY max(id) DESC LIMIT $1
)
SELECT sender.*, h.driver, h.topic, substring(h.payload FROM 1 FOR {_SHOWN}) AS payload, h.registers
FROM sender JOIN iot.held_uplink h ON h.id = sender.last_id ORDER BY h.id DESC
"""
_HELD: Final = f"""
SELECT h.id, h.received_at, d.key AS device, h.driver, h.address, h.topic, h.kind, h.reason, h.detail, h.part,
    substring(h.payload FROM 1 FOR {_SHOWN}) AS payload, h.registers
FROM iot.held_uplink h LEFT JOIN iot.device d ON d.id = h.device_id
WHERE ($1::integer IS NULL OR h.device_id = $1) ORDER BY h.id DESC LIMIT $2
"""
_COUNT: Final = "SELECT count(*) FROM iot.held_uplink WHERE $1::integer IS NULL OR device_id = $1"


async def inbox(call: Call[NoQuery]) -> shapes.Inbox:
    """List senders that nobody registered, the one heard last first."""
    async with call.connection() as connection:
        rows = await connection.fetch(_INBOX, _SENDERS)
    return shapes.Inbox(items=tuple(_sender(row) for row in rows))


async def held(call: Call[shapes.HeldQuery]) -> shapes.HeldList:
    """List held uplinks, or parts of them, the newest first; `total` counts all that match."""
    limit = call.query.limit
    async with call.connection() as connection:
        device = await short(connection, call.query.device) if call.query.device is not None else None
        wanted = device.id if device else None
        rows = await connection.fetch(_HELD, wanted, limit)
        total = len(rows) if len(rows) < limit else await connection.fetchval(_COUNT, wanted)
    return shapes.HeldList(items=tuple(_held(row, call.lang) for row in rows), total=total)


def _sender(row: asyncpg.Record) -> shapes.Sender:
    return shapes.Sender(
        address=row["address"],
        driver=row["driver"],
        messages=row["messages"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        topic=row["topic"],
        payload=_shown(row["payload"]),
        registers=row["registers"],
    )


def _held(row: asyncpg.Record, lang: str) -> shapes.Held:
    facts: dict[str, Any] = {**row, "payload": _shown(row["payload"])}
    return shapes.Held(**facts, said=text(f"held.{row['reason']}", lang, detail=row["detail"]))


def _shown(payload: bytes | None) -> str:
    """Show the beginning of a payload: as text if it is some, else in hexadecimal."""
    begin = payload or b""
    try:
        return begin.decode()
    except UnicodeDecodeError as exc:
        cut = len(begin) == _SHOWN and exc.start > len(begin) - 4
        return begin[: exc.start].decode() if cut else begin.hex(" ")


routes = (get("/inbox", inbox), get("/held", held))
