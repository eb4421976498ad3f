"""Senders that nobody registered, and new devices that claimed themselves: look, accept one or all, refuse."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.api.devices import told
from iot_core.api.roles import Action, outside, require
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_areas, require_places
from iot_core.errors import ConflictError, IotError, NotFoundError, RequestError
from iot_core.messages import text
from iot_core.model import FOUND, Find, Problem, Reason, Uplink
from iot_core.profiles import Profiles
from iot_core.profiles.guess import Guess, find_of, guess, likely
from iot_core.registry import claims, devices
from iot_core.registry.addresses import NATIVE
from iot_core.registry.area_changes import trial
from iot_core.registry.audit import Change, record
from iot_core.store import held

_SHOWN: Final = 2_000
_READ: Final = 65_536
_SENDERS: Final = 1_000
_JOB_BYTES: Final = 4 * 1024 * 1024
_CLAIM: Final = "claim:"
_CLAIMED: Final = re.compile(r"claim:[0-9]{1,9}")
_OWN: Final = "*"
"""Of the asker's own areas; no area is called so."""

_MEANT: Final = """
reason = 'unknown_address' AND ($1::text IS NULL OR address = $1) AND ($2::text IS NULL OR driver = $2)
    AND ($3::text[] IS NULL OR EXISTS (
        SELECT FROM unnest($3::text[]) AS own WHERE starts_with(topic || '/', own || '/')))
    AND address <> ALL($4::text[])
"""
# Not the view iot.inbox, which gathers every payload of a sender to show the last one.
_INBOX: Final = f"""
WITH sender AS (
    SELECT address, count(*) AS messages, min(received_at) AS first_at, max(received_at) AS last_at,
        coalesce(max(id) FILTER (WHERE kind = 'telemetry'), max(id)) AS last_id
    FROM iot.held_uplink WHERE {_MEANT}
    GROUP BY address ORDER BY max(id) DESC LIMIT $5
)
SELECT sender.*, h.driver, h.topic, h.kind, h.content_format, substring(h.payload FROM 1 FOR {_READ}) AS whole,
    h.registers, substring(h.payload FROM 1 FOR {_SHOWN}) AS payload,
    (SELECT f.payload FROM iot.held_uplink f WHERE f.address = sender.address AND f.reason = 'unknown_address'
        AND f.kind = '{FOUND}' ORDER BY f.id DESC LIMIT 1) AS found
FROM sender JOIN iot.held_uplink h ON h.id = sender.last_id ORDER BY h.id DESC
"""
_COUNT: Final = f"SELECT count(DISTINCT address) FROM iot.held_uplink WHERE {_MEANT}"
_BRIDGES: Final = """
SELECT bridge.topic, device.area_id, area.key AS area FROM iot.bridge JOIN iot.device ON device.id = bridge.device_id
LEFT JOIN iot.area ON area.id = device.area_id WHERE device.retired_at IS NULL
"""
_MOUNTED: Final = "SELECT address FROM iot.unit WHERE mounted_to IS NULL AND address = ANY($1)"
_PROVEN: Final = 1_000.0
_FORGET: Final = "DELETE FROM iot.held_uplink WHERE reason = 'unknown_address' AND address = ANY($1)"


async def inbox(call: Call[NoQuery]) -> shapes.Inbox:
    """List senders that nobody registered, the one heard last first, and devices that claimed themselves.

    They stand nowhere yet. Who has rights in some areas only needs `devices` in one, and does not see what a bridge of
    another area carries.
    """
    if call.areas is not None:
        require(call.who, Action.DEVICES)
    async with call.connection() as connection:
        rows = await connection.fetch(_INBOX, None, None, None, (), _SENDERS)
        carried = await _carried(call, connection)
        rows = [row for row in rows if carried(row) in {None, _OWN}]
        claimed = await claims.waiting(connection, _SENDERS)
    return shapes.Inbox(
        items=tuple(_sender(row, call.services.profiles) for row in rows),
        claims=tuple(
            shapes.Claim(**{name: getattr(each, name) for name in shapes.Claim.__struct_fields__}) for each in claimed
        ),
    )


async def add(call: Call[NoQuery], body: shapes.InboxAdd) -> shapes.InboxAdded:
    """Let those wait who were found on site; who is registered already does not."""
    async with call.connection() as connection, connection.transaction():
        waiting, registered = await note_found(connection, body.found)
    return shapes.InboxAdded(waiting=waiting, registered=registered)


async def note_found(connection: asyncpg.Connection, found: Sequence[shapes.InboxFound]) -> tuple[int, int]:
    """Keep finds as uplinks of senders that nobody registered; give how many wait, and how many are registered."""
    addresses = [each.address for each in found]
    registered = {row["address"] for row in await connection.fetch(_MOUNTED, addresses)}
    fresh = [each for each in found if each.address not in registered]
    if fresh:
        problem = Problem(Reason.UNKNOWN_ADDRESS)
        await held.keep(connection, [held.Held(_find(each), problem, once=not each.registers) for each in fresh])
    return len(fresh), len(found) - len(fresh)


def _find(found: shapes.InboxFound) -> Uplink:
    now = datetime.now(UTC)
    weighed = found.guess if found.model is None else {found.model: _PROVEN}
    return Uplink(
        driver=found.address.partition(":")[0],
        address=found.address,
        kind=FOUND,
        payload=msgspec.json.encode(Find(guess=weighed, says=found.says)),
        registers=found.registers or None,
        received_at=min(found.at or now, now),
    )


async def accept(call: Call[NoQuery], body: shapes.InboxAccept) -> shapes.DeviceAdded:
    """Register one that waits. What it sent meanwhile is stored; one that claimed itself can ask for its secret."""
    async with call.connection() as connection, connection.transaction():
        plan = await _plan(call, connection, body)
        await require_places(call, connection, [(plan.new.key, plan.new.area)])
        if body.replace:
            added = await _mount(call, connection, plan)
        else:
            (added,) = await devices.add(connection, call.services.profiles, [plan.new], by=call.who.name)
        await _settle(call, connection, [plan])
    _decided(call, [plan.claim])
    return (await told(call, [added])).items[0]


async def accept_all(call: Call[NoQuery], body: shapes.InboxAcceptAll) -> shapes.InboxAccepted:
    """Register who waits (or what one driver heard), a thousand at a time, and say who is left and why.

    `more` wait still: ask again, with those who were left to be skipped.
    For who has the right in some areas only, all are those that a bridge of these areas carries.
    """
    async with call.connection() as connection, trial(connection, dry=body.dry_run):
        await require_areas(call, connection, [body.area])
        plans, left, more = await _plans(call, connection, body)
        try:
            async with connection.transaction():
                added = await _add(call, connection, plans)
        except RequestError:  # one is in the way: each by itself
            added, done = [], []
            for plan in plans:
                try:
                    async with connection.transaction():
                        added += await _add(call, connection, [plan])
                    done.append(plan)
                except RequestError as exc:
                    left.append(_left(call, plan.address, exc))
            plans = done
    preview = tuple(
        shapes.InboxPreview(address=each.address, key=each.new.key, profile=each.new.profile or "") for each in plans
    )
    if body.dry_run:
        return shapes.InboxAccepted(items=(), left=tuple(left), preview=preview, more=more)
    _decided(call, (each.claim for each in plans))
    items = (await told(call, added)).items if added else ()
    return shapes.InboxAccepted(items=items, left=tuple(left), preview=preview, more=more)


async def reject(call: Call[NoQuery], body: shapes.InboxReject) -> shapes.InboxRejected:
    """Refuse claims for good; forget what senders said (they come again when they speak again)."""
    async with call.connection() as connection, connection.transaction():
        rejected = [await claims.one(connection, number) for number in dict.fromkeys(body.claims)]
        for each in rejected:
            await claims.reject(connection, each, by=call.who.name)
        gone = 0
        if body.addresses:
            gone = int((await connection.execute(_FORGET, list(body.addresses))).rpartition(" ")[2])
            changes = [Change(f"inbox/{address}", after={"forgotten": True}) for address in body.addresses]
            await record(connection, call.who.name, "inbox.forget", *changes)
    _decided(call, rejected)
    return shapes.InboxRejected(claims=len(body.claims), messages=gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Whom to register as what; `claim` where it claimed itself."""

    address: str
    new: devices.NewDevice
    claim: claims.Claim | None = None


async def _plan(call: Call[Any], connection: asyncpg.Connection, body: shapes.InboxAccept) -> _Plan:
    """Fill in what the asker left out. Raises NotFoundError, ConflictError, RequestError."""
    if not body.address.startswith(_CLAIM):
        row = await connection.fetchrow(_INBOX, body.address, None, None, (), 1)
        if row is None:
            raise NotFoundError("inbox.nobody", address=body.address)
        if (area := (await _carried(call, connection))(row)) not in {None, _OWN}:
            raise outside(call.who, Action.DEVICES, area or "-")
        return _heard(call, row, body)
    number = body.address.removeprefix(_CLAIM)
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise NotFoundError("batch.no_claim", id=number)
    return _claimed(call, await claims.one(connection, int(number)), body)


def _heard(call: Call[Any], row: Any, body: shapes.InboxAccept) -> _Plan:
    model = body.profile or likely(_guesses(row, call.services.profiles))
    if model is None:
        raise RequestError("inbox.which_profile", address=body.address)
    template = call.services.profiles.get(model).address
    inner, native = _inner(template, body.address), template.startswith(NATIVE)
    key = body.key or (inner if native else _made_up(inner, model))
    return _Plan(address=body.address, new=_new(body, key, model, None if native else body.address, None))


def _claimed(call: Call[Any], found: claims.Claim, body: shapes.InboxAccept) -> _Plan:
    if found.state != "waiting":
        raise ConflictError("batch.claim_decided", id=found.id, state=found.state)
    if found.revoked:
        raise ConflictError("batch.claim_revoked", id=found.id, batch=found.batch)
    if body.profile not in {None, found.profile}:
        raise RequestError("batch.other_profile", profile=found.profile, asked=body.profile)
    native = call.services.profiles.get(found.profile).address.startswith(NATIVE)
    key = body.key or _made_up(found.serial, found.profile)
    new = _new(body, key, found.profile, None if native else found.serial, found.serial)
    return _Plan(address=body.address, new=new, claim=found)


def _new(
    body: shapes.InboxAccept, key: str, profile: str, address: str | None, serial: str | None
) -> devices.NewDevice:
    return devices.NewDevice(
        key=key,
        profile=profile,
        name=body.name,
        area=body.area,
        latitude=body.latitude,
        longitude=body.longitude,
        gateway=body.gateway,
        serial=serial,
        planned=serial is not None,
        address=address,
    )


async def _plans(
    call: Call[Any], connection: asyncpg.Connection, body: shapes.InboxAcceptAll
) -> tuple[list[_Plan], list[shapes.InboxLeft], int]:
    """Plan for a thousand of each kind; say who cannot be, and how many wait beyond."""
    plans: list[_Plan] = []
    left: list[shapes.InboxLeft] = []
    meant = (None, body.driver, await _own_topics(call, connection), body.skip)
    rows = await connection.fetch(_INBOX, *meant, _SENDERS)
    more = 0 if len(rows) < _SENDERS else await connection.fetchval(_COUNT, *meant) - len(rows)
    for row in rows:
        asked = shapes.InboxAccept(address=row["address"], profile=body.profile, area=body.area, gateway=body.gateway)
        try:
            plans.append(_heard(call, row, asked))
        except RequestError as exc:
            left.append(_left(call, asked.address, exc))
    if call.areas is not None or body.driver not in {None, "claim"}:
        return plans, left, more
    skip = [int(each.removeprefix(_CLAIM)) for each in body.skip if _CLAIMED.fullmatch(each)]
    waiting = await claims.waiting(connection, _SENDERS + 1, profile=body.profile, skip=skip)
    for each in waiting[:_SENDERS]:
        asked = shapes.InboxAccept(address=f"{_CLAIM}{each.id}", area=body.area)
        try:
            plans.append(_claimed(call, each, asked))
        except RequestError as exc:
            left.append(_left(call, asked.address, exc))
    if len(waiting) > _SENDERS:
        more += await claims.count_waiting(connection, profile=body.profile, skip=skip) - _SENDERS
    return plans, left, more


async def _own_topics(call: Call[Any], connection: asyncpg.Connection) -> list[str] | None:
    """List the topics of the bridges in the asker's areas; None for who has the right everywhere."""
    if call.areas is None:
        return None
    return [each["topic"] for each in await connection.fetch(_BRIDGES) if each["area_id"] in call.areas]


async def _add(call: Call[Any], connection: asyncpg.Connection, plans: Sequence[_Plan]) -> list[devices.Added]:
    if not plans:
        return []
    added = await devices.add(connection, call.services.profiles, [each.new for each in plans], by=call.who.name)
    await _settle(call, connection, plans)
    return added


async def _mount(call: Call[Any], connection: asyncpg.Connection, plan: _Plan) -> devices.Added:
    new = plan.new
    added = await devices.replace_unit(
        connection, call.services.profiles, new.key, serial=new.serial, profile=new.profile, address=new.address,
        by=call.who.name,
    )  # fmt: skip
    return added if plan.claim is None else replace(added, secret=None)  # it is the device's own to ask for


async def _settle(call: Call[Any], connection: asyncpg.Connection, plans: Sequence[_Plan]) -> None:
    """Tie claims to the units that were mounted for them."""
    claimed = [(each.claim, each.new.key) for each in plans if each.claim is not None]
    if claimed:
        await claims.accept(connection, claimed, by=call.who.name)


async def _carried(call: Call[Any], connection: asyncpg.Connection) -> Callable[[Any], str | None]:
    """Say of a sender whose bridge carries it: None nobody's, `_OWN` one of the asker's areas, else which area's."""
    areas = call.areas
    bridges = [] if areas is None else await connection.fetch(_BRIDGES)

    def carrier(row: Any) -> str | None:
        found = [each for each in bridges if f"{row['topic']}/".startswith(f"{each['topic']}/")]
        if areas is not None and any(each["area_id"] in areas for each in found):
            return _OWN
        return (found[0]["area"] or "-") if found else None

    return carrier


def _left(call: Call[Any], address: str, exc: IotError) -> shapes.InboxLeft:
    return shapes.InboxLeft(address=address, code=exc.code, detail=text(exc.code, call.lang, **exc.facts))


def _inner(template: str, address: str) -> str:
    before, _, after = template.partition("{address}")
    return address.removeprefix(before).removesuffix(after)


def _made_up(inner: str, model: str) -> str:
    """Make a key of an address or serial number: `0xA4C1 38` -> `0xa4c1-38`; digits alone stand behind the model."""
    plain = unicodedata.normalize("NFD", inner.casefold().replace("đ", "d")).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not key or key.isdecimal():
        key = f"{model}-{key}".rstrip("-")
    return key[:63].rstrip("-")


def _decided(call: Call[Any], decided: Iterable[claims.Claim | None]) -> None:
    if call.services.claiming is not None:
        call.services.claiming.decided(each.serial for each in decided if each is not None)


def _sender(row: asyncpg.Record, profiles: Profiles) -> shapes.Sender:
    return shapes.Sender(
        address=row["address"],
        driver=row["driver"],
        messages=row["messages"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        topic=row["topic"],
        payload=shown(row["payload"]),
        registers=row["registers"],
        guess=tuple(model for model, _ in _guesses(row, profiles)),
        says=find_of(row["found"]).says,
    )


def _guesses(row: Mapping[str, Any], profiles: Profiles) -> list[Guess]:
    said = Uplink(
        driver=row["driver"],
        address=row["address"],
        topic=row["topic"],
        kind=row["kind"],
        payload=row["whole"] or b"",
        registers=row["registers"],
        content_format=row["content_format"],
    )
    guesses = guess(said, profiles.all())
    if guesses or row["found"] is None:
        return guesses
    return guess(Uplink(driver=said.driver, address=said.address, kind=FOUND, payload=row["found"]), profiles.all())


def shown(payload: bytes | None) -> str:
    """Show the beginning of a payload: as text if it is some, else in hexadecimal."""
    begin = payload or b""
    try:
        return begin.decode()
    except UnicodeDecodeError as exc:
        cut = len(begin) == _SHOWN and exc.start > len(begin) - 4
        return begin[: exc.start].decode() if cut else begin.hex(" ")


routes = (
    get("/inbox", inbox, reach=Reach.OWN),
    post("/inbox", add, Action.DEVICES, most=_JOB_BYTES),
    post("/inbox/accept", accept, Action.DEVICES, status=201, reach=Reach.OWN),
    post("/inbox/accept-all", accept_all, Action.DEVICES, most=_JOB_BYTES, reach=Reach.OWN),
    post("/inbox/reject", reject, Action.DEVICES),
)
