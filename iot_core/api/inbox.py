"""Senders that nobody registered."""

from typing import Final

import asyncpg

from iot_core.api import shapes
from iot_core.api.routes import Call, NoQuery, get

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


async def inbox(call: Call[NoQuery]) -> shapes.Inbox:
    """List senders that nobody registered, the one heard last first."""
    async with call.connection() as connection:
        rows = await connection.fetch(_INBOX, _SENDERS)
    return shapes.Inbox(items=tuple(_sender(row) for row in rows))


def _sender(row: asyncpg.Record) -> shapes.Sender:
    return shapes.Sender(
        address=row["address"],
        driver=row["driver"],
        messages=row["messages"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        topic=row["topic"],
        payload=shown(row["payload"]),
        registers=row["registers"],
    )


def shown(payload: bytes | None) -> str:
    """Show the beginning of a payload: as text if it is some, else in hexadecimal."""
    begin = payload or b""
    try:
        return begin.decode()
    except UnicodeDecodeError as exc:
        cut = len(begin) == _SHOWN and exc.start > len(begin) - 4
        return begin[: exc.start].decode() if cut else begin.hex(" ")


routes = (get("/inbox", inbox),)
