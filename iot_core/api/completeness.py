"""Completeness: what should be stored and is not, one share for an area's day."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import asyncpg

from iot_core.api import shapes
from iot_core.api.routes import Call, Reach, get
from iot_core.api.spans import keys_of
from iot_core.errors import NotFoundError, RequestError
from iot_core.model import DeviceClass
from iot_core.profiles import Profiles
from iot_core.registry.scope import Scope, Scoped, scoped
from iot_core.store import buckets, completeness
from iot_core.store.levels import Level, whole_buckets
from iot_core.store.numbers import Numbered, numbered
from iot_core.store.tables import read_calendar

_MOST_DEVICES: Final = 5_000
_LONGEST: Final = timedelta(days=32)
_NATIVE: Final = "native-"
"""A native device may say any metric of its class; it promises those that it ever said."""


async def complete(call: Call[shapes.CompletenessQuery]) -> shapes.Completeness:
    """Compare what devices should have said in a span (default: yesterday) with what is stored of them."""
    asked, profiles = call.query, call.services.profiles
    async with call.reader() as connection:
        calendar = await read_calendar(connection)
        start, end = _span(asked, calendar.day_of(datetime.now(UTC)))
        keys = keys_of(asked.devices) or None
        devices = await scoped(
            connection,
            Scope(class_key=asked.class_key, area=asked.area, keys=keys, within=call.areas),
            most=_MOST_DEVICES,
        )
        ids = [each.id for each in devices]
        found = {each.device_id: each for each in await completeness.complete(connection, ids, start=start, end=end)}
        until = min(end, datetime.now(UTC))
        gaps = await _gaps(connection, devices, found, start, until)
        undeclared = await completeness.undeclared(connection, ids, start=start, end=end)
        silent = await _silent(connection, profiles, devices, start, end)
        numbers = await numbered(connection, ids, start=start, end=end)
        missing: dict[int, list[completeness.Missing]] = {}
        for each in await completeness.missing_numbers(connection, ids):
            missing.setdefault(each.device_id, []).append(each)
    items = tuple(
        shapes.DeviceCompleteness(
            device=device.key,
            class_key=device.class_key,
            interval_s=one.interval.total_seconds() if one.interval else None,
            source=source,
            expected=expected,
            stored=stored,
            share=_share(stored, expected),
            numbers=_numbers(numbers.get(device.id)),
            gaps=tuple(shapes.Gap(start=first, end=last) for first, last in gaps.get(device.id, ())),
            silent=tuple(silent.get(device.id, ())),
            undeclared=undeclared.get(device.id, {}),
            missing=tuple(
                shapes.MissingNumbers(unit=each.unit, run=each.run, first=each.first, last=each.last)
                for each in missing.get(device.id, ())
            ),
        )
        for device in devices
        if (one := found.get(device.id)) is not None
        for source, expected, stored in (_counted(one, numbers.get(device.id)),)
    )
    known = [each for each in items if each.expected is not None]
    all_expected = sum(each.expected or 0 for each in known)
    all_stored = sum(each.stored for each in known)
    return shapes.Completeness(
        start=start,
        end=end,
        zone=calendar.zone,
        expected=all_expected,
        stored=all_stored,
        share=_share(all_stored, all_expected),
        numbers=_numbers(_together(numbers.values())) if numbers else None,
        items=items,
    )


def _span(asked: shapes.CompletenessQuery, today: datetime) -> tuple[datetime, datetime]:
    start = asked.start or (asked.end or today) - timedelta(days=1)
    end = asked.end or start + timedelta(days=1)
    if start >= end:
        raise RequestError("api.span_reversed", start=start.isoformat(), end=end.isoformat())
    if end - start > _LONGEST:
        raise RequestError("read.span_too_long", days=_LONGEST.days)
    return start, end


def _share(stored: int, expected: int | None) -> float | None:
    """Round, but never something missing up to a whole."""
    if not expected:
        return None
    return 1.0 if stored >= expected else min(round(stored / expected, 4), 0.9999)


def _counted(
    one: completeness.Complete, numbers: Numbered | None
) -> tuple[Literal["interval", "seq"] | None, int | None, int]:
    """Tell what was expected, by the interval where one is known, else by the numbers; and what is stored of that."""
    if one.expected is not None:
        return "interval", one.expected, one.stored
    return (None, None, one.stored) if numbers is None else ("seq", numbers.expected, numbers.stored)


def _together(each: Collection[Numbered]) -> Numbered:
    return Numbered(sum(one.expected for one in each), sum(one.stored for one in each))


def _numbers(numbers: Numbered | None) -> shapes.NumberedCompleteness | None:
    if numbers is None:
        return None
    share = _share(numbers.stored, numbers.expected)
    return shapes.NumberedCompleteness(expected=numbers.expected, stored=numbers.stored, share=share)


async def _gaps(
    connection: asyncpg.Connection,
    devices: Sequence[Scoped],
    found: Mapping[int, completeness.Complete],
    start: datetime,
    until: datetime,
) -> dict[int, list[tuple[datetime, datetime]]]:
    """Look for gaps only where something is missing: raw readings are read for them."""
    by_class: dict[str, dict[int, timedelta]] = {}
    for device in devices:
        one = found.get(device.id)
        if one is not None and one.interval is not None and one.expected and one.stored < one.expected:
            by_class.setdefault(device.class_key, {})[device.id] = one.interval
    gaps: dict[int, list[tuple[datetime, datetime]]] = {}
    for class_key, intervals in by_class.items():
        gaps |= await completeness.gaps_of(connection, class_key, intervals, start=start, end=until)
    return gaps


async def _silent(
    connection: asyncpg.Connection, profiles: Profiles, devices: Sequence[Scoped], start: datetime, end: datetime
) -> dict[int, list[str]]:
    """Name the metrics that a device promises, by its profile or by ever having said them, and did not say."""
    ever = await completeness.ever_said(connection, [each.id for each in devices])
    silent: dict[int, list[str]] = {}
    for class_key in sorted({each.class_key for each in devices}):
        device_class = profiles.classes.get(class_key)
        if device_class is None:
            continue
        mine = [each for each in devices if each.class_key == class_key]
        said = await _said(connection, device_class, [each.id for each in mine], start, end)
        for device in mine:
            promised = ever.get(device.id, set()) | _declared(profiles, device.profile)
            quiet = promised - said.get(device.id, set())
            silent[device.id] = [metric.key for metric in device_class.metrics if metric.key in quiet]
    return silent


async def _said(
    connection: asyncpg.Connection, device_class: DeviceClass, ids: Sequence[int], start: datetime, end: datetime
) -> dict[int, set[str]]:
    calendar = await read_calendar(connection)
    first, last = whole_buckets(start, end, Level.HOUR, calendar.zone)
    rows = await buckets.stats(
        connection,
        device_class,
        Level.HOUR,
        start=first,
        end=last,
        metrics=device_class.metrics,
        device_ids=ids,
        by="device",
    )
    said: dict[int, set[str]] = {}
    for row in rows:
        said.setdefault(row.device_id or 0, set()).add(row.metric)
    return said


def _declared(profiles: Profiles, model: str | None) -> set[str]:
    if model is None or model.startswith(_NATIVE):
        return set()
    try:
        return set(profiles.get(model).metrics)
    except NotFoundError:
        return set()


routes = (get("/telemetry/completeness", complete, reach=Reach.OWN),)
