"""Run held uplinks through the path again: when a sender was registered, or a profile mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.ingest.flush import Flush
from iot_core.ingest.prepare import Prepare
from iot_core.model import Uplink

_CHUNK: Final = 500

WAITING = """
SELECT id, received_at, driver, address, topic, kind, content_format, payload, registers FROM iot.held_uplink
WHERE address = $1 AND reason = 'unknown_address' AND id > $2 AND id <= $3
ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
"""
FORGET = "DELETE FROM iot.held_uplink WHERE id = ANY($1)"


async def replay_address(pool: asyncpg.Pool, prepare: Prepare, flush: Flush, address: str) -> int:
    """Store what a sender said before it was registered; its rows leave the inbox. Returns how many uplinks."""
    done = last = 0
    # What is held again meanwhile (the device may have gone) gets a higher id and waits for another time.
    newest = await pool.fetchval("SELECT max(id) FROM iot.held_uplink WHERE address = $1", address)
    while True:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(WAITING, address, last, newest, _CHUNK)
            if not rows:
                return done
            last = rows[-1]["id"]
            await connection.execute(FORGET, [row["id"] for row in rows])
            await flush(connection, [prepare(uplink_of(row)) for row in rows], now=datetime.now(UTC))
        done += len(rows)


def uplink_of(row: Any) -> Uplink:
    """Make the uplink again that a held row keeps, with its own time of arrival."""
    return Uplink(
        driver=row["driver"],
        address=row["address"],
        topic=row["topic"],
        kind=row["kind"],
        payload=row["payload"] or b"",
        registers=row["registers"],
        content_format=row["content_format"],
        received_at=row["received_at"],
    )
