"""Twins: what devices should be set to, what they say, and what differs."""

from typing import Any

import msgspec

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.commanding import Twins
from iot_core.errors import CommandRejected
from iot_core.messages import text
from iot_core.registry import twin
from iot_core.registry.found import short


async def show(call: Call[NoQuery]) -> shapes.Twin:
    """Show a device's configuration: desired, reported, and where each key stands."""
    async with call.connection() as connection:
        device = await short(connection, call.path["key"])
        found = await twin.get(connection, device.id)
    return shape(found or twin.Twin(device_id=device.id, key=device.key, class_key=device.class_key), call.lang)


async def change(call: Call[NoQuery], body: shapes.TwinChange) -> shapes.Twin:
    """Change what a device should be set to; it is told now, or when it is there again."""
    key = call.path["key"]
    return shape(await _twins(call, key).change(key, body.changes, by=call.who.name, version=body.version), call.lang)


async def check(call: Call[NoQuery]) -> shapes.Twin:
    """Read a device's settings back now, so that drift shows; only where its protocol can be asked."""
    key = call.path["key"]
    found = await _twins(call, key).check(key)
    return shape(found, call.lang) if found is not None else await show(call)


async def list_(call: Call[shapes.TwinQuery]) -> shapes.Twins:
    """List configurations in key order; those that differ, unless all are asked for."""
    areas = None if call.areas is None else sorted(call.areas)
    async with call.connection() as connection:
        found = await twin.list_twins(connection, differing=not call.query.all, limit=call.query.limit, areas=areas)
    return shapes.Twins(items=tuple(shape(each, call.lang) for each in found))


def shape(found: twin.Twin, lang: str) -> shapes.Twin:
    """Give a twin as it is shown."""
    standing = twin.differences(found)
    keys = tuple(
        shapes.TwinKey(
            key=key, sync=standing[key].value, desired=value, reported=found.reported.get(key),
            refused=_why(found.refused.get(key), lang),
        )
        for key, value in found.desired.items()
    )  # fmt: skip
    extra = {key: value for key, value in found.reported.items() if key not in found.desired}
    plain: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("version", "changed_at", "changed_by", "reported_version", "reported_at", "told_version")
    }
    return shapes.Twin(device=found.key, keys=keys, other=msgspec.to_builtins(extra), **plain)


def _why(said: str | dict[str, Any] | None, lang: str) -> str | None:
    return text(said["code"], lang, **said["facts"]) if isinstance(said, dict) else said


def _twins(call: Call[Any], key: str) -> Twins:
    if call.services.twins is None:
        raise CommandRejected("command.no_driver", device=key, protocol="-")
    return call.services.twins


routes = (
    get("/twins", list_, reach=Reach.OWN),
    get("/devices/{key}/twin", show),
    post("/devices/{key}/twin", change, Action.COMMAND),
    post("/devices/{key}/twin/check", check, Action.COMMAND),
)
