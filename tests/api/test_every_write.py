"""Every way to change something, enumerated from the routes themselves: tried from elsewhere, expired and revoked.

ha-long ── hong-gai (lamp-1) ── hong-gai-1 (smoke-1)
        └─ bai-chay (lamp-2)
(no area: lamp-3)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from iot_core.api import shapes
from iot_core.api.application import ROUTES
from iot_core.api.routes import Reach, Route
from iot_core.api.shapes import PREFIX
from iot_core.client import Client
from iot_core.registry.authority import Authority
from tests.api.city import City
from tests.api.test_rights_by_area import _alarm, technician, there

__all__ = ["there"]

WRITES: Final = tuple(route for route in ROUTES if route.method != "GET")
BESIDE: Final = {
    ("POST", "/broker/auth"), ("POST", "/broker/acl"), ("POST", "/v1/claim"), ("POST", "/ngsi-ld/v1/subscriptions"),
    ("DELETE", "/ngsi-ld/v1/subscriptions/{id}"),
}  # fmt: skip
"""What takes a write and is no route of the API: brokers, devices that claim themselves, subscriptions of NGSI-LD."""
LAMP: Final = {"key": "x", "class": "streetlight"}
OF_LAMPS: Final = "class=streetlight"
# Routes that look for themselves whom a request means: how somebody with rights in hong-gai reaches for bai-chay. The
# names in braces are filled in with things of lamp-2 that are there. A new route fails until it stands here.
ELSEWHERE: Final[Mapping[str, tuple[Any, ...]]] = {
    "POST /areas": ({"key": "x", "name": "X", "parent": "bai-chay"},),
    "POST /areas/import": (
        {"areas": [{"key": "x", "name": "X", "parent": "bai-chay"}]},
        {"areas": [{"key": "bai-chay", "name": "Mine", "parent": "hong-gai"}]},
    ),
    "POST /areas/merge": (
        {"areas": ["hong-gai-1"], "into": "bai-chay"},
        {"areas": ["hong-gai-1", "bai-chay"], "into": "hong-gai"},
        {"areas": ["hong-gai-1"], "new": {"key": "x", "name": "X", "parent": "bai-chay"}},
    ),
    "POST /operations/{number}/undo": (None,),
    "POST /devices": ({**LAMP, "area": "bai-chay"},),
    "POST /devices/batch": ({"devices": [{**LAMP, "area": "hong-gai"}, {**LAMP, "key": "y", "area": "bai-chay"}]},),
    "POST /devices/edit": (
        {"keys": ["lamp-1", "lamp-2"], "notes": "mine"},
        {"where": OF_LAMPS + " and area=bai-chay", "notes": "mine"},
        {"keys": ["lamp-1"], "area": "bai-chay"},
    ),
    "POST /devices/import": ({"rows": [{**LAMP, "row": 2, "key": "lamp-2", "notes": "mine"}]},),
    "POST /commands": (
        {"name": "dim", "params": {"level": 0}, "devices": ["lamp-1", "lamp-2"]},
        {"name": "dim", "params": {"level": 0}, "where": OF_LAMPS + " and area=bai-chay"},
    ),
    "POST /commands/{id}/cancel": (None,),
    "POST /command-orders/{id}/confirm": (None,),
    "POST /command-orders/{id}/cancel": (None,),
    "POST /schedules": ({"key": "x", "where": OF_LAMPS + " and area=bai-chay", "points": ["dusk dim level=9"]},),
    "DELETE /schedules/{key}": (None,),
    "POST /schedules/{key}/override": ({"point": "dim level=0"},),
    "POST /maintenance": (
        {"keys": ["lamp-1", "lamp-2"], "ends": "{ends}"},
        {"area": "bai-chay", "ends": "{ends}"},
    ),
    "POST /maintenance/{number}/end": (None,),
    "POST /secrets/rotate": ({"devices": ["lamp-1", "lamp-2"]}, {"where": OF_LAMPS + " and area=bai-chay"}),
    "POST /rules/{rule}": (
        {"where": "area=bai-chay", "body": {"for": "1h"}},
        {"where": "device=lamp-2", "body": {"for": "1h"}},
    ),
    "POST /rules/{rule}/try": ({"where": "area=bai-chay", "since": "2026-11-01T00:00:00Z"},),
    "POST /inbox/accept": (
        {"address": "mqtt:zigbee2mqtt/gw-2/hall", "profile": "zigbee2mqtt-smoke", "area": "hong-gai"},
        {"address": "mqtt:zigbee2mqtt/loose", "profile": "zigbee2mqtt-smoke", "area": "bai-chay"},
    ),
    "POST /inbox/accept-all": ({"profile": "zigbee2mqtt-smoke", "area": "bai-chay"},),
    "DELETE /certificates/{serial}": (None,),
    "POST /held/replay": ({"device": "lamp-2"},),
}


async def test_whatever_somebody_reaches_for_elsewhere_is_refused_by_right_and_area_and_nothing_changes(
    there: City, tmp_path: Any
) -> None:
    own = {_line(route) for route in WRITES if route.reaches is Reach.OWN}
    assert set(ELSEWHERE) == own, "say how a new route is asked for something elsewhere"
    things = await _things(there, tmp_path)
    async with technician(there, "hong-gai", role="admin") as client:
        headers = {"Authorization": client._headers["Authorization"]}
        before = await _everything(there)
        for route in WRITES:
            if route.action is None or route.reaches is Reach.ANY:
                continue
            for body in ELSEWHERE.get(_line(route), ({"n": 1},)):
                reply = await there.ask(
                    route.method, _path(route, things), role=None, headers=headers, json=_filled(body, things)
                )
                said = (route.path, body, reply.data)
                assert (reply.status, reply.json["code"]) == (403, "api.forbidden_area"), said
                facts = reply.json["facts"]
                assert facts["action"] == route.action.value, said
                assert facts["area"] == ("*" if route.reaches is Reach.EVERYWHERE else "bai-chay"), said
                assert facts["area"] in reply.json["detail"] or facts["area"] == "*", said
                assert await _everything(there) == before, said


async def test_an_expired_and_a_revoked_token_open_no_route_at_all(there: City) -> None:
    async with there.client() as admin:
        expired, revoked = [await admin.add_token(name, shapes.Role.ADMIN, days=1) for name in ("expired", "revoked")]
        await admin.revoke_token(revoked.token.id)
    await there.path.pool.execute("UPDATE iot.token SET expires_at = now() WHERE id = $1", expired.token.id)
    for made in (expired, revoked):
        headers = {"Authorization": f"Bearer {made.secret}"}
        for route in ROUTES:
            if route.action is not None:
                path = re.sub(r"{\w+}", "lamp-1", route.path)
                reply = await there.ask(route.method, path, role=None, headers=headers, json={})
                assert (reply.status, reply.json["code"]) == (401, "api.unauthorized"), _line(route)


async def test_a_program_s_token_is_held_to_its_role_and_its_areas_on_every_write(there: City) -> None:
    async with there.client() as admin:
        viewer = await admin.add_token("wall", shapes.Role.VIEWER, areas=["hong-gai"], days=1)
    async with Client(there.url, viewer.secret, lang="en") as client:
        headers = client._headers
        for route in WRITES:
            if route.action is None or route.action.value in {"read", "sign_in"}:
                continue
            reply = await there.ask(
                route.method, re.sub(r"{\w+}", "lamp-1", route.path), role=None, json={"n": 1},
                headers={"Authorization": headers["Authorization"]},
            )  # fmt: skip
            facts = reply.json["facts"]
            assert (reply.status, reply.json["code"]) == (403, "api.forbidden"), _line(route)
            assert (facts["action"], facts["area"]) == (route.action.value, "hong-gai"), _line(route)


def test_nothing_that_takes_a_write_stands_beside_the_routes_unnoticed(city: City) -> None:
    served = {
        (route.method, resource.canonical)
        for resource in city.app.router.resources()
        for route in resource
        if route.method not in {"GET", "HEAD"}
    }
    assert served - {(route.method, PREFIX + route.path) for route in WRITES} == BESIDE


def _line(route: Route) -> str:
    return f"{route.method} {route.path}"


def _path(route: Route, things: Mapping[str, object]) -> str:
    path = route.path.replace("/devices/{key}", "/devices/lamp-2").replace("/areas/{key}", "/areas/bai-chay")
    for begin in ("/alarms/{id}", "/commands/{id}", "/command-orders/{id}", "/operations/{number}"):
        path = path.replace(begin, f"{begin.partition('{')[0]}{things[begin]}")
    return re.sub(r"{(\w+)}", lambda found: str(things.get(found[1], "999")), path)


def _filled(body: Any, things: Mapping[str, object]) -> Any:
    match body:
        case dict():
            return {name: _filled(value, things) for name, value in body.items()}
        case list():
            return [_filled(each, things) for each in body]
        case str() if body.startswith("{"):
            return things[body.strip("{}")]
        case _:
            return body


async def _things(city: City, tmp_path: Any) -> dict[str, object]:
    """Let lamp-2 have one of everything that a write can name."""
    async with city.client() as admin:
        place = shapes.DeviceEdit(keys=("lamp-2",), latitude=20.96, longitude=107.0)
        moved = await admin.edit_devices(place)
        await admin.add_schedule("theirs", f"{OF_LAMPS} and area=bai-chay", ("dusk dim level=60",))
        ends = await city.path.pool.fetchval("SELECT now() + interval '1 hour'")
        await admin.open_window(shapes.WindowNew(keys=("lamp-2",), ends=ends))
        window = (await admin.windows(device="lamp-2")).items[0].id
        order = await admin.rotate_secrets(shapes.SecretsRotate(devices=("lamp-2",)))
        rule = (await admin.rules_at("lamp-2")).items[0].rule
        await admin.add_device(shapes.DeviceNew(key="gw-2", profile="native-streetlight", area="bai-chay"))
        await admin.set_bridge("gw-2", ["zigbee2mqtt/gw-2"])
    await city.path.reload()
    for name in ("gw-2/hall", "loose"):
        topic = f"zigbee2mqtt/{name}"
        await city.path.say("", b'{"smoke": false}', address=f"mqtt:{topic}", topic=topic)
    await city.path.say("lamp-2", b'{"nonsense": 1}')
    authority = Authority(tmp_path / "authority")
    async with city.path.pool.acquire() as connection:
        await authority.ensure(connection, by="test")
        issued = await authority.issue(connection, "lamp-2", days=9, csr=None, by="test")
        command = await connection.fetchval("SELECT max(id) FROM iot.command")
    return {
        "/operations/{number}": moved.operation, "/commands/{id}": command, "/command-orders/{id}": order.number,
        "/alarms/{id}": await _alarm(city, "lamp-2"), "key": "theirs", "rule": rule, "serial": issued.serial,
        "number": window, "ends": ends.isoformat(),
    }  # fmt: skip


async def _everything(city: City) -> dict[str, str]:
    """Sum up every table, without what is only remembered of who asked."""
    tables = await city.path.pool.fetch(
        "SELECT schemaname || '.' || quote_ident(tablename) AS name FROM pg_tables"
        " WHERE schemaname IN ('iot', 'telemetry') AND tablename NOT IN ('token', 'user_account', 'answer')"
    )
    return {
        each["name"]: await city.path.pool.fetchval(
            f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {each['name']} t"
        )
        for each in tables
    }
