"""Who asks: a Bearer token, or the cookie of a session; a write with a cookie needs a header that no form can send."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

import asyncpg
from aiohttp import web

from iot_core.api.problems import Unauthorized
from iot_core.errors import ForbiddenError
from iot_core.registry.tokens import SESSION_LIFE, Kind, Token, identify

__all__ = ["COOKIE", "address", "forget_cookie", "is_https", "require_own_page", "set_cookie", "who"]

COOKIE: Final = "iot_session"
CSRF_HEADER: Final = "X-Requested-With"
CSRF_VALUE: Final = "iot"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST: Final = 200


async def who(request: web.Request, connection: asyncpg.Connection) -> Token:
    """Say who asks. Raises Unauthorized; ForbiddenError for a write that another site may have made."""
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        return await _known(connection, secret.strip() if scheme.lower() == "bearer" else "", Kind.TOKEN)
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        raise Unauthorized("api.unauthorized")
    if request.method not in _SAFE:
        require_own_page(request)
    return await _known(connection, cookie, Kind.SESSION)


def require_own_page(request: web.Request) -> None:
    """Refuse what a form on another site could have sent: it cannot set this header."""
    if request.headers.get(CSRF_HEADER, "").lower() != CSRF_VALUE:
        raise ForbiddenError("api.csrf", header=f"{CSRF_HEADER}: {CSRF_VALUE}")


def set_cookie(request: web.Request, response: web.StreamResponse, secret: str) -> None:
    """Give the browser its session, out of reach of scripts and of other sites."""
    response.set_cookie(
        COOKIE, secret, max_age=int(SESSION_LIFE.total_seconds()), path="/", httponly=True, samesite="Strict",
        secure=is_https(request),
    )  # fmt: skip


def forget_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Take the session from the browser."""
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=is_https(request))


async def _known(connection: asyncpg.Connection, secret: str, kind: Kind) -> Token:
    token = await identify(connection, secret, kind) if 0 < len(secret) <= _LONGEST else None
    if token is None:
        raise Unauthorized("api.unauthorized")
    return token


def address(request: web.Request) -> str | None:
    """Say from where a request came: the other end, or who stands behind a proxy on this machine."""
    remote = request.remote or None
    behind = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        if remote is not None and behind and ip_address(remote).is_loopback:
            return str(ip_address(behind))
    except ValueError:
        return remote
    return remote


def is_https(request: web.Request) -> bool:
    """Say whether the browser came over TLS, here or at a proxy before us."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
