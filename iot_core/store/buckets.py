"""Telemetry by the hour and by the civil day: read from the rollups, or from raw where there is no rollup.

Values that are implausible (their bit in `bad`), and rows of quality `calibration` or `bad`, never count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from iot_core.model import DeviceClass, Metric, MetricType, Quality
from iot_core.store.levels import Level

_COLUMNS: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_BITS: Final = "SELECT key, bit FROM iot.metric WHERE class_key = $1"
_ZONE: Final = "SELECT coalesce((SELECT value FROM iot.fixed_setting WHERE key = 'timezone'), 'UTC')"
_UNIT: Final = {Level.HOUR: "hour", Level.DAY: "day"}
PARTS: Final = ("min", "max", "avg", "last", "count", "bad", "used")
"""What is read of a metric; `used` is a counter's consumption."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric over a bucket or a span. Numbers as stored: a bool is 0 or 1, an enum its member's number.

    `average` of a bool is its share of true. `bad` counts implausible values, `used` is what a counter consumed
    (None where no rollup says it).
    """

    count: int
    minimum: float | None = None
    maximum: float | None = None
    average: float | None = None
    last: float | None = None
    bad: int = 0
    used: float | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """An hour or a day of one device, by its start."""

    time: datetime
    spreads: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Stats:
    """What many readings say of one metric together. `device_id` and `time` stand where it was asked by them."""

    metric: str
    spread: Spread
    devices: int
    device_id: int | None = None
    time: datetime | None = None


async def zone(connection: asyncpg.Connection) -> str:
    """Name the zone whose days are civil days here."""
    found: str = await connection.fetchval(_ZONE)
    return found


async def buckets(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    level: Level,
    *,
    start: datetime,
    end: datetime,
    metrics: Sequence[Metric],
) -> list[Bucket]:
    """Give the buckets of a device that begin from `start` (included) to `end` (excluded), oldest first."""
    source = await _source(connection, device_class, level, metrics, "device_id = $3")
    rows = await connection.fetch(f"{source} ORDER BY time", start, end, device_id)
    return [Bucket(row["time"], _spreads(row, metrics)) for row in rows]


async def reaches(
    connection: asyncpg.Connection, class_key: str, device_id: int, *, start: datetime, end: datetime
) -> bool:
    """Say whether the daily rollup holds something of a device in a span whose raw readings may be gone."""
    relation = relation_of(class_key, Level.DAY)
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", relation):
        return False
    found: bool = await connection.fetchval(
        f"SELECT EXISTS (SELECT FROM {relation} WHERE device_id = $1 AND time >= $2 AND time < $3)",
        device_id, start, end,
    )  # fmt: skip
    return found


async def stats(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    level: Level,
    *,
    start: datetime,
    end: datetime,
    metrics: Sequence[Metric],
    device_ids: Sequence[int] | None = None,
    by: str = "",
) -> list[Stats]:
    """Aggregate a span over all devices of a class, or over some; `by` is "", "device" or "time" (each bucket).

    The span is that of whole buckets. One entry a metric and group, in the order of `metrics`.
    """
    which = "" if device_ids is None else "device_id = ANY($3)"
    source = await _source(connection, device_class, level, metrics, which)
    group = {"": "", "device": "device_id", "time": "time"}[by]
    sums = ", ".join(_summed(number) for number in range(len(metrics)))
    tail = f"GROUP BY {group} ORDER BY {group}" if group else ""
    head = f"{group}, " if group else ""
    arguments: list[Any] = [start, end] if device_ids is None else [start, end, list(device_ids)]
    rows = await connection.fetch(f"SELECT {head}{sums} FROM ({source}) b {tail}", *arguments)
    return [
        Stats(
            metric.key,
            _spread(row, number),
            row[f"m{number}_devices"],
            row["device_id"] if by == "device" else None,
            row["time"] if by == "time" else None,
        )
        for row in rows
        for number, metric in enumerate(metrics)
        if row[f"m{number}_count"] or row[f"m{number}_bad"]
    ]


def relation_of(class_key: str, level: Level) -> str:
    """Name the relation that holds a level."""
    return f'telemetry."{class_key}"' if level is Level.RAW else f'telemetry."{class_key}_{level}"'


def _summed(number: int) -> str:
    m = f"m{number}"
    return (
        f"min({m}_min) AS {m}_min, max({m}_max) AS {m}_max,"
        f" sum({m}_avg * {m}_count) / nullif(sum({m}_count) FILTER (WHERE {m}_avg IS NOT NULL), 0) AS {m}_avg,"
        f" (array_agg({m}_last ORDER BY time DESC) FILTER (WHERE {m}_last IS NOT NULL))[1] AS {m}_last,"
        f" coalesce(sum({m}_count), 0) AS {m}_count, coalesce(sum({m}_bad), 0) AS {m}_bad, sum({m}_used) AS {m}_used,"
        f" count(DISTINCT device_id) FILTER (WHERE {m}_count > 0) AS {m}_devices"
    )


async def _source(
    connection: asyncpg.Connection, device_class: DeviceClass, level: Level, metrics: Sequence[Metric], which: str
) -> str:
    """Write the SELECT of a level's buckets from $1 to $2: time, device_id and m<number>_<part> for each metric."""
    where = "time >= $1 AND time < $2" + (f" AND {which}" if which else "")
    if level is not Level.RAW:
        relation = relation_of(device_class.key, level)
        there = {row["attname"] for row in await connection.fetch(_COLUMNS, relation)}
        if all(f"{metric.key}_count" in there for metric in metrics):
            parts = ", ".join(
                f"{_kept(metric, part, there)} AS m{number}_{part}"
                for number, metric in enumerate(metrics)
                for part in PARTS
            )
            return f"SELECT time, device_id, {parts} FROM {relation} WHERE {where}"
    bits = {row["key"]: 1 << row["bit"] for row in await connection.fetch(_BITS, device_class.key)}
    parts = ", ".join(
        f"{expression} AS m{number}_{part}"
        for number, metric in enumerate(metrics)
        for part, expression in _computed(metric, bits[metric.key]).items()
    )
    start = "time" if level is Level.RAW else f"date_trunc('{_UNIT[level]}', time, {_quoted(await zone(connection))})"
    return (
        f"SELECT {start} AS time, device_id, {parts} FROM {relation_of(device_class.key, Level.RAW)}"
        f" WHERE {where} GROUP BY 1, 2"
    )


def _kept(metric: Metric, part: str, there: set[str]) -> str:
    """Name a rollup's column, or NULL where it has none."""
    if part == "bad":
        share, count = f'"{metric.key}_bad_share"', f'"{metric.key}_count"'
        if share.strip('"') not in there:
            return "0::bigint"
        return f"round(CASE WHEN {share} < 1 THEN {count} * {share} / (1 - {share}) ELSE rows END)::bigint"
    name = f"{metric.key}_consumption" if part == "used" else f"{metric.key}_{part}"
    if name not in there:
        return "NULL::double precision"
    return f'"{name}"::{"bigint" if part == "count" else "double precision"}'


def _computed(metric: Metric, bit: int) -> dict[str, str]:
    """Say how a rollup's columns come from raw readings."""
    name = f'"{metric.key}"'
    value = f"{name}::integer::double precision" if metric.type is MetricType.BOOL else f"{name}::double precision"
    fine = f"FILTER (WHERE {name} IS NOT NULL AND quality < {int(Quality.CALIBRATION)} AND bad & {bit}::bigint = 0)"
    number = metric.type is not MetricType.ENUM
    return {
        "min": f"min({value}) {fine}" if number else "NULL::double precision",
        "max": f"max({value}) {fine}" if number else "NULL::double precision",
        "avg": f"avg({value}) {fine}" if number and not metric.counter else "NULL::double precision",
        "last": f"(array_agg({value} ORDER BY time DESC) {fine})[1]",
        "count": f"count(*) {fine}",
        "bad": f"count(*) FILTER (WHERE {name} IS NOT NULL AND bad & {bit}::bigint <> 0)",
        "used": "NULL::double precision",
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _spreads(row: Any, metrics: Sequence[Metric]) -> dict[str, Spread]:
    return {
        metric.key: _spread(row, number)
        for number, metric in enumerate(metrics)
        if row[f"m{number}_count"] or row[f"m{number}_bad"]
    }


def _spread(row: Any, number: int) -> Spread:
    m = f"m{number}"
    return Spread(
        int(row[f"{m}_count"] or 0),
        row[f"{m}_min"],
        row[f"{m}_max"],
        row[f"{m}_avg"],
        row[f"{m}_last"],
        int(row[f"{m}_bad"] or 0),
        row[f"{m}_used"],
    )
