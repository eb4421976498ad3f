"""Channels of a unit that feeds several devices."""

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, get, post
from iot_core.api.within import require_devices
from iot_core.registry import channels


async def show(call: Call[NoQuery]) -> shapes.Channels:
    """List the channels of a device's unit, and the device that each of them feeds."""
    async with call.connection() as connection:
        found = await channels.channels(connection, call.services.profiles, call.path["key"])
    return _shape(found)


async def feed(call: Call[NoQuery], body: shapes.ChannelFeeds) -> shapes.Channels:
    """Say which device a channel feeds; null: none any more."""
    async with call.connection() as connection:
        key, named = call.path["key"], [body.device]
        if call.areas is not None:  # what the channel fed until now loses its readings
            there = await channels.channels(connection, call.services.profiles, key)
            named += [each.device for each in there if each.channel == body.channel]
        await require_devices(call, connection, [each for each in named if each is not None])
        found = await channels.feed(
            connection, call.services.profiles, key, body.channel, body.device, by=call.who.name
        )
    return _shape(found)


def _shape(found: list[channels.Channel]) -> shapes.Channels:
    return shapes.Channels(items=tuple(shapes.Channel(channel=each.channel, device=each.device) for each in found))


routes = (
    get("/devices/{key}/channels", show),
    post("/devices/{key}/channels", feed, Action.DEVICES),
)
