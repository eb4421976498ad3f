"""Ask a device now; look for devices that nobody registered."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import msgspec
from aiohttp import web

from iot_core.api import shapes
from iot_core.api.inbox import note_found
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, get, post
from iot_core.api.spans import class_of
from iot_core.api.sse import Message
from iot_core.api.stream import TICK_S, send
from iot_core.asking import Asked, Asking
from iot_core.errors import CommandRejected, IotError, StoreUnavailable
from iot_core.model import DeviceClass
from iot_core.registry.found import short
from iot_core.store.connection import AWAY

Step = Mapping[str, Any]


async def read(call: Call[NoQuery]) -> shapes.AskedNow:
    """Ask a device now, in between whatever else is asked, and store what it says."""
    async with call.connection() as connection:
        device = await short(connection, call.path["key"])
    asked = await _asking(call).read(device.id, device.key)
    return shapes.AskedNow(
        device=asked.device_key,
        time=asked.time,
        items=_items(asked, class_of(call.services.profiles, device.class_key)),
        held=asked.problems,
        stored=asked.stored,
    )


async def survey(call: Call[shapes.SurveyQuery]) -> web.StreamResponse:
    """Look for devices at a place, read-only: `event: step` for how far it is and what was found, at last `event: end`.

    An error in the middle is `event: problem`.
    """
    asked = call.query
    request = {key: value for key, value in msgspec.to_builtins(asked).items() if value is not None}
    steps = _noted(call, _asking(call).survey(asked.protocol, request))
    return await send(call, _messages(steps))


async def _noted(call: Call[Any], steps: AsyncIterator[Step]) -> AsyncGenerator[Step, None]:
    """Let whom a survey finds wait in the inbox, with what was read of them."""
    async with aclosing(cast("AsyncGenerator[Step, None]", steps)) as following:
        async for step in following:
            said = step["found"]
            if said is None:
                yield step
                continue
            guessed = {each["model"]: float(each["weight"]) for each in said["guesses"]}
            found = shapes.InboxFound(
                address=said["address"], model=said["model"], guess=guessed, says=said["identification"],
                registers=said["registers"],
            )  # fmt: skip
            try:
                async with call.connection() as connection:
                    waiting, _ = await note_found(connection, [found])
            except (*AWAY, StoreUnavailable):
                waiting = 0  # whoever asked still sees what is there
            yield {**step, "waiting": bool(waiting)}


async def _messages(steps: AsyncIterator[Step]) -> AsyncGenerator[Message | None, None]:
    """Turn steps into messages, with None in between while nothing happens."""
    async with aclosing(cast("AsyncGenerator[Step, None]", steps)) as following:
        waiting = asyncio.ensure_future(anext(following, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=TICK_S)
                if not done:
                    yield None
                    continue
                step = waiting.result()
                if step is None:
                    yield Message("end", "{}")
                    return
                yield Message("step", msgspec.json.encode(step).decode())
                waiting = asyncio.ensure_future(anext(following, None))
        except IotError as error:
            yield Message("problem", msgspec.json.encode({"code": error.code, "facts": error.facts}).decode())
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def _items(asked: Asked, device_class: DeviceClass) -> tuple[shapes.Now, ...]:
    said = [(metric, asked.values[metric.key]) for metric in device_class.metrics if metric.key in asked.values]
    return tuple(
        shapes.Now(
            metric=metric.key, title=metric.title, ucum=metric.ucum, value=value, bad=not metric.plausible(value)
        )
        for metric, value in said
        if isinstance(value, (bool, int, float, str))
    )


def _asking(call: Call[Any]) -> Asking:
    if call.services.asking is None:
        raise CommandRejected("driver.no_read", device="-", protocol="-")
    return call.services.asking


routes = (
    post("/devices/{key}/read", read, Action.DEVICES),
    get("/survey", survey, action=Action.DEVICES, events={"step": shapes.SurveyStep}),
)
