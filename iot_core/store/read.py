"""Reading telemetry back: the newest value of each metric, and a span of one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_

import asyncpg
import msgspec

from iot_core.model import DeviceClass, Metric, MetricType, Quality
from iot_core.store.columns import Column, retired_column

_QUALITY = tuple(Quality)
"""By number."""

_BITS = "SELECT key, bit, sql_type FROM iot.metric WHERE class_key = $1 ORDER BY bit"
_RETIRED = """
SELECT class_key, array_agg(key ORDER BY bit) AS metrics FROM iot.metric WHERE retired_at IS NOT NULL GROUP BY class_key
"""
LATEST = """
SELECT device_id, metric, value, time, quality, bad FROM telemetry."{}" WHERE device_id = ANY($1)
ORDER BY device_id, metric
"""


async def retired_metrics(connection: asyncpg.Connection) -> dict[str, tuple[str, ...]]:
    """Name by class the metrics that it had once: their columns are kept."""
    return {row["class_key"]: tuple(row["metrics"]) for row in await connection.fetch(_RETIRED)}


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


async def latest(
    connection: asyncpg.Connection, device_ids: Sequence[int], device_class: DeviceClass | None = None
) -> list[Latest]:
    """Give the newest value of every metric of these devices.

    With their class only its table is looked at: to plan a look at those of all classes takes longer than the look.
    """
    query = LATEST.format("latest" if device_class is None else f"{device_class.key}_latest")
    return [_latest(row) for row in await connection.fetch(query, list(device_ids))]


class Newest(msgspec.Struct, frozen=True, gc=False):
    """A device's newest row, and the metrics whose newest value is older than it."""

    device_id: int
    time: datetime
    quality: Quality
    bad: tuple[str, ...]
    values: dict[str, float | bool | str]
    earlier: tuple[Latest, ...] = ()


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
    reading = Reading(device_class, {}, metrics)
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

    One look an index entry for a device's row, and the view of the newest value only for metrics that this row does
    not say.
    """
    reading = await Reading.of(connection, device_class)
    rows = await _newest_rows(connection, reading, device_ids)
    ever = reduce(or_, (row["said"] for row in rows), 0)
    undo = [each for each in reading.undo if reading.bits[each[0]] & ever]
    known = sum(reading.bits[key] for key, _, _ in undo)
    found: list[Newest] = []
    lacking: dict[str, list[int]] = {}
    for row in rows:
        device_id, said, spoke, time, quality, bad = row[:6]
        values = _values(row, undo)
        if time is not None:
            found.append(Newest(device_id, time, _QUALITY[quality], reading.bad(bad), values))
        if spoke is None and len(values) == (said & known).bit_count():
            continue  # it says all that the device ever said
        for key, _, _ in undo:
            if said & reading.bits[key] and key not in values:
                lacking.setdefault(key, []).append(device_id)
    return await _with_earlier(connection, device_class, found, lacking)


_NEWEST = """
SELECT s.device_id, s.said, nullif(s.last_time, t.time) AS spoke, t.* FROM iot.device_status s LEFT JOIN LATERAL (
    SELECT time, quality, bad{names} FROM {relation}
    WHERE device_id = s.device_id AND time >= $2 AND time < $3{which} ORDER BY time DESC LIMIT 1
) t ON true WHERE s.device_id = ANY($1) AND s.last_time IS NOT NULL
"""
FRESH = timedelta(days=8)
AHEAD = timedelta(days=1)


async def _newest_rows(
    connection: asyncpg.Connection, reading: Reading, device_ids: Sequence[int]
) -> list[asyncpg.Record]:
    """Read a row of each device that ever spoke: its status, and its newest row (nulls where that is gone).

    `spoke` is when, null where that is the row's own time.
    """

    def statement(which: str = "") -> str:
        return _NEWEST.format(
            names="".join(f", {name}" for name in reading.names), relation=reading.relation, which=which
        )

    # Most spoke lately: they are looked up in a chunk or two, the newer first. A look at `s.last_time` itself costs
    # three times as much on TimescaleDB, which proves for each device anew which chunks that time is not in.
    now = datetime.now(UTC)
    rows: list[asyncpg.Record] = await connection.fetch(statement(), list(device_ids), now - FRESH, now + AHEAD)
    silent = {row["device_id"]: row["spoke"] for row in rows if row["time"] is None}
    if not silent:
        return rows
    first, last = min(silent.values()), max(silent.values()) + timedelta(microseconds=1)
    older: list[asyncpg.Record] = await connection.fetch(
        statement(" AND time = s.last_time"), list(silent), first, last
    )
    return [row for row in rows if row["time"] is not None] + older


async def _with_earlier(
    connection: asyncpg.Connection, device_class: DeviceClass, found: list[Newest], lacking: Mapping[str, list[int]]
) -> list[Newest]:
    """Add the newest values of the metrics that the newest rows do not say."""
    if not lacking:
        return found
    earlier: dict[int, list[Latest]] = {}
    for key, ids in lacking.items():
        for row in await connection.fetch(
            f"SELECT * FROM telemetry.\"{device_class.key}_latest\" WHERE metric = '{key}' AND device_id = ANY($1)", ids
        ):
            earlier.setdefault(row["device_id"], []).append(_latest(row))
    rows = {each.device_id: each for each in found}
    for device_id in earlier.keys() - rows.keys():  # its newest row was dropped: the newest of its values leads
        first = max(earlier[device_id], key=lambda each: each.time)
        rows[device_id] = Newest(device_id, first.time, first.quality, (), {})
    return [
        msgspec.structs.replace(each, earlier=tuple(earlier[each.device_id])) if each.device_id in earlier else each
        for each in rows.values()
    ]


class Reading:
    """How rows of one class are read: its columns, and what undoes storage; of `retired` ones nothing is undone."""

    def __init__(
        self,
        device_class: DeviceClass,
        bits: Mapping[str, int],
        metrics: Sequence[str] = (),
        retired: Sequence[Column] = (),
    ) -> None:
        self.metrics = [metric for metric in device_class.metrics if not metrics or metric.key in metrics]
        self.bits = bits
        self.relation = f'telemetry."{device_class.key}"'
        self.names = [f'"{metric.key}"' for metric in self.metrics]
        self.columns = ", ".join(
            ["time", "received_at", "quality", "bad", "extra", *self.names, *(_as_written(each) for each in retired)]
        )
        self.said = f" AND num_nonnulls({', '.join(self.names)}) > 0" if metrics and self.names else ""
        self.undo: list[_Undo] = [
            (
                metric.key,
                metric.precision if metric.type is MetricType.FLOAT else None,
                {number: name for name, number in metric.members.items()} if metric.type is MetricType.ENUM else None,
            )
            for metric in self.metrics
        ]
        self.undo += [(each.name, None, None) for each in retired]

    @classmethod
    async def of(
        cls, connection: asyncpg.Connection, device_class: DeviceClass, metrics: Sequence[str] = ()
    ) -> Reading:
        """Read which bit of `bad` is whose."""
        rows = await connection.fetch(_BITS, device_class.key)
        return cls(device_class, {row["key"]: 1 << row["bit"] for row in rows}, metrics)

    def bad(self, bits: int) -> tuple[str, ...]:
        """Name the metrics of `bad`."""
        return tuple([key for key, bit in self.bits.items() if bits & bit]) if bits else ()

    def row(self, row: asyncpg.Record) -> Row:
        """Make a row of what the database gave."""
        return Row(
            row["time"],
            row["received_at"],
            _QUALITY[row["quality"]],
            self.bad(row["bad"]),
            _values(row, self.undo),
            row["extra"],
        )


def _as_written(retired: Column) -> str:
    """Write the SQL for a column of unknown decimals: a `real` with as few as say which one it is."""
    name = f'"{retired.name}"'
    return f"{name}::text::double precision AS {name}" if retired.sql_type == "real" else name


_Undo = tuple[str, int | None, Mapping[int, str] | None]
"""What undoes storage of a metric: its key, the decimals of a float, the names of an enum's numbers."""


def _values(row: asyncpg.Record, undo: Sequence[_Undo]) -> dict[str, float | bool | str]:
    """Give the values of a row as they are shown."""
    values: dict[str, float | bool | str] = {}
    for key, decimals, names in undo:
        value = row[key]
        if value is not None:
            values[key] = _shown(value, decimals, names) if decimals is None else round(value, decimals)
    return values


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
    """Give the oldest `limit` rows of a device from `start` (included) to `end` (excluded; None: all), oldest first.

    Whole ones, with what its class measures no more.
    """
    known = await connection.fetch(_BITS, device_class.key)
    retired = [retired_column(*row) for row in known if device_class.metric(row["key"]) is None]
    reading = Reading(device_class, {row["key"]: 1 << row["bit"] for row in known}, retired=retired)
    rows = await connection.fetch(
        f"SELECT {reading.columns} FROM {reading.relation} WHERE device_id = $1 AND time >= $2"
        " AND time < COALESCE($3, 'infinity'::timestamptz) ORDER BY time LIMIT $4",
        device_id, start, end, limit,
    )  # fmt: skip
    return [reading.row(row) for row in rows]
