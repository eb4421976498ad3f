"""Telemetry for charts and over many devices: a metric as a line, newest values, aggregates."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.api.households import require_household, without_households
from iot_core.api.reading import second_reader
from iot_core.api.roles import Action, where
from iot_core.api.routes import Call, Reach, get
from iot_core.api.spans import (
    Chosen,
    choose_level,
    class_of,
    gaps_of,
    interval_of,
    keys_of,
    metric_keys,
    metrics_of,
    one_device,
    span_of,
    spread,
)
from iot_core.api.telemetry import latest_shape, quality_name
from iot_core.errors import RequestError
from iot_core.model import DeviceClass, Metric
from iot_core.registry.scope import Scope, Scoped, scoped
from iot_core.store import buckets, read
from iot_core.store.downsample import lttb
from iot_core.store.levels import Level, whole_buckets
from iot_core.store.newest_json import newest_json
from iot_core.store.tables import read_calendar

_MOST_DEVICES: Final = 20_000
_MOST_RAW: Final = 100_000
_PART: Final = 5_000
_HALVED: Final = 2_000
"""From so many devices on the newest values are read over two connections."""
_TURN: Final = 2_000
"""Devices shaped at once, because ingest turns on the same loop."""


async def chart(call: Call[shapes.ChartQuery]) -> shapes.Chart:
    """Give one metric of a device as a chart draws it."""
    asked, profiles = call.query, call.services.profiles
    asked_span = span_of(asked.start, asked.end)
    async with call.reader() as connection:
        device = await one_device(connection, call.path["key"])
        await require_household(call, connection, (device.id, device.class_key))
        device_class = class_of(profiles, device.class_key)
        metric = metrics_of(device_class, metric_keys(device_class, asked.metric)[:1])[0]
        keys = (metric.key,)
        interval = await interval_of(connection, profiles, device)
        chosen = await choose_level(connection, device_class, device.id, asked_span, keys=keys, asked=asked.level)
        points = await _points(connection, device_class, device.id, metric, chosen)
    kept = await asyncio.to_thread(lttb, [(each.time.timestamp(), each.value) for each in points], asked.points)
    return shapes.Chart(
        device=device.key,
        metric=metric.key,
        title=metric.title,
        ucum=metric.ucum,
        level=shapes.Level(chosen.level),
        zone=chosen.zone,
        start=chosen.start,
        end=chosen.end,
        items=tuple(points[position] for position in kept),
        gaps=gaps_of([each.time for each in points], chosen, interval),
        of=len(points),
    )


async def _points(
    connection: asyncpg.Connection, device_class: DeviceClass, device_id: int, metric: Metric, chosen: Chosen
) -> list[shapes.ChartPoint]:
    """Read what the line goes through: the values themselves, or averages, or last values where those mean nothing."""
    if chosen.level is not Level.RAW:
        found = await buckets.buckets(
            connection, device_class, device_id, chosen.level, start=chosen.start, end=chosen.end, metrics=[metric]
        )
        return [
            shapes.ChartPoint(time=each.time, value=level_value, min=one.minimum, max=one.maximum)
            for each in found
            for one in each.spreads.values()
            if (level_value := one.last if one.average is None else one.average) is not None
        ]
    rows = await read.points(
        connection, device_class, device_id, metric, start=chosen.start, end=chosen.end, most=_MOST_RAW
    )
    return [shapes.ChartPoint(time=time, value=number) for time, number in rows]


async def newest(call: Call[shapes.ScopeQuery]) -> shapes.LatestList:
    """Give the newest values of many devices at once."""
    async with call.reader() as connection:
        devices = await _devices(connection, call.query, call.areas, profiles=False)
        devices = await without_households(call, connection, devices, Action.DEVICES)
        items: dict[int, str] = {}
        for class_key in sorted({each.class_key for each in devices}):
            device_class = call.services.profiles.classes.get(class_key)
            if device_class is None:
                continue
            keys = {each.id: each.key for each in devices if each.class_key == class_key}
            written, found = await _newest_json(call, connection, device_class, list(keys))
            for device_id, said in written.items():
                items[device_id] = f'{{"device":"{keys[device_id]}","class":"{class_key}",{said}}}'
            named = {metric.key: metric for metric in device_class.metrics}
            for first in range(0, len(found), _TURN):
                for each in found[first : first + _TURN]:
                    shape = _of_many(each, keys[each.device_id], class_key, named)
                    items[each.device_id] = msgspec.json.encode(shape).decode()
                await asyncio.sleep(0)
    ordered = ",".join([items[each.id] for each in devices if each.id in items])
    return shapes.LatestList(items=_written(f"[{ordered}]"))


async def _newest_json(
    call: Call[Any], connection: asyncpg.Connection, device_class: DeviceClass, device_ids: list[int]
) -> tuple[dict[int, str], list[read.Newest]]:
    """Find the newest values, those of many devices in two halves at once: a statement has one core of the server."""
    if len(device_ids) < _HALVED:
        return await newest_json(connection, device_class, device_ids)
    async with second_reader(call.services) as second:
        if second is None:
            return await newest_json(connection, device_class, device_ids)
        half = len(device_ids) // 2
        # Both end before a reader goes back, also where one fails or the asker has gone.
        halves = await asyncio.gather(
            newest_json(connection, device_class, device_ids[:half]),
            newest_json(second, device_class, device_ids[half:]),
            return_exceptions=True,
        )
    written: dict[int, str] = {}
    found: list[read.Newest] = []
    for each in halves:
        if isinstance(each, BaseException):
            raise each
        written |= each[0]
        found += each[1]
    return written, found


def _written(said: str) -> tuple[shapes.LatestOfMany, ...]:
    """Take items that are JSON already for what they say: answers are only encoded."""
    return cast("tuple[shapes.LatestOfMany, ...]", msgspec.Raw(said))


def _of_many(found: read.Newest, key: str, class_key: str, named: Mapping[str, Metric]) -> shapes.LatestOfMany:
    return shapes.LatestOfMany(
        device=key,
        class_key=class_key,
        time=found.time,
        quality=quality_name(found.quality),
        bad=found.bad,
        values=found.values,
        earlier=tuple([latest_shape(each, named[each.metric]) for each in found.earlier]),
    )


async def stats(call: Call[shapes.StatsQuery]) -> shapes.Stats:
    """Aggregate a span over all devices of a class, or some: together, by device or by bucket."""
    asked, profiles = call.query, call.services.profiles
    start, end = span_of(asked.start, asked.end)
    level = Level(asked.level) if asked.level else _level(start, end)
    async with call.reader() as connection:
        zone = (await read_calendar(connection)).zone
        start, end = whole_buckets(start, end, level, zone)
        narrowed = bool(asked.area or asked.devices) or call.areas is not None or _homes(call, asked.class_key)
        then = (start, end) if asked.area and asked.areas == "then" else None
        devices = await _devices(connection, asked, call.areas, then=then) if narrowed or not asked.class_key else []
        devices = await without_households(call, connection, devices)
        class_key = _one_class(asked.class_key, devices)
        device_class = class_of(profiles, class_key)
        metrics = metrics_of(device_class, metric_keys(device_class, asked.metrics))
        found = await buckets.stats(
            connection, device_class, level, start=start, end=end, metrics=metrics,
            device_ids=[each.id for each in devices] if narrowed else None, by="" if asked.by == "all" else asked.by,
            then_in=asked.area if then else None,
        )  # fmt: skip
        keys = {each.id: each.key for each in devices}
        if missing := {each.device_id for each in found if each.device_id is not None} - keys.keys():
            keys |= {row["id"]: row["key"] for row in await connection.fetch(_KEYS, list(missing))}
    named = {metric.key: metric for metric in metrics}
    return shapes.Stats(
        class_key=class_key,
        level=shapes.Level(level),
        zone=zone,
        start=start,
        end=end,
        items=tuple(_stat(each, named[each.metric], keys) for each in found),
    )


def _homes(call: Call[shapes.StatsQuery], class_key: str | None) -> bool:
    """Say whether some devices of a class must be left out for this asker."""
    device_class = call.services.profiles.classes.get(class_key or "")
    return device_class is not None and device_class.household and where(call.who, Action.HOUSEHOLD) is not None


_KEYS: Final = "SELECT id, key FROM iot.device WHERE id = ANY($1)"


def _level(start: datetime, end: datetime) -> Level:
    """Choose the level of an aggregate: days as soon as there are some, because their sums are the same."""
    days = (end - start).total_seconds() / 86_400
    return Level.DAY if days > 7 else Level.HOUR if days > 0.25 else Level.RAW


def _one_class(asked: str | None, devices: Sequence[Scoped]) -> str:
    """Give the class that is meant: metrics of two classes have no sum."""
    classes = {each.class_key for each in devices} | ({asked} if asked else set())
    if len(classes) != 1:
        raise RequestError("read.one_class", found=", ".join(sorted(classes)) or "-")
    return classes.pop()


def _stat(found: buckets.Stats, metric: Metric, keys: dict[int, str]) -> shapes.Stat:
    one = spread(found.spread, metric)
    return shapes.Stat(
        metric=metric.key,
        ucum=metric.ucum,
        devices=found.devices,
        device=keys.get(found.device_id) if found.device_id is not None else None,
        time=found.time,
        count=one.count, min=one.min, max=one.max, avg=one.avg, last=one.last, bad=one.bad, used=one.used,
    )  # fmt: skip


async def _devices(
    connection: asyncpg.Connection,
    asked: shapes.ScopeQuery,
    within: frozenset[int] | None,
    *,
    profiles: bool = True,
    then: tuple[datetime, datetime] | None = None,
) -> list[Scoped]:
    keys = keys_of(asked.devices) or None
    wanted = Scope(class_key=asked.class_key, area=asked.area, keys=keys, within=within, then=then)
    return await scoped(connection, wanted, most=_MOST_DEVICES, profiles=profiles)


routes = (
    get("/devices/{key}/chart", chart),
    get("/telemetry/latest", newest, reach=Reach.OWN),
    get("/telemetry/stats", stats, reach=Reach.OWN),
)
