"""VN_AQI of a station, computed when it is asked for: from the hours that are stored now, so late data count."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from iot_core.api import shapes
from iot_core.api.routes import Call, get
from iot_core.api.spans import class_of, one_device, span_of
from iot_core.derived import vn_aqi
from iot_core.errors import RequestError
from iot_core.store import buckets
from iot_core.store.calendar import HOUR, Calendar
from iot_core.store.levels import Level, whole_buckets
from iot_core.store.tables import read_calendar

__all__ = ["routes"]

_POLLUTANTS: Final = (*vn_aqi.PARTICLES, *vn_aqi.GASES, "o3")
_BEFORE: Final = timedelta(hours=vn_aqi.NOWCAST_HOURS - 1)
_O3_BEFORE: Final = timedelta(hours=7)
_LONGEST: Final = timedelta(days=400)

Hours = Mapping[datetime, Mapping[str, float]]


async def aqi(call: Call[shapes.AqiQuery]) -> shapes.Aqis:
    """Give VN_AQI by the hour (nowcast) or by the civil day; an hour or day without enough data is left out."""
    asked = call.query
    start, end = span_of(asked.start, asked.end)
    if end - start > _LONGEST:
        raise RequestError("aqi.too_long", days=_LONGEST.days)
    async with call.reader() as connection:
        device = await one_device(connection, call.path["key"])
        device_class = class_of(call.services.profiles, device.class_key)
        metrics = [metric for metric in device_class.metrics if metric.key in _POLLUTANTS]
        if not any(metric.key in vn_aqi.PARTICLES for metric in metrics):
            raise RequestError("aqi.no_particles", key=device.key, class_key=device.class_key)
        calendar = await read_calendar(connection)
        level = Level.DAY if asked.by == "day" else Level.HOUR
        start, end = whole_buckets(start, end, level, calendar.zone)
        found = await buckets.buckets(
            connection, device_class, device.id, Level.HOUR, start=start - _BEFORE, end=end, metrics=metrics
        )
    hours = {
        each.time: {key: one.average for key, one in each.spreads.items() if one.average is not None} for each in found
    }
    if level is Level.DAY:
        indexed = by_day(hours, start, end, calendar)
    else:
        indexed = by_hour(hours, start, min(end, datetime.now(UTC)))
    return shapes.Aqis(
        device=device.key, by=asked.by, zone=calendar.zone, start=start, end=end, source=vn_aqi.SOURCE,
        items=tuple(
            shapes.Aqi(time=time, value=one.value, dominant=one.dominant, parts=dict(one.parts))
            for time, one in indexed.items()
        ),
    )  # fmt: skip


def by_hour(hours: Hours, start: datetime, end: datetime) -> dict[datetime, vn_aqi.Aqi]:
    """Index each hour from it and the eleven before; one that runs still needs readings of its own."""
    found = {}
    time = start
    while time < end:
        if time in hours or time + HOUR <= end:
            back = [time - age * HOUR for age in range(vn_aqi.NOWCAST_HOURS)]
            one = vn_aqi.hourly({key: [hours.get(each, {}).get(key) for each in back] for key in _POLLUTANTS})
            if one is not None:
                found[time] = one
        time += HOUR
    return found


def by_day(hours: Hours, start: datetime, end: datetime, calendar: Calendar) -> dict[datetime, vn_aqi.Aqi]:
    """Index each civil day from its hours; ozone's running means reach back over midnight."""
    found = {}
    day = start
    while day < end:
        following = calendar.day_after(day)
        span = {key: _hours(hours, key, day, following) for key in _POLLUTANTS}
        span["o3"] = _hours(hours, "o3", day - _O3_BEFORE, following)
        one = vn_aqi.daily(span)
        if one is not None:
            found[day] = one
        day = following
    return found


def _hours(hours: Hours, key: str, start: datetime, end: datetime) -> list[float | None]:
    return [hours.get(start + step * HOUR, {}).get(key) for step in range((end - start) // HOUR)]


routes = (get("/devices/{key}/aqi", aqi),)
