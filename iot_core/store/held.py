"""`held_uplink`: what could not be used, kept once with its reason, bounded by number, size and age."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.model import Problem, Uplink

MOST_PARTS: Final = 50
"""Rows kept of one message: an array of thousands of elements that are all wrong in one way is one fact."""

KEEP = """
INSERT INTO iot.held_uplink (
    received_at, driver, address, topic, kind, content_format, payload, registers, retained,
    unit_id, device_id, reason, detail, part, message, problem)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::bytea[], $8::jsonb[],
    $9::boolean[], $10::integer[], $11::integer[], $12::text[], $13::text[], $14::jsonb[], $15::bytea[], $16::bytea[])
ON CONFLICT (message, problem) DO NOTHING
"""
TOO_OLD_OR_MANY = """
DELETE FROM iot.held_uplink
WHERE received_at < now() - $1::interval
   OR id <= (SELECT id FROM iot.held_uplink ORDER BY id DESC OFFSET $2 LIMIT 1)
"""
SIZE = "SELECT pg_total_relation_size('iot.held_uplink')"
# What is TOASTed is not read for its length. 300: a row without what was said, with its index entries.
TOO_LARGE = """
DELETE FROM iot.held_uplink WHERE id <= (
    SELECT max(id) FROM (
        SELECT id, sum(300 + coalesce(octet_length(payload), 0) + coalesce(pg_column_size(part), 0)
            + coalesce(pg_column_size(registers), 0)) OVER (ORDER BY id DESC) AS above FROM iot.held_uplink
    ) kept WHERE above > $1
)
"""


@dataclass(frozen=True, slots=True)
class Held:
    """One row to keep: the uplink whole, and what in it was wrong.

    `once` tells that the message says its own time or number, so that the same bytes are the same message again.
    """

    uplink: Uplink
    problem: Problem
    unit_id: int | None = None
    device_id: int | None = None
    once: bool = False


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
        retained=row["retained"],
        received_at=row["received_at"],
    )


async def keep(connection: asyncpg.Connection, rows: Sequence[Held]) -> None:
    """Keep held uplinks, inside the caller's transaction. What is held already is not held again."""
    records = [_record(row) for row in _bounded(rows)]
    await connection.execute(KEEP, *(list(column) for column in zip(*records, strict=True)))


async def trim(connection: asyncpg.Connection, *, rows: int, days: int, megabytes: int) -> int:
    """Drop what is too old or too much, the oldest first, and say how many."""
    dropped = _count(await connection.execute(TOO_OLD_OR_MANY, timedelta(days=days), rows))
    if await connection.fetchval(SIZE) > megabytes * 1024 * 1024:
        dropped += _count(await connection.execute(TOO_LARGE, megabytes * 1024 * 1024))
    return dropped


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


def _bounded(rows: Iterable[Held]) -> Iterable[Held]:
    """Leave out parts of a message beyond the most; the last one kept says how many they are."""
    by_uplink: dict[int, list[Held]] = {}
    for row in rows:
        by_uplink.setdefault(id(row.uplink), []).append(row)
    for mine in by_uplink.values():
        if len(mine) > MOST_PARTS:
            last = mine[MOST_PARTS - 1]
            more = f"and {len(mine) - MOST_PARTS} parts more"
            mine[MOST_PARTS - 1 :] = [
                replace(last, problem=replace(last.problem, detail=f"{last.problem.detail}; {more}"))
            ]
        yield from mine


def _record(row: Held) -> tuple[Any, ...]:
    uplink, problem = row.uplink, row.problem
    device_id = problem.device_id if problem.device_id is not None else row.device_id
    detail, part = _text(problem.detail)[:2000], storable(problem.part)
    plain = msgspec.to_builtins(part, str_keys=True)  # keys of CBOR may be numbers, which have no order beside texts
    wrong = _digest(8, problem.reason.value, detail, msgspec.json.encode(plain, order="deterministic"), device_id)
    return (
        uplink.received_at, uplink.driver, _text(uplink.address), _text(uplink.topic), uplink.kind,
        uplink.content_format, uplink.payload, _registers(uplink), uplink.retained,
        row.unit_id, device_id, problem.reason.value, detail, part,
        message_digest(uplink, once=row.once), wrong,
    )  # fmt: skip


def message_digest(uplink: Uplink, *, once: bool) -> bytes:
    """Tell a message by what it says, and by its arrival too where two may say the same."""
    arrival = "" if once else uplink.received_at.isoformat()
    said = uplink.payload or msgspec.json.encode(_registers(uplink))
    return _digest(16, uplink.driver, uplink.address, uplink.topic, uplink.kind, arrival, said)


def _digest(size: int, *parts: object) -> bytes:
    made = blake2b(digest_size=size)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "replace")
        made.update(len(data).to_bytes(4, "big") + data)
    return made.digest()


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
