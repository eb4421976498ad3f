"""Credentials that the core keeps for a unit: a camera's login, an OSCORE key. They go in, and never come out again."""

import secrets

from iot_core.api import shapes
from iot_core.api.endpoints import reached_coap
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, delete, post
from iot_core.errors import NotFoundError
from iot_core.registry.keep import forget, keep, keep_beside

KIND = "oscore"
MASTER_SECRET_BYTES = 16
MASTER_SALT_BYTES = 8


async def set_login(call: Call[NoQuery], body: shapes.LoginNew) -> shapes.CredentialKept:
    """Keep the login that the core shows to this device (a camera)."""
    key = call.path["key"]
    async with call.connection() as connection:
        public = {"username": body.username}
        await keep(
            connection, key, "login", public, body.password.encode(), by=call.who.name, vault=call.services.vault
        )
    return shapes.CredentialKept(device=key, kind="login", username=body.username)


async def new_oscore(call: Call[NoQuery], body: shapes.OscoreNew) -> shapes.OscoreContext:
    """Make an OSCORE context for this device. Its key is in this answer and nowhere else.

    The one before holds until the device has used the new one, or dies now: with `at_once`, and for a device that we
    ask (`coap://`), because it is not the one that begins.
    """
    key, vault = call.path["key"], call.services.vault
    secret, salt = secrets.token_bytes(MASTER_SECRET_BYTES), secrets.token_bytes(MASTER_SALT_BYTES)
    async with call.connection() as connection:
        beside = None
        if not body.at_once:
            beside = await keep_beside(
                connection, key, KIND, {"salt": salt.hex()}, secret, by=call.who.name, vault=vault
            )
        unit = beside or await keep(connection, key, KIND, {"salt": salt.hex()}, secret, by=call.who.name, vault=vault)
    return shapes.OscoreContext(
        device=key,
        pending=beside is not None,
        url=f"coap://{reached_coap(call)}/v1/{key}/telemetry",
        master_secret=secret.hex(),
        master_salt=salt.hex(),
        sender_id=shapes.oscore_id(unit),
        recipient_id=shapes.OSCORE_CORE_ID,
    )


async def forget_login(call: Call[NoQuery]) -> shapes.CredentialKept:
    """Forget the login."""
    return await _forget(call, "login")


async def forget_oscore(call: Call[NoQuery]) -> shapes.CredentialKept:
    """Forget the OSCORE context: the device can only use its token again."""
    return await _forget(call, "oscore")


async def _forget(call: Call[NoQuery], kind: str) -> shapes.CredentialKept:
    key = call.path["key"]
    async with call.connection() as connection:
        if not await forget(connection, key, kind, by=call.who.name):
            raise NotFoundError("registry.no_credential", kind=kind, key=key)
    return shapes.CredentialKept(device=key, kind=kind)


routes = (
    post("/devices/{key}/login", set_login, Action.DEVICES),
    delete("/devices/{key}/login", forget_login, Action.DEVICES),
    post("/devices/{key}/oscore", new_oscore, Action.DEVICES),
    delete("/devices/{key}/oscore", forget_oscore, Action.DEVICES),
)
