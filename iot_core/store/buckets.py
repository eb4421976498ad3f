"""Telemetry by the hour and by the civil day: read from the rollups, or from raw where there is no rollup.

Values that are implausible (their bit in `bad`), and rows of quality `calibration` or `bad`, never count. Rollups
follow within a minute: of a few devices the buckets that are not redone yet are read from raw, of many as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.model import DeviceClass, Metric, MetricType, Quality
from iot_core.store.levels import Level, whole_buckets
from iot_core.store.tables import read_calendar

_COLUMNS: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_BITS: Final = "SELECT key, bit FROM iot.metric WHERE class_key = $1"
PARTS: Final = ("min", "max", "avg", "last", "count", "bad", "used")
"""What is read of a metric; the last, `used`, is a counter's consumption."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric over a bucket or a span. Numbers as stored: a bool is 0 or 1, an enum its member's number.

    `average` of a bool is its share of true. `bad` counts implausible values, `used` is what a counter consumed.
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
    source, arguments = await _exact(connection, device_class, level, metrics, (start, end), device_ids=[device_id])
    rows = await connection.fetch(f"{source} ORDER BY time", *arguments)
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
    then_in: str | None = None,
) -> list[Stats]:
    """Aggregate a span over all devices of a class, or over some; `by` is "", "device" or "time" (each bucket).

    `then_in`: of these devices only buckets that began while they stood in this area, by the areas of that time.
    The span is that of whole buckets. One entry a metric and group, in the order of `metrics`.
    """
    span = (start, end)
    if device_ids is None:
        source = await _source(connection, device_class, level, metrics, "")
        arguments: list[Any] = [start, end]
    elif len(device_ids) <= _FEW:
        source, arguments = await _exact(connection, device_class, level, metrics, span, device_ids=device_ids)
    else:
        source = await _source(connection, device_class, level, metrics, "device_id = ANY($3)")
        arguments = [start, end, list(device_ids)]
    if then_in is not None:
        arguments.append(then_in)
        source = _STOOD.format(source=source, area=f"${len(arguments)}")
    group = {"": "", "device": "device_id", "time": "time"}[by]
    sums = ", ".join(_summed(number) for number in range(len(metrics)))
    tail = f"GROUP BY {group} ORDER BY {group}" if group else ""
    head = f"{group}, " if group else ""
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


_STOOD: Final = """
SELECT kept.* FROM ({source}) kept
JOIN iot.devices_in_area_then({area}) stood ON stood.device_id = kept.device_id AND stood.during @> kept.time
"""
_FEW: Final = 20
_DUE: Final = """
SELECT min(due.first) AS first, max(due.last) AS last, state.raw_from
FROM iot.rollup_due due JOIN iot.rollup_state state USING (class_key)
WHERE class_key = $1 AND (devices IS NULL OR devices && $2) AND last >= greatest($3, raw_from) AND first < $4
GROUP BY raw_from
"""


async def _exact(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    level: Level,
    metrics: Sequence[Metric],
    span: tuple[datetime, datetime],
    *,
    device_ids: Sequence[int],
) -> tuple[str, list[Any]]:
    """Write the SELECT of a few devices' buckets with its arguments: those not redone yet are worked out from raw."""
    which, ids = "device_id = ANY($3)", list(device_ids)
    kept = await _source(connection, device_class, level, metrics, which)
    row = None if level is Level.RAW else await connection.fetchrow(_DUE, device_class.key, ids, *span)
    if row is None:
        return kept, [*span, ids]
    zone, tick = (await read_calendar(connection)).zone, timedelta(microseconds=1)
    first, end = whole_buckets(row["first"], row["last"] + tick, level, zone)
    if first < row["raw_from"]:  # the rows of these buckets are gone, all of them or some
        first = whole_buckets(row["raw_from"] - tick, row["raw_from"], level, zone)[1]
    within = "greatest($1::timestamptz, $4)", "least($2::timestamptz, $5)"
    live = await _computed_source(connection, device_class, level, metrics, which, span=within)
    both = f"SELECT * FROM ({kept}) kept WHERE time < $4 OR time >= $5 UNION ALL SELECT * FROM ({live}) live"
    return both, [*span, ids, first, end]


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
    return await _computed_source(connection, device_class, level, metrics, which)


async def _computed_source(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    level: Level,
    metrics: Sequence[Metric],
    which: str,
    *,
    span: tuple[str, str] = ("$1", "$2"),
) -> str:
    """Write the same SELECT over raw readings; what a counter consumed is asked of its steps."""
    start, end = span
    where = f"time >= {start} AND time < {end}" + (f" AND {which}" if which else "")
    bits = {row["key"]: 1 << row["bit"] for row in await connection.fetch(_BITS, device_class.key)}
    hours = await connection.fetch(_COLUMNS, relation_of(device_class.key, Level.HOUR))
    stepped = {row["attname"].removesuffix("_consumption") for row in hours if row["attname"].endswith("_consumption")}
    calendar = await read_calendar(connection)
    bucket = {Level.RAW: "time", Level.HOUR: calendar.hour("time"), Level.DAY: calendar.day("time")}[level]
    named, made, joined = [], [], ""
    for number, metric in enumerate(metrics):
        counts = metric.key in stepped
        named += [f"m{number}_{part}" for part in PARTS[:-1]]
        named.append(f"u{number}.used AS m{number}_used" if counts else f"NULL::double precision AS m{number}_used")
        made += [f"{said} AS m{number}_{part}" for part, said in _computed(metric, bits[metric.key]).items()]
        if counts:
            steps = f"'{device_class.key}', '{metric.key}', {'$3' if which else 'NULL'}, {start}, {end}"
            joined += (
                f" LEFT JOIN (SELECT {bucket} AS time, device_id, sum(consumption) AS used"
                f" FROM telemetry.meter_steps({steps}) GROUP BY 1, 2) u{number} USING (time, device_id)"
            )
    return (
        f"SELECT time, device_id, {', '.join(named)} FROM (SELECT {bucket} AS time, device_id, {', '.join(made)}"
        f" FROM {relation_of(device_class.key, Level.RAW)} WHERE {where} GROUP BY 1, 2) r{joined}"
    )


def _kept(metric: Metric, part: str, there: set[str]) -> str:
    """Name a rollup's column, or NULL where it has none."""
    if part == "bad":
        share, count = f'"{metric.key}_bad_share"', f'"{metric.key}_count"'
        if share.strip('"') not in there:
            return "0::bigint"
        return f"round(CASE WHEN {share} = 1 THEN rows ELSE {count} * coalesce({share} / (1 - {share}), 0) END)::bigint"
    name = f"{metric.key}_consumption" if part == "used" else f"{metric.key}_{part}"
    if name not in there or (part == "avg" and metric.counter):  # the average of a register means nothing
        return "NULL::double precision"
    return f'"{name}"::{"bigint" if part == "count" else "double precision"}'


def _computed(metric: Metric, bit: int) -> dict[str, str]:
    """Say how a rollup's columns come from raw readings."""
    name = f'"{metric.key}"'
    value = f"{name}::integer::double precision" if metric.type is MetricType.BOOL else f"{name}::double precision"
    fine = f"FILTER (WHERE {name} IS NOT NULL AND quality < {int(Quality.CALIBRATION)} AND bad & {bit}::bigint = 0)"
    marked = f"(quality = {int(Quality.BAD)} OR (quality < {int(Quality.CALIBRATION)} AND bad & {bit}::bigint <> 0))"
    number = metric.type is not MetricType.ENUM
    return {
        "min": f"min({value}) {fine}" if number else "NULL::double precision",
        "max": f"max({value}) {fine}" if number else "NULL::double precision",
        "avg": f"avg({value}) {fine}" if number and not metric.counter else "NULL::double precision",
        "last": f"(array_agg({value} ORDER BY time DESC) {fine})[1]",
        "count": f"count(*) {fine}",
        "bad": f"count(*) FILTER (WHERE {name} IS NOT NULL AND {marked})",
    }


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
