"""`/firmware/ID`: an image for a device that is being updated with it, whole or in parts (RFC 9110 section 14)."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Final

from aiohttp import web

from iot_core.api.access import address
from iot_core.api.broker import AUTHENTICATE
from iot_core.api.routes import ATTEMPTS, SERVICES, connection
from iot_core.registry import firmware

__all__ = ["add_routes"]

_RANGE: Final = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")
_LARGEST_PART: Final = 1024 * 1024
_AGAIN: Final = {"WWW-Authenticate": 'Basic realm="firmware"'}


async def image(request: web.Request) -> web.Response:
    """Give the image or a part of it to a device that shows its key and secret (HTTP Basic)."""
    device = await _device(request)
    number = int(request.match_info["id"])
    async with connection(request.app[SERVICES]) as borrowed:
        found = await firmware.may_fetch(borrowed, number, device)
        if found is None:
            raise web.HTTPNotFound
        size, sha256 = found
        first, length, partial = _asked(request, size, f'"{sha256.hex()}"')
        data = await firmware.part(borrowed, number, first, length)
    headers = {"ETag": f'"{sha256.hex()}"', "Accept-Ranges": "bytes"}
    if partial:
        headers["Content-Range"] = f"bytes {first}-{first + len(data) - 1}/{size}"
    return web.Response(
        body=data, status=206 if partial else 200, headers=headers, content_type="application/octet-stream"
    )


def _asked(request: web.Request, size: int, tag: str) -> tuple[int, int, bool]:
    """Read which part is meant, as offset, length and whether it is one; of another image (If-Range) all of it."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or request.headers.get("If-Range", tag) != tag:
        return 0, size, False
    first, final = int(found[1]), int(found[2] or size - 1)
    if first >= size or final < first:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return first, min(final, size - 1, first + _LARGEST_PART - 1) - first + 1, True


async def _device(request: web.Request) -> str:
    """Say which device asks. Raises HTTPUnauthorized, TooOften."""
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    try:
        key, _, secret = b64decode(said, validate=True).decode().partition(":")
    except ValueError:  # what is no base64, or no text
        raise web.HTTPUnauthorized(headers=_AGAIN) from None
    attempt = request.app[ATTEMPTS].begin(address(request), f"device {key}")
    if scheme.lower() != "basic" or not await request.app[AUTHENTICATE](key, secret):
        raise web.HTTPUnauthorized(headers=_AGAIN)
    attempt.forgive()
    return key


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve images."""
    router.add_get(r"/firmware/{id:[0-9]{1,9}}", image)
