"""Campaigns: an image to many devices in rings, and how far each device is.

    ring 0 (canaries) --all ended, few failed--> ring 1 --> ring 2 --> done
          '-- too many failed --> paused (a person resumes it, stops it, or rolls it back)

An update runs for a device while its command `firmware` is open. The database allows one running update a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry.audit import Change, record
from iot_core.registry.firmware import Image, image
from iot_core.registry.selector import parse, where

__all__ = [
    "CHANNEL", "Campaign", "Plan", "Terms", "Update", "begin", "campaign", "campaigns", "note_command", "plan",
    "rings", "roll_back", "room", "settle", "take", "turn", "under_way", "updates", "waiting",
]  # fmt: skip

CHANNEL: Final = "iot_firmware"
_GROWTH: Final = 4
"""Each ring is so many times larger than the one before."""
_CAMPAIGN: Final = """
SELECT c.id, c.image_id, i.model, i.version, c.selector, c.base_url, c.state, c.reason,
    c.fail_share::numeric::float8 AS fail_share, c.rolls_back, c.by, c.created_at,
    coalesce(u.states, '{}') AS states, coalesce(u.ring, 0) AS ring, coalesce(u.rings, 0) AS rings
FROM iot.firmware_campaign c JOIN iot.firmware_image i ON i.id = c.image_id
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(state, n) AS states, max(top) + 1 AS rings,
        coalesce(min(low) FILTER (WHERE state IN ('waiting', 'running')), max(top)) AS ring
    FROM (SELECT state, count(*) AS n, max(ring) AS top, min(ring) AS low FROM iot.firmware_update
        WHERE campaign_id = c.id GROUP BY state) by_state
) u ON true
"""
# In an order that says nothing of where they stand: the canaries are a sample of all.
_DEVICES: Final = """
SELECT d.id, d.key, u.firmware FROM iot.device d JOIN iot.unit u ON u.device_id = d.id AND u.mounted_to IS NULL
WHERE d.retired_at IS NULL AND u.profile = $1 AND u.address LIKE 'iot:%' AND u.firmware IS DISTINCT FROM $2 AND {}
ORDER BY md5(d.key || $3::text)
"""
_ELSEWHERE: Final = """
SELECT d.key, u.campaign_id FROM iot.firmware_update u JOIN iot.firmware_campaign k ON k.id = u.campaign_id
JOIN iot.device d ON d.id = u.device_id
WHERE u.device_id = ANY($1) AND u.state IN ('waiting', 'running') AND k.state IN ('running', 'paused')
ORDER BY d.key LIMIT 1
"""
_ONE_AT_A_TIME: Final = "LOCK TABLE iot.firmware_campaign IN SHARE ROW EXCLUSIVE MODE"
"""Else two begun at the same moment would both find the same devices free."""
_NEW: Final = """
INSERT INTO iot.firmware_campaign (image_id, selector, base_url, fail_share, by, rolls_back)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
"""
_NEW_UPDATES: Final = """
INSERT INTO iot.firmware_update (campaign_id, device_id, ring, before) SELECT $1, * FROM unnest($2::integer[],
    $3::integer[], $4::text[])
"""
_WAITING: Final = """
SELECT u.device_id FROM iot.firmware_update u
WHERE u.campaign_id = $1 AND u.state = 'waiting' AND u.ring = (
    SELECT min(ring) FROM iot.firmware_update WHERE campaign_id = $1 AND state IN ('waiting', 'running')
) AND NOT EXISTS (SELECT FROM iot.firmware_update o WHERE o.device_id = u.device_id AND o.state = 'running')
ORDER BY u.device_id LIMIT $2
"""
_TAKE: Final = """
UPDATE iot.firmware_update SET state = 'running' WHERE campaign_id = $1 AND device_id = $2 AND state = 'waiting'
"""
# What waits for a device that is away costs nobody anything yet.
_BUSY: Final = """
SELECT count(*) FROM iot.firmware_update u JOIN iot.command c ON c.id = u.command_id
WHERE u.campaign_id = $1 AND u.state = 'running' AND c.state <> 'queued'
"""
# A device that says after its time that it did it has done it.
_SETTLE: Final = """
WITH ended AS (
    UPDATE iot.firmware_update u SET state = CASE c.state WHEN 'succeeded' THEN 'succeeded' ELSE 'failed' END,
        detail = coalesce(c.detail, ''), problem = c.problem, ended_at = coalesce(c.ended_at, now())
    FROM iot.firmware_update w LEFT JOIN iot.command c ON c.id = w.command_id
    WHERE (w.campaign_id, w.device_id) = (u.campaign_id, u.device_id)
        AND (u.state = 'running' AND (c.id IS NULL OR c.ended_at IS NOT NULL)
            OR u.state = 'failed' AND c.state = 'succeeded')
    RETURNING u.campaign_id, u.device_id, u.state
)
UPDATE iot.unit SET firmware = i.version FROM ended JOIN iot.firmware_campaign k ON k.id = ended.campaign_id
JOIN iot.firmware_image i ON i.id = k.image_id
WHERE unit.device_id = ended.device_id AND unit.mounted_to IS NULL AND unit.profile = i.model
    AND ended.state = 'succeeded'
"""
# A unit of another model was mounted meanwhile.
_OTHER_MODEL: Final = """
UPDATE iot.firmware_update u SET state = 'failed', ended_at = now(),
    problem = jsonb_build_object('code', 'firmware.other_model', 'facts', jsonb_build_object('model', i.model))
FROM iot.firmware_campaign k JOIN iot.firmware_image i ON i.id = k.image_id
WHERE k.id = u.campaign_id AND k.state = 'running' AND u.state = 'waiting' AND NOT EXISTS (
    SELECT FROM iot.unit WHERE device_id = u.device_id AND mounted_to IS NULL AND profile = i.model)
"""
_PAUSE_BAD: Final = """
UPDATE iot.firmware_campaign k SET state = 'paused', reason = 'failures' FROM (
    SELECT u.campaign_id, count(*) FILTER (WHERE u.state = 'failed') AS failed, count(*) AS total
    FROM iot.firmware_update u JOIN (
        SELECT b.campaign_id, coalesce(max(b.ring) FILTER (WHERE b.state <> 'waiting'), 0) AS ring
        FROM iot.firmware_update b JOIN iot.firmware_campaign r ON r.id = b.campaign_id AND r.state = 'running'
        GROUP BY b.campaign_id
    ) begun ON begun.campaign_id = u.campaign_id AND u.ring <= begun.ring
    GROUP BY u.campaign_id
) said WHERE said.campaign_id = k.id AND k.state = 'running' AND said.failed > k.fail_share::numeric * said.total
"""
# A device that was away when its turn came must not begin after somebody said stop.
_TAKE_BACK: Final = """
WITH back AS (
    UPDATE iot.command c SET state = 'failed', ended_at = clock_timestamp(),
        problem = jsonb_build_object('code', 'command.cancelled', 'facts', jsonb_build_object('by', k.by))
    FROM iot.firmware_update u JOIN iot.firmware_campaign k ON k.id = u.campaign_id
    WHERE c.id = u.command_id AND u.state = 'running' AND k.state IN ('paused', 'stopped') AND c.state = 'queued'
        AND c.ended_at IS NULL AND (c.trying_until IS NULL OR c.trying_until < clock_timestamp())
    RETURNING c.id
)
UPDATE iot.firmware_update u SET state = 'waiting', command_id = NULL FROM back WHERE u.command_id = back.id
"""
_DONE: Final = """
UPDATE iot.firmware_campaign k SET state = 'done', reason = '' WHERE state = 'running'
    AND NOT EXISTS (SELECT FROM iot.firmware_update WHERE campaign_id = k.id AND state IN ('waiting', 'running'))
"""
_UNDER_WAY: Final = """
SELECT EXISTS (SELECT FROM iot.firmware_campaign WHERE state = 'running')
    OR EXISTS (SELECT FROM iot.firmware_update WHERE state = 'running')
    OR EXISTS (SELECT FROM iot.firmware_update u JOIN iot.command c ON c.id = u.command_id
        WHERE u.state = 'failed' AND c.state = 'succeeded')
"""
_UPDATES: Final = """
SELECT d.key AS device, u.ring, u.state, u.before, u.command_id, c.state AS command_state, u.ended_at,
    CASE WHEN u.state = 'running' THEN coalesce(c.detail, '') ELSE u.detail END AS detail, u.problem
FROM iot.firmware_update u JOIN iot.device d ON d.id = u.device_id LEFT JOIN iot.command c ON c.id = u.command_id
WHERE u.campaign_id = $1 ORDER BY u.ring, d.key
"""
_TURN: Final = "UPDATE iot.firmware_campaign SET state = $2, reason = '' WHERE id = $1 AND state = ANY($3)"
_AGAIN: Final = """
UPDATE iot.firmware_update SET state = 'waiting', command_id = NULL, problem = NULL, detail = '', ended_at = NULL
WHERE campaign_id = $1 AND state = 'failed'
"""
# One that is under way is taken back as soon as it has ended.
_TO_ROLL_BACK: Final = """
SELECT u.device_id, d.key, i.id AS image_id FROM iot.firmware_update u JOIN iot.device d ON d.id = u.device_id
LEFT JOIN (iot.firmware_image i JOIN iot.firmware_signer s ON s.id = i.signer_id AND s.revoked_at IS NULL)
    ON i.model = $2 AND i.version = u.before
WHERE u.campaign_id = $1 AND (u.state = 'running' OR u.state = 'succeeded' AND EXISTS (
    SELECT FROM iot.unit WHERE device_id = u.device_id AND mounted_to IS NULL AND firmware = $3)) ORDER BY d.key
"""
_TURNS: Final = {
    "pause": ("paused", ["running"]),
    "resume": ("running", ["paused"]),
    "stop": ("stopped", ["running", "paused"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a campaign goes: where devices fetch, which share is first, which share may fail before it pauses."""

    base_url: str
    canary: float
    fail_share: float
    rolls_back: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Whom a campaign would reach: number, key, version of each device in the order of the rings; the rings' sizes."""

    image: Image
    devices: Sequence[tuple[int, str, str | None]]
    rings: Sequence[int]


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign; `states` counts its devices, `ring` (from 0) of `rings` is under way."""

    id: int
    image_id: int
    model: str
    version: str
    selector: str
    base_url: str
    state: str
    reason: str
    fail_share: float
    rolls_back: int | None
    by: str
    created_at: datetime
    states: dict[str, int]
    ring: int
    rings: int


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a campaign."""

    device: str
    ring: int
    state: str
    before: str | None
    command_id: int | None
    command_state: str | None
    ended_at: datetime | None
    detail: str
    problem: dict[str, Any] | None


def rings(total: int, canary_share: float) -> list[int]:
    """Divide devices into rings: the canaries, at least one, then each ring four times as large."""
    sizes: list[int] = []
    size = max(1, round(total * canary_share))
    while total > 0:
        sizes.append(min(size, total))
        total -= sizes[-1]
        size *= _GROWTH
    return sizes


async def plan(connection: asyncpg.Connection, image_id: int, selector: str, canary: float) -> Plan:
    """Say whom a campaign would reach: native devices of the selector with the image's model and another version.

    Raises NotFoundError for an image that is not there, ConflictError when its signer is trusted no more or one of the
    devices is in a campaign that is not over, RequestError when there are no devices.
    """
    found = await image(connection, image_id, trusted=True)
    condition, values = where(parse(selector), 4)
    rows = await connection.fetch(_DEVICES.format(condition), found.model, found.version, str(image_id), *values)
    if not rows:
        raise RequestError("firmware.nobody", selector=selector, model=found.model, version=found.version)
    await _refuse_elsewhere(connection, [row["id"] for row in rows])
    devices = [(row["id"], row["key"], row["firmware"]) for row in rows]
    return Plan(image=found, devices=devices, rings=rings(len(devices), canary))


async def _refuse_elsewhere(connection: asyncpg.Connection, ids: Sequence[int]) -> None:
    other = await connection.fetchrow(_ELSEWHERE, ids)
    if other is not None:
        raise ConflictError("firmware.elsewhere", device=other["key"], id=other["campaign_id"])


async def begin(connection: asyncpg.Connection, image_id: int, selector: str, terms: Terms, *, by: str) -> Campaign:
    """Begin a campaign. Raises as `plan`."""
    async with connection.transaction():
        await connection.execute(_ONE_AT_A_TIME)
        found = await plan(connection, image_id, selector, terms.canary)
        return await _begin(connection, found, selector, terms, by=by)


async def _begin(connection: asyncpg.Connection, found: Plan, selector: str, terms: Terms, *, by: str) -> Campaign:
    number = await connection.fetchval(
        _NEW, found.image.id, selector, terms.base_url, terms.fail_share, by, terms.rolls_back
    )
    ring_of = [ring for ring, size in enumerate(found.rings) for _ in range(size)]
    ids, _, versions = zip(*found.devices, strict=True)
    await connection.execute(_NEW_UPDATES, number, ids, ring_of, versions)
    after = {"image": found.image.id, "version": found.image.version, "devices": len(ids), "selector": selector}
    await record(connection, by, "firmware.campaign", Change(f"firmware-campaign/{number}", None, after))
    return await campaign(connection, number)


async def campaigns(connection: asyncpg.Connection, *, running: bool = False) -> list[Campaign]:
    """List campaigns, the newest first."""
    condition = "WHERE c.state = 'running'" if running else ""
    rows = await connection.fetch(f"{_CAMPAIGN} {condition} ORDER BY c.id DESC")
    return [msgspec.convert(dict(row), Campaign) for row in rows]


async def campaign(connection: asyncpg.Connection, number: int) -> Campaign:
    """Find a campaign. Raises NotFoundError."""
    row = await connection.fetchrow(f"{_CAMPAIGN} WHERE c.id = $1", number)
    if row is None:
        raise NotFoundError("firmware.no_campaign", id=number)
    return msgspec.convert(dict(row), Campaign)


async def updates(connection: asyncpg.Connection, number: int) -> list[Update]:
    """List a campaign's devices by ring."""
    return [msgspec.convert(dict(row), Update) for row in await connection.fetch(_UPDATES, number)]


async def turn(connection: asyncpg.Connection, number: int, to: str, *, by: str) -> Campaign:
    """`pause`: begin no more updates. `resume`: go on, and try again what failed. `stop`: it is over.

    What a device was told goes on to its end in each case; what has not left is taken back.
    Raises NotFoundError, ConflictError where that does not follow.
    """
    after, before = _TURNS[to]
    async with connection.transaction():
        found = await campaign(connection, number)
        if await connection.execute(_TURN, number, after, before) == "UPDATE 0":
            raise ConflictError("firmware.is_not", id=number, state=found.state)
        await (connection.execute(_AGAIN, number) if to == "resume" else connection.execute(_TAKE_BACK))
        change = Change(f"firmware-campaign/{number}", {"state": found.state}, {"state": after})
        await record(connection, by, f"firmware.{to}", change)
        return await campaign(connection, number)


async def roll_back(connection: asyncpg.Connection, number: int, *, by: str) -> tuple[list[Campaign], list[str]]:
    """Bring devices that took the new version back to the one they had; give the campaigns, and who cannot go back.

    The campaign that is rolled back is stopped first. A former version whose image is not here, or whose signer is
    trusted no more, cannot be given back.
    Raises NotFoundError, ConflictError as `plan`.
    """
    async with connection.transaction():
        await connection.execute(_ONE_AT_A_TIME)
        found = await campaign(connection, number)
        if found.state in {"running", "paused"}:
            await turn(connection, number, "stop", by=by)
        rows = await connection.fetch(_TO_ROLL_BACK, number, found.model, found.version)
        await _refuse_elsewhere(connection, [row["device_id"] for row in rows])
        back: dict[int, list[tuple[int, str, str | None]]] = {}
        for row in rows:
            if row["image_id"] is not None:
                back.setdefault(row["image_id"], []).append((row["device_id"], row["key"], found.version))
        terms = Terms(base_url=found.base_url, canary=1, fail_share=1, rolls_back=number)
        made = []
        for image_id, devices in back.items():
            former = await image(connection, image_id, trusted=True)
            each = Plan(image=former, devices=devices, rings=[len(devices)])
            made.append(await _begin(connection, each, found.selector, terms, by=by))
    return made, [row["key"] for row in rows if row["image_id"] is None]


async def under_way(connection: asyncpg.Connection) -> bool:
    """Say whether anything has to be done for any campaign."""
    found: bool = await connection.fetchval(_UNDER_WAY)
    return found


async def settle(connection: asyncpg.Connection) -> None:
    """Take up what became of updates, pause campaigns that fail too often, end those that are through."""
    async with connection.transaction():
        for statement in (_SETTLE, _OTHER_MODEL, _PAUSE_BAD, _TAKE_BACK, _DONE):
            await connection.execute(statement)


async def room(connection: asyncpg.Connection, campaign_id: int, most: int) -> int:
    """Say how many more updates of a campaign may begin when `most` may be under way."""
    busy: int = await connection.fetchval(_BUSY, campaign_id)
    return most - busy


async def waiting(connection: asyncpg.Connection, campaign_id: int, most: int) -> list[int]:
    """List devices of the ring that is under way whose turn it is."""
    return [row["device_id"] for row in await connection.fetch(_WAITING, campaign_id, most)]


async def take(connection: asyncpg.Connection, campaign_id: int, device_id: int) -> bool:
    """Begin an update, once: False where another core did. Raises UniqueViolationError where another one runs."""
    done: str = await connection.execute(_TAKE, campaign_id, device_id)
    return done == "UPDATE 1"


async def note_command(connection: asyncpg.Connection, campaign_id: int, device_id: int, command_id: int) -> None:
    """Note with which command an update runs."""
    statement = "UPDATE iot.firmware_update SET command_id = $3 WHERE campaign_id = $1 AND device_id = $2"
    await connection.execute(statement, campaign_id, device_id, command_id)
