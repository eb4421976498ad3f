"""Devices as people look for them: lists with filters, one with its units, and the light list that maps draw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import asyncpg

from iot_core.errors import NotFoundError
from iot_core.registry.search import patterns
from iot_core.registry.selector import known, parse, where

__all__ = [
    "Detail", "Device", "Filter", "MapDevice", "Short", "Unit", "count", "detail", "devices", "full", "map_devices",
    "one", "short",
]  # fmt: skip

# An open alarm of a silence rule names no metric and no value: the device is silent then, which is not the same as in
# alarm.
_ALARMS: Final = """
SELECT device_id,
    min(array_position(ARRAY['critical', 'high', 'medium', 'low'], severity))
        FILTER (WHERE metric IS NOT NULL OR value IS NOT NULL) AS urgency,
    bool_or(metric IS NULL AND value IS NULL) AS silent
FROM iot.alarm WHERE closed_at IS NULL AND cleared_at IS NULL AND device_id IS NOT NULL AND suppressed_by IS NULL
    AND NOT test
GROUP BY device_id
"""
# Inside a window a device is in maintenance, whatever its row says: nothing has to run when the window ends.
_KEPT: Final = "SELECT DISTINCT device_id FROM iot.maintained(now(), now()) WHERE kind = 'maintenance'"
_LIFECYCLE: Final = """
CASE WHEN d.retired_at IS NULL AND kept.device_id IS NOT NULL THEN 'maintenance' ELSE d.lifecycle END
"""
_STATE: Final = """
CASE WHEN d.retired_at IS NOT NULL THEN 'retired'
    WHEN alarm.urgency IS NOT NULL THEN 'alarm'
    WHEN alarm.silent OR s.silent_since IS NOT NULL THEN 'silent'
    WHEN s.last_received_at IS NULL THEN 'never'
    ELSE 'ok' END
"""
# Few of a city are silent or in alarm: they are found by what says so, not by a look at everybody.
_FEW: Final = {
    "alarm": "SELECT device_id FROM iot.alarm WHERE closed_at IS NULL",
    "silent": "SELECT device_id FROM iot.alarm WHERE closed_at IS NULL"
    " UNION SELECT device_id FROM iot.device_status WHERE silent_since IS NOT NULL",
}
# First which rows, by as few tables as the question needs; only what is shown of a page is put together.
_MATCHING: Final = "FROM iot.device d {joins} WHERE {conditions}"
_STATES: Final = f"""
LEFT JOIN iot.device_status s ON s.device_id = d.id LEFT JOIN ({_ALARMS}) alarm ON alarm.device_id = d.id
"""
_COUNT: Final = f"SELECT count(*) {_MATCHING}"
_LIST: Final = f"""
WITH page AS MATERIALIZED (SELECT d.id {_MATCHING} ORDER BY d.key LIMIT {{limit}}),
alarm AS ({_ALARMS.replace("GROUP BY", "AND device_id IN (SELECT id FROM page) GROUP BY")}), kept AS ({_KEPT})
SELECT d.key, d.name, d.class_key, area.key AS area, d.latitude, d.longitude, {_LIFECYCLE} AS lifecycle,
    {_STATE} AS state, d.simulated, u.profile, u.address, s.last_received_at, s.last_time, s.online
FROM page JOIN iot.device d USING (id)
LEFT JOIN iot.area ON area.id = d.area_id
LEFT JOIN LATERAL (
    SELECT profile, address FROM iot.unit WHERE device_id = d.id AND mounted_to IS NULL ORDER BY id DESC LIMIT 1
) u ON true
LEFT JOIN iot.device_status s ON s.device_id = d.id
LEFT JOIN alarm ON alarm.device_id = d.id
LEFT JOIN kept ON kept.device_id = d.id
ORDER BY d.key
"""
_INSIDE: Final = """
d.area_id IN (
    WITH RECURSIVE inside AS (
        SELECT id FROM iot.area WHERE key = {key}
        UNION
        SELECT area.id FROM iot.area JOIN inside ON area.parent_id = inside.id
    ) SELECT id FROM inside)
"""
_WORD: Final = "(d.search LIKE {word} OR d.area_id IN (SELECT id FROM iot.area WHERE path_search LIKE {word}))"
_AREA: Final = "SELECT EXISTS (SELECT FROM iot.area WHERE key = $1)"
_DETAIL: Final = """
SELECT d.id, gateway.key AS gateway, d.labels, d.notes, d.photos, d.created_at, d.retired_at, s.online_changed_at,
    s.silent_since,
    s.last_received_at IS NOT NULL AS heard,
    (SELECT count(*) FROM iot.held_uplink h WHERE h.device_id = d.id) AS held,
    EXISTS (SELECT FROM iot.unit u JOIN iot.seq_range r ON r.unit_id = u.id WHERE u.device_id = d.id
        AND u.mounted_to IS NULL) AS numbered,
    (SELECT max(c.at) FROM iot.commissioning c WHERE c.device_id = d.id AND c.passed) AS commissioned_at
FROM iot.device d LEFT JOIN iot.device gateway ON gateway.id = d.gateway_id
LEFT JOIN iot.device_status s ON s.device_id = d.id WHERE d.key = $1
"""
_UNITS: Final = """
SELECT profile, address, serial, firmware, secret_hash IS NOT NULL AS has_secret, mounted_from, mounted_to,
    warranty_until, calibrated_at, calibration_due
FROM iot.unit WHERE device_id = $1 ORDER BY mounted_to DESC NULLS FIRST, id DESC LIMIT 100
"""
_FULL: Final = f"""
WITH kept AS ({_KEPT})
SELECT d.key, d.name, u.profile, d.class_key, area.key AS area, d.latitude, d.longitude, u.address, u.serial,
    gateway.key AS gateway, d.labels, d.notes, u.warranty_until, u.calibrated_at, u.calibration_due,
    {_LIFECYCLE} AS lifecycle
FROM iot.device d LEFT JOIN iot.area ON area.id = d.area_id LEFT JOIN iot.device gateway ON gateway.id = d.gateway_id
LEFT JOIN kept ON kept.device_id = d.id
LEFT JOIN LATERAL (
    SELECT * FROM iot.unit WHERE device_id = d.id AND mounted_to IS NULL ORDER BY id DESC LIMIT 1
) u ON true
WHERE d.retired_at IS NULL AND ($1::text IS NULL OR d.key > $1) AND ($3::integer[] IS NULL OR d.area_id = ANY($3))
    AND {{}} ORDER BY d.key LIMIT $2
"""
_SHORT: Final = "SELECT id, key, class_key FROM iot.device WHERE key = $1"
_MAP: Final = f"""
WITH alarm AS ({_ALARMS})
SELECT d.key, d.name, d.class_key, d.latitude, d.longitude, {_STATE} AS state,
    (ARRAY['critical', 'high', 'medium', 'low'])[alarm.urgency] AS severity, d.simulated, d.area_id
FROM iot.device d LEFT JOIN iot.device_status s ON s.device_id = d.id LEFT JOIN alarm ON alarm.device_id = d.id
WHERE d.retired_at IS NULL AND ($1::integer[] IS NULL OR d.area_id = ANY($1)) ORDER BY d.key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is looked for; `area` takes those inside it too, `within` is where the asker may look (None: everywhere)."""

    class_key: str | None = None
    area: str | None = None
    state: str | None = None
    search: str = ""
    keys: tuple[str, ...] | None = None
    within: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device with its mounted unit and when it was heard."""

    key: str
    name: str
    class_key: str
    area: str | None
    latitude: float | None
    longitude: float | None
    lifecycle: str
    state: str
    simulated: bool
    profile: str | None
    address: str | None
    last_received_at: datetime | None
    last_time: datetime | None
    online: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The hardware mounted at a device from-to."""

    profile: str
    address: str
    serial: str | None
    firmware: str | None
    has_secret: bool
    mounted_from: datetime
    mounted_to: datetime | None
    warranty_until: date | None
    calibrated_at: date | None
    calibration_due: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What a list does not show of a device."""

    id: int
    gateway: str | None
    labels: tuple[str, ...]
    notes: str
    photos: tuple[str, ...]
    created_at: datetime
    retired_at: datetime | None
    online_changed_at: datetime | None
    silent_since: datetime | None
    heard: bool
    held: int
    numbered: bool
    commissioned_at: datetime | None
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapDevice:
    """What a map draws."""

    key: str
    name: str
    class_key: str
    latitude: float | None
    longitude: float | None
    state: str
    severity: str | None
    simulated: bool
    area_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """What telemetry is found by."""

    id: int
    key: str
    class_key: str


async def devices(
    connection: asyncpg.Connection, wanted: Filter, *, limit: int = 1_000, after: str | None = None
) -> list[Device]:
    """List devices in key order, retired ones only when asked for by state or key."""
    if wanted.area is not None and not await connection.fetchval(_AREA, wanted.area):
        raise NotFoundError("registry.no_area", key=wanted.area)
    values: list[Any] = []
    conditions, joins = _conditions(wanted, values)
    if after is not None:
        conditions.append(f"d.key > {_put(values, after)}")
    query = _LIST.format(joins=joins, conditions=" AND ".join(conditions), limit=_put(values, limit))
    return [Device(**row) for row in await connection.fetch(query, *values)]


async def count(connection: asyncpg.Connection, wanted: Filter) -> int:
    """Count all devices that match."""
    values: list[Any] = []
    conditions, joins = _conditions(wanted, values)
    query = _COUNT.format(joins=joins, conditions=" AND ".join(conditions))
    number: int = await connection.fetchval(query, *values)
    return number


async def one(connection: asyncpg.Connection, key: str) -> Device:
    """Find a device by its key, retired or not."""
    found = await devices(connection, Filter(keys=(key,)), limit=1)
    if not found:
        raise NotFoundError("registry.no_device", key=key)
    return found[0]


async def detail(connection: asyncpg.Connection, key: str) -> Detail:
    """Give the rest of a device."""
    row = await connection.fetchrow(_DETAIL, key)
    if row is None:
        raise NotFoundError("registry.no_device", key=key)
    units = [Unit(**unit) for unit in await connection.fetch(_UNITS, row["id"])]
    return Detail(**{**row, "labels": tuple(row["labels"]), "photos": tuple(row["photos"])}, units=tuple(units))


async def full(
    connection: asyncpg.Connection,
    selector: str | None,
    *,
    after: str | None = None,
    limit: int = 1_000,
    within: frozenset[int] | None = None,
) -> list[Any]:
    """Give devices with all that a list of devices holds, in key order, retired ones never."""
    terms = () if selector is None else parse(selector)
    await known(connection, terms)
    condition, parameters = where(terms, first=4) if terms else ("true", [])
    return list(await connection.fetch(_FULL.format(condition), after, limit, _ids(within), *parameters))


async def short(connection: asyncpg.Connection, key: str) -> Short:
    """Find a device's number and class."""
    row = await connection.fetchrow(_SHORT, key)
    if row is None:
        raise NotFoundError("registry.no_device", key=key)
    return Short(**row)


async def map_devices(connection: asyncpg.Connection, within: frozenset[int] | None = None) -> list[MapDevice]:
    """List every device that is not retired (in these areas, if given), as a map draws it."""
    return [MapDevice(**row) for row in await connection.fetch(_MAP, _ids(within))]


def _conditions(wanted: Filter, values: list[Any]) -> tuple[list[str], str]:
    """Write what is looked for as conditions on `d`, and the joins that they need; their values go into `values`."""
    conditions: list[str] = []
    if wanted.keys is not None:
        conditions.append(f"d.key = ANY({_put(values, list(wanted.keys))}::text[])")
    elif wanted.state != "retired":
        conditions.append("d.retired_at IS NULL")
    if wanted.class_key is not None:
        conditions.append(f"d.class_key = {_put(values, wanted.class_key)}")
    if wanted.area is not None:
        conditions.append(_INSIDE.format(key=_put(values, wanted.area)))
    if wanted.within is not None:
        conditions.append(f"d.area_id = ANY({_put(values, _ids(wanted.within))}::integer[])")
    conditions += [_WORD.format(word=_put(values, word)) for word in patterns(wanted.search)]
    if wanted.state is None:
        return conditions or ["true"], ""
    if wanted.state in _FEW:
        conditions.append(f"d.id IN ({_FEW[wanted.state]})")
    return [*conditions, f"{_STATE} = {_put(values, wanted.state)}"], _STATES


def _put(values: list[Any], value: object) -> str:
    """Add a value, and give the place that stands for it in the query."""
    values.append(value)
    return f"${len(values)}"


def _ids(within: frozenset[int] | None) -> list[int] | None:
    return None if within is None else list(within)
