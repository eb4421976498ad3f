"""Errors as RFC 9457 problems: a code and facts for programs, a sentence in the asker's language for people."""

from __future__ import annotations

import http
import re
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from aiohttp import web

from iot_core.api.shapes import Problem
from iot_core.errors import (
    CommandRejected,
    ConflictError,
    DeviceUnreachable,
    ForbiddenError,
    IotError,
    NotFoundError,
    RequestError,
    StoreUnavailable,
)
from iot_core.messages import LANGUAGES, language, said
from iot_core.store.connection import AWAY, RETRY

__all__ = ["TooMuch", "TooOften", "Unauthorized", "asked_language", "from_validation", "guard", "problem"]

log = structlog.get_logger()

_RETRY_AFTER_S: Final = "5"
_HTTP_CODES: Final = {404: "api.no_path", 405: "api.no_method", 413: "api.too_large"}


class Unauthorized(RequestError):
    """Raised when nobody knows who asks."""


class TooMuch(RequestError):
    """Raised when a body is larger than its kind may be."""


class TooOften(RequestError):
    """Raised when somebody asks more often than they may; the facts say after how many seconds there is room."""


class WrongType(RequestError):
    """Raised when a body is not JSON by its own word."""


_STATUS: Final[tuple[tuple[type[IotError], int], ...]] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (ForbiddenError, 403),
    (Unauthorized, 401),
    (TooMuch, 413),
    (WrongType, 415),
    (TooOften, 429),
    (RequestError, 400),
    (CommandRejected, 422),
    (StoreUnavailable, 503),
    (DeviceUnreachable, 504),
)


def problem(error: IotError, lang: str) -> web.Response:
    """Say an error over HTTP."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    facts = {key: _plain(value) for key, value in error.facts.items()}
    body = Problem(
        title=http.HTTPStatus(status).phrase, status=status, code=error.code, detail=said(error, lang), facts=facts
    )
    headers = {"Content-Language": lang}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 429:
        headers["Retry-After"] = str(facts.get("seconds", 1))
    if status == 503:
        headers["Retry-After"] = _RETRY_AFTER_S
    return web.Response(
        body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/problem+json"
    )


@web.middleware
async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn whatever goes wrong in a handler into a problem; only what nobody foresaw is logged."""
    lang = asked_language(request)
    try:
        answer: web.StreamResponse = await handler(request)
    except IotError as error:
        return problem(error, lang)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _http_problem(error, lang)
    except asyncpg.DataError as error:  # a value that the database cannot hold, such as a text with a NUL
        return problem(RequestError("api.bad_value", detail=_first_line(error)), lang)
    except (*AWAY, *RETRY) as error:
        return problem(StoreUnavailable(type(error).__name__), lang)
    except Exception:
        log.exception("api.failed", method=request.method, path=_route(request))
        return problem(IotError("api.internal"), lang)
    return answer


def from_validation(error: msgspec.ValidationError) -> RequestError:
    """Name the key that is wrong and what was expected, from msgspec's sentence."""
    message = str(error)
    at = re.search(r" - at `(?:key in )?\$\.?([^`]*)`$", message)
    where = at.group(1) if at else ""
    named = re.search(r"(unknown|missing required) field `([^`]*)`", message)
    if named:
        key = f"{where}.{named[2]}".lstrip(".")
        return RequestError("api.unknown_key" if named[1] == "unknown" else "api.missing_key", key=key)
    return RequestError("api.invalid", key=where or "?", expected=re.sub(r" - at `.*`$", "", message))


def asked_language(request: web.Request) -> str:
    """Choose the language: the first of ours in Accept-Language by weight, else the core's."""
    weighted = [_weighted(part) for part in request.headers.get("Accept-Language", "")[:200].split(",")]
    wanted = sorted((each for each in weighted if each[1] in LANGUAGES and each[0] > 0), key=lambda each: -each[0])
    return wanted[0][1] if wanted else language()


def _weighted(part: str) -> tuple[float, str]:
    name, _, weight = part.strip().partition(";q=")
    try:
        return float(weight or 1), name[:2].lower()
    except ValueError:
        return 0.0, ""


def _http_problem(error: web.HTTPException, lang: str) -> web.Response:
    code = _HTTP_CODES.get(error.status, "api.bad_request")
    answer = problem(RequestError(code), lang)
    body = msgspec.json.decode(bytes(answer.body), type=Problem)  # type: ignore[arg-type]
    body = msgspec.structs.replace(body, status=error.status, title=error.reason)
    answer.set_status(error.status)
    answer.body = msgspec.json.encode(body)
    for name in ("Allow", "WWW-Authenticate", "Content-Range"):
        if name in error.headers:
            answer.headers[name] = error.headers[name]
    return answer


def _plain(value: object) -> object:
    """Give a fact as JSON can hold it."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _route(request: web.Request) -> str:
    """Name the route, not the path: what stands in a path was chosen by the asker."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "?"
