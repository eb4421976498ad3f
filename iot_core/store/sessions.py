"""What drivers must know of their sessions after a restart, and the uplinks that are held until one is complete.

A driver writes and reads its own form; nobody else looks into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from iot_core.errors import StoreUnavailable
from iot_core.store.connection import AWAY
from iot_core.store.held import uplink_of

if TYPE_CHECKING:
    import asyncpg

    from iot_core.model import Uplink

__all__ = ["StoredSessions"]

_RECALL: Final = "SELECT address, state FROM iot.driver_session WHERE address = $1 OR address ^@ ($1 || '/')"
_REMEMBER: Final = """
INSERT INTO iot.driver_session (address, state) SELECT * FROM unnest($1::text[], $2::bytea[])
ON CONFLICT (address) DO UPDATE SET state = excluded.state, changed_at = now()
"""
_CHUNK: Final = 500
# One row of each message; those of strangers wait for it too. Written twice, each time as one index has it.
_WAITING: Final = """
SELECT * FROM (
    SELECT DISTINCT ON (message) * FROM iot.held_uplink
    WHERE (address = $1 AND reason = 'no_birth' AND received_at > $2)
        OR (address = $1 AND reason = 'unknown_address' AND received_at > $2)
    ORDER BY message, id
) waiting WHERE id > $3 ORDER BY id LIMIT $4
"""
_MEND: Final = "UPDATE iot.held_uplink SET payload = $2 WHERE message = $1"
_LET_GO: Final = "DELETE FROM iot.held_uplink WHERE message = $1"


class StoredSessions:
    """What drivers see of it (driver.Sessions)."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def recall(self, address: str) -> Mapping[str, bytes]:
        """Give what was remembered of an address and of those below it (`ADDRESS/...`). Raises StoreUnavailable."""
        try:
            return {row["address"]: row["state"] for row in await self._pool.fetch(_RECALL, address)}
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc

    async def remember(self, states: Mapping[str, bytes]) -> None:
        """Remember states by address, in place of those before. Raises StoreUnavailable."""
        addresses = sorted(states)
        await self._execute(_REMEMBER, addresses, [states[each] for each in addresses])

    async def waiting(self, address: str, since: datetime, after: int) -> Sequence[tuple[int, bytes, Uplink]]:
        """Give some of the uplinks that are held of an address until it is born: number, mark and message.

        Received after `since`, with a number above `after`, the oldest first; none when there are no more. Raises
        StoreUnavailable.
        """
        try:
            rows = await self._pool.fetch(_WAITING, address, since, after, _CHUNK)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        return [(row["id"], row["message"], uplink_of(row)) for row in rows]

    async def mend(self, mark: bytes, payload: bytes) -> None:
        """Hold a message with this payload in place of the one that it came with. Raises StoreUnavailable."""
        await self._execute(_MEND, mark, payload)

    async def let_go(self, mark: bytes) -> None:
        """Hold a message no longer: it went through the path again. Raises StoreUnavailable."""
        await self._execute(_LET_GO, mark)

    async def _execute(self, statement: str, *arguments: object) -> None:
        try:
            await self._pool.execute(statement, *arguments)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
