"""Devices and the units mounted at them: added together or not at all, retired, restored; history always stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import is_key, is_reserved
from iot_core.registry import areas
from iot_core.registry.addresses import NATIVE, address_of, signs_in
from iot_core.registry.audit import Change, record
from iot_core.registry.credentials import new_secret
from iot_core.registry.passwords import hash_secret
from iot_core.registry.search import folded

if TYPE_CHECKING:
    from iot_core.profiles import Profile, Profiles

__all__ = ["Added", "NewDevice", "add", "completed", "mount_back", "remove", "replace_unit", "restore", "waiting"]

_GATEWAYS: Final = "SELECT key, id FROM iot.device WHERE key = ANY($1) AND retired_at IS NULL"
_TAKEN_KEYS: Final = "SELECT key, retired_at FROM iot.device WHERE key = ANY($1) ORDER BY key LIMIT 1"
_TAKEN_ADDRESSES: Final = """
SELECT unit.address, device.key FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE unit.mounted_to IS NULL AND unit.address = ANY($1) ORDER BY unit.address LIMIT 1
"""
_TAKEN_SERIAL: Final = """
SELECT device.key FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE unit.mounted_to IS NULL AND unit.profile = $1 AND unit.serial = $2 AND unit.device_id <> $3
ORDER BY device.key LIMIT 1
"""
# Labels come as JSON in a text: unnest would flatten an array of arrays.
_ADD: Final = """
WITH new AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::float8[], $6::float8[],
        $7::integer[], $8::boolean[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::text[], $17::date[], $18::date[], $19::date[])
    AS new (key, name, class_key, area_id, latitude, longitude, gateway_id, simulated, labels, notes, search,
        profile, serial, address, secret_hash, lifecycle, warranty_until, calibrated_at, calibration_due)
), device AS (
    INSERT INTO iot.device (key, name, class_key, area_id, latitude, longitude, gateway_id, simulated, labels, notes,
        search, lifecycle)
    SELECT key, name, class_key, area_id, latitude, longitude, gateway_id, simulated,
        ARRAY(SELECT jsonb_array_elements_text(labels::jsonb)), notes, search, lifecycle FROM new
    RETURNING id, key
)
INSERT INTO iot.unit (device_id, profile, serial, address, secret_hash, warranty_until, calibrated_at, calibration_due)
SELECT device.id, new.profile, new.serial, new.address, new.secret_hash, new.warranty_until, new.calibrated_at,
    new.calibration_due
FROM new JOIN device USING (key)
"""
_LOCK: Final = """
SELECT id, key, name, class_key, labels, gateway_id, retired_at FROM iot.device WHERE key = $1 FOR UPDATE
"""
_RETIRE: Final = "UPDATE iot.device SET lifecycle = 'retired', retired_at = now() WHERE id = $1"
_DISMOUNT: Final = """
UPDATE iot.unit SET mounted_to = GREATEST(now(), mounted_from) WHERE device_id = $1 AND mounted_to IS NULL
RETURNING address, profile
"""
_MOUNTED: Final = """
SELECT id, profile, serial, address FROM iot.unit WHERE device_id = $1 AND mounted_to IS NULL ORDER BY id DESC LIMIT 1
"""
_MOUNTED_AT: Final = "SELECT id FROM iot.unit WHERE device_id = $1 AND mounted_to IS NULL AND mounted_from = $2"
_HEARD_SINCE: Final = "SELECT last_received_at > $2 FROM iot.device_status WHERE device_id = $1"
_DROP_CHANNELS: Final = "DELETE FROM iot.channel WHERE unit_id = $1"
_DROP_UNIT: Final = "DELETE FROM iot.unit WHERE id = $1"
_MOUNT_BACK: Final = """
UPDATE iot.unit SET mounted_to = NULL WHERE device_id = $1 AND mounted_to = $2 RETURNING address, serial
"""
_SEARCH: Final = "UPDATE iot.device SET search = $2 WHERE id = $1"
_LAST_UNITS: Final = """
SELECT id, profile, serial, firmware, address, secret_hash, revoked_at FROM iot.unit
WHERE device_id = $1 AND mounted_to = (SELECT max(mounted_to) FROM iot.unit WHERE device_id = $1) ORDER BY id
"""
_REVIVE: Final = """
UPDATE iot.device SET retired_at = NULL, lifecycle = CASE WHEN EXISTS (
    SELECT FROM iot.device_status WHERE device_id = $1 AND last_received_at IS NOT NULL
) THEN 'active' ELSE 'provisioned' END WHERE id = $1
"""
# Where its area ended meanwhile: into what that went, or around it, until one that is still there.
_HOME: Final = """
WITH RECURSIVE stands AS (
    SELECT area.id, area.ended_at, coalesce(area.into_id, area.parent_id) AS next
    FROM iot.area JOIN iot.device ON device.area_id = area.id WHERE device.id = $1
    UNION SELECT area.id, area.ended_at, coalesce(area.into_id, area.parent_id)
    FROM iot.area JOIN stands ON area.id = stands.next WHERE stands.ended_at IS NOT NULL
)
UPDATE iot.device SET area_id = (SELECT id FROM stands WHERE ended_at IS NULL)
WHERE id = $1 AND area_id IN (SELECT id FROM stands WHERE ended_at IS NOT NULL)
"""
_REMOUNT: Final = """
INSERT INTO iot.unit (device_id, profile, serial, firmware, address, secret_hash, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""
_CHANNELS: Final = """
INSERT INTO iot.channel (unit_id, channel, device_id) SELECT $2, channel, device_id FROM iot.channel WHERE unit_id = $1
"""
# A login belongs to what hangs there, which is back; an OSCORE key goes with the unit's number, which is a new one.
_LOGIN: Final = """
INSERT INTO iot.credential (unit_id, kind, public, secret)
SELECT $2, kind, public, secret FROM iot.credential WHERE unit_id = $1 AND kind = 'login'
"""
_WAITING: Final = """
SELECT DISTINCT address FROM iot.held_uplink WHERE reason = 'unknown_address' AND address = ANY($1) ORDER BY address
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A device to be added with its first unit; the class follows from the profile, or the native profile from it."""

    key: str
    name: str | None = None
    profile: str | None = None
    class_key: str | None = None
    area: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    address: str | None = None
    serial: str | None = None
    gateway: str | None = None
    simulated: bool = False
    planned: bool = False
    """It is expected: its unit has no secret until it claims one with its serial number."""
    labels: tuple[str, ...] = ()
    notes: str = ""
    warranty_until: date | None = None
    calibrated_at: date | None = None
    calibration_due: date | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A device that was added or restored; `secret` exists in clear only here."""

    key: str
    address: str
    secret: str | None
    operation: int | None = None
    """What takes the adding back."""


async def add(
    connection: asyncpg.Connection, profiles: Profiles, new: Sequence[NewDevice], *, by: str, dry: bool = False
) -> list[Added]:
    """Add devices with their units, all or none. The error names the device that is in the way.

    `dry`: the caller takes everything back, so no secret is worth hashing.
    """
    _refuse_doubles("registry.key_twice", [each.key for each in new])
    checked = [_checked(each, profiles) for each in new]
    _refuse_doubles("registry.address_twice", [each.address for each, _ in checked])
    added = [_with_secret(each) for each, _ in checked]
    # Off the loop, because ingest turns on it: hashing 5,000 secrets takes most of a second.
    hashes = await asyncio.to_thread(
        lambda: [hash_secret(each.secret) if each.secret and not dry else None for each in added]
    )
    async with connection.transaction():
        ids = {
            "area": await areas.live(connection, sorted({each.area for each in new if each.area is not None})),
            "gateway": await _gateways(connection, sorted({each.gateway for each in new if each.gateway is not None})),
        }
        await _refuse_taken(connection, added)
        try:
            await connection.execute(_ADD, *_columns(checked, hashes, ids))
        except asyncpg.UniqueViolationError:  # somebody was faster; their row is visible now
            raise ConflictError("registry.added_meanwhile") from None
        number = await record(connection, by, "device.add", *(_change(each, profile) for each, profile in checked))
    return [replace(each, operation=number) for each in added]


async def remove(connection: asyncpg.Connection, key: str, *, by: str) -> None:
    """Retire a device and dismount its units; its history stays. Removing it again changes nothing."""
    async with connection.transaction():
        device = await _locked(connection, key)
        if device["retired_at"] is not None:
            return
        units = await connection.fetch(_DISMOUNT, device["id"])
        await connection.execute(_RETIRE, device["id"])
        before = {"units": [dict(unit) for unit in units]}
        await record(connection, by, "device.remove", Change(f"device/{key}", before=before))


async def restore(connection: asyncpg.Connection, key: str, *, by: str, fresh_secret: bool = False) -> Added:
    """Take a retired device back, its unit mounted at the same address; ConflictError if somebody else is there now.

    The unit in the field still knows its secret, so that one stays unless a new one is asked for.
    """
    async with connection.transaction():
        device = await _locked(connection, key)
        if device["retired_at"] is None:
            raise ConflictError("registry.not_retired", key=key)
        units = await connection.fetch(_LAST_UNITS, device["id"])
        if not units:
            raise ConflictError("registry.no_unit", key=key)
        added = [_again(key, unit, fresh_secret=fresh_secret) for unit in units]
        await _refuse_taken(connection, added, keys=False)
        await connection.execute(_REVIVE, device["id"])
        await connection.execute(_HOME, device["id"])
        for unit, each in zip(units, added, strict=True):
            await _remount(connection, device["id"], unit, each)
        after = {"address": added[0].address, "new_secret": added[0].secret is not None}
        await record(connection, by, "device.restore", Change(f"device/{key}", after=after))
    return added[0]


async def replace_unit(
    connection: asyncpg.Connection,
    profiles: Profiles,
    key: str,
    *,
    serial: str | None = None,
    profile: str | None = None,
    address: str | None = None,
    by: str,
) -> Added:
    """Mount another unit at a device: history, alarms and rules go on, the old unit's secret dies with it.

    What the old unit still had queued is stored as its own, because ingest knows who was mounted when.
    """
    async with connection.transaction():
        device = await _locked(connection, key)
        if device["retired_at"] is not None:
            raise ConflictError("registry.device_retired", key=key)
        before = await connection.fetchrow(_MOUNTED, device["id"])
        asked = NewDevice(
            key=key,
            profile=profile or (before["profile"] if before else None),
            class_key=device["class_key"],
            address=address or (before["address"] if before and profile is None else None),
            serial=serial,
        )
        new = completed(asked, profiles)
        assert new.address is not None
        elsewhere = await connection.fetchval(_TAKEN_SERIAL, new.profile, serial, device["id"])
        if elsewhere is not None:
            raise ConflictError("registry.serial_elsewhere", serial=serial, profile=new.profile, key=elsewhere)
        behind = device["gateway_id"] is not None
        added = Added(key, new.address, new_secret() if signs_in(new.address, behind_gateway=behind) else None)
        await connection.fetch(_DISMOUNT, device["id"])
        await _refuse_taken(connection, [added], keys=False)
        hashed = await asyncio.to_thread(hash_secret, added.secret) if added.secret else None
        new_id = await connection.fetchval(
            _REMOUNT, device["id"], new.profile, serial, None, added.address, hashed, None
        )
        if before is not None and before["profile"] == new.profile:
            await connection.execute(_CHANNELS, before["id"], new_id)
        await connection.execute(
            _SEARCH, device["id"], folded([key, device["name"], new.address, serial, *device["labels"]])
        )
        was = None if before is None else {name: before[name] for name in ("profile", "serial", "address")}
        after = {"profile": new.profile, "serial": serial, "address": added.address}
        at = await connection.fetchval("SELECT now()")  # as both units' rows have it
        number = await record(connection, by, "device.replace", Change(f"device/{key}", was, after), effective_at=at)
    return replace(added, operation=number)


async def mount_back(connection: asyncpg.Connection, key: str, number: int, at: datetime) -> bool:
    """Undo an exchange: who was taken away at that moment hangs there as if never away, its secret with it.

    False when what was mounted then is there no more. Raises ConflictError where it has spoken, or is used, by now.
    """
    device = await _locked(connection, key)
    new = await connection.fetchval(_MOUNTED_AT, device["id"], at)
    if new is None or device["retired_at"] is not None:
        return False
    if await connection.fetchval(_HEARD_SINCE, device["id"], at):
        raise ConflictError("registry.unit_heard", number=number, key=key)
    try:
        async with connection.transaction():
            await connection.execute(_DROP_CHANNELS, new)
            await connection.execute(_DROP_UNIT, new)
            units = await connection.fetch(_MOUNT_BACK, device["id"], at)
    except asyncpg.ForeignKeyViolationError as exc:
        raise ConflictError("registry.unit_heard", number=number, key=key) from exc
    except asyncpg.UniqueViolationError:
        raise ConflictError("registry.added_meanwhile") from None
    said = [word for unit in units for word in (unit["address"], unit["serial"])]
    await connection.execute(_SEARCH, device["id"], folded([key, device["name"], *said, *device["labels"]]))
    return True


async def waiting(connection: asyncpg.Connection, addresses: Sequence[str]) -> list[str]:
    """Say which of these addresses have uplinks in the inbox."""
    return [row["address"] for row in await connection.fetch(_WAITING, list(addresses))]


# ---------------------------------------------------------------- before any SQL
def completed(new: NewDevice, profiles: Profiles) -> NewDevice:
    """Fill in what follows from the rest: name, profile, class, address. Raises RequestError naming what is missing."""
    return _checked(new, profiles)[0]


def _checked(new: NewDevice, profiles: Profiles) -> tuple[NewDevice, Profile]:
    """Fill in what follows from the rest: name, class, address."""
    if not is_key(new.key):
        raise RequestError("registry.bad_key", key=new.key)
    if is_reserved(new.key):
        raise RequestError("registry.reserved_key", key=new.key)
    if (new.latitude is None) is not (new.longitude is None):
        raise RequestError("registry.half_position", key=new.key)
    profile = _profile(new, profiles)
    address = address_of(new.key, profile.address, new.address)
    return replace(
        new, name=new.name or new.key, profile=profile.model, class_key=profile.class_key, address=address
    ), profile


def _profile(new: NewDevice, profiles: Profiles) -> Profile:
    if new.class_key is not None and new.class_key not in profiles.classes:
        raise NotFoundError("registry.no_class", key=new.class_key, known=", ".join(sorted(profiles.classes)))
    if new.profile is None:
        if new.class_key is None:
            raise RequestError("registry.profile_needed", key=new.key)
        return profiles.native(new.class_key)
    profile = profiles.get(new.profile)
    if new.class_key not in {None, profile.class_key}:
        raise RequestError(
            "registry.other_class", key=new.key, profile=profile.model, has=profile.class_key, asked=new.class_key
        )
    return profile


def _refuse_doubles(code: str, said: Sequence[str | None]) -> None:
    double, times = Counter(said).most_common(1)[0]
    if times > 1:
        raise RequestError(code, key=double)


def _with_secret(new: NewDevice) -> Added:
    assert new.address is not None
    needed = not new.planned and signs_in(new.address, behind_gateway=new.gateway is not None)
    return Added(new.key, new.address, new_secret() if needed else None)


def _again(key: str, unit: Any, *, fresh_secret: bool) -> Added:
    had = unit["secret_hash"] is not None
    needed = (had and fresh_secret) or (not had and unit["address"].startswith(NATIVE))
    return Added(key, unit["address"], new_secret() if needed else None)


# ---------------------------------------------------------------- SQL
async def _gateways(connection: asyncpg.Connection, keys: Sequence[str]) -> dict[str, int]:
    found = {row["key"]: row["id"] for row in await connection.fetch(_GATEWAYS, keys)}
    missing = next((key for key in keys if key not in found), None)
    if missing is not None:
        raise NotFoundError("registry.no_gateway", key=missing)
    return found


async def _refuse_taken(connection: asyncpg.Connection, added: Sequence[Added], *, keys: bool = True) -> None:
    if keys:
        row = await connection.fetchrow(_TAKEN_KEYS, [each.key for each in added])
        if row is not None:
            code = "registry.device_exists" if row["retired_at"] is None else "registry.device_retired"
            raise ConflictError(code, key=row["key"])
    row = await connection.fetchrow(_TAKEN_ADDRESSES, [each.address for each in added])
    if row is not None:
        raise ConflictError("registry.address_taken", address=row["address"], key=row["key"])


def _columns(
    checked: Sequence[tuple[NewDevice, Profile]], hashes: Sequence[str | None], ids: dict[str, dict[str, int]]
) -> list[list[Any]]:
    rows = [
        (
            new.key, new.name, new.class_key, ids["area"].get(new.area or ""), new.latitude, new.longitude,
            ids["gateway"].get(new.gateway or ""), new.simulated, msgspec.json.encode(new.labels).decode(), new.notes,
            folded([new.key, new.name, new.address, new.serial, *new.labels]), new.profile, new.serial, new.address,
            hashed, "planned" if new.planned else "provisioned", new.warranty_until, new.calibrated_at,
            new.calibration_due,
        )
        for (new, _), hashed in zip(checked, hashes, strict=True)
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def _change(new: NewDevice, profile: Profile) -> Change:
    after = {
        "name": new.name, "class": profile.class_key, "profile": profile.model, "address": new.address,
        "area": new.area, "latitude": new.latitude, "longitude": new.longitude, "simulated": new.simulated,
    }  # fmt: skip
    return Change(f"device/{new.key}", after=after)


async def _locked(connection: asyncpg.Connection, key: str) -> Any:
    device = await connection.fetchrow(_LOCK, key)
    if device is None:
        raise NotFoundError("registry.no_device", key=key)
    return device


async def _remount(connection: asyncpg.Connection, device_id: int, unit: Any, added: Added) -> None:
    hashed = hash_secret(added.secret) if added.secret else unit["secret_hash"]
    revoked = None if hashed else unit["revoked_at"]
    try:
        new_id = await connection.fetchval(
            _REMOUNT, device_id, unit["profile"], unit["serial"], unit["firmware"], added.address, hashed, revoked
        )
    except asyncpg.UniqueViolationError:
        raise ConflictError("registry.added_meanwhile") from None
    await connection.execute(_CHANNELS, unit["id"], new_id)
    await connection.execute(_LOGIN, unit["id"], new_id)
