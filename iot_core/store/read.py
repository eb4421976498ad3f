"""Reading telemetry back: the newest value of each metric, and a span of one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

import asyncpg
import msgspec

from iot_core.model import DeviceClass, Metric, MetricType, Quality

_QUALITY = tuple(Quality)
"""By number."""

LATEST = """
SELECT device_id, metric, value, time, quality, bad FROM telemetry.latest WHERE device_id = ANY($1)
ORDER BY device_id, metric
"""


class Latest(msgspec.Struct, frozen=True, gc=False):
    """The newest value of one metric: a bool is 0 or 1, an enum its number."""

    device_id: int
    metric: str
    value: float
    time: datetime
    quality: Quality
    bad: bool


class Row(msgspec.Struct, frozen=True, gc=False):
    """One stored observation. `bad` names the metrics outside their plausible range."""

    time: datetime
    received_at: datetime
    quality: Quality
    bad: tuple[str, ...]
    values: Mapping[str, float | bool | str]
    extra: Mapping[str, object] | None


async def latest(connection: asyncpg.Connection, device_ids: Sequence[int]) -> list[Latest]:
    """Give the newest value of every metric of these devices."""
    return [_latest(row) for row in await connection.fetch(LATEST, list(device_ids))]


class Newest(msgspec.Struct, frozen=True, gc=False):
    """A device's newest row, and the metrics whose newest value is older than it."""

    device_id: int
    row: Row
    earlier: tuple[Latest, ...]


async def series(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    *,
    start: datetime,
    end: datetime,
    metrics: Sequence[str] = (),
    limit: int = 10_000,
) -> list[Row]:
    """Give the newest `limit` rows of a device from `start` (included) to `end` (excluded), oldest first."""
    reading = await Reading.of(connection, device_class, metrics)
    rows = await connection.fetch(
        f"SELECT {reading.columns} FROM {reading.relation}"
        f" WHERE device_id = $1 AND time >= $2 AND time < $3{reading.said} ORDER BY time DESC LIMIT $4",
        device_id,
        start,
        end,
        limit,
    )
    return [reading.row(row) for row in reversed(rows)]


async def extent(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    *,
    start: datetime,
    end: datetime,
    metrics: Sequence[str] = (),
    most: int,
) -> tuple[int, datetime | None]:
    """Count a device's rows in a span, up to `most`, and give the time of the first one if all were counted."""
    reading = await Reading.of(connection, device_class, metrics)
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, min(time) AS first FROM (SELECT time FROM {reading.relation}"
        f" WHERE device_id = $1 AND time >= $2 AND time < $3{reading.said} ORDER BY time DESC LIMIT $4) r",
        device_id,
        start,
        end,
        most,
    )
    return row["rows"], row["first"] if row["rows"] < most else None


async def newest(connection: asyncpg.Connection, device_class: DeviceClass, device_ids: Sequence[int]) -> list[Newest]:
    """Give the newest values of many devices of one class, which ever said something.

    `iot.device_status` knows when each spoke last: one look an index entry for its row, and the view of the newest
    value only for metrics that this row does not say.
    """
    status = await connection.fetch(_STATUS, list(device_ids))
    said = {row["device_id"]: row["said"] for row in status}
    whole = await Reading.of(connection, device_class)
    ever = reduce(or_, said.values(), 0)
    reading = Reading(device_class, whole.bits, [key for key, bit in whole.bits.items() if bit & ever] or ["-"])
    rows: dict[int, Row] = {}
    for some in _by_age([(row["device_id"], row["last_time"]) for row in status]):
        ids, times = [device_id for device_id, _ in some], [time for _, time in some]
        # LIMIT keeps the planner at one look an entry of the index; it would sort a whole partition instead.
        for row in await connection.fetch(
            f"SELECT t.* FROM unnest($1::integer[], $2::timestamptz[]) AS s (id, at) CROSS JOIN LATERAL ("
            f"SELECT device_id, {reading.columns} FROM {reading.relation}"
            " WHERE device_id = s.id AND time = s.at AND time BETWEEN $3 AND $4 LIMIT 1) t",
            ids, times, min(times), max(times),
        ):  # fmt: skip
            rows[row["device_id"]] = reading.row(row)
    lacking: dict[str, list[int]] = {}
    for device_id, bits in said.items():
        row = rows.get(device_id)
        if row is not None and len(row.values) == bits.bit_count():
            continue  # it says all that the device ever said
        for metric in reading.metrics:
            if bits & reading.bits[metric.key] and (row is None or metric.key not in row.values):
                lacking.setdefault(metric.key, []).append(device_id)
    earlier: dict[int, list[Latest]] = {}
    for key, ids in lacking.items():
        for found in await connection.fetch(
            f"SELECT * FROM telemetry.\"{device_class.key}_latest\" WHERE metric = '{key}' AND device_id = ANY($1)", ids
        ):
            earlier.setdefault(found["device_id"], []).append(_latest(found))
    return [_newest(device_id, rows.get(device_id), earlier.get(device_id, [])) for device_id in rows | earlier]


_STATUS = "SELECT device_id, last_time, said FROM iot.device_status WHERE device_id = ANY($1) AND last_time IS NOT NULL"
_FRESH = timedelta(days=8)


def _by_age(devices: Sequence[tuple[int, datetime]]) -> list[list[tuple[int, datetime]]]:
    """Part devices that spoke lately from those that fell silent long ago, so that most looks see one chunk or two."""
    if not devices:
        return []
    since = max(time for _, time in devices) - _FRESH
    fresh, silent = [each for each in devices if each[1] >= since], [each for each in devices if each[1] < since]
    return [part for part in (fresh, silent) if part]


def _newest(device_id: int, row: Row | None, earlier: Sequence[Latest]) -> Newest:
    if row is None:  # its newest row was dropped or never merged: the newest of its values leads
        first = max(earlier, key=lambda each: each.time)
        row = Row(first.time, first.time, first.quality, (), {}, None)
    return Newest(device_id, row, tuple(earlier))


class Reading:
    """How rows of one class are read: its columns, and what undoes storage."""

    def __init__(self, device_class: DeviceClass, bits: Mapping[str, int], metrics: Sequence[str] = ()) -> None:
        self.metrics = [metric for metric in device_class.metrics if not metrics or metric.key in metrics]
        self.bits = bits
        self.relation = f'telemetry."{device_class.key}"'
        names = [f'"{metric.key}"' for metric in self.metrics]
        self.columns = ", ".join(["time", "received_at", "quality", "bad", "extra", *names])
        self.said = f" AND num_nonnulls({', '.join(names)}) > 0" if metrics and names else ""
        self._undo = [
            (
                metric.key,
                metric.precision if metric.type is MetricType.FLOAT else None,
                {number: name for name, number in metric.members.items()} if metric.type is MetricType.ENUM else None,
            )
            for metric in self.metrics
        ]

    @classmethod
    async def of(
        cls, connection: asyncpg.Connection, device_class: DeviceClass, metrics: Sequence[str] = ()
    ) -> Reading:
        """Read which bit of `bad` is whose."""
        rows = await connection.fetch("SELECT key, bit FROM iot.metric WHERE class_key = $1", device_class.key)
        return cls(device_class, {row["key"]: 1 << row["bit"] for row in rows}, metrics)

    def row(self, row: asyncpg.Record) -> Row:
        """Make a row of what the database gave."""
        bad = row["bad"]
        values: dict[str, float | bool | str] = {}
        for key, decimals, names in self._undo:
            value = row[key]
            if value is not None:
                values[key] = _shown(value, decimals, names) if decimals is None else round(value, decimals)
        return Row(
            row["time"],
            row["received_at"],
            _QUALITY[row["quality"]],
            tuple([key for key, bit in self.bits.items() if bad & bit]) if bad else (),
            values,
            row["extra"],
        )


def _latest(row: asyncpg.Record) -> Latest:
    return Latest(row["device_id"], row["metric"], row["value"], row["time"], Quality(row["quality"]), row["bad"])


def _shown(value: float | bool, decimals: int | None, names: Mapping[int, str] | None) -> float | bool | str:
    """Undo storage: a `real` comes back with its own decimals, an enum with its name."""
    if names is not None:
        return names.get(int(value), str(int(value)))
    return round(value, decimals) if decimals is not None else value


async def points(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    metric: Metric,
    *,
    start: datetime,
    end: datetime,
    most: int,
) -> list[tuple[datetime, float]]:
    """Give the newest `most` plausible values of a metric as numbers, oldest first."""
    bits = (await Reading.of(connection, device_class)).bits
    name = f'"{metric.key}"'
    number = f"{name}::integer" if metric.type is MetricType.BOOL else name
    rows = await connection.fetch(
        f'SELECT time, {number}::double precision AS value FROM telemetry."{device_class.key}" WHERE device_id = $1'
        f" AND time >= $2 AND time < $3 AND {name} IS NOT NULL AND bad & $4::bigint = 0 AND quality < $5"
        " ORDER BY time DESC LIMIT $6",
        device_id, start, end, bits[metric.key], int(Quality.CALIBRATION), most,
    )  # fmt: skip
    decimals = metric.precision if metric.type is MetricType.FLOAT else 0
    return [(row["time"], round(row["value"], decimals)) for row in reversed(rows)]


async def part(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    *,
    start: datetime,
    end: datetime | None,
    limit: int,
) -> list[Row]:
    """Give the oldest `limit` rows of a device from `start` (included) to `end` (excluded; None: all), oldest first."""
    reading = await Reading.of(connection, device_class)
    rows = await connection.fetch(
        f"SELECT {reading.columns} FROM {reading.relation} WHERE device_id = $1 AND time >= $2"
        " AND time < COALESCE($3, 'infinity'::timestamptz) ORDER BY time LIMIT $4",
        device_id, start, end, limit,
    )  # fmt: skip
    return [reading.row(row) for row in rows]
