"""What every question about a span needs: which class and metrics, from when to when, at which level."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from iot_core.api import shapes
from iot_core.errors import NotFoundError, RequestError
from iot_core.model import DeviceClass, Metric, MetricType
from iot_core.profiles import Profiles
from iot_core.registry.scope import Scope, Scoped, scoped
from iot_core.store import read
from iot_core.store.buckets import Spread, reaches
from iot_core.store.levels import RAW_ROWS, Level, choose, gaps, whole_buckets
from iot_core.store.tables import read_calendar

__all__ = [
    "Chosen", "choose_level", "class_of", "gaps_of", "interval_of", "keys_of", "metric_keys", "metrics_of",
    "one_device", "span_of", "spread", "value",
]  # fmt: skip

_DAY: Final = timedelta(days=1)
_AHEAD: Final = timedelta(minutes=11)
"""A device's clock that is ahead by ten minutes or less is stored as it is."""
_MOST_KEYS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """A span at the level that answers it; of buckets it takes whole ones."""

    level: Level
    start: datetime
    end: datetime
    zone: str


async def one_device(connection: asyncpg.Connection, key: str) -> Scoped:
    """Find a device, retired or not, with its profile."""
    return (await scoped(connection, Scope(keys=(key,)), most=1))[0]


def span_of(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Fill what was left out: a day before the end, and now. Raises RequestError for a span that runs backwards."""
    until = end or datetime.now(UTC) + _AHEAD
    since = start or (end or datetime.now(UTC)) - _DAY
    if since >= until:
        raise RequestError("api.span_reversed", start=since.isoformat(), end=until.isoformat())
    return since, until


async def choose_level(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    device_id: int,
    span: tuple[datetime, datetime],
    *,
    keys: Sequence[str] = (),
    asked: shapes.Level | None = None,
) -> Chosen:
    """Choose the level of a device's span: what was asked for, else by what is stored in it.

    Where the beginning of the span has left only rollups behind, they answer.
    """
    start, end = span
    there = (await read_calendar(connection)).zone
    if asked is not None:
        level = Level(asked)
    else:
        rows, first = await read.extent(
            connection, device_class, device_id, start=start, end=end, metrics=keys, most=RAW_ROWS + 1
        )
        level = choose(end - start, rows)
        if level is Level.RAW:
            begun = min((first or end).astimezone(UTC) - _DAY, end)
            if start < begun and await reaches(connection, device_class.key, device_id, start=start, end=begun):
                level = choose(end - start, RAW_ROWS + 1)
    return Chosen(level, *whole_buckets(start, end, level, there), there)


def gaps_of(
    times: Sequence[datetime], chosen: Chosen, interval: timedelta | None, *, cut: bool = False
) -> tuple[shapes.Gap, ...]:
    """Name the gaps of a span up to now; where rows were cut off, from the first one on."""
    start = times[0] if cut and times else chosen.start
    found = gaps(times, start, min(chosen.end, datetime.now(UTC)), level=chosen.level, interval=interval)
    return tuple(shapes.Gap(start=first, end=last) for first, last in found)


def class_of(profiles: Profiles, key: str) -> DeviceClass:
    """Find a class; a device whose class was taken out of the profiles has no readable telemetry."""
    found = profiles.classes.get(key)
    if found is None:
        raise RequestError("api.class_gone", key=key)
    return found


def keys_of(said: str | None) -> tuple[str, ...]:
    """Read keys with commas between."""
    keys = tuple(dict.fromkeys(key.strip() for key in (said or "").split(",") if key.strip()))
    if len(keys) > _MOST_KEYS:
        raise RequestError("read.too_many", most=_MOST_KEYS)
    return keys


def metric_keys(device_class: DeviceClass, said: str | None) -> tuple[str, ...]:
    """Read metric keys. Raises RequestError for one that the class does not have."""
    keys = keys_of(said)
    for key in keys:
        if device_class.metric(key) is None:
            known = ", ".join(metric.key for metric in device_class.metrics)
            raise RequestError("api.no_metric", key=key, class_key=device_class.key, known=known)
    return keys


def metrics_of(device_class: DeviceClass, keys: Sequence[str]) -> list[Metric]:
    """Give the metrics of these keys, all without any."""
    return [metric for metric in device_class.metrics if not keys or metric.key in keys]


_CONFIGURED: Final = "SELECT every FROM iot.configured_interval WHERE device_id = $1"


async def interval_of(connection: asyncpg.Connection, profiles: Profiles, device: Scoped) -> timedelta | None:
    """Say how often a device speaks: as it was set to, else by its profile; None where that says nothing."""
    configured: timedelta | None = await connection.fetchval(_CONFIGURED, device.id)
    if configured is not None or device.profile is None:
        return configured
    try:
        return profiles.get(device.profile).interval
    except NotFoundError:
        return None


def spread(found: Spread, metric: Metric) -> shapes.Spread:
    """Give a metric's spread with its own decimals; averages get two more."""
    decimals = metric.precision if metric.type is MetricType.FLOAT else 0

    def rounded(number: float | None, more: int = 0) -> float | None:
        return None if number is None else round(number, decimals + more)

    return shapes.Spread(
        count=found.count,
        min=rounded(found.minimum),
        max=rounded(found.maximum),
        avg=rounded(found.average, 2),
        last=None if found.last is None else value(found.last, metric),
        bad=found.bad,
        used=rounded(found.used, 2),
    )


def value(stored: float, metric: Metric) -> shapes.Value:
    """Give a value of the long form, where everything is a number, its own type back."""
    match metric.type:
        case MetricType.BOOL:
            return bool(stored)
        case MetricType.INT:
            return int(stored)
        case MetricType.ENUM:
            return next((name for name, number in metric.members.items() if number == stored), str(int(stored)))
        case MetricType.FLOAT:
            return round(stored, metric.precision)
