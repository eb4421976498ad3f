"""The stream of what happens, and the light list of devices that it keeps up to date."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack

import msgspec
from aiohttp import web

from iot_core.api import shapes
from iot_core.api.hub import HUB, Hub, Subscriber
from iot_core.api.roles import Action, where
from iot_core.api.routes import Call, NoQuery, Reach, get
from iot_core.api.sse import Message
from iot_core.api.stream import TICK_S, send
from iot_core.registry.found import map_devices

_SAID = {"alarm": shapes.AlarmHappened, "device": shapes.MapDevice, "command": shapes.CommandStep}


async def show_map(call: Call[NoQuery]) -> shapes.Map:
    """Give every device that is not retired, as the page draws it."""
    async with call.connection() as connection:
        found = await map_devices(connection, call.areas)
    return shapes.Map(items=tuple(msgspec.convert(each, shapes.MapDevice, from_attributes=True) for each in found))


async def events(call: Call[NoQuery]) -> web.StreamResponse:
    """Follow alarm events, device states, steps of commands. With Last-Event-ID, missed alarm events come first."""
    hub = call.request.app[HUB]
    async with AsyncExitStack() as stack:
        last_id = call.request.headers.get("Last-Event-ID", "")
        subscriber, missed = await stack.enter_async_context(hub.subscribe(last_id))
        return await send(call, _messages(hub, subscriber, missed, call))


async def _messages(
    hub: Hub, subscriber: Subscriber, missed: Sequence[Message], call: Call[NoQuery]
) -> AsyncGenerator[Message | None, None]:
    """Give what was missed, then what happens in the asker's areas; an event that is in both is told once."""
    areas, told = call.areas, {message.id for message in missed}
    homes = [where(call.who, action) for action in (Action.HOUSEHOLD, Action.DEVICES)]

    def told_so(message: Message) -> Message:
        seen = not message.discreet or any(places is None or message.area_id in places for places in homes)
        return message if seen else message.discreetly()

    for message in missed:
        if areas is None or message.area_id in areas:
            yield told_so(message)
    while not hub.closing.is_set() and not subscriber.dropped.is_set():
        found = await subscriber.next(TICK_S)
        if found is None or (areas is not None and found.area_id not in areas):
            yield None
        elif found.id not in told or not found.id:
            yield told_so(found)


routes = (
    get("/map", show_map, reach=Reach.OWN),
    get("/events", events, reach=Reach.OWN, events=_SAID),
)
