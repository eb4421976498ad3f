"""Telemetry: the newest values, a span of rows, a stream of what arrives."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec
from aiohttp import web

from iot_core.api import shapes
from iot_core.api.households import require_household
from iot_core.api.hub import HUB
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get
from iot_core.api.spans import (
    Chosen,
    choose_level,
    class_of,
    gaps_of,
    interval_of,
    metric_keys,
    metrics_of,
    one_device,
    span_of,
    spread,
    value,
)
from iot_core.api.sse import Message
from iot_core.api.stream import TICK_S, send
from iot_core.api.within import require_devices
from iot_core.errors import RequestError
from iot_core.model import DeviceClass, Metric, Quality
from iot_core.profiles import Profiles
from iot_core.registry.found import Short, short
from iot_core.store import buckets, read
from iot_core.store.levels import Level

_DAY: Final = timedelta(days=1)
_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_WATCH_ROWS: Final = 200
_PART: Final = 5_000  # a long answer is read in parts, because ingest turns on the same loop
_WATCH_BACK: Final = timedelta(minutes=10)
_MOST_WATCHED: Final = 50


async def latest(call: Call[NoQuery]) -> shapes.LatestValues:
    """Give the newest value of each metric of a device."""
    async with call.connection() as connection:
        device = await short(connection, call.path["key"])
        await require_household(call, connection, (device.id, device.class_key), Action.DEVICES)
        items = await latest_of(connection, call.services.profiles, device.id, device.class_key)
    return shapes.LatestValues(device=device.key, items=items)


async def span(call: Call[shapes.TelemetryQuery]) -> shapes.Telemetry:
    """Give a span at the level that suits it: the newest raw rows, or hours, or civil days; oldest first."""
    asked, profiles = call.query, call.services.profiles
    asked_span = span_of(asked.start, asked.end)
    rows: list[read.Row] = []
    found: list[buckets.Bucket] = []
    cut = False
    async with call.reader() as connection:
        device = await one_device(connection, call.path["key"])
        await require_household(call, connection, (device.id, device.class_key))
        device_class = class_of(profiles, device.class_key)
        keys = metric_keys(device_class, asked.metrics)
        metrics = metrics_of(device_class, keys)
        interval = await interval_of(connection, profiles, device)
        chosen = await choose_level(connection, device_class, device.id, asked_span, keys=keys, asked=asked.level)
        if chosen.level is Level.RAW:
            rows, cut = await _rows(connection, (device_class, device.id), chosen, keys, asked.limit)
        else:
            found = await buckets.buckets(
                connection, device_class, device.id, chosen.level, start=chosen.start, end=chosen.end, metrics=metrics
            )
    times = [row.time for row in rows] or [bucket.time for bucket in found]
    named = {metric.key: metric for metric in metrics}
    return shapes.Telemetry(
        device=device.key,
        class_key=device.class_key,
        level=shapes.Level(chosen.level),
        zone=chosen.zone,
        start=chosen.start,
        end=chosen.end,
        items=tuple(row_shape(row) for row in rows),
        buckets=tuple(
            shapes.Bucket(time=each.time, values={key: spread(one, named[key]) for key, one in each.spreads.items()})
            for each in found
        ),
        gaps=gaps_of(times, chosen, interval, cut=cut),
        cut=cut,
    )


async def _rows(
    connection: asyncpg.Connection, device: tuple[DeviceClass, int], chosen: Chosen, keys: Sequence[str], limit: int
) -> tuple[list[read.Row], bool]:
    """Read the newest rows in parts; say whether there are more before them."""
    parts: list[list[read.Row]] = []
    end = chosen.end
    for left in range(limit, 0, -_PART):
        most = min(left, _PART)
        rows = await read.series(connection, *device, start=chosen.start, end=end, metrics=keys, limit=most)
        parts.insert(0, rows)
        if len(rows) < most:
            return [row for part in parts for row in part], False
        end = rows[0].time
    before, _ = await read.extent(connection, *device, start=chosen.start, end=end, metrics=keys, most=1)
    return [row for part in parts for row in part], bool(before)


async def watch(call: Call[shapes.WatchQuery]) -> web.StreamResponse:
    """Follow devices: the newest row of each at once, then every new or changed one as `event: reading`."""
    keys = list(dict.fromkeys(key for key in call.query.device.split(",") if key))
    if not 0 < len(keys) <= _MOST_WATCHED:
        raise RequestError("api.watch_bounds", most=_MOST_WATCHED)
    async with call.connection() as connection:
        await require_devices(call, connection, keys)
        devices = [await short(connection, key) for key in keys]
        for each in devices:
            await require_household(call, connection, (each.id, each.class_key))
        watched = [_Watched(each, call.services.profiles) for each in devices]
    return await send(call, _readings(call, watched))


async def latest_of(
    connection: asyncpg.Connection, profiles: Profiles, device_id: int, class_key: str
) -> tuple[shapes.Latest, ...]:
    """Read a device's newest values, in the order of its class."""
    device_class = class_of(profiles, class_key)
    metrics = {metric.key: metric for metric in device_class.metrics}
    order = list(metrics)
    found = [row for row in await read.latest(connection, [device_id], device_class) if row.metric in metrics]
    return tuple(
        latest_shape(row, metrics[row.metric]) for row in sorted(found, key=lambda row: order.index(row.metric))
    )


# ---------------------------------------------------------------- watching
class _Watched:
    """One device that somebody follows, and the rows they have been shown or that were there before."""

    def __init__(self, device: Short, profiles: Profiles) -> None:
        self.device = device
        self.device_class = class_of(profiles, device.class_key)
        self._shown: dict[datetime, read.Row] = {}

    async def newest(self, connection: asyncpg.Connection) -> list[shapes.Reading]:
        """Give the newest row; what is older counts as shown."""
        rows = await self._rows(connection, _EVER, 1)
        if rows:
            await self.news(connection, since=rows[-1].time - _WATCH_BACK)
        return [self._reading(row) for row in rows]

    async def news(self, connection: asyncpg.Connection, *, since: datetime | None = None) -> list[shapes.Reading]:
        """Give the rows that are new, or were merged with something new, since the last call."""
        if since is None:
            since = max(self._shown) - _WATCH_BACK if self._shown else _EVER
        rows = await self._rows(connection, since, _WATCH_ROWS)
        news = [row for row in rows if self._shown.get(row.time) != row]
        self._shown = {row.time: row for row in rows}
        return [self._reading(row) for row in news]

    async def _rows(self, connection: asyncpg.Connection, start: datetime, limit: int) -> list[read.Row]:
        end = datetime.now(UTC) + _DAY
        return await read.series(connection, self.device_class, self.device.id, start=start, end=end, limit=limit)

    def _reading(self, row: read.Row) -> shapes.Reading:
        return shapes.Reading(device=self.device.key, **msgspec.structs.asdict(row_shape(row)))


async def _readings(call: Call[shapes.WatchQuery], watched: Sequence[_Watched]) -> AsyncGenerator[Message | None, None]:
    hub = call.request.app[HUB]
    async with call.connection() as connection:
        news = [reading for each in watched for reading in await each.newest(connection)]
    while not hub.closing.is_set():
        for reading in news:
            yield Message("reading", msgspec.json.encode(reading).decode())
        yield None
        await hub.pause(TICK_S)
        async with call.connection() as connection:
            news = [reading for each in watched for reading in await each.news(connection)]


# ---------------------------------------------------------------- shapes
quality_name: Final = {each: shapes.QualityName[each.name] for each in Quality}.__getitem__


def row_shape(row: read.Row) -> shapes.Row:
    return shapes.Row(
        time=row.time,
        received_at=row.received_at,
        quality=quality_name(row.quality),
        bad=row.bad,
        values=dict(row.values),
        extra=dict(row.extra) if row.extra else None,
    )


def latest_shape(row: read.Latest, metric: Metric) -> shapes.Latest:
    return shapes.Latest(
        metric=metric.key,
        title=metric.title,
        ucum=metric.ucum,
        value=value(row.value, metric),
        time=row.time,
        quality=quality_name(row.quality),
        bad=row.bad,
    )


routes = (
    get("/devices/{key}/latest", latest),
    get("/devices/{key}/telemetry", span),
    get("/telemetry/watch", watch, events={"reading": shapes.Reading}, reach=Reach.OWN),
)
