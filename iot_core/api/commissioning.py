"""The technician's test of a device that was just hung up, and its record."""

from dataclasses import replace
from datetime import datetime

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.api.households import require_household
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, get, post
from iot_core.api.telemetry import latest_of
from iot_core.registry import commissioning
from iot_core.registry.found import short


async def look(call: Call[shapes.CommissioningQuery]) -> shapes.Commissioning:
    """Look how a device does since a moment."""
    asked = call.query
    async with call.connection() as connection:
        device = await short(connection, call.path["key"])
        await require_household(call, connection, (device.id, device.class_key), Action.DEVICES)
        return _shape(await _checked(call, connection, asked.since, asked.without))


async def keep(call: Call[NoQuery], body: shapes.CommissioningNew) -> shapes.Commissioning:
    """Check once more, and keep the record."""
    async with call.connection() as connection:
        done = await _checked(call, connection, body.since, body.without)
        done = replace(done, command=body.command, command_state=body.command_state, notes=body.notes)
        number, at = await commissioning.keep(connection, done, by=call.who.name)
    return msgspec.structs.replace(_shape(done), id=number, at=at, by=call.who.name)


async def records(call: Call[NoQuery]) -> shapes.Commissionings:
    """Give the records of a device, the newest first."""
    async with call.connection() as connection:
        device = await short(connection, call.path["key"])
        await require_household(call, connection, (device.id, device.class_key), Action.DEVICES)
        found = await commissioning.records(connection, call.path["key"])
    return shapes.Commissionings(items=tuple(msgspec.convert(each, shapes.Commissioning) for each in found))


async def _checked(
    call: Call[shapes.CommissioningQuery] | Call[NoQuery],
    connection: asyncpg.Connection,
    since: datetime,
    without: str | None,
) -> commissioning.Checked:
    profiles = call.services.profiles
    device = await short(connection, call.path["key"])
    latest = await latest_of(connection, profiles, device.id, device.class_key)
    excused = [each for each in (without or "").replace(" ", "").split(",") if each]
    return await commissioning.checked(connection, profiles, device.key, latest, since=since, without=excused)


def _shape(each: commissioning.Checked) -> shapes.Commissioning:
    return msgspec.convert(each, shapes.Commissioning, from_attributes=True)


routes = (
    get("/devices/{key}/commissioning", look),
    post("/devices/{key}/commissioning", keep, Action.DEVICES),
    get("/devices/{key}/commissionings", records),
)
