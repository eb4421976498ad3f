"""For supervisors and Prometheus: is it alive, does it take work, what did it do."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from iot_core.api.routes import SERVICES, connection
from iot_core.api.shapes import Ready
from iot_core.store.connection import AWAY

__all__ = ["add_routes"]

_ANSWER_S: Final = 2.0


async def livez(_: web.Request) -> web.Response:
    """Answer while the loop turns."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Say whether store and ingest take work; 503 when not."""
    services = request.app[SERVICES]
    parts = {"store": await _store_answers(request), "ingest": services.healthy()}
    answer = Ready(ready=all(parts.values()), parts=parts)
    return web.Response(
        body=msgspec.json.encode(answer), status=200 if answer.ready else 503, content_type="application/json"
    )


async def metrics(request: web.Request) -> web.Response:
    """Give counters in Prometheus' text format; they name no device and no sender."""
    body = request.app[SERVICES].counters.exposition()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _store_answers(request: web.Request) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S), connection(request.app[SERVICES]) as borrowed:
            await borrowed.fetchval("SELECT 1")
    except AWAY:
        return False
    return True


def add_routes(router: web.UrlDispatcher) -> None:
    """Place them where such things are looked for."""
    router.add_get("/livez", livez)
    router.add_get("/readyz", readyz)
    router.add_get("/metrics", metrics)
