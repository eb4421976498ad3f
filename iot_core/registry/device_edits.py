"""Devices changed after they were added: one, or all that a selector means, as one operation that can be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry import areas
from iot_core.registry.area_changes import Changed
from iot_core.registry.audit import Change, record
from iot_core.registry.search import folded
from iot_core.registry.selector import known, parse, where

__all__ = ["FIELDS", "edit", "read", "select", "write"]

_OF_UNIT: Final = ("serial", "firmware", "warranty_until", "calibrated_at", "calibration_due")
FIELDS: Final = (
    "name", "area", "latitude", "longitude", "labels", "notes", "photos", "lifecycle", "gateway", *_OF_UNIT,
)  # fmt: skip
"""What can be edited, and undone. The last five are facts of the mounted unit; days are texts (`2031-06-30`)."""
MOST: Final = 100_000
_SELECT: Final = "SELECT key FROM iot.device d WHERE d.retired_at IS NULL AND {} ORDER BY key LIMIT {}"
_READ: Final = """
SELECT d.id, d.key, d.name, area.key AS area, d.latitude, d.longitude, d.labels, d.notes, d.lifecycle,
    gateway.key AS gateway, d.photos, u.mounted_id AS unit_id, u.address, u.serial, u.firmware,
    u.warranty_until::text AS warranty_until, u.calibrated_at::text AS calibrated_at,
    u.calibration_due::text AS calibration_due
FROM iot.device d LEFT JOIN iot.area ON area.id = d.area_id LEFT JOIN iot.device gateway ON gateway.id = d.gateway_id
LEFT JOIN LATERAL (
    SELECT *, CASE WHEN unit.mounted_to IS NULL THEN unit.id END AS mounted_id FROM iot.unit
    WHERE unit.device_id = d.id AND (unit.mounted_to IS NULL OR d.retired_at IS NOT NULL)
    ORDER BY unit.mounted_to DESC NULLS FIRST, unit.id DESC LIMIT 1
) u ON true
WHERE d.key = ANY($1) AND ($2 OR d.retired_at IS NULL) ORDER BY d.id FOR UPDATE OF d
"""
_WRITE: Final = """
UPDATE iot.device SET name = new.name, area_id = area.id, latitude = new.latitude, longitude = new.longitude,
    labels = ARRAY(SELECT jsonb_array_elements_text(new.labels::jsonb)), notes = new.notes, lifecycle = new.lifecycle,
    gateway_id = gateway.id, search = new.search, photos = ARRAY(SELECT jsonb_array_elements_text(new.photos::jsonb))
FROM unnest($1::integer[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[])
    AS new (id, name, area, latitude, longitude, labels, notes, lifecycle, gateway, search, photos)
LEFT JOIN iot.area ON area.key = new.area LEFT JOIN iot.device gateway ON gateway.key = new.gateway
WHERE device.id = new.id
"""
_WRITE_UNITS: Final = """
UPDATE iot.unit SET serial = new.serial, firmware = new.firmware, warranty_until = new.warranty_until::date,
    calibrated_at = new.calibrated_at::date, calibration_due = new.calibration_due::date
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS new (id, serial, firmware, warranty_until, calibrated_at, calibration_due)
WHERE unit.id = new.id
"""
_GATEWAYS: Final = "SELECT key FROM iot.device WHERE key = ANY($1) AND retired_at IS NULL"
_EFFECTIVE: Final = "SELECT set_config('iot.effective_at', $1, true)"


async def select(connection: asyncpg.Connection, selector: str) -> list[str]:
    """Give the keys of all devices that a selector means, retired ones never."""
    terms = parse(selector)
    await known(connection, terms)
    condition, parameters = where(terms)
    rows = await connection.fetch(_SELECT.format(condition, MOST + 1), *parameters)
    if len(rows) > MOST:
        raise RequestError("registry.too_many_selected", most=MOST)
    return [row["key"] for row in rows]


async def edit(
    connection: asyncpg.Connection,
    keys: Sequence[str],
    fields: Mapping[str, Any],
    *,
    add_labels: Sequence[str] = (),
    drop_labels: Sequence[str] = (),
    by: str,
) -> Changed:
    """Set fields of devices and add or drop labels, as one operation. Raises NotFoundError for a key that is none.

    Raises ConflictError for a retired one.
    """
    async with connection.transaction():
        now = await read(connection, keys)
        missing = next((key for key in keys if key not in now), None)
        if missing is not None:
            if await read(connection, [missing], retired=True):
                raise ConflictError("registry.retired", key=missing)
            raise NotFoundError("registry.no_device", key=missing)
        wanted = {key: dict(fields) for key in keys}
        if add_labels or drop_labels:
            for key in keys:
                kept = [label for label in now[key]["labels"] if label not in {*add_labels, *drop_labels}]
                wanted[key]["labels"] = [*kept, *add_labels]
        at = datetime.now(UTC)
        changes = await write(connection, wanted, at=at)
        if not changes:
            return Changed(None, ())
        return Changed(await record(connection, by, "device.edit", *changes, effective_at=at), changes)


async def read(
    connection: asyncpg.Connection, keys: Sequence[str], *, retired: bool = False
) -> dict[str, dict[str, Any]]:
    """Read and lock devices: key -> what `FIELDS` name, with `id` and what else they are found by."""
    return {row["key"]: dict(row) for row in await connection.fetch(_READ, list(keys), retired)}


async def write(
    connection: asyncpg.Connection, wanted: Mapping[str, Mapping[str, Any]], *, at: datetime, retired: bool = False
) -> list[Change]:
    """Set fields of devices, inside the caller's transaction, and give what was different before `at`.

    `retired`: of those too, which is for taking back what was done to them.
    """
    now = await read(connection, list(wanted), retired=retired)
    changes = []
    rows = []
    for key, fields in wanted.items():
        before = {field: now[key][field] for field in fields if now[key][field] != fields[field]}
        if not before:
            continue
        after = {field: fields[field] for field in before}
        changes.append(Change(f"device/{key}", before, after))
        rows.append(now[key] | after)
    if rows:
        await _refuse_missing(connection, rows, [each.after or {} for each in changes])
        await connection.execute(_EFFECTIVE, at.isoformat())
        await connection.execute(_WRITE, *_columns(rows))
        await _write_units(connection, [row for row, change in zip(rows, changes, strict=True) if _of_unit(change)])
    return changes


def _of_unit(change: Change) -> bool:
    return not set(_OF_UNIT).isdisjoint(change.after or ())


async def _write_units(connection: asyncpg.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    bare = next((row["key"] for row in rows if row["unit_id"] is None), None)
    if bare is not None:
        raise ConflictError("registry.no_unit", key=bare)
    columns = [[row[field] for row in rows] for field in ("unit_id", *_OF_UNIT)]
    await connection.execute(_WRITE_UNITS, *columns)


async def _refuse_missing(
    connection: asyncpg.Connection, rows: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse what was said of areas and gateways that are not there; what stood before is let be."""
    for row in rows:
        if (row["latitude"] is None) is not (row["longitude"] is None):
            raise RequestError("registry.half_position", key=row["key"])
    await areas.live(connection, sorted({each["area"] for each in said if each.get("area") is not None}))
    asked = {each["gateway"] for each in said if each.get("gateway") is not None}
    there = {row["key"] for row in await connection.fetch(_GATEWAYS, list(asked))}
    if gone := sorted(asked - there):
        raise NotFoundError("registry.no_gateway", key=gone[0])


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    values = [
        (
            row["id"], row["name"], row["area"], row["latitude"], row["longitude"],
            msgspec.json.encode(row["labels"]).decode(), row["notes"], row["lifecycle"], row["gateway"],
            folded([row["key"], row["name"], row["address"], row["serial"], *row["labels"]]),
            msgspec.json.encode(row["photos"]).decode(),
        )
        for row in rows
    ]  # fmt: skip
    return [list(column) for column in zip(*values, strict=True)]
