"""Reading telemetry back: the newest value of each metric, and a span of one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from iot_core.model import DeviceClass, MetricType, Quality

LATEST = """
SELECT device_id, metric, value, time, quality, bad FROM telemetry.latest WHERE device_id = ANY($1)
ORDER BY device_id, metric
"""


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of one metric: a bool is 0 or 1, an enum its number."""

    device_id: int
    metric: str
    value: float
    time: datetime
    quality: Quality
    bad: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One stored observation. `bad` names the metrics outside their plausible range."""

    time: datetime
    received_at: datetime
    quality: Quality
    bad: tuple[str, ...]
    values: Mapping[str, float | bool | str]
    extra: Mapping[str, object] | None


async def latest(connection: asyncpg.Connection, device_ids: Sequence[int]) -> list[Latest]:
    """Give the newest value of every metric of these devices."""
    rows = await connection.fetch(LATEST, list(device_ids))
    return [
        Latest(row["device_id"], row["metric"], row["value"], row["time"], Quality(row["quality"]), row["bad"])
        for row in rows
    ]


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
    chosen = [metric for metric in device_class.metrics if not metrics or metric.key in metrics]
    bits = {
        row["key"]: 1 << row["bit"]
        for row in await connection.fetch("SELECT key, bit FROM iot.metric WHERE class_key = $1", device_class.key)
    }
    columns = "".join(f', "{metric.key}"' for metric in chosen)
    asked = ""
    if metrics and chosen:
        asked = " AND num_nonnulls(" + ", ".join(f'"{metric.key}"' for metric in chosen) + ") > 0"
    rows = await connection.fetch(
        f'SELECT time, received_at, quality, bad, extra{columns} FROM telemetry."{device_class.key}"'
        f" WHERE device_id = $1 AND time >= $2 AND time < $3{asked} ORDER BY time DESC LIMIT $4",
        device_id,
        start,
        end,
        limit,
    )
    numbers = {
        metric.key: {number: name for name, number in metric.members.items()}
        for metric in chosen
        if metric.type is MetricType.ENUM
    }
    decimals = {metric.key: metric.precision for metric in chosen if metric.type is MetricType.FLOAT}
    return [
        Row(
            row["time"],
            row["received_at"],
            Quality(row["quality"]),
            tuple(key for key, bit in bits.items() if row["bad"] & bit),
            {
                metric.key: _shown(row[metric.key], decimals.get(metric.key), numbers.get(metric.key))
                for metric in chosen
                if row[metric.key] is not None
            },
            row["extra"],
        )
        for row in reversed(rows)
    ]


def _shown(value: float | bool, decimals: int | None, names: Mapping[int, str] | None) -> float | bool | str:
    """Undo storage: a `real` comes back with its own decimals, an enum with its name."""
    if names is not None:
        return names.get(int(value), str(int(value)))
    return round(value, decimals) if decimals is not None else value
