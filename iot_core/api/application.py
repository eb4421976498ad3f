"""The application: all routes, the guards around them, and the hub that feeds the streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from typing import Final

import msgspec
from aiohttp import web

from iot_core.api import (
    alarm_rules,
    alarms,
    aqi,
    areas,
    asking,
    authority,
    batches,
    broker,
    centers,
    changes,
    channels,
    classes,
    commands,
    commissioning,
    completeness,
    credentials,
    devices,
    endpoints,
    escalation,
    events,
    feeds,
    files,
    firmware,
    health,
    held,
    images,
    inbox,
    maintenance,
    ngsi,
    opendata,
    pages,
    people,
    push,
    schedules,
    secrets,
    series,
    session,
    telemetry,
    twin,
)
from iot_core.api.again import Again
from iot_core.api.hub import HUB, Hub
from iot_core.api.limits import Attempts, Limit
from iot_core.api.openapi import document
from iot_core.api.problems import guard
from iot_core.api.routes import AGAIN, ASKING, ATTEMPTS, SERVICES, Route, handle
from iot_core.api.services import Services
from iot_core.api.shapes import PREFIX
from iot_core.registry.credentials import Authenticator

__all__ = ["ROUTES", "build"]

_MOST_BYTES: Final = 8 * 1024 * 1024

ROUTES: Final[tuple[Route, ...]] = (
    *aqi.routes,
    *areas.routes,
    *changes.routes,
    *devices.routes,
    *telemetry.routes,
    *asking.routes,
    *commands.routes,
    *twin.routes,
    *firmware.routes,
    *schedules.routes,
    *channels.routes,
    *maintenance.routes,
    *commissioning.routes,
    *credentials.routes,
    *secrets.routes,
    *series.routes,
    *completeness.routes,
    *files.routes,
    *alarms.routes,
    *alarm_rules.routes,
    *events.routes,
    *inbox.routes,
    *batches.routes,
    *authority.routes,
    *held.routes,
    *push.routes,
    *escalation.routes,
    *centers.routes,
    *opendata.routes,
    *classes.routes,
    *session.routes,
    *people.routes,
    *endpoints.routes,
)


def build(services: Services) -> web.Application:
    """Put the application together."""
    app = web.Application(middlewares=[guard], client_max_size=_MOST_BYTES)
    app[SERVICES] = services
    app[HUB] = Hub(services)
    app[AGAIN] = Again(services.pool, services.vault)
    app[ATTEMPTS] = Attempts()
    app[ASKING] = Limit(services.settings.api.rate, services.settings.api.burst)
    app[broker.AUTHENTICATE] = Authenticator(services.pool)
    for route in ROUTES:
        app.router.add_route(route.method, PREFIX + route.path, handle(route))
    app.router.add_get("/openapi.json", _openapi)
    for part in (health, broker, batches, feeds, ngsi, pages, images):
        part.add_routes(app.router)
    app.on_response_prepare.append(pages.secure)
    app.on_shutdown.append(_close_streams)
    app.cleanup_ctx.append(_listen)
    return app


async def _openapi(_: web.Request) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")


@cache
def _document() -> bytes:
    return msgspec.json.encode(document(ROUTES))


async def _close_streams(app: web.Application) -> None:
    app[HUB].close()


async def _listen(app: web.Application) -> AsyncIterator[None]:
    """Run the hub while the application does."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(app[HUB].run(), name="api events")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
