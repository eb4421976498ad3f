"""`held_uplink`: what could not be used, kept with its reason, bounded by size and age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec

from iot_core.model import Problem, Uplink

COLUMNS = (
    "received_at", "driver", "address", "topic", "kind", "content_format", "payload", "registers",
    "unit_id", "device_id", "reason", "detail", "part",
)  # fmt: skip

TRIM = """
DELETE FROM iot.held_uplink
WHERE received_at < now() - $1::interval
   OR id <= (SELECT id FROM iot.held_uplink ORDER BY id DESC OFFSET $2 LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Held:
    """One row to keep: the uplink whole, and what in it was wrong."""

    uplink: Uplink
    problem: Problem
    unit_id: int | None = None
    device_id: int | None = None


async def keep(connection: asyncpg.Connection, rows: Sequence[Held]) -> None:
    """Keep held uplinks, inside the caller's transaction."""
    await connection.copy_records_to_table(
        "held_uplink", schema_name="iot", columns=COLUMNS, records=[_record(row) for row in rows]
    )


async def trim(connection: asyncpg.Connection, *, rows: int, days: int) -> int:
    """Drop what is too old or too much, the oldest first, and say how many."""
    return int((await connection.execute(TRIM, timedelta(days=days), rows)).rpartition(" ")[2])


def _record(row: Held) -> tuple[Any, ...]:
    uplink, problem = row.uplink, row.problem
    return (
        uplink.received_at, uplink.driver, _text(uplink.address), _text(uplink.topic), uplink.kind,
        uplink.content_format, uplink.payload, _registers(uplink),
        row.unit_id, problem.device_id if problem.device_id is not None else row.device_id,
        problem.reason.value, _text(problem.detail)[:2000], storable(problem.part),
    )  # fmt: skip


def _registers(uplink: Uplink) -> dict[str, list[int]] | None:
    if uplink.registers is None:
        return None
    return {block: list(words) for block, words in uplink.registers.items()}


def _text(said: str) -> str:
    """Make a sender's text storable: PostgreSQL's text takes neither NUL nor lone surrogates."""
    return said.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def storable(part: object) -> Any:
    """Give `part` as jsonb can hold it; what cannot be is shown as text."""
    if part is None:
        return None
    try:
        encoded = msgspec.json.encode(part)
    except (TypeError, ValueError, UnicodeError, RecursionError):
        return _text(repr(part))[:2000]
    if b"\\u0000" in encoded or (b"null" in encoded and _has_odd_number(part)):
        return _text(repr(part))[:2000]
    return part


def _has_odd_number(part: object) -> bool:
    """Say whether a NaN or infinity hides in `part`: JSON would turn it into null and lose the reason."""
    if isinstance(part, float):
        return part != part or part in (float("inf"), float("-inf"))  # noqa: PLR0124 - NaN is what differs from itself
    if isinstance(part, dict):
        return any(_has_odd_number(value) for value in part.values())
    return isinstance(part, list | tuple) and any(_has_odd_number(value) for value in part)
