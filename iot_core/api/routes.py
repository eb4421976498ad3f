"""A route is a typed function: its annotations say what the query, the body and the answer are.

async def add(call: Call[NoQuery], body: shapes.AreaNew) -> shapes.Area: ...
routes = (post("/areas", add, Action.AREAS),)

From them the request is parsed, the answer written, and OpenAPI generated. The annotations are read at run time, so
these modules do without `from __future__ import annotations`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints

import asyncpg
import msgspec
from aiohttp import web

from iot_core.api import access, again, shapes
from iot_core.api.limits import Attempts, Limit
from iot_core.api.problems import TooMuch, WrongType, asked_language, from_validation
from iot_core.api.reading import reader
from iot_core.api.roles import Action, outside, require
from iot_core.api.services import Services
from iot_core.api.within import require_path
from iot_core.errors import RequestError
from iot_core.registry.audit import ASKED, Asked
from iot_core.registry.tokens import Kind, Token

__all__ = [
    "AGAIN", "ASKING", "ATTEMPTS", "SERVICES", "Call", "NoQuery", "Reach", "Route", "connection", "delete", "get",
    "handle", "open_call", "post",
]  # fmt: skip

SERVICES: Final = web.AppKey("services", Services)
ATTEMPTS: Final = web.AppKey("attempts", Attempts)
ASKING: Final = web.AppKey("asking", Limit)
AGAIN: Final = web.AppKey("again", again.Again)
_ACQUIRE_S: Final = 10.0
_SMALL: Final = 64 * 1024
_NAMING: Final = ("/devices/{key}", "/areas/{key}", "/alarms/{id}")

Q = TypeVar("Q", bound=shapes.Query)


class Reach(StrEnum):
    """How a route keeps to the areas in which its asker has the right."""

    PATH = "path"
    """What the path names (a device, an area, an alarm) must stand in them; looked at before the handler."""
    OWN = "own"
    """The handler looks itself: at what is named in the request, or it leaves out what stands elsewhere."""
    ANY = "any"
    """It tells and changes nothing of any area."""
    EVERYWHERE = "everywhere"
    """Only a right that holds everywhere opens it: what a route does that says nothing else."""


class NoQuery(shapes.Query, frozen=True, kw_only=True):
    """No parameters."""


@dataclass(slots=True, kw_only=True)
class Call(Generic[Q]):
    """One request, understood: who asks, in which language, with which parameters.

    `areas` are those in which the asker has the route's right, None: everywhere.
    A handler that sets `session` gives the browser a cookie; the empty string takes it away.
    """

    services: Services
    request: web.Request
    who: Token
    lang: str
    query: Q
    action: Action | None = None
    areas: frozenset[int] | None = None
    session: str | None = field(default=None, init=False)

    @property
    def path(self) -> Mapping[str, str]:
        """The variable parts of the path."""
        return self.request.match_info

    @property
    def asker(self) -> str:
        """Name whose requests count together: a user's, whatever the token; else those of a program's token."""
        return f"user {self.who.user_id}" if self.who.user_id is not None else f"token {self.who.id}"

    def number(self, name: str, error: RequestError) -> int:
        """Read a number in the path; what is none, or could not be an id, is not there."""
        said = self.path[name]
        if not (said.isascii() and said.isdecimal() and len(said) <= 18):
            raise error
        return int(said)

    def connection(self) -> Any:
        """Borrow a database connection for a block."""
        return connection(self.services)

    def reader(self) -> Any:
        """Borrow a connection for a block that reads much: bounded, and cancelled when the client leaves."""
        return reader(self.services, self.request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method and path with its handler; `action` None is open to everyone.

    `events` marks a stream of events, `lines` one of lines of JSON. `proof` looks at the bytes of the body before they
    are parsed: who proves by them who they are is told nothing of what is wrong with them before.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    action: Action | None
    status: int = 200
    most: int = _SMALL
    events: Mapping[str, type] = field(default_factory=dict)
    lines: type | None = None
    reach: Reach | None = None
    proof: Callable[[Call[Any]], Awaitable[None]] | None = None

    @property
    def reaches(self) -> Reach:
        """How it keeps to areas: as it says, else by its path, else only for rights that hold everywhere."""
        if self.reach is not None:
            return self.reach
        if self.action is None:
            return Reach.ANY
        return Reach.PATH if self.path.startswith(_NAMING) else Reach.EVERYWHERE

    @property
    def repeatable(self) -> bool:
        """Whether an idempotency key is heeded: for writes of somebody known. Streams are reads."""
        return self.method != "GET" and self.action is not None

    @property
    def query(self) -> type[shapes.Query]:
        """The parameters' shape."""
        found: type[shapes.Query] = get_args(get_type_hints(self.handler)["call"])[0]
        return found

    @property
    def body(self) -> type[shapes.Request] | None:
        """The body's shape, None where there is no body."""
        return get_type_hints(self.handler).get("body")

    @property
    def answer(self) -> Any:
        """The answer's shape."""
        return get_type_hints(self.handler)["return"]


def get(path: str, handler: Callable[..., Awaitable[Any]], **options: Any) -> Route:
    """Route a read."""
    return Route(method="GET", path=path, handler=handler, action=options.pop("action", Action.READ), **options)


def post(path: str, handler: Callable[..., Awaitable[Any]], action: Action | None, **options: Any) -> Route:
    """Route a write."""
    return Route(method="POST", path=path, handler=handler, action=action, **options)


def delete(path: str, handler: Callable[..., Awaitable[Any]], action: Action | None, **options: Any) -> Route:
    """Route a removal."""
    return Route(method="DELETE", path=path, handler=handler, action=action, **options)


@asynccontextmanager
async def connection(services: Services) -> AsyncIterator[asyncpg.Connection]:
    """Borrow a database connection; TimeoutError (the store is away) when none is free in ten seconds."""
    async with services.pool.acquire(timeout=_ACQUIRE_S) as borrowed:
        yield borrowed


def handle(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Make the aiohttp handler of a route."""
    query, body = route.query, route.body

    async def answered(request: web.Request) -> web.StreamResponse:
        call = await open_call(request, route.action, query, route.reaches)
        data = b"" if body is None else await _read(request, route.most)
        if route.proof is not None:
            await route.proof(call)
        given = () if body is None else (_body(request, body, data),)
        key = request.headers.get(again.HEADER)
        if key is not None and route.repeatable:
            return await _once(route, call, given, key)
        answer = await route.handler(call, *given)
        if isinstance(answer, web.StreamResponse):
            return answer
        response = _response(route.status, msgspec.json.encode(answer))
        if call.session is not None:
            (
                access.set_cookie(request, response, call.session)
                if call.session
                else access.forget_cookie(request, response)
            )
        return response

    return answered


async def _once(route: Route, call: Call[Any], given: tuple[Any, ...], key: str) -> web.Response:
    """Answer a write that carries an idempotency key."""

    async def work() -> again.Said:
        return route.status, msgspec.json.encode(await route.handler(call, *given))

    asked = again.request_of(call.request, await call.request.read())
    (status, body), before = await call.request.app[AGAIN].once(call.asker, key, asked, work)
    response = _response(status, body)
    if before:
        response.headers[again.REPLAYED] = "true"
    return response


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


async def open_call(
    request: web.Request, action: Action | None, query: type[Q], reach: Reach = Reach.EVERYWHERE
) -> Call[Q]:
    """Find out who asks, whether they may, and what they ask for; in this order, so that nobody learns more."""
    services = request.app[SERVICES]
    request.app[ASKING].take(f"from {access.address(request)}")
    areas = None
    if action is None:
        who = _NOBODY
        ASKED.set(Asked(access.address(request)))
    else:
        async with connection(services) as borrowed:
            who = await access.who(request, borrowed)
            request.app[ASKING].take(f"user {who.user_id}" if who.user_id is not None else f"token {who.id}")
            ASKED.set(Asked(access.address(request), who.label if who.user else None))
            areas = require(who, action)
            if areas is not None:
                if reach is Reach.EVERYWHERE:
                    raise outside(who, action, "*")
                if reach is Reach.PATH:
                    await require_path(borrowed, who, action, areas, request)
    return Call(
        services=services, request=request, who=who, lang=asked_language(request), query=_query(request, query),
        action=action, areas=areas,
    )  # fmt: skip


def _query(request: web.Request, kind: type[Q]) -> Q:
    for key in request.query:
        if len(request.query.getall(key)) > 1:
            raise RequestError("api.key_twice", key=key)
    try:
        return msgspec.convert(dict(request.query), kind, strict=False)
    except msgspec.ValidationError as exc:
        raise from_validation(exc) from exc


async def _read(request: web.Request, most: int) -> bytes:
    if (request.content_length or 0) > most:
        raise TooMuch("api.too_large")
    data = await request.read()
    if len(data) > most:
        raise TooMuch("api.too_large")
    return data


def _body(request: web.Request, kind: type[Any], data: bytes) -> Any:
    if not data.strip():
        data = b"{}"
    elif request.content_type != "application/json":
        raise WrongType("api.not_json_type", type=request.content_type)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise from_validation(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RequestError("api.not_json", detail=str(exc)) from exc


_NOBODY: Final = Token(
    id=0, kind=Kind.TOKEN, name="", role="viewer", created_at=datetime.min.replace(tzinfo=UTC), expires_at=None
)
