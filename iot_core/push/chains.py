"""Escalation chains and holidays as rows: add, list, remove; start a chain with the alarm that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Final

import asyncpg

from iot_core import hours as hours_
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import Severity, is_key
from iot_core.push.chain import Chain
from iot_core.push.targets import AREAS_UNKNOWN

_COLUMNS: Final = "key, steps, repeat_s, remind, min_severity, classes, areas, hours, accepts_simulated, created_at"
ADD: Final = """
INSERT INTO iot.escalation_chain (key, steps, repeat_s, remind, min_severity, classes, areas, hours, accepts_simulated)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id
"""
LIST: Final = f"SELECT {_COLUMNS} FROM iot.escalation_chain WHERE removed_at IS NULL ORDER BY key"
REMOVE: Final = """
UPDATE iot.escalation_chain SET removed_at = now() WHERE key = $1 AND removed_at IS NULL RETURNING id
"""
END: Final = "DELETE FROM iot.escalation WHERE chain_id = $1"
UNKNOWN: Final = """
SELECT key FROM unnest($1::text[]) AS key
WHERE NOT EXISTS (SELECT FROM iot.push_target t WHERE t.key = key.key AND t.removed_at IS NULL) LIMIT 1
"""
HOLIDAYS: Final = "SELECT day, name FROM iot.holiday ORDER BY day"
HOLIDAY: Final = """
INSERT INTO iot.holiday (day, name) VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET name = excluded.name
"""


async def add(
    connection: asyncpg.Connection,
    key: str,
    chain: Chain,
    *,
    min_severity: Severity,
    classes: Sequence[str] = (),
    areas: Sequence[str] = (),
    hours: str = "",
    accepts_simulated: bool = False,
) -> None:
    """Add a chain. Raises RequestError, NotFoundError for a target or area that is not there, ConflictError."""
    if not is_key(key):
        raise RequestError("push.bad_key", key=key)
    hours_.parse(hours)
    if (unknown := await connection.fetchval(UNKNOWN, [step.target for step in chain.steps])) is not None:
        raise NotFoundError("push.not_found", key=unknown)
    if (unknown := await connection.fetchval(AREAS_UNKNOWN, list(areas))) is not None:
        raise NotFoundError("registry.no_area", key=unknown)
    steps = [asdict(step) for step in chain.steps]
    added = await connection.fetchval(
        ADD, key, steps, chain.repeat_s, list(chain.remind), min_severity, list(classes), list(areas), hours,
        accepts_simulated,
    )  # fmt: skip
    if added is None:
        raise ConflictError("chain.exists", key=key)


async def list_(connection: asyncpg.Connection) -> Sequence[asyncpg.Record]:
    """List the chains."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(LIST)
    return rows


async def remove(connection: asyncpg.Connection, key: str) -> None:
    """Remove a chain; alarms that are on it are told to nobody further. Raises NotFoundError."""
    removed = await connection.fetchval(REMOVE, key)
    if removed is None:
        raise NotFoundError("chain.not_found", key=key)
    await connection.execute(END, removed)


async def holidays(connection: asyncpg.Connection) -> Sequence[asyncpg.Record]:
    """List the days that count as holidays."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(HOLIDAYS)
    return rows


async def add_holiday(connection: asyncpg.Connection, day: date, name: str) -> None:
    """Note a holiday, or its other name."""
    await connection.execute(HOLIDAY, day, name)


async def remove_holiday(connection: asyncpg.Connection, day: date) -> None:
    """Forget a holiday. Raises NotFoundError."""
    if await connection.execute("DELETE FROM iot.holiday WHERE day = $1", day) == "DELETE 0":
        raise NotFoundError("chain.no_holiday", day=day.isoformat())
