"""NGSI-LD (ETSI GS CIM 009): entities to read, and subscriptions whose notifications go through the outbox.

GET  /ngsi-ld/v1/entities?type=AirQualityObserved   GET /ngsi-ld/v1/entities/{id}    GET /ngsi-ld/v1/types
POST /ngsi-ld/v1/subscriptions                      GET, DELETE /ngsi-ld/v1/subscriptions/{id}
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import asyncpg
import msgspec
from aiohttp import web
from msgspec import Meta, field

from iot_core.alarms.lifecycle import PLACE, PLACED
from iot_core.api import entities, ngsi_query, shapes
from iot_core.api.entities import Point, Thing
from iot_core.api.problems import TooMuch
from iot_core.api.roles import Action, where
from iot_core.api.routes import Call, Reach, open_call
from iot_core.errors import ForbiddenError, NotFoundError, RequestError
from iot_core.model import DeviceClass, Quality
from iot_core.profiles import Profiles
from iot_core.push import subscriptions
from iot_core.registry.audit import Change, record
from iot_core.store.read import latest

__all__ = ["add_routes", "read_entities"]

PREFIX: Final = "/ngsi-ld/v1"
_ERRORS: Final = "https://uri.etsi.org/ngsi-ld/errors"
_MOST_BODY: Final = 64 * 1024
_MOST_LOOKED_AT: Final = 10_000
Found = tuple[list[tuple[str, str, dict[str, entities.Attribute]]], int]
"""Entities as (type, key, attributes), and how many there are in all."""
PUBLIC: Final = "public"
"""The label of a device of a household class that is no household's."""
ALERT: Final = "Alert"
# $3: the areas that the asker may see (null: all); $4, $5: classes, and those of them of which only `public` ones.
THINGS: Final = """
SELECT d.id, d.key, d.name, d.class_key, r.key AS area, r.name AS area_name, d.latitude, d.longitude,
    count(*) OVER () AS total
FROM iot.device d LEFT JOIN iot.area r ON r.id = d.area_id JOIN iot.device_status s ON s.device_id = d.id
WHERE d.retired_at IS NULL AND s.last_received_at IS NOT NULL AND d.class_key = ANY($4)
    AND ($1::text[] IS NULL OR d.key = ANY($1)) AND ($2::timestamptz IS NULL OR s.last_received_at > $2)
    AND ($3::integer[] IS NULL OR d.area_id = ANY($3)) AND (NOT d.class_key = ANY($5) OR 'public' = ANY(d.labels))
    AND NOT d.simulated
ORDER BY d.key LIMIT $6 OFFSET $7
"""
ALERTS: Final = f"""
SELECT a.id, a.rule, a.severity, a.raised_at, a.cleared_at, a.title_vi, a.title_en, {PLACE}, k.key AS center,
    count(*) OVER () AS total
FROM iot.alarm a {PLACED}
WHERE a.closed_at IS NULL AND NOT a.simulated AND NOT a.test AND ($1::bigint[] IS NULL OR a.id = ANY($1))
    AND ($2::integer[] IS NULL OR r.id = ANY($2))
    AND (d.id IS NULL OR NOT d.class_key = ANY($3) OR 'public' = ANY(d.labels))
ORDER BY a.id LIMIT $4 OFFSET $5
"""


class EntityQuery(shapes.Query, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What is asked for; `options=keyValues` or `format=simplified` gives bare values."""

    type: str | None = None
    id: str | None = None
    attrs: str | None = None
    limit: Annotated[int, Meta(ge=0, le=1_000)] = 20
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    count: bool = False
    options: str = ""
    format: str = ""
    q: str | None = None
    georel: str | None = None
    geometry: str | None = None
    coordinates: str | None = None
    geoproperty: str | None = None
    idPattern: str | None = None  # noqa: N815 - the standard's name


class _Endpoint(msgspec.Struct, frozen=True):
    uri: Annotated[str, Meta(min_length=1, max_length=2_000)]
    accept: str = "application/json"


class _Notification(msgspec.Struct, frozen=True):
    endpoint: _Endpoint
    attributes: tuple[str, ...] = ()
    format: str = "normalized"


class _Selector(msgspec.Struct, frozen=True):
    type: str
    id: str | None = None


class Subscription(msgspec.Struct, frozen=True):
    """What a subscription says, as far as it is understood here (5.8.1)."""

    entities: Annotated[tuple[_Selector, ...], Meta(min_length=1, max_length=50)]
    notification: _Notification
    type: str = "Subscription"
    id: Annotated[str, Meta(max_length=200)] | None = None
    description: Annotated[str, Meta(max_length=2_000)] | None = None
    watchedAttributes: tuple[str, ...] = ()  # noqa: N815 - the standard's name
    throttling: Annotated[float, Meta(ge=0, le=86_400)] = 0
    context: Any = field(default=None, name="@context")


def hidden(profiles: Profiles, who: Any) -> list[str]:
    """Name the classes of which this asker may see no single device."""
    if who is not None and where(who, Action.HOUSEHOLD) is None:
        return []
    return [key for key, each in profiles.classes.items() if each.household]


async def read_entities(
    connection: asyncpg.Connection,
    classes: Sequence[DeviceClass],
    *,
    hide: Sequence[str],
    keys: Sequence[str] | None = None,
    since: Any = None,
    areas: Sequence[int] | None = None,
    limit: int = 1_000,
    offset: int = 0,
) -> Found:
    """Give entities as (type, key, attributes), and how many there are in all."""
    by_key = {each.key: each for each in classes}
    rows = await connection.fetch(THINGS, keys, since, areas, list(by_key), list(hide), limit, offset)
    points: dict[int, list[Point]] = {}
    for value in await latest(connection, [row["id"] for row in rows]):
        if not value.bad and value.quality <= Quality.UNCERTAIN:  # what a calibration says is no observation
            points.setdefault(value.device_id, []).append(Point(value.metric, value.value, value.time))
    found = []
    for row in rows:
        device_class = by_key[row["class_key"]]
        thing = Thing(**{name: row[name] for name in Thing.__dataclass_fields__})
        made = entities.attributes(thing, device_class, points.get(row["id"], ()))
        if made is not None:
            found.append((entities.type_of(device_class), thing.key, made))
    return found, rows[0]["total"] if rows else 0


async def _entities(call: Call[EntityQuery]) -> web.Response:
    asked = call.query
    if not (asked.type or asked.id or asked.q or asked.georel or asked.attrs):
        raise RequestError("ngsi.type_or_id")
    if asked.idPattern is not None:
        raise RequestError("ngsi.no_pattern")
    keys = None if asked.id is None else [_key_of(each) for each in asked.id.split(",")]
    kinds = None if asked.type is None else asked.type.split(",")
    found, total = await _matching(call, kinds, keys)
    plain = "keyValues" in asked.options or asked.format in ("simplified", "keyValues")
    write = entities.simplified if plain else entities.normalized
    body = [write(kind, key, _only(made, asked.attrs)) for kind, key, made in found]
    headers = {"NGSILD-Results-Count": str(total)} if asked.count else {}
    return _answer(call.request, body, [kind for kind, _, _ in found], headers)


async def _entity(call: Call[EntityQuery]) -> web.Response:
    said = call.path["id"]
    found, _ = await _found(call, [said.split(":")[2]] if said.count(":") >= 3 else [], [_key_of(said)], 1, 0)
    if not found:
        raise NotFoundError("ngsi.not_found", id=said)
    kind, key, made = found[0]
    plain = "keyValues" in call.query.options or call.query.format in ("simplified", "keyValues")
    write = entities.simplified if plain else entities.normalized
    return _answer(call.request, write(kind, key, _only(made, call.query.attrs)), [kind], {})


def _only(made: dict[str, entities.Attribute], attrs: str | None) -> dict[str, entities.Attribute]:
    names = None if attrs is None else set(attrs.split(","))
    return made if names is None else {name: each for name, each in made.items() if name in names}


async def _matching(call: Call[EntityQuery], kinds: Sequence[str] | None, keys: Sequence[str] | None) -> Found:
    """Give the page of entities for which everything asked holds, and how many there are in all.

    Values are looked at here, not in SQL: an attribute may come from several metrics, in another unit.
    """
    asked = call.query
    wishes = [] if asked.q is None else [ngsi_query.query(asked.q)]
    if asked.georel is not None:
        wishes.append(ngsi_query.geo(asked.georel, asked.geometry, asked.coordinates, asked.geoproperty))
    if asked.attrs is not None:
        names = set(asked.attrs.split(","))
        wishes.append(lambda made: not names.isdisjoint(made))
    if not wishes:
        return await _found(call, kinds, keys, asked.limit, asked.offset)
    found, total = await _found(call, kinds, keys, _MOST_LOOKED_AT, 0)
    if total > _MOST_LOOKED_AT:
        raise RequestError("ngsi.too_many", total=total, most=_MOST_LOOKED_AT)
    fitting = [each for each in found if all(wish(each[2]) for wish in wishes)]
    return fitting[asked.offset : asked.offset + asked.limit], len(fitting)


async def _found(
    call: Call[EntityQuery], kinds: Sequence[str] | None, keys: Sequence[str] | None, limit: int, offset: int
) -> Found:
    profiles = call.services.profiles
    hide = hidden(profiles, call.who)
    classes = [each for each in profiles.classes.values() if kinds is None or entities.type_of(each) in kinds]
    areas = None if call.areas is None else sorted(call.areas)
    async with call.connection() as connection:
        found, total = await read_entities(
            connection, classes, hide=hide, keys=keys, areas=areas, limit=limit, offset=offset
        )
        if kinds is not None and ALERT in kinds:
            ids = None if keys is None else [int(key) for key in keys if key.isdecimal() and len(key) < 18]
            rows = await connection.fetch(ALERTS, ids, areas, hide, limit, offset)
            found += [(ALERT, str(row["id"]), entities.alert(row, profiles.classes)) for row in rows]
            total += rows[0]["total"] if rows else 0
    return found, total


async def _types(call: Call[EntityQuery]) -> web.Response:
    kinds = sorted({entities.type_of(each) for each in call.services.profiles.classes.values()} | {ALERT})
    body = {"id": "urn:ngsi-ld:EntityTypeList:iot-core", "type": "EntityTypeList", "typeList": kinds}
    return _answer(call.request, body, kinds, {})


async def _subscribe(call: Call[EntityQuery]) -> web.Response:
    data = await call.request.content.read(_MOST_BODY + 1)
    if len(data) > _MOST_BODY:
        raise TooMuch("api.too_large")
    try:
        said = msgspec.json.decode(data, type=Subscription)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError("ngsi.bad_subscription", detail=str(exc)) from exc
    known = {entities.type_of(each) for each in call.services.profiles.classes.values()}
    for selector in said.entities:
        if selector.type not in known:
            raise RequestError("ngsi.bad_type", type=selector.type, types=", ".join(sorted(known)))
    plain = msgspec.to_builtins(said)
    async with call.connection() as connection, connection.transaction():
        made, secret = await subscriptions.add(
            connection, plain, allow_private=call.services.settings.push.allow_private,
            household=where(call.who, Action.HOUSEHOLD) is None, vault=call.services.vault,
        )  # fmt: skip
        await record(connection, call.who.name, "ngsi.subscribe", Change(f"subscription/{made}"))
    headers = {"Location": f"{PREFIX}/subscriptions/{made}", "Webhook-Secret": secret}
    return web.Response(status=201, headers=headers)


async def _subscriptions(call: Call[EntityQuery]) -> web.Response:
    async with call.connection() as connection:
        rows = await subscriptions.list_(connection, call.path.get("id"))
    shown = [subscriptions.shown(row) for row in rows]
    return _answer(call.request, shown[0] if "id" in call.path else shown, [], {})


async def _unsubscribe(call: Call[EntityQuery]) -> web.Response:
    async with call.connection() as connection, connection.transaction():
        await subscriptions.remove(connection, call.path["id"])
        await record(connection, call.who.name, "ngsi.unsubscribe", Change(f"subscription/{call.path['id']}"))
    return web.Response(status=204)


def _answer(request: web.Request, body: Any, kinds: Sequence[str], headers: Mapping[str, str]) -> web.Response:
    """Answer as ld+json with the context inside, or as plain JSON with it in a Link header (6.3.5)."""
    contexts = entities.context(kinds)
    if "application/ld+json" in request.headers.get("Accept", ""):
        for each in body if isinstance(body, list) else [body]:
            each["@context"] = contexts
        kind = "application/ld+json"
    else:
        kind = "application/json"
        rel = 'rel="http://www.w3.org/ns/json-ld#context"; type="application/ld+json"'
        headers = {**headers, "Link": f"<{contexts[0]}>; {rel}"}
    return web.Response(body=msgspec.json.encode(body), content_type=kind, headers=dict(headers))


def _key_of(urn: str) -> str:
    return urn.rpartition(":")[2] if urn.startswith("urn:ngsi-ld:") else urn


def _route(
    action: Action, handler: Callable[[Call[EntityQuery]], Awaitable[web.Response]], reach: Reach
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answered(request: web.Request) -> web.StreamResponse:
        call = await open_call(request, action, EntityQuery, reach)
        try:
            return await handler(call)
        except ForbiddenError:
            raise
        except NotFoundError as exc:
            return _problem(404, "ResourceNotFound", exc)
        except RequestError as exc:
            return _problem(400, "BadRequestData", exc)

    return answered


def _problem(status: int, kind: str, exc: RequestError) -> web.Response:
    from iot_core.messages import said  # noqa: PLC0415 - only where something went wrong

    body = {"type": f"{_ERRORS}/{kind}", "title": kind, "status": status, "detail": said(exc, "en"), "code": exc.code}
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve NGSI-LD beside the API."""
    read, push = Action.READ, Action.PUSH
    router.add_get(f"{PREFIX}/entities", _route(read, _entities, Reach.OWN))
    router.add_get(f"{PREFIX}/entities/{{id}}", _route(read, _entity, Reach.OWN))
    router.add_get(f"{PREFIX}/types", _route(read, _types, Reach.ANY))
    router.add_post(f"{PREFIX}/subscriptions", _route(push, _subscribe, Reach.EVERYWHERE))
    router.add_get(f"{PREFIX}/subscriptions", _route(push, _subscriptions, Reach.EVERYWHERE))
    router.add_get(f"{PREFIX}/subscriptions/{{id}}", _route(push, _subscriptions, Reach.EVERYWHERE))
    router.add_delete(f"{PREFIX}/subscriptions/{{id}}", _route(push, _unsubscribe, Reach.EVERYWHERE))
