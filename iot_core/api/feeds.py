"""CAP feeds for apps: `/feeds/NAME` (Atom) and each message as CAP 1.2; public, because they were added so."""

from __future__ import annotations

import hashlib
from typing import Final

from aiohttp import web

from iot_core.api.routes import SERVICES, connection
from iot_core.push import feed
from iot_core.push.cap import MEDIA_TYPE

__all__ = ["add_routes"]

_ATOM: Final = "application/atom+xml"
_FRESH_S: Final = 30


async def _atom(request: web.Request) -> web.Response:
    async with connection(request.app[SERVICES]) as borrowed:
        found = await feed.read(borrowed, request.match_info["key"])
    address = str(request.url.with_query(None).with_fragment(None))
    return _answer(request, feed.atom(found, address), _ATOM)


async def _message(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    async with connection(services) as borrowed:
        parcel = await feed.message(
            borrowed, request.match_info["key"], request.match_info["message"], services.settings.timezone
        )
    return _answer(request, parcel.data, MEDIA_TYPE)


def _answer(request: web.Request, body: bytes, kind: str) -> web.Response:
    """Answer with a tag, so that the many apps that ask every minute get their 304."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={_FRESH_S}", "Access-Control-Allow-Origin": "*"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=kind, headers=headers)


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the feeds beside the API."""
    router.add_get("/feeds/{key}", _atom)
    router.add_get("/feeds/{key}/{message}.xml", _message)
