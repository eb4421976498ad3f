"""A device's own secret: made anew, confirmed, revoked; and where its login may speak for others."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import asyncpg

from iot_core.api import commands, shapes
from iot_core.api.devices import let_in
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, delete, post
from iot_core.api.within import require_devices
from iot_core.broker.rights import covers, vendor
from iot_core.registry import bridges, credentials, rotation
from iot_core.registry import commands as orders

_SAMPLE: Final = 10
_CAREFUL: Final = 100.0
"""New secrets a second, when nobody says: what a broker that reads its password file anew twice a second bears."""


async def rotate(call: Call[NoQuery], body: shapes.SecretRotate) -> shapes.SecretRotated:
    """Make a new secret. The old one holds until the device shows the new one, or dies now with `at_once`."""
    key = call.path["key"]
    async with call.connection() as connection:
        secret = await rotation.rotate(connection, key, at_once=body.at_once, by=call.who.name)
    if body.at_once:
        await let_in(call)
    return shapes.SecretRotated(device=key, secret=secret, pending=not body.at_once)


async def rotate_many(call: Call[NoQuery], body: shapes.SecretsRotate) -> shapes.CommandOrder:
    """Make new secrets and bring each to its device over the line on which it has shown its old one.

    The old one holds until the device has shown the new one. Nobody is shown any of them.
    """
    async with call.connection() as connection:
        keys = await commands.meant(call, connection, body)
        if body.dry:
            return shapes.CommandOrder(
                number=None, name=rotation.COMMAND, params={}, selector=body.where or "", total=len(keys), states={},
                by=call.who.name, devices=tuple(keys[:_SAMPLE]),
            )  # fmt: skip
        terms = rotation.Terms(
            within=timedelta(seconds=body.within_s), selector=body.where or "", rate=body.rate or _CAREFUL,
            stop_after=body.stop_after,
        )  # fmt: skip
        number = await rotation.deliver(connection, call.services.vault, keys, terms, by=call.who.name)
        return commands.order_shape(await orders.get_order(connection, number))


async def confirm(call: Call[NoQuery]) -> shapes.SecretRotated:
    """Say for the device that it has its new secret: from now on only that one opens."""
    key = call.path["key"]
    async with call.connection() as connection:
        await rotation.confirm(connection, key, by=call.who.name)
    await let_in(call)
    return shapes.SecretRotated(device=key, secret=None, pending=False)


async def revoke(call: Call[NoQuery]) -> shapes.SecretRotated:
    """Let nobody in as this device: secrets, OSCORE key and certificates die now, open connections end."""
    key = call.path["key"]
    async with call.connection() as connection:
        await rotation.revoke(connection, key, by=call.who.name)
    await let_in(call)
    return shapes.SecretRotated(device=key, secret=None, pending=False)


async def bridge(call: Call[NoQuery], body: shapes.BridgeSet) -> shapes.Bridge:
    """Say below which topics a device's login may speak for devices behind it, registered or not."""
    key = call.path["key"]
    async with call.connection() as connection:
        await _require_topics(call, connection, key, body.topics)
        topics = await bridges.set_topics(connection, key, body.topics, by=call.who.name)
    await let_in(call)
    return shapes.Bridge(device=key, topics=tuple(topics))


async def _require_topics(call: Call[NoQuery], connection: asyncpg.Connection, key: str, topics: Sequence[str]) -> None:
    """Refuse topics below which a device elsewhere speaks or is spoken to: this login would hear and say the same."""
    if call.areas is None:
        return
    wanted = [f"{bridges.topic_of(each)}/#" for each in topics]
    senders, bridged = await credentials.senders(connection), await credentials.bridges(connection)
    touched = [
        login
        for login, granted in vendor(senders, call.services.profiles, bridged).items()
        if login != key and any(covers(own, topic) or covers(topic, own) for own in wanted for _, topic in granted)
    ]
    await require_devices(call, connection, touched)


routes = (
    post("/devices/{key}/bridge", bridge, Action.DEVICES),
    post("/devices/{key}/secret", rotate, Action.DEVICES),
    post("/devices/{key}/secret/confirm", confirm, Action.DEVICES),
    delete("/devices/{key}/secret", revoke, Action.DEVICES),
    post("/secrets/rotate", rotate_many, Action.DEVICES, most=1024 * 1024, reach=Reach.OWN),
)
