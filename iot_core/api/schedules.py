"""Schedules: commands at local times, by clock and sun."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, delete, get, post
from iot_core.api.within import require_devices, require_selector
from iot_core.commanding import sun
from iot_core.errors import RequestError
from iot_core.profiles import checked_params
from iot_core.registry import schedules


async def list_(call: Call[NoQuery]) -> shapes.Schedules:
    """List schedules: all, or those of devices in the areas of who asks."""
    async with call.connection() as connection:
        found = await schedules.schedules(connection)
        if call.areas is not None:
            found = [each for each in found if await _touches(connection, each, call.areas)]
        return shapes.Schedules(items=tuple([await _shape(call, connection, each) for each in found]))


async def show(call: Call[shapes.SchedulePreview]) -> shapes.Schedule:
    """Show a schedule with what it will do in the next days."""
    async with call.connection() as connection:
        found = await schedules.get(connection, call.path["key"])
        if call.areas is not None and not await _touches(connection, found, call.areas):
            await _require(call, connection, found.selector)
        return await _shape(call, connection, found, days=call.query.days)


async def add(call: Call[NoQuery], body: shapes.ScheduleNew) -> shapes.Schedule:
    """Add a schedule for the devices of a selector; its sun is that of their middle."""
    points = [sun.parse(each) for each in body.points]
    async with call.connection() as connection, connection.transaction():
        by_sun = any(point.clock is None for point in points)
        found = await schedules.add(
            connection, body.key, body.where, list(body.points), by=call.who.name, by_sun=by_sun
        )
        await _require(call, connection, found.selector)
        (first, *_) = await schedules.members(connection, found.selector)
        for point in points:
            _check(call, first.class_key, point)
        return await _shape(call, connection, found, days=2)


async def remove(call: Call[NoQuery]) -> shapes.Schedule:
    """Remove a schedule; devices that keep it are told so."""
    async with call.connection() as connection:
        await _require(call, connection, (await schedules.get(connection, call.path["key"])).selector)
        found = await schedules.remove(connection, call.path["key"], by=call.who.name)
        members = await schedules.members(connection, found.selector)
        answer = await _shape(call, connection, found)
    if call.services.twins is not None:
        for each in members:
            if each.asked_key == found.key:
                await call.services.twins.change(each.key, {"schedule": None}, by="schedule")
    return answer


async def override(call: Call[NoQuery], body: shapes.ScheduleOverride) -> shapes.Schedule:
    """Let something else hold for a time, then go on as the schedule says."""
    begins = datetime.now(UTC)
    async with call.connection() as connection:
        found = await schedules.get(connection, call.path["key"])
        await _require(call, connection, found.selector)
        if body.point is not None:
            members = await schedules.members(connection, found.selector)
            for each in members[:1]:
                _check(call, each.class_key, sun.parse(f"00:00 {body.point}"))
        point = None if body.point is None else f"00:00 {body.point}"
        ends = begins + timedelta(seconds=body.for_s)
        found = await schedules.override(connection, found.key, point, begins, ends, by=call.who.name)
        return await _shape(call, connection, found, days=1)


async def _touches(connection: Any, found: schedules.Schedule, areas: frozenset[int]) -> bool:
    return any(each.area_id in areas for each in await schedules.members(connection, found.selector))


async def _require(call: Call[Any], connection: Any, selector: str) -> None:
    """Refuse a schedule whose devices stand elsewhere, now or later: the selector is asked again at each moment."""
    if call.areas is not None:
        members = await schedules.members(connection, selector)
        await require_devices(call, connection, [each.key for each in members])
        await require_selector(call, connection, selector)


def _check(call: Call[Any], class_key: str, point: sun.Point) -> None:
    device_class = call.services.profiles.classes.get(class_key)
    kind = None if device_class is None else device_class.command(point.name)
    if device_class is None or kind is None:
        known = ", ".join(each.key for each in (device_class.commands if device_class else ())) or "-"
        raise RequestError("command.unknown", command=point.name, device_class=class_key, known=known)
    checked_params(kind, point.params)
    if kind.confirm_two:
        raise RequestError("schedule.two_persons", command=point.name)


async def _shape(call: Call[Any], connection: Any, found: schedules.Schedule, days: int = 1) -> shapes.Schedule:
    place = sun.Place(found.latitude, found.longitude, ZoneInfo(call.services.settings.timezone))
    points = [sun.parse(each) for each in found.points]
    holidays = await schedules.holidays(connection)
    members = await schedules.members(connection, found.selector)
    plain = {key: value for key, value in msgspec.structs.asdict(found).items() if key in _SHOWN}
    return shapes.Schedule(
        **plain,
        devices=len(members),
        stored_on=sum(each.stored_key == found.key for each in members),
        coming=tuple(
            shapes.ScheduleMoment(at=at, name=point.name, params=dict(point.params))
            for at, point in sun.coming(points, datetime.now(UTC), place, holidays, days=days)
        ),
    )


_SHOWN = (
    "key", "selector", "points", "latitude", "longitude", "created_at", "created_by", "override_point",
    "override_from", "override_to",
)  # fmt: skip

routes = (
    get("/schedules", list_, reach=Reach.OWN),
    get("/schedules/{key}", show, reach=Reach.OWN),
    post("/schedules", add, Action.COMMAND, reach=Reach.OWN),
    delete("/schedules/{key}", remove, Action.COMMAND, reach=Reach.OWN),
    post("/schedules/{key}/override", override, Action.COMMAND, reach=Reach.OWN),
)
