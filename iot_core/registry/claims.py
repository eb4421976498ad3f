"""A new device claims itself with its batch's key and its serial number, and gets a secret of its own, once.

    nobody ---claim---> waiting ---a person accepts---> accepted ---the same reply again---> its secret
       '------ its serial is expected (a planned device) --^            until it is first heard with it
                                                                       (or a day has passed)
    refused, and audited: another reply for a serial (a clone), a reply that was used (a replay), a batch that is
    exhausted, expired, revoked, or not meant for this profile or network

`reply` is a random text of the device's own. While it shows the same one it is the same device, so a claim that was cut
off can be repeated: each time a new secret is made, and the one before it, which may have been lost, dies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import ConflictError, NotFoundError
from iot_core.registry.audit import Change, record
from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import check_secret, hash_secret

if TYPE_CHECKING:
    import asyncpg

    from iot_core.profiles import Profiles

__all__ = [
    "Ask",
    "Claim",
    "Given",
    "Refusal",
    "accept",
    "admitted",
    "claim",
    "count_waiting",
    "note_refused",
    "one",
    "reject",
    "waiting",
]

REPEAT: Final = timedelta(days=1)
"""How long a secret that was given can be asked for again while nothing was heard with it."""

_BATCH: Final = """
SELECT id, key, secret_hash, most, profile, networks, until, revoked_at FROM iot.batch WHERE key = $1
"""
# Who revokes it waits for the claims under way, which do not wait for each other.
_HOLD_BATCH: Final = f"{_BATCH} FOR SHARE"
_ONE_BY_ONE: Final = "SELECT pg_advisory_xact_lock(hashtext('iot.claim'), $1)"
_FIND: Final = """
SELECT claim.id, claim.batch_id, claim.reply_hash, claim.state, claim.unit_id, claim.issued_at, device.key AS device,
    unit.mounted_to IS NULL AND device.retired_at IS NULL AS mounted,
    coalesce(status.last_received_at >= claim.issued_at, false) AS heard
FROM iot.claim LEFT JOIN iot.unit ON unit.id = claim.unit_id LEFT JOIN iot.device ON device.id = unit.device_id
LEFT JOIN iot.device_status status ON status.device_id = device.id
WHERE claim.profile = $1 AND claim.serial = $2 AND claim.state <> 'rejected' FOR UPDATE OF claim
"""
_REJECTED: Final = """
SELECT EXISTS (SELECT FROM iot.claim WHERE profile = $1 AND serial = $2 AND reply_hash = $3 AND state = 'rejected')
"""
# Planned and never heard: nobody's secret is taken from them.
_EXPECTED: Final = """
SELECT unit.id FROM iot.unit JOIN iot.device ON device.id = unit.device_id
LEFT JOIN iot.device_status status ON status.device_id = device.id
WHERE unit.mounted_to IS NULL AND device.retired_at IS NULL AND device.lifecycle = 'planned' AND unit.profile = $1
    AND unit.serial = $2 AND status.last_received_at IS NULL LIMIT 2
"""
_ADD: Final = """
INSERT INTO iot.claim (batch_id, profile, serial, reply_hash, driver, came_from, state, unit_id, decided_at)
SELECT $1::integer, $2::text, $3::text, $4::bytea, $5, $6::inet, $7, $8::integer,
    CASE WHEN $8::integer IS NOT NULL THEN now() END
WHERE (SELECT count(*) FROM iot.claim WHERE batch_id = $1) < $9 RETURNING id
"""
_AGAIN: Final = "UPDATE iot.claim SET last_at = now() WHERE id = $1"
_CONTEST: Final = "UPDATE iot.claim SET contested = contested + 1, last_at = now() WHERE id = $1"
# One statement: a thousand devices ask within a few seconds, and each word to the database is paid a thousand times.
_GIVE: Final = """
WITH unit AS (
    UPDATE iot.unit SET secret_hash = $2, revoked_at = NULL WHERE id = $1 RETURNING device_id
), provisioned AS (
    UPDATE iot.device SET lifecycle = 'provisioned' FROM unit
    WHERE device.id = unit.device_id AND device.lifecycle = 'planned'
)
UPDATE iot.claim SET issued_at = coalesce(issued_at, now()), last_at = now() WHERE id = $3
"""
_COLUMNS: Final = """
claim.id, batch.key AS batch, claim.profile, claim.serial, claim.driver, host(claim.came_from) AS came_from,
claim.state, claim.contested, claim.claimed_at, claim.last_at, batch.revoked_at IS NOT NULL AS revoked
"""
_WAITS: Final = """
claim.state = 'waiting' AND ($1::text IS NULL OR claim.profile = $1) AND claim.id <> ALL($2::bigint[])
"""
_WAITING: Final = f"""
SELECT {_COLUMNS} FROM iot.claim JOIN iot.batch ON batch.id = claim.batch_id WHERE {_WAITS}
ORDER BY claim.id LIMIT $3
"""
_COUNT_WAITING: Final = f"SELECT count(*) FROM iot.claim WHERE {_WAITS}"
_ONE: Final = f"""
SELECT {_COLUMNS} FROM iot.claim JOIN iot.batch ON batch.id = claim.batch_id WHERE claim.id = $1::bigint
FOR UPDATE OF claim
"""
_ACCEPT: Final = """
UPDATE iot.claim SET state = 'accepted', unit_id = mounted.id, decided_at = now()
FROM unnest($1::integer[], $2::text[]) AS given (id, key) JOIN iot.device ON device.key = given.key
CROSS JOIN LATERAL (
    SELECT max(unit.id) AS id FROM iot.unit WHERE unit.device_id = device.id AND unit.mounted_to IS NULL
) mounted
WHERE claim.id = given.id AND claim.state = 'waiting' AND mounted.id IS NOT NULL RETURNING claim.id
"""
_REJECT: Final = "UPDATE iot.claim SET state = 'rejected', unit_id = NULL, decided_at = now() WHERE id = $1"


class Refusal(StrEnum):
    """Why a claim gets nothing. The device is not told which; the audit is."""

    UNKNOWN = "unknown"
    WRONG_KEY = "wrong_key"
    REVOKED = "revoked"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    NETWORK = "network"
    PROFILE = "profile"
    CLONED = "cloned"
    REPLAYED = "replayed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A claim as it arrived. `batch` and `key` are the batch's name and secret, `came_from` the sender's address."""

    batch: str
    key: str
    serial: str
    reply: str
    profile: str | None = None
    driver: str
    came_from: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a claim gets: a secret, the word to wait (neither), or a refusal."""

    device: str | None = None
    secret: str | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as people see it; one of a `revoked` batch gets nothing any more, whatever is decided."""

    id: int
    batch: str
    profile: str
    serial: str
    driver: str
    came_from: str | None
    state: str
    contested: int
    claimed_at: datetime
    last_at: datetime
    revoked: bool


async def admitted(connection: asyncpg.Connection, batch: str, key: str, came_from: str | None) -> Refusal | None:
    """Say why somebody with this batch key may not even ask, None if they may."""
    row = await connection.fetchrow(_BATCH, batch)
    return _not_admitted(row, key, came_from)


async def claim(connection: asyncpg.Connection, profiles: Profiles, ask: Ask) -> Given:
    """Take a claim. A secret in the answer is in the registry already, and exists in clear only here."""
    async with connection.transaction():
        batch = await connection.fetchrow(_HOLD_BATCH, ask.batch)
        refusal = _not_admitted(batch, ask.key, ask.came_from)
        profile = ask.profile or (batch["profile"] if batch is not None else None)
        if refusal is None and (profile is None or not _is_meant(profile, batch["profile"], profiles)):
            refusal = Refusal.PROFILE
        if refusal is not None:
            return Given(refusal=refusal)
        assert profile is not None
        found = await connection.fetchrow(_FIND, profile, ask.serial)
        if found is None:
            return await _begin(connection, batch, profile, ask)
        return await _go_on(connection, batch, found, ask)


async def waiting(
    connection: asyncpg.Connection, limit: int, *, profile: str | None = None, skip: Sequence[int] = ()
) -> list[Claim]:
    """List claims that wait for a person's word, the oldest first."""
    return [Claim(**row) for row in await connection.fetch(_WAITING, profile, skip, limit)]


async def count_waiting(connection: asyncpg.Connection, *, profile: str | None = None, skip: Sequence[int] = ()) -> int:
    """Count them."""
    found: int = await connection.fetchval(_COUNT_WAITING, profile, skip)
    return found


async def one(connection: asyncpg.Connection, number: int) -> Claim:
    """Find a claim, and hold it until the transaction ends. Raises NotFoundError."""
    row = await connection.fetchrow(_ONE, number)
    if row is None:
        raise NotFoundError("batch.no_claim", id=number)
    return Claim(**row)


async def accept(connection: asyncpg.Connection, given: Sequence[tuple[Claim, str]], *, by: str) -> None:
    """Give waiting claims the units now mounted at devices (keys): who asks again gets that unit's secret.

    Raises ConflictError for one that somebody else decided about, NotFoundError for a device without a unit; the
    caller takes all back then.
    """
    rows = await connection.fetch(_ACCEPT, [found.id for found, _ in given], [key for _, key in given])
    done = {row["id"] for row in rows}
    for found, key in given:
        if found.id not in done:
            now = await one(connection, found.id)
            if now.state != "waiting":
                raise ConflictError("batch.claim_decided", id=found.id, state=now.state)
            raise NotFoundError("registry.no_device", key=key)
    changes = [
        Change(f"batch/{found.batch}", after={"serial": found.serial, "profile": found.profile, "device": key})
        for found, key in given
    ]
    await record(connection, by, "claim.accept", *changes)


async def reject(connection: asyncpg.Connection, found: Claim, *, by: str) -> None:
    """Refuse a claim for good: what it showed opens nothing again. Its serial number may be claimed anew.

    For an accepted one this only lets its hardware claim again, as after a factory reset; its device keeps its secret.
    """
    if found.state == "rejected":
        return
    await connection.execute(_REJECT, found.id)
    change = Change(f"batch/{found.batch}", before={"state": found.state}, after={"serial": found.serial})
    await record(connection, by, "claim.reject", change)


async def note_refused(connection: asyncpg.Connection, ask: Ask, refusal: Refusal) -> None:
    """Write a refused claim into the audit."""
    after = {
        "reason": refusal.value, "serial": ask.serial, "profile": ask.profile, "from": ask.came_from,
        "driver": ask.driver,
    }  # fmt: skip
    await record(connection, ask.batch, "claim.refused", Change(f"batch/{ask.batch}", after=after))


def _not_admitted(batch: Any, key: str, came_from: str | None) -> Refusal | None:
    if batch is None:
        return Refusal.UNKNOWN
    if not check_secret(key, batch["secret_hash"]):
        return Refusal.WRONG_KEY
    if batch["revoked_at"] is not None:
        return Refusal.REVOKED
    if batch["networks"] and not _is_inside(came_from, batch["networks"]):
        return Refusal.NETWORK
    return None


def _is_meant(profile: str, only: str | None, profiles: Profiles) -> bool:
    try:
        profiles.get(profile)
    except NotFoundError:
        return False
    return only in {None, profile}


def _is_inside(came_from: str | None, networks: Any) -> bool:
    address = _address(came_from)
    return address is not None and any(address in network for network in networks)


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


async def _begin(connection: asyncpg.Connection, batch: Any, profile: str, ask: Ask) -> Given:
    """Take up a serial number that nobody claims yet."""
    if await connection.fetchval(_REJECTED, profile, ask.serial, _digest(ask.reply)):
        return Given(refusal=Refusal.REJECTED)
    if batch["until"] <= datetime.now(UTC):
        return Given(refusal=Refusal.EXPIRED)
    expected = await connection.fetch(_EXPECTED, profile, ask.serial)
    unit_id = expected[0]["id"] if len(expected) == 1 else None
    state = "waiting" if unit_id is None else "accepted"
    address = _address(ask.came_from)
    came_from = None if address is None else str(address)
    row = (batch["id"], profile, ask.serial, _digest(ask.reply), ask.driver, came_from, state, unit_id)
    await connection.execute(_ONE_BY_ONE, batch["id"])  # from here on the batch's count matters
    if await connection.fetchval(_ADD, *row, batch["most"]) is None:
        return Given(refusal=Refusal.EXHAUSTED)
    after = {"serial": ask.serial, "profile": profile, "from": came_from, "driver": ask.driver, "state": state}
    await record(connection, ask.batch, "claim.new", Change(f"batch/{ask.batch}", after=after))
    if unit_id is None:
        return Given()
    return await _give(connection, await connection.fetchrow(_FIND, profile, ask.serial))


async def _go_on(connection: asyncpg.Connection, batch: Any, found: Any, ask: Ask) -> Given:
    """Answer for a serial number that is claimed already: by the same device, or by somebody else."""
    if found["batch_id"] != batch["id"] or found["reply_hash"] != _digest(ask.reply):
        await connection.execute(_CONTEST, found["id"])
        return Given(refusal=Refusal.CLONED)
    if found["state"] == "waiting":
        await connection.execute(_AGAIN, found["id"])
        return Given()
    over = found["issued_at"] is not None and found["issued_at"] + REPEAT <= datetime.now(UTC)
    if found["heard"] or over or not found["mounted"]:
        return Given(refusal=Refusal.REPLAYED)
    return await _give(connection, found)


async def _give(connection: asyncpg.Connection, found: Any) -> Given:
    secret = new_secret()
    await connection.execute(_GIVE, found["unit_id"], hash_secret(secret), found["id"])
    await record(connection, "claim", "device.secret", Change(f"device/{found['device']}", after={"secret": "given"}))
    return Given(found["device"], secret)


def _digest(reply: str) -> bytes:
    """Only this is kept: what is in the database must not let anybody repeat a claim."""
    return hashlib.sha256(reply.encode()).digest()
