"""Batch keys, and the claims that new devices make with them.

`POST /v1/claim` is for devices: it shows a batch key, no token, and is no part of the API for people.
"""

from typing import Final

from aiohttp import web

from iot_core.api import access, shapes
from iot_core.api.endpoints import reached_claims, reached_coap
from iot_core.api.roles import Action
from iot_core.api.routes import ASKING, SERVICES, Call, NoQuery, Reach, delete, get, post
from iot_core.driver import ClaimState
from iot_core.errors import NotFoundError
from iot_core.registry import batches
from iot_core.registry.batches import Batch

__all__ = ["CLAIM", "add_routes", "routes"]

CLAIM: Final = "/v1/claim"
_MOST: Final = 16 * 1024
_STATUS: Final = {ClaimState.ACCEPTED: 200, ClaimState.WAITING: 202, ClaimState.REFUSED: 403}


async def list_batches(call: Call[NoQuery]) -> shapes.Batches:
    """List batch keys, the newest first."""
    async with call.connection() as connection:
        found = await batches.batches(connection)
    return shapes.Batches(items=tuple(_shape(each) for each in found))


async def create(call: Call[NoQuery], body: shapes.BatchNew) -> shapes.BatchCreated:
    """Make a batch key. Its secret is in this answer and nowhere else."""
    async with call.connection() as connection:
        made, secret = await batches.create(
            connection,
            call.services.profiles,
            count=body.count,
            until=body.until,
            profile=body.profile,
            networks=body.networks,
            name=body.name,
            by=call.who.name,
        )
    return shapes.BatchCreated(
        batch=_shape(made),
        secret=secret,
        http=f"{call.request.url.origin()}{CLAIM}",
        coap=f"coap://{reached_coap(call)}{CLAIM}",
        mqtt=reached_claims(call),
        mqtts=reached_claims(call, tls=True),
    )


async def revoke(call: Call[NoQuery]) -> shapes.Batch:
    """End a batch key: it opens nothing any more. Devices that have their own secret keep it."""
    async with call.connection() as connection:
        return _shape(await batches.revoke(connection, call.path["key"], by=call.who.name))


async def claim(request: web.Request) -> web.Response:
    """Take a device's claim."""
    claiming = request.app[SERVICES].claiming
    if claiming is None:
        raise NotFoundError("api.no_path")
    request.app[ASKING].take(f"from {access.address(request)}")
    data = await request.read()
    claimed = await claiming(data[:_MOST], driver="http", came_from=request.remote)
    return web.Response(body=claimed.body, status=_STATUS[claimed.state], content_type="application/json")


def _shape(batch: Batch) -> shapes.Batch:
    return shapes.Batch(
        key=batch.key,
        name=batch.name,
        state=batch.state,
        count=batch.most,
        claimed=batch.claimed,
        waiting=batch.waiting,
        profile=batch.profile,
        networks=tuple(str(each) for each in batch.networks),
        until=batch.until,
        created_at=batch.created_at,
        created_by=batch.created_by,
        revoked_at=batch.revoked_at,
    )


def add_routes(router: web.UrlDispatcher) -> None:
    """Place the devices' own path."""
    router.add_post(CLAIM, claim)


routes = (
    get("/batches", list_batches, action=Action.BATCHES, reach=Reach.ANY),
    post("/batches", create, Action.BATCHES, status=201),
    delete("/batches/{key}", revoke, Action.BATCHES),
)
