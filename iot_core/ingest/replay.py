"""Run held uplinks through the path again: when a sender was registered, or a profile mended.

An accepted sender's uplinks are stored as if they came now. A replay that a person asks for replaces what is stored,
as a correction does; a `seq` on record never drops it, and it may be older than the class's window. What is still
wrong is held again, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from iot_core.ingest.flush import Flush
from iot_core.ingest.prepare import Prepare, Work
from iot_core.model import Reason
from iot_core.store.connection import AWAY, RETRY
from iot_core.store.held import uplink_of

_CHUNK: Final = 500
_TRIES: Final = 5

WAITING = """
SELECT * FROM iot.held_uplink WHERE address = $1 AND reason = 'unknown_address' AND id > $2 AND id <= $3
ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
"""
FORGET = "DELETE FROM iot.held_uplink WHERE id = ANY($1)"

# Strangers' uplinks wait for acceptance, and whoever had a revoked secret may have been anybody: both are
# replayed only when asked for by their reason or number.
MATCHING = """
id > $1 AND id <= $2 AND ($3::integer IS NULL OR device_id = $3) AND ($4::bigint[] IS NULL OR id = ANY($4))
AND CASE WHEN $5::text IS NULL THEN $4 IS NOT NULL OR reason NOT IN ('unknown_address', 'revoked') ELSE reason = $5 END
"""
CHOSEN = f"SELECT id, message FROM iot.held_uplink WHERE {MATCHING} ORDER BY id LIMIT $6"
COUNT = f"""
SELECT reason, count(*) AS parts, count(DISTINCT message) AS uplinks FROM iot.held_uplink WHERE {MATCHING}
GROUP BY reason ORDER BY reason
"""
TAKE = "DELETE FROM iot.held_uplink WHERE message = ANY($1) AND id <= $2 RETURNING *"
NEWEST = "SELECT coalesce(max(id), 0) FROM iot.held_uplink"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which held rows are meant: all that fit what is given, with ids up to `until`."""

    until: int
    device_id: int | None = None
    reason: Reason | None = None
    ids: Sequence[int] | None = None

    def arguments(self, after: int) -> tuple[Any, ...]:
        """Give the parameters of MATCHING."""
        ids = None if self.ids is None else list(self.ids)
        return after, self.until, self.device_id, ids, self.reason.value if self.reason else None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a step of a replay did; `last` is where the next one goes on, None when nothing is left."""

    uplinks: int
    stored: int
    held: int
    last: int | None


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


async def select(pool: asyncpg.Pool, **wanted: Any) -> Selection:
    """Choose among what is held now: what a replay holds again is never its own next step."""
    return Selection(until=await pool.fetchval(NEWEST), **wanted)


async def preview(connection: asyncpg.Connection, selection: Selection) -> dict[Reason, tuple[int, int]]:
    """Count what a replay would take, by reason: parts, and the uplinks that they are of."""
    rows = await connection.fetch(COUNT, *selection.arguments(0))
    return {Reason(row["reason"]): (row["parts"], row["uplinks"]) for row in rows}


async def replay_step(
    pool: asyncpg.Pool, prepare: Prepare, flush: Flush, selection: Selection, after: int = 0
) -> Replayed:
    """Replay the next uplinks of a selection, whole, with every part that is held of them; in one transaction."""
    async with pool.acquire() as connection:
        chosen = await connection.fetch(CHOSEN, *selection.arguments(after), _CHUNK)
    if not chosen:
        return Replayed(0, 0, 0, None)
    messages = list(dict.fromkeys(row["message"] for row in chosen))
    works = await _replay(pool, prepare, flush, messages, selection.until)
    return Replayed(
        len(works),
        sum(len(work.observations) for work in works),
        sum(len(work.problems) for work in works),
        chosen[-1]["id"] if len(chosen) == _CHUNK else None,
    )


async def _replay(
    pool: asyncpg.Pool, prepare: Prepare, flush: Flush, messages: Sequence[bytes], until: int
) -> list[Work]:
    """Replay messages together; where the database refuses them for their data, halve them down to the one it means."""
    for attempt in range(1, _TRIES + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                works = await _take(connection, prepare, messages, until)
                await flush(connection, works, now=datetime.now(UTC))
        except RETRY:
            if attempt == _TRIES:
                raise
        except AWAY:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the database says of one must not stop the others
            if len(messages) > 1:
                half = len(messages) // 2
                first = await _replay(pool, prepare, flush, messages[:half], until)
                return first + await _replay(pool, prepare, flush, messages[half:], until)
            async with pool.acquire() as connection, connection.transaction():
                (work,) = await _take(connection, prepare, messages, until)
                await flush.hold_whole(connection, work, f"{type(exc).__name__}: {exc}")
            return [work]
        else:
            return works
    raise AssertionError("unreachable")


async def _take(connection: asyncpg.Connection, prepare: Prepare, messages: Sequence[bytes], until: int) -> list[Work]:
    """Take messages out of the held ones, each once, in the order they arrived."""
    first: dict[bytes, Any] = {}
    for row in sorted(await connection.fetch(TAKE, list(messages), until), key=lambda row: int(row["id"])):
        first.setdefault(row["message"], row)
    return [prepare(uplink_of(row), replay=True) for row in first.values()]
