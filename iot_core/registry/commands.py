"""Commands in their table: an order and its commands, and every step of their lives.

    queued --claim--> (a driver sends it) --> sent --> delivered --> succeeded | failed
       |                    '-- unreachable: queued again, later        |
       '------------------------- expired <-----------------------------'   nothing showed it done in time

A step is taken only forward, whatever order the words come in: a device may answer before we have noted that we sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError
from iot_core.model import Command
from iot_core.registry.audit import Change, record

__all__ = [
    "CHANNEL", "Claimed", "CommandRow", "New", "Open", "Order", "Step", "cancel", "claim", "close", "confirm", "create",
    "fetch", "get", "get_order", "list_commands", "note", "open_by_reading", "ready", "until_next",
]  # fmt: skip

CHANNEL: Final = "iot_command"
_CLAIMED: Final = timedelta(seconds=30)
"""A core that has not said by then what became of a command has died with it."""

_ORDER: Final = """
INSERT INTO iot.command_order
    (name, params, selector, by, source, idempotency_key, rate, stop_after, second_person, by_user)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id
"""
_SAME: Final = "SELECT id, name, params FROM iot.command_order WHERE by = $1 AND idempotency_key = $2"
_COMMANDS: Final = """
INSERT INTO iot.command (order_id, device_id, wanted, expires_at, settle_at, presence, again, most_tries, problem,
    state, ended_at)
SELECT $1::bigint, each.device_id, each.wanted, $2::timestamptz, $2::timestamptz + each.grace, each.presence, $3, $4,
    each.problem,
    CASE WHEN each.problem IS NULL THEN 'queued' ELSE 'failed' END,
    CASE WHEN each.problem IS NULL THEN NULL ELSE clock_timestamp() END
FROM unnest($5::integer[], $6::jsonb[], $7::interval[], $8::boolean[], $9::jsonb[])
    AS each (device_id, wanted, grace, presence, problem)
RETURNING id
"""
_READY: Final = """
SELECT o.id, o.rate, count(*) AS commands FROM iot.command c JOIN iot.command_order o ON o.id = c.order_id
LEFT JOIN iot.device_status s ON s.device_id = c.device_id
WHERE c.ended_at IS NULL AND c.next_at <= now() AND c.expires_at > now()
    AND (c.trying_until IS NULL OR c.trying_until < now())
    AND (c.state = 'queued' OR c.state = 'sent' AND c.presence)
    AND o.stopped_at IS NULL AND (NOT o.second_person OR o.confirmed_at IS NOT NULL)
    AND (NOT c.presence OR s.online)
GROUP BY o.id ORDER BY o.id
"""
_CLAIM: Final = """
WITH due AS (
    SELECT c.id FROM iot.command c LEFT JOIN iot.device_status s ON s.device_id = c.device_id
    WHERE c.order_id = $1 AND c.ended_at IS NULL AND c.next_at <= now() AND c.expires_at > now()
        AND (c.trying_until IS NULL OR c.trying_until < now())
        AND (c.state = 'queued' OR c.state = 'sent' AND c.presence) AND (NOT c.presence OR s.online)
    ORDER BY c.id LIMIT $2 FOR UPDATE OF c SKIP LOCKED
), taken AS (
    UPDATE iot.command c SET tries = tries + 1, trying_until = clock_timestamp() + $3
    FROM due WHERE c.id = due.id
    RETURNING c.id, c.order_id, c.device_id, c.expires_at, c.tries, c.most_tries, c.again, c.presence
)
SELECT taken.id, d.key AS device_key, o.name, o.params, o.source, taken.expires_at, taken.tries, taken.most_tries,
    taken.again, taken.presence
FROM taken JOIN iot.command_order o ON o.id = taken.order_id JOIN iot.device d ON d.id = taken.device_id
ORDER BY taken.id
"""
# The first column that orders the states decides: nothing goes back. `at` of a step is when it was first true.
# That a new secret arrived is the device's word; that it took over is shown by the secret itself (pending.py).
_NOTE: Final = """
UPDATE iot.command c SET
    state = CASE WHEN c.state = 'expired' AND step.state IN ('succeeded', 'failed') THEN step.state
        WHEN c.ended_at IS NOT NULL OR array_position($7::text[], step.state) < array_position($7::text[], c.state)
        THEN c.state ELSE step.state END,
    sent_at = CASE WHEN step.state IN ('queued', 'failed') AND NOT step.said THEN c.sent_at
        ELSE coalesce(c.sent_at, step.began) END,
    delivered_at = CASE WHEN step.state IN ('delivered', 'succeeded') OR step.said
        THEN coalesce(c.delivered_at, step.at) ELSE c.delivered_at END,
    ended_at = CASE WHEN c.ended_at IS NOT NULL THEN c.ended_at
        WHEN step.state IN ('succeeded', 'failed') THEN step.at END,
    detail = CASE WHEN step.detail <> '' AND (c.ended_at IS NULL OR c.state = 'expired') THEN step.detail
        ELSE c.detail END,
    problem = CASE WHEN c.ended_at IS NULL OR c.state = 'expired' THEN step.problem ELSE c.problem END,
    next_at = coalesce(step.next_at, c.next_at),
    trying_until = CASE WHEN step.said THEN c.trying_until END
FROM (
    SELECT DISTINCT ON (each.id) each.id, each.detail, each.problem, each.at, each.next_at, each.said,
        CASE WHEN o.source = 'rotation' AND each.state = 'succeeded' THEN 'delivered' ELSE each.state END AS state,
        min(each.at) OVER (PARTITION BY each.id) AS began
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::timestamptz[],
        $8::boolean[], $9::text[]) AS each (id, state, detail, problem, at, next_at, said, device_key)
    JOIN iot.command asked ON asked.id = each.id JOIN iot.device d ON d.id = asked.device_id
    JOIN iot.command_order o ON o.id = asked.order_id
    WHERE each.device_key IN ('', d.key)
    ORDER BY each.id, array_position($7::text[], each.state) DESC
) step
WHERE c.id = step.id
RETURNING c.id
"""
# By a native device itself, which carries an id out once: what it asks for again, it is told again.
_FETCH: Final = """
WITH due AS (
    SELECT c.id FROM iot.command c JOIN iot.command_order o ON o.id = c.order_id JOIN iot.device d ON d.id = c.device_id
    WHERE d.key = $1 AND c.ended_at IS NULL AND c.presence AND c.state IN ('queued', 'sent') AND c.expires_at > now()
        AND o.stopped_at IS NULL AND (NOT o.second_person OR o.confirmed_at IS NOT NULL)
    ORDER BY c.id LIMIT $2 FOR UPDATE OF c
)
UPDATE iot.command c SET state = 'sent', sent_at = coalesce(c.sent_at, clock_timestamp()), tries = c.tries + 1,
    problem = NULL, trying_until = NULL
FROM due, iot.command_order o WHERE c.id = due.id AND o.id = c.order_id
RETURNING c.id, o.name, o.params, o.source, c.expires_at
"""
_STATES: Final = ["queued", "sent", "expired", "delivered", "failed", "succeeded"]
# What was being sent when its core died, and must not be sent blindly again.
_UNKNOWN: Final = """
UPDATE iot.command SET state = 'failed', ended_at = clock_timestamp(), trying_until = NULL,
    problem = '{"code": "command.outcome_unknown", "facts": {}}'
WHERE ended_at IS NULL AND state = 'queued' AND NOT again AND NOT presence AND trying_until < clock_timestamp()
RETURNING id
"""
_EXPIRE: Final = """
UPDATE iot.command SET state = 'expired', ended_at = clock_timestamp(), problem = CASE state
    WHEN 'queued' THEN coalesce(problem, '{"code": "command.never_sent", "facts": {}}')
    WHEN 'sent' THEN '{"code": "command.no_word", "facts": {}}'
    ELSE '{"code": "command.not_shown", "facts": {}}' END
WHERE ended_at IS NULL AND (state = 'queued' AND expires_at <= clock_timestamp()
    AND (trying_until IS NULL OR trying_until < clock_timestamp()) OR settle_at <= clock_timestamp())
RETURNING id
"""
_STOP: Final = """
UPDATE iot.command_order o SET stopped_at = clock_timestamp()
WHERE o.stop_after IS NOT NULL AND o.stopped_at IS NULL
    AND EXISTS (SELECT FROM iot.command c WHERE c.order_id = o.id AND c.ended_at IS NULL)
    AND (SELECT count(*) FROM iot.command c WHERE c.order_id = o.id AND c.state IN ('failed', 'expired'))
        >= o.stop_after
RETURNING o.id
"""
_STOPPED: Final = """
UPDATE iot.command c SET state = 'failed', ended_at = clock_timestamp(),
    problem = '{"code": "command.stopped", "facts": {}}'
FROM iot.command_order o WHERE o.id = c.order_id AND o.stopped_at IS NOT NULL AND c.ended_at IS NULL
    AND c.state = 'queued' AND (c.trying_until IS NULL OR c.trying_until < clock_timestamp()) AND o.id = ANY($1)
RETURNING c.id
"""
# One that waits for a second person is not due: the confirmation wakes the sender. Nor is one whose device is away: the
# sender looks each second who came back.
_NEXT: Final = """
SELECT min(CASE
    WHEN c.state = 'queued' AND o.second_person AND o.confirmed_at IS NULL THEN c.expires_at
    WHEN c.state = 'queued' AND c.presence AND s.online IS NOT TRUE THEN c.expires_at
    WHEN c.state = 'queued' THEN least(greatest(c.next_at, c.trying_until), c.expires_at)
    ELSE least(c.settle_at, CASE WHEN c.presence AND c.state = 'sent' AND s.online THEN c.next_at END) END)
    - clock_timestamp()
FROM iot.command c JOIN iot.command_order o ON o.id = c.order_id
LEFT JOIN iot.device_status s ON s.device_id = c.device_id WHERE c.ended_at IS NULL
"""
_BY_READING: Final = """
SELECT c.id, c.device_id, d.class_key, c.sent_at, c.wanted FROM iot.command c JOIN iot.device d ON d.id = c.device_id
JOIN iot.device_status s ON s.device_id = c.device_id
WHERE c.ended_at IS NULL AND c.wanted IS NOT NULL AND c.sent_at IS NOT NULL AND s.last_received_at > c.sent_at
ORDER BY c.id LIMIT 5000
"""
_CANCEL: Final = """
UPDATE iot.command c SET state = 'failed', ended_at = clock_timestamp(),
    problem = jsonb_build_object('code', 'command.cancelled', 'facts', jsonb_build_object('by', $2::text))
WHERE c.id = ANY($1::bigint[]) AND c.ended_at IS NULL AND c.state = 'queued'
    AND (c.trying_until IS NULL OR c.trying_until < clock_timestamp())
RETURNING c.id
"""
_CONFIRM: Final = """
UPDATE iot.command_order SET confirmed_by = $2, confirmed_at = clock_timestamp()
WHERE id = $1 AND second_person AND confirmed_at IS NULL
"""
_ORDERED: Final = "SELECT by, by_user, second_person FROM iot.command_order WHERE id = $1"
_SELECT: Final = """
SELECT c.id, c.order_id, d.key AS device, d.name AS device_name, o.name, o.params, c.state, c.detail, c.problem, o.by,
    o.source, c.expires_at, c.tries, c.queued_at, c.sent_at, c.delivered_at, c.ended_at,
    o.second_person AND o.confirmed_at IS NULL AND c.ended_at IS NULL AS waits_for_second, o.confirmed_by
FROM iot.command c JOIN iot.command_order o ON o.id = c.order_id JOIN iot.device d ON d.id = c.device_id
"""
_LIST: Final = f"""{_SELECT}
WHERE ($1::text IS NULL OR d.key = $1) AND ($2::bigint IS NULL OR c.order_id = $2)
    AND ($3::text IS NULL OR c.state = $3) AND (NOT $4 OR c.ended_at IS NULL)
    AND ($6::integer[] IS NULL OR d.area_id = ANY($6)) AND ($7::bigint[] IS NULL OR c.id = ANY($7))
ORDER BY c.id DESC LIMIT $5
"""
_GET_ORDER: Final = """
SELECT o.id, o.name, o.params, o.selector, o.by, o.created_at, o.rate, o.stop_after, o.stopped_at, o.second_person,
    o.confirmed_by, o.confirmed_at, count(c.id) AS total,
    coalesce(jsonb_object_agg(c.state, c.n) FILTER (WHERE c.state IS NOT NULL), '{}') AS states
FROM iot.command_order o
LEFT JOIN LATERAL (
    SELECT state, count(*) AS n, min(id) AS id FROM iot.command WHERE order_id = o.id GROUP BY state
) c ON true
WHERE o.id = $1 GROUP BY o.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A command for one device. `wanted` is the reading that shows it done; `problem` says why it cannot be sent."""

    device_id: int
    wanted: Mapping[str, tuple[float, float]] | None = None
    grace: timedelta = timedelta(0)
    """How long after its time to live a word or a reading may still show it done."""
    presence: bool = False
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A command that this core sends now."""

    id: int
    device_key: str
    name: str
    params: Mapping[str, Any]
    source: str
    expires_at: datetime
    tries: int
    most_tries: int | None
    again: bool
    presence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of a command. `said` is the device's own word, and `device_key` then who said it."""

    id: int
    state: str
    at: datetime
    detail: str = ""
    problem: Mapping[str, Any] | None = None
    next_at: datetime | None = None
    said: bool = False
    device_key: str = ""
    proof: str = ""
    """What shows that it has the secret which it was sent."""


class Open(msgspec.Struct, frozen=True):
    """A command that a later reading can show done."""

    id: int
    device_id: int
    class_key: str
    sent_at: datetime
    wanted: dict[str, tuple[float, float]]


class CommandRow(msgspec.Struct, frozen=True, kw_only=True):
    """A command as people see it."""

    id: int
    order_id: int
    device: str
    device_name: str
    name: str
    params: dict[str, Any]
    state: str
    detail: str
    problem: dict[str, Any] | None
    by: str
    source: str
    expires_at: datetime
    tries: int
    queued_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    ended_at: datetime | None
    waits_for_second: bool
    confirmed_by: str | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and how many of its commands are in which state."""

    id: int
    name: str
    params: dict[str, Any]
    selector: str
    by: str
    created_at: datetime
    rate: float | None
    stop_after: int | None
    stopped_at: datetime | None
    second_person: bool
    confirmed_by: str | None
    confirmed_at: datetime | None
    states: dict[str, int]


async def create(
    connection: asyncpg.Connection,
    name: str,
    params: Mapping[str, Any],
    commands: Sequence[New],
    *,
    by: str,
    by_user: int | None = None,
    expires_at: datetime,
    selector: str = "",
    source: str = "person",
    again: bool = True,
    most_tries: int | None = None,
    rate: float | None = None,
    stop_after: int | None = None,
    second_person: bool = False,
    idempotency_key: str | None = None,
) -> tuple[int, bool]:
    """Keep an order and its commands; give its number, and whether it is new.

    With an idempotency key that this person used before it is the order of then. Raises ConflictError when that one
    asked for something else.
    """
    async with connection.transaction():
        number = await connection.fetchval(
            _ORDER, name, params, selector, by, source, idempotency_key, rate, stop_after, second_person, by_user
        )
        if number is None:
            same = await connection.fetchrow(_SAME, by, idempotency_key)
            if same is None or (same["name"], same["params"]) != (name, dict(params)):
                raise ConflictError("command.key_used", key=idempotency_key)
            return same["id"], False
        await connection.fetch(
            _COMMANDS, number, expires_at, again, most_tries,
            [each.device_id for each in commands], [each.wanted for each in commands],
            [each.grace for each in commands], [each.presence for each in commands],
            [each.problem for each in commands],
        )  # fmt: skip
        if source == "person":
            after = {"name": name, "params": dict(params), "devices": len(commands), "selector": selector}
            await record(connection, by, "command.send", Change(f"command-order/{number}", None, after))
    return number, True


async def ready(connection: asyncpg.Connection) -> list[tuple[int, float | None, int]]:
    """List orders that have commands to send now: number, rate, how many."""
    return [(row["id"], row["rate"], row["commands"]) for row in await connection.fetch(_READY)]


async def claim(connection: asyncpg.Connection, order_id: int, most: int) -> list[Claimed]:
    """Take commands of an order to send; they are ours until we say what became of them, or are found dead."""
    return [Claimed(**row) for row in await connection.fetch(_CLAIM, order_id, most, _CLAIMED)]


async def fetch(connection: asyncpg.Connection, device_key: str, most: int) -> list[tuple[Command, str]]:
    """Give a native device that asks for them its oldest open commands and whence they come; note that they left."""
    rows = await connection.fetch(_FETCH, device_key, most)
    return [
        (Command(id=row["id"], name=row["name"], params=row["params"], expires=row["expires_at"]), row["source"])
        for row in sorted(rows, key=lambda row: row["id"])
    ]


async def note(connection: asyncpg.Connection, steps: Sequence[Step]) -> list[int]:
    """Note what became of commands, each only forward; give the numbers of those that exist."""
    rows = await connection.fetch(
        _NOTE,
        [each.id for each in steps], [each.state for each in steps], [each.detail for each in steps],
        [each.problem for each in steps], [each.at for each in steps], [each.next_at for each in steps],
        _STATES, [each.said for each in steps], [each.device_key for each in steps],
    )  # fmt: skip
    return [row["id"] for row in rows]


async def close(connection: asyncpg.Connection) -> bool:
    """End what nobody waits for any more: expired, stopped with its order, lost with a core. Say whether any was."""
    ended = await connection.fetch(_UNKNOWN) + await connection.fetch(_EXPIRE)
    if stopped := [row["id"] for row in await connection.fetch(_STOP)]:
        ended += await connection.fetch(_STOPPED, stopped)
    return bool(ended)


async def until_next(connection: asyncpg.Connection) -> timedelta | None:
    """Say in how long something is due, None when nothing is open."""
    found: timedelta | None = await connection.fetchval(_NEXT)
    return found


async def open_by_reading(connection: asyncpg.Connection) -> list[Open]:
    """List sent commands that a reading can show done, of devices that were heard since."""
    return msgspec.convert([dict(row) for row in await connection.fetch(_BY_READING)], list[Open])


async def cancel(connection: asyncpg.Connection, ids: Sequence[int], *, by: str) -> list[int]:
    """Cancel what is not sent yet; give which. What has left cannot be called back."""
    async with connection.transaction():
        rows = await connection.fetch(_CANCEL, list(ids), by)
        if rows:
            changes = [Change(f"command/{row['id']}", {"state": "queued"}, {"state": "failed"}) for row in rows]
            await record(connection, by, "command.cancel", *changes)
    return [row["id"] for row in rows]


async def confirm(connection: asyncpg.Connection, order_id: int, *, by: str, by_user: int | None) -> None:
    """Confirm an order as the second person: another user than who ordered, whatever names and tokens they use.

    Raises NotFoundError, ConflictError for one's own, for nobody's (a program, the local command line) or one already
    done.
    """
    async with connection.transaction():
        found = await connection.fetchrow(_ORDERED, order_id)
        if found is None:
            raise NotFoundError("command.no_order", id=order_id)
        if not found["second_person"]:
            raise ConflictError("command.no_confirmation", order=order_id)
        if by_user is None:
            raise ConflictError("command.no_person", by=by)
        if found["by_user"] is None:
            raise ConflictError("command.whose", order=order_id)
        if found["by_user"] == by_user:
            raise ConflictError("command.own", order=order_id, by=found["by"])
        if await connection.execute(_CONFIRM, order_id, by) == "UPDATE 0":
            raise ConflictError("command.no_confirmation", order=order_id)
        await record(connection, by, "command.confirm", Change(f"command-order/{order_id}", None, {"by": by}))


async def list_commands(
    connection: asyncpg.Connection,
    *,
    device: str | None = None,
    order_id: int | None = None,
    state: str | None = None,
    open_only: bool = False,
    limit: int = 200,
    areas: Sequence[int] | None = None,
    ids: Sequence[int] | None = None,
) -> list[CommandRow]:
    """List commands, the newest first; `areas` (ids) narrows to what an asker may see."""
    rows = await connection.fetch(_LIST, device, order_id, state, open_only, limit, areas, ids)
    return msgspec.convert([dict(row) for row in rows], list[CommandRow])


async def get(connection: asyncpg.Connection, command_id: int) -> CommandRow:
    """Find a command. Raises NotFoundError."""
    found = await list_commands(connection, ids=[command_id])
    if not found:
        raise NotFoundError("command.not_found", id=command_id)
    return found[0]


async def get_order(connection: asyncpg.Connection, order_id: int) -> Order:
    """Find an order. Raises NotFoundError."""
    row = await connection.fetchrow(_GET_ORDER, order_id)
    if row is None:
        raise NotFoundError("command.no_order", id=order_id)
    return msgspec.convert(dict(row), Order)
