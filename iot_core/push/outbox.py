"""The outbox: what is to be sent, to whom, in which order. Written in the transaction of what it tells of.

Delivery is at least once: a repeat carries the same message id. Of one alarm and target, an event is offered only
when all earlier ones are delivered or dead.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
import structlog

from iot_core.errors import StartError
from iot_core.hours import within
from iot_core.model import Severity
from iot_core.push.cap import ENDS, INTERNAL, Earlier, of_the_device
from iot_core.push.parcel import is_sent
from iot_core.store.many import turned

if TYPE_CHECKING:
    from iot_core.store.vault import Vault

log = structlog.get_logger()

_BEGIN: Final = frozenset({"alarm.raised", "alarm.severity", "alarm.reopened"})
"""What puts an alarm on the escalation chains that are for it, where it is on none: also that it is more urgent now."""
_CLOSED, _REOPENED = "alarm.closed", "alarm.reopened"
_GOES_ON: Final = ENDS | {_REOPENED}
"""Types that depend on what a target was told before."""
_ORDER: Final = tuple(Severity)  # the most urgent first
MOST_URGENT: Final = 0
LEAST_URGENT: Final = len(_ORDER)

TARGETS: Final = """
SELECT t.id, t.key, t.kind, t.min_severity, t.accepts_simulated, t.classes, t.areas, t.hours, t.format, s.value AS zone,
    (SELECT value FROM iot.fixed_setting WHERE key = 'core_id') AS core,
    CASE WHEN t.hours <> '' THEN ARRAY(SELECT day FROM iot.holiday) END AS holidays
FROM iot.push_target t LEFT JOIN iot.fixed_setting s ON s.key = 'timezone'
WHERE t.removed_at IS NULL AND t.kind <> 'ngsi' ORDER BY t.id
"""
CHAINS: Final = """
SELECT c.id, c.steps, c.min_severity, c.accepts_simulated, c.classes, c.areas, c.hours, s.value AS zone,
    CASE WHEN c.hours <> '' THEN ARRAY(SELECT day FROM iot.holiday) END AS holidays
FROM iot.escalation_chain c LEFT JOIN iot.fixed_setting s ON s.key = 'timezone' WHERE c.removed_at IS NULL
"""
START: Final = """
INSERT INTO iot.escalation (alarm_id, chain_id, due_at)
SELECT alarm_id, chain_id, clock_timestamp() + after
FROM unnest($1::bigint[], $2::integer[], $3::interval[]) AS n (alarm_id, chain_id, after) ON CONFLICT DO NOTHING
"""
_ABOVE: Final = """
ARRAY(WITH RECURSIVE up (id, key, parent_id) AS (
    SELECT a.id, a.key, a.parent_id FROM iot.area a WHERE a.id = r.id
    UNION SELECT p.id, p.key, p.parent_id FROM iot.area p JOIN up ON p.id = up.parent_id)
  SELECT key FROM up) AS areas
"""
_DEVICES: Final = """
SELECT d.id, d.key, d.name, d.class_key, d.latitude, d.longitude, r.key AS area, r.name AS area_name,
    r.code AS area_code, {above}
FROM iot.device d LEFT JOIN iot.area r ON r.id = d.area_id WHERE d.id = ANY($1)
"""
DEVICES: Final = _DEVICES.format(above=_ABOVE)
# To climb to the province for each device is dear, and only for those who ask for areas.
DEVICES_ALONE: Final = _DEVICES.format(above="ARRAY[]::text[] AS areas")
AREAS: Final = (
    f"SELECT r.key AS area, r.name AS area_name, r.code AS area_code, {_ABOVE} FROM iot.area r WHERE r.key = ANY($1)"
)
# Alarms of an area (an incident, two detectors of one zone) are of the class whose rule it is.
OF_AREA: Final = f"""
SELECT a.id AS alarm_id, split_part(regexp_replace(a.rule, '^incident[.]', ''), '.', 1) AS class_key, r.key AS area,
    r.name AS area_name, r.code AS area_code, {_ABOVE}
FROM iot.alarm a JOIN iot.area r ON r.id = a.source_id WHERE a.source_kind = 'area' AND a.id = ANY($1)
"""
# Alarms of other centers: where they are, and through which cores they came.
OUTSIDE: Final = f"""
SELECT a.id AS alarm_id, s.name, s.class_key, s.latitude, s.longitude, s.via, s.ref, c.key AS center, r.key AS area,
    r.name AS area_name, r.code AS area_code, {_ABOVE}
FROM iot.alarm a JOIN iot.outside_source s ON s.id = a.source_id JOIN iot.center c ON c.id = s.center_id
LEFT JOIN iot.area r ON r.id = s.area_id WHERE a.source_kind = 'outside' AND a.id = ANY($1)
"""
# Truth is kept as 1 and 0 in alarms; only here is known whose it is.
TRUTHS: Final = "SELECT class_key, key FROM iot.metric WHERE sql_type = 'boolean'"
# Who has heard of an alarm, and what they heard last of how it stands.
TOLD: Final = """
SELECT a.id AS alarm_id, t.id AS target_id, (
    SELECT o.body->>'type' FROM iot.outbox o
    WHERE o.alarm_id = a.id AND o.target_id = t.id AND o.body->>'type' <> ALL ($3)
    ORDER BY o.id DESC LIMIT 1) AS last
FROM unnest($1::bigint[]) AS a (id), unnest($2::integer[]) AS t (id)
WHERE EXISTS (SELECT FROM iot.outbox o WHERE o.alarm_id = a.id AND o.target_id = t.id)
"""
# In the order of what happened: of one alarm and target, the lower id goes first.
ADD: Final = """
INSERT INTO iot.outbox (target_id, alarm_id, message_id, body, urgency)
SELECT target_id, alarm_id, message_id, body::jsonb, urgency
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[], $5::smallint[])
    WITH ORDINALITY AS n (target_id, alarm_id, message_id, body, urgency, ordinality) ORDER BY ordinality
"""

_OPEN: Final = "o.delivered_at IS NULL AND o.dead_at IS NULL"
_FREE: Final = "(o.claimed_until IS NULL OR o.claimed_until <= clock_timestamp())"
ENDPOINT: Final = """
t.id, t.key, t.kind, t.url, t.secret, t.format, t.language, t.template, t.options, t.old_secret, t.old_secret_until,
t.changed_at
"""
READY: Final = f"""
SELECT {ENDPOINT} FROM iot.push_target t WHERE t.removed_at IS NULL AND EXISTS (
    SELECT FROM iot.outbox o WHERE o.target_id = t.id AND {_OPEN} AND {_FREE} AND o.next_at <= clock_timestamp())
ORDER BY t.id
"""
# What has never failed goes first, and of that the urgent: a fire queues neither behind failures nor behind a storm.
# `ORDER BY .. OFFSET 0` has it look each candidate's alarm up in outbox_heads: as a join, or by an index without that
# order, each waiting message was compared with each other one (4,000 waiting: 1.2 ms of CPU for each one claimed).
CLAIM: Final = f"""
UPDATE iot.outbox SET claimed_until = clock_timestamp() + $3, attempts = attempts + 1,
    first_tried_at = coalesce(first_tried_at, clock_timestamp())
WHERE id = ANY (ARRAY(
    SELECT o.id FROM iot.outbox o
    WHERE o.target_id = $1 AND {_OPEN} AND {_FREE} AND o.next_at <= clock_timestamp() AND NOT EXISTS (
        SELECT FROM iot.outbox e WHERE e.alarm_id = o.alarm_id AND e.target_id = o.target_id AND e.id < o.id
            AND e.delivered_at IS NULL AND e.dead_at IS NULL ORDER BY e.id OFFSET 0)
        AND o.urgency <= $4
    ORDER BY (o.last_error IS NOT NULL), o.urgency, o.id LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id, alarm_id, message_id, body, attempts, urgency, created_at,
    clock_timestamp() - coalesce(revived_at, created_at) AS age
"""
GIVE_BACK: Final = """
UPDATE iot.outbox SET claimed_until = NULL, attempts = attempts - 1
WHERE id = ANY($1) AND delivered_at IS NULL AND dead_at IS NULL
"""
NEXT: Final = f"""
SELECT min(GREATEST(o.next_at, o.claimed_until)) - clock_timestamp() FROM iot.outbox o
JOIN iot.push_target t ON t.id = o.target_id AND t.removed_at IS NULL
WHERE {_OPEN} AND GREATEST(o.next_at, o.claimed_until) > clock_timestamp()
"""
DELIVERED: Final = """
UPDATE iot.outbox o SET delivered_at = clock_timestamp(), claimed_until = NULL, last_status = d.status,
    last_error = NULL, body_digest = d.digest
FROM unnest($1::bigint[], $2::integer[], $3::text[]) AS d (id, status, digest) WHERE o.id = d.id
"""
FAILED: Final = """
UPDATE iot.outbox SET claimed_until = NULL, last_status = $2, last_error = $3, next_at = clock_timestamp() + $4,
    dead_at = CASE WHEN $5 THEN clock_timestamp() END, body_digest = $6,
    tries = CASE WHEN jsonb_array_length(tries) >= 40 THEN tries - 0 ELSE tries END
        || jsonb_build_object('at', clock_timestamp(), 'status', $2::integer, 'error', $3::text)
WHERE id = $1 AND delivered_at IS NULL AND dead_at IS NULL
"""
# After an outage; what the receiver itself refused (4xx) keeps its own pace.
HURRY: Final = f"""
UPDATE iot.outbox o SET next_at = clock_timestamp()
WHERE o.target_id = $1 AND {_OPEN} AND {_FREE} AND o.next_at > clock_timestamp() AND o.last_error IS NOT NULL
    AND (o.last_status IS NULL OR o.last_status >= 500 OR o.last_status IN (408, 429))
"""
# A CAP update names the messages before it, so those of an open alarm stay.
FORGET: Final = """
DELETE FROM iot.outbox WHERE id IN (
    SELECT o.id FROM iot.outbox o
    WHERE (o.delivered_at < now() - $1::interval OR o.dead_at < now() - $1::interval)
        AND NOT EXISTS (SELECT FROM iot.alarm a WHERE a.id = o.alarm_id AND a.closed_at IS NULL) LIMIT 10000)
"""
FORGET_TAKEN: Final = """
DELETE FROM iot.center_message WHERE ctid IN (
    SELECT ctid FROM iot.center_message WHERE at < now() - $1::interval LIMIT 10000)
"""
EARLIER: Final = """
SELECT message_id, body->>'type' AS type, created_at AS at FROM iot.outbox
WHERE alarm_id = $1 AND target_id = $2 AND id < $3 AND dead_at IS NULL ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened to an alarm, for the world outside. `alarm` is JSON-ready.

    `area` and `class_key` place an alarm without a device. `only` names one target, which gets it whatever its filter.
    """

    type: str
    at: datetime
    alarm_id: int
    device_id: int | None
    severity: Severity
    simulated: bool
    alarm: Mapping[str, object]
    area: str | None = None
    class_key: str | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A target with something to send. Its secrets stay out of every text made of it."""

    id: int
    key: str
    url: str
    secret: str
    kind: str = "webhook"
    format: str = "json"
    language: str = "vi"
    template: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    old_secret: str | None = None
    old_secret_until: datetime | None = None
    changed_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.key!r})"

    def opened(self, vault: Vault | None) -> Endpoint:
        """Give it with its secrets in clear."""
        if vault is None:
            return self
        about = sealed_as(self.key)
        options = dict(self.options)
        if "key" in options:
            options["key"] = vault.open_text(options["key"], about)
        old = None if self.old_secret is None else vault.open_text(self.old_secret, about)
        return replace(self, secret=vault.open_text(self.secret, about), old_secret=old, options=options)


def opened(found: Iterable[Endpoint], vault: Vault | None, shut: set[str]) -> list[Endpoint]:
    """Give targets with their secrets in clear. One that cannot be opened is left out, and named in the log once.

    `shut` remembers those that were named.
    """
    clear: list[Endpoint] = []
    for target in found:
        try:
            clear.append(target.opened(vault))
            shut.discard(target.key)
        except StartError as exc:
            if target.key not in shut:
                shut.add(target.key)
                log.error("push.secret_shut", target=target.key, reason=str(exc))  # noqa: TRY400 - the sentence says it
    return clear


def sealed_as(key: str) -> str:
    """Name a target's row for the vault (store/reseal.py writes the same in SQL)."""
    return f"push_target/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One outbox row, claimed."""

    id: int
    alarm_id: int | None
    message_id: str
    body: Mapping[str, Any]
    attempts: int
    urgency: int
    created_at: datetime
    age: timedelta


def new_message_id() -> str:
    """Make the webhook-id: the same on every try of one message."""
    return f"msg_{uuid.uuid4().hex}"


async def enqueue(connection: asyncpg.Connection, notices: Sequence[Notice]) -> int:
    """Put notices into the outbox of every target that wants them, in the caller's transaction; say how many rows."""
    targets = await connection.fetch(TARGETS) if notices else []
    if not targets:
        return 0
    chains = await connection.fetch(CHAINS) if any(notice.type in _BEGIN for notice in notices) else []
    told = await _told(connection, notices, targets)
    places = await _places(connection, notices, areas=any(wish["areas"] for wish in (*targets, *chains)))
    truths = await _truths(connection, notices)
    rows: list[tuple[object, ...]] = []
    started: list[tuple[int, int, timedelta]] = []
    for notice in notices:
        place = places.of(notice)
        wanted = [each for each in targets if _wants(each, notice, place, told.get((notice.alarm_id, each["id"])))]
        if wanted:
            for each in wanted:
                heard = told.get((notice.alarm_id, each["id"]), "")
                told[notice.alarm_id, each["id"]] = heard if notice.type in INTERNAL else notice.type
            body = msgspec.json.encode(_body(notice, place, wanted[0]["core"], truths)).decode()
            urgency = _ORDER.index(notice.severity)
            rows += [(target["id"], notice.alarm_id, new_message_id(), body, urgency) for target in wanted]
        if notice.type in _BEGIN:
            started += [
                (notice.alarm_id, chain["id"], timedelta(seconds=chain["steps"][0]["after_s"]))
                for chain in chains
                if _fits(chain, notice, place)
            ]
    if started:
        await connection.execute(START, *turned(started))
    if rows:
        await connection.execute(ADD, *turned(rows))
    return len(rows)


async def ready(connection: asyncpg.Connection) -> list[Endpoint]:
    """Give the targets that have something due."""
    return [Endpoint(**row) for row in await connection.fetch(READY)]


async def claim(
    connection: asyncpg.Connection, target_id: int, most: int, lease: timedelta, urgency: int = LEAST_URGENT
) -> list[Message]:
    """Take up to `most` due messages of a target, for as long as the lease; what we do not finish comes again.

    Those that are at least as urgent as `urgency`; the most urgent come first.
    """
    rows = await connection.fetch(CLAIM, target_id, most, lease, urgency)
    return sorted((Message(**row) for row in rows), key=lambda message: (message.urgency, message.id))


async def give_back(connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
    """Give back what was claimed and not tried."""
    await connection.execute(GIVE_BACK, [message.id for message in messages])


async def until_next(connection: asyncpg.Connection) -> timedelta | None:
    """Say how long until something falls due."""
    wait: timedelta | None = await connection.fetchval(NEXT)
    return wait


async def earlier(connection: asyncpg.Connection, target_id: int, message: Message) -> list[Earlier]:
    """Give what a target was told of the same alarm before."""
    if message.alarm_id is None:
        return []
    return [Earlier(**row) for row in await connection.fetch(EARLIER, message.alarm_id, target_id, message.id)]


async def mark_delivered(connection: asyncpg.Connection, receipts: Sequence[tuple[int, int | None, str]]) -> None:
    """Note that the receivers have these: id, status, digest of what was sent."""
    await connection.execute(DELIVERED, *(list(column) for column in zip(*receipts, strict=True)))


async def mark_failed(
    connection: asyncpg.Connection,
    message: Message,
    *,
    status: int | None,
    error: str,
    again_in: timedelta,
    dead: bool,
    digest: str | None = None,
) -> None:
    """Note a failure: try again later, or give up."""
    await connection.execute(FAILED, message.id, status, error, again_in, dead, digest)


async def hurry(connection: asyncpg.Connection, target_id: int) -> None:
    """Make everything due that waits for a receiver which has just come back."""
    await connection.execute(HURRY, target_id)


async def forget(connection: asyncpg.Connection, keep: timedelta) -> None:
    """Delete what was delivered or given up, or taken from other centers, long ago."""
    for statement in (FORGET, FORGET_TAKEN):
        while await connection.execute(statement, keep) != "DELETE 0":
            pass


@dataclass(frozen=True, slots=True)
class _Places:
    """What alarms concern and where: their device, their area, another center's word, or the area they name."""

    devices: Mapping[int, asyncpg.Record]
    alarms: Mapping[int, asyncpg.Record]
    areas: Mapping[str, asyncpg.Record]

    def of(self, notice: Notice) -> asyncpg.Record | None:
        if notice.device_id is not None:
            return self.devices.get(notice.device_id)
        return self.alarms.get(notice.alarm_id) or self.areas.get(notice.area or "")


async def _places(connection: asyncpg.Connection, notices: Sequence[Notice], *, areas: bool) -> _Places:
    ids = sorted({notice.device_id for notice in notices if notice.device_id is not None})
    bare = [notice for notice in notices if notice.device_id is None]
    keys = sorted({notice.area for notice in bare if notice.area is not None})
    alarms = sorted({notice.alarm_id for notice in bare})
    return _Places(
        {row["id"]: row for row in await connection.fetch(DEVICES if areas else DEVICES_ALONE, ids)} if ids else {},
        {row["alarm_id"]: row for each in (OF_AREA, OUTSIDE) for row in await connection.fetch(each, alarms)}
        if alarms
        else {},
        {row["area"]: row for row in await connection.fetch(AREAS, keys)} if keys else {},
    )


async def _told(
    connection: asyncpg.Connection, notices: Sequence[Notice], targets: Sequence[asyncpg.Record]
) -> dict[tuple[int, int], str]:
    """Give what each target heard last of alarms that end or come back now; empty: of people's deeds only."""
    alarms = sorted({notice.alarm_id for notice in notices if notice.type in _GOES_ON})
    if not alarms:
        return {}
    rows = await connection.fetch(TOLD, alarms, [target["id"] for target in targets], list(INTERNAL))
    return {(row["alarm_id"], row["target_id"]): row["last"] or "" for row in rows}


def _wants(target: asyncpg.Record, notice: Notice, place: asyncpg.Record | None, heard: str | None) -> bool:
    """Say whether a target gets it. `heard`: what it heard last of how the alarm stands, None: nothing at all."""
    if notice.only is not None and notice.only != target["key"]:
        return False
    if not is_sent(notice.type, target["format"]) or _is_inner(target, notice):
        return False
    if notice.type in ENDS:
        # Whoever was told of it and nobody else, whatever severity, class or area it has by now.
        owed = heard not in {None, "", *ENDS}
        return (owed or (heard is not None and notice.type == _CLOSED and target["format"] != "cap")) and _in_time(
            target, notice
        )
    if notice.type == _REOPENED and target["format"] == "cap" and heard not in {None, "", *ENDS}:
        return False  # an acknowledgement was undone: nothing has changed for the public
    if notice.only is not None:
        return target["accepts_simulated"] or not _is_exercise(notice)
    return _fits(target, notice, place)


def _is_inner(target: asyncpg.Record, notice: Notice) -> bool:
    """Say whether it is the center's own business, and the target the public's."""
    return target["kind"] == "feed" and of_the_device(str(notice.alarm.get("rule")))


def _is_exercise(notice: Notice) -> bool:
    return bool(notice.simulated or notice.alarm.get("test"))


def _fits(wish: asyncpg.Record, notice: Notice, place: asyncpg.Record | None) -> bool:
    """Say whether a target or an escalation chain is for this alarm."""
    if _is_exercise(notice) and not wish["accepts_simulated"]:
        return False
    class_key = (place.get("class_key") if place is not None else None) or notice.class_key
    areas = place["areas"] if place is not None else ()
    return (
        _ORDER.index(notice.severity) <= _ORDER.index(Severity(wish["min_severity"]))
        and (not wish["classes"] or class_key in wish["classes"])
        and (not wish["areas"] or not set(wish["areas"]).isdisjoint(areas))
        and _in_time(wish, notice)
    )


def _in_time(wish: asyncpg.Record, notice: Notice) -> bool:
    return not wish["hours"] or within(wish["hours"], notice.at, wish["zone"], frozenset(wish["holidays"]))


async def _truths(connection: asyncpg.Connection, notices: Sequence[Notice]) -> frozenset[tuple[str, str]]:
    """Name the metrics, with their class, that are true or false."""
    if not any(notice.alarm.get("metric") for notice in notices):
        return frozenset()
    return frozenset((row["class_key"], row["key"]) for row in await connection.fetch(TRUTHS))


def _body(
    notice: Notice, place: asyncpg.Record | None, core: str, truths: frozenset[tuple[str, str]]
) -> dict[str, object]:
    via = [*(place.get("via") or () if place is not None else ()), core]
    center = place.get("center") if place is not None else None
    origin = {"center": center, "id": place["ref"], "via": via} if place is not None and center else {"via": via}
    alarm, device = dict(notice.alarm), _device(notice, place)
    if device is not None and (device["class"], alarm.get("metric")) in truths:
        alarm |= {name: bool(alarm[name]) for name in ("value", "threshold") if alarm.get(name) is not None}
    return {
        "type": notice.type,
        "timestamp": notice.at.isoformat(),
        "data": {"alarm": alarm, "device": device, "origin": origin},
    }


def _device(notice: Notice, place: asyncpg.Record | None) -> dict[str, object] | None:
    if place is None and notice.class_key is None:
        return None
    found: Mapping[str, object] = {} if place is None else dict(place)
    return {
        "key": found.get("key"),
        "name": found.get("name"),
        "class": found.get("class_key") or notice.class_key,
        **{name: found.get(name) for name in ("area", "area_name", "area_code", "latitude", "longitude")},
    }
