"""Who may do what: the table line by line, the cookie of the page, and what another site cannot do."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from iot_core.api.access import COOKIE
from iot_core.api.application import ROUTES
from iot_core.api.roles import TABLE, Action
from iot_core.api.shapes import Role
from iot_core.errors import ForbiddenError
from tests.api.city import City, Reply

OWN_PAGE = {"X-Requested-With": "iot"}
# The whole table of rights, written out a second time: role -> what it may do.
RIGHTS = {
    "viewer": "read sign_in",
    "technician": "read sign_in devices areas audit acknowledge command",
    "operator": "read sign_in devices areas audit acknowledge command household",
    "admin": "read sign_in devices areas audit acknowledge command firmware push tokens users load batches household",
}
ACTIONS = {
    "GET /survey": "devices", "POST /devices/{key}/read": "devices",
    "GET /devices/{key}/channels": "read", "POST /devices/{key}/channels": "devices",
    "GET /devices/{key}/aqi": "read", "GET /areas": "read", "GET /areas/tree": "read", "POST /areas": "areas",
    "GET /areas/{key}": "read", "POST /areas/import": "areas", "POST /areas/merge": "areas",
    "POST /areas/{key}/rename": "areas", "POST /areas/{key}/move": "areas", "POST /areas/{key}/end": "areas",
    "GET /maintenance": "read", "POST /maintenance": "devices", "POST /maintenance/{number}/end": "devices",
    "GET /devices/{key}/commissioning": "read", "POST /devices/{key}/commissioning": "devices",
    "GET /devices/{key}/commissionings": "read",
    "GET /devices/rows": "read", "POST /devices/edit": "devices", "POST /devices/import": "devices",
    "POST /devices/{key}/replace": "devices", "GET /audit": "audit", "POST /operations/{number}/undo": "areas",
    "GET /devices": "read", "POST /devices": "devices", "POST /devices/batch": "devices",
    "GET /devices/{key}": "read", "DELETE /devices/{key}": "devices", "POST /devices/{key}/restore": "devices",
    "GET /schedules": "read", "GET /schedules/{key}": "read", "POST /schedules": "command",
    "DELETE /schedules/{key}": "command", "POST /schedules/{key}/override": "command",
    "GET /firmware": "read", "POST /firmware": "firmware", "GET /firmware/{id}/plan": "firmware",
    "GET /firmware/signers": "read", "POST /firmware/signers": "firmware",
    "DELETE /firmware/signers/{name}": "firmware", "GET /campaigns": "read", "POST /campaigns": "firmware",
    "GET /campaigns/{id}": "read", "POST /campaigns/{id}/pause": "firmware",
    "POST /campaigns/{id}/resume": "firmware", "POST /campaigns/{id}/stop": "firmware",
    "POST /campaigns/{id}/rollback": "firmware",
    "GET /twins": "read", "GET /devices/{key}/twin": "read", "POST /devices/{key}/twin": "command",
    "POST /devices/{key}/twin/check": "command",
    "POST /devices/{key}/commands": "command", "POST /commands": "command", "GET /commands": "read",
    "GET /commands/{id}": "read", "POST /commands/{id}/cancel": "command", "GET /command-orders/{id}": "read",
    "POST /command-orders/{id}/confirm": "command", "POST /command-orders/{id}/cancel": "command",
    "POST /devices/{key}/login": "devices", "DELETE /devices/{key}/login": "devices",
    "POST /devices/{key}/oscore": "devices", "DELETE /devices/{key}/oscore": "devices",
    "GET /devices/{key}/latest": "read", "GET /devices/{key}/telemetry": "read", "GET /telemetry/watch": "read",
    "GET /devices/{key}/chart": "read", "GET /telemetry/latest": "read", "GET /telemetry/stats": "read",
    "GET /telemetry/completeness": "read", "GET /telemetry/export": "read",
    "POST /telemetry/import": "load",
    "GET /alarms": "read", "GET /alarms/{id}": "read", "GET /alarms/{id}/trace": "read", "GET /alarms/kpi": "read",
    "GET /rules": "read", "POST /rules/{rule}": "push", "POST /rules/{rule}/try": "read",
    "GET /devices/{key}/rules": "read",
    "POST /alarms/handover": "acknowledge", "POST /alarms/{id}/do": "acknowledge",
    "POST /alarms/{id}/acknowledge": "acknowledge",
    "GET /map": "read", "GET /events": "read", "GET /inbox": "read", "POST /inbox": "devices", "GET /held": "read",
    "GET /held/{id}": "read", "POST /held/replay": "devices",
    "GET /push": "push", "POST /push": "push", "DELETE /push/{key}": "push", "POST /push/{key}/test": "push",
    "POST /push/{key}/rotate": "push", "GET /push/log": "push", "POST /push/retry": "push", "GET /push/prove": "push",
    "GET /escalations": "push", "POST /escalations": "push", "DELETE /escalations/{key}": "push",
    "GET /holidays": "push", "POST /holidays": "push", "DELETE /holidays/{day}": "push",
    "GET /centers": "push", "POST /centers": "push", "DELETE /centers/{key}": "push", "POST /alarms": None,
    "GET /open-data": "read", "GET /reports": "push", "POST /reports/again": "push",
    "GET /classes": "read", "GET /profiles": "read", "GET /endpoints": "read",
    "POST /sign-in-codes": "sign_in", "POST /session": None, "DELETE /session": None, "GET /me": "read",
    "POST /login": None, "DELETE /login": "sign_in", "POST /me/password": "sign_in",
    "GET /users": "users", "POST /users": "users", "DELETE /users/{name}": "users",
    "POST /users/{name}/rights": "users", "POST /users/{name}/password": "users",
    "POST /secrets/rotate": "devices",
    "POST /devices/{key}/secret": "devices", "POST /devices/{key}/secret/confirm": "devices",
    "DELETE /devices/{key}/secret": "devices", "POST /devices/{key}/bridge": "devices",
    "POST /ca": "batches", "POST /devices/{key}/certificate": "devices", "GET /certificates": "batches",
    "DELETE /certificates/{serial}": "batches",
    "GET /batches": "batches", "POST /batches": "batches",
    "DELETE /batches/{key}": "batches", "POST /inbox/accept": "devices", "POST /inbox/accept-all": "devices",
    "POST /inbox/reject": "devices",
    "GET /tokens": "tokens", "POST /tokens": "tokens", "DELETE /tokens/{id}": "tokens",
}  # fmt: skip


def test_the_table_of_rights_is_this_one() -> None:
    assert {role.value: " ".join(a.value for a in Action if a in TABLE[role]) for role in Role} == RIGHTS


def test_every_route_asks_for_this_right() -> None:
    assert {f"{r.method} {r.path}": r.action and r.action.value for r in ROUTES} == ACTIONS


async def test_a_role_is_let_in_exactly_where_the_table_says(city: City) -> None:
    for line, role in itertools.product(ACTIONS, (None, *Role)):
        action = ACTIONS[line]
        method, path = line.split(" ")
        if action is None or path in {"/events", "/telemetry/watch", "/login"}:
            continue  # streams are tried below, and what ends the token that asks
        reply = await city.ask(method, re.sub(r"{\w+}", "999", path), role=role, json={"nonsense": 1})
        if role is None:
            assert reply.status == 401, line
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        elif action in RIGHTS[role].split():
            assert reply.status not in {401, 403, 500}, line
        else:
            assert (reply.status, reply.json["code"], reply.json["facts"]["area"]) == (403, "api.forbidden", "*"), line


async def test_streams_are_for_those_who_signed_in(city: City) -> None:
    for path in ("/events", "/telemetry/watch?device=a"):
        assert (await city.ask("GET", path, role=None)).status == 401


WRONG = ("", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer a\u00e9")


async def test_a_token_that_nobody_made_opens_nothing(city: City) -> None:
    for header in WRONG:
        reply = await city.ask("GET", "/me", role=None, headers={"Authorization": header})
        assert (reply.status, reply.json["code"]) == (401, "api.unauthorized"), header


async def test_a_code_signs_a_browser_in_once(city: City) -> None:
    async with city.client("operator") as client:
        made = await client.sign_in_code(name="Lan")
    assert made.url == f"{city.url}/#code={made.code}"
    first = await _sign_in(city, {"code": made.code})
    assert (first.status, first.json["name"], first.json["role"]) == (201, "Lan", "operator")
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert made.code not in cookie
    assert (await city.ask("GET", "/me", role=None, headers=_cookie(first))).json["name"] == "Lan"
    second = await _sign_in(city, {"code": made.code})
    assert (second.status, second.json["code"]) == (401, "api.bad_code")
    assert "Set-Cookie" not in second.headers


async def test_a_code_gives_no_more_rights_than_who_asked_for_it(city: City) -> None:
    async with city.client("technician") as client:
        with pytest.raises(ForbiddenError, match=r"api\.role_above"):
            await client.sign_in_code(role=Role.OPERATOR)
        made = await client.sign_in_code(role=Role.VIEWER)
    assert (await _sign_in(city, {"code": made.code})).json["role"] == "viewer"


async def test_a_session_ends_when_signed_out(city: City) -> None:
    session = _cookie(await _sign_in(city, {"token": city.tokens["viewer"]}))
    assert (await city.ask("GET", "/map", role=None, headers=session)).status == 200
    gone = await city.ask("DELETE", "/session", role=None, headers=session | OWN_PAGE)
    assert f'{COOKIE}=""' in gone.headers["Set-Cookie"]
    assert (await city.ask("GET", "/map", role=None, headers=session)).status == 401


async def test_a_session_ends_with_its_token(city: City) -> None:
    async with city.client() as client:
        made = await client.add_token("wall", Role.VIEWER, days=1)
        session = _cookie(await _sign_in(city, {"token": made.secret}))
        assert (await city.ask("GET", "/me", role=None, headers=session)).status == 200
        await client.revoke_token(made.token.id)
        assert made.token.id not in [each.id for each in (await client.tokens()).items]
    assert (await city.ask("GET", "/me", role=None, headers=session)).status == 401


async def test_a_write_with_a_cookie_needs_a_header_that_no_form_can_send(city: City) -> None:
    session = _cookie(await _sign_in(city, {"token": city.tokens["admin"]}))
    area = {"key": "hl", "name": "Hạ Long"}
    forged = await city.ask("POST", "/areas", role=None, headers=session, json=area)
    assert (forged.status, forged.json["code"]) == (403, "api.csrf")
    own = await city.ask("POST", "/areas", role=None, headers=session | OWN_PAGE, json=area)
    assert own.status == 201


async def test_another_site_cannot_sign_a_browser_in_or_out(city: City) -> None:
    reply = await city.ask("POST", "/session", role=None, json={"token": city.tokens["admin"]})
    assert (reply.status, reply.json["code"]) == (403, "api.csrf")
    assert (await city.ask("DELETE", "/session", role=None)).status == 403


async def test_signing_in_takes_a_code_or_a_token(city: City) -> None:
    for body in ({}, {"code": "a", "token": "b"}, {"code": None}):
        assert (await _sign_in(city, body)).json["code"] == "api.code_or_token"


async def test_the_cookie_is_for_tls_only_where_the_browser_came_over_tls(city: City) -> None:
    plain = await _sign_in(city, {"token": city.tokens["viewer"]})
    behind = await city.ask(
        "POST", "/session", role=None, headers=OWN_PAGE | {"X-Forwarded-Proto": "https"},
        json={"token": city.tokens["viewer"]},
    )  # fmt: skip
    assert "Secure" not in plain.headers["Set-Cookie"]
    assert "Secure" in behind.headers["Set-Cookie"]


async def _sign_in(city: City, body: dict[str, Any]) -> Reply:
    return await city.ask("POST", "/session", role=None, headers=OWN_PAGE, json=body)


def _cookie(reply: Reply) -> dict[str, str]:
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
