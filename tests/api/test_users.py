"""People with passwords: nobody by default, argon2, tokens that end with them, and how often somebody may guess."""

from __future__ import annotations

from typing import Any

import pytest

from iot_core.api import limits, shapes
from iot_core.api.problems import TooOften
from iot_core.client import Client
from iot_core.errors import ConflictError, ForbiddenError, RequestError
from tests.api.city import City, Reply

OWN_PAGE = {"X-Requested-With": "iot"}
PASSWORD = "nước mắm Phú Quốc 40"


async def test_nobody_is_there_by_default(city: City) -> None:
    async with city.client() as client:
        assert (await client.users()).items == ()
    for name, password in (("admin", "admin"), ("admin", ""), ("root", "root"), ("iot", "iot")):
        refused = await _sign_in(city, {"user": name, "password": password})
        assert (refused.status, refused.json["code"]) == (401, "api.bad_password")


async def test_a_user_signs_in_at_the_page_and_from_a_command_line(city: City) -> None:
    await _add(city, "an", "operator")
    session = await _sign_in(city, {"user": "an", "password": PASSWORD})
    assert (session.status, session.json["name"], session.json["role"]) == (201, "an", "operator")
    added = (await _login(city, "an", PASSWORD)).json
    assert (added["token"]["name"], added["token"]["user"]) == ("laptop", "an")
    async with Client(city.url, added["secret"], lang="en") as client:
        assert (await client.me()).name == "an"
        await client.log_out()
        with pytest.raises(ForbiddenError, match=r"api\.unauthorized"):
            await client.me()


async def test_a_password_is_kept_as_argon2_and_shown_nowhere(city: City) -> None:
    await _add(city, "an", "operator")
    hashed = await city.path.pool.fetchval("SELECT password_hash FROM iot.user_account")
    assert hashed.startswith("$argon2id$")
    everything = await city.path.pool.fetchval("SELECT string_agg(a::text, '') FROM iot.audit a")
    assert "user.add" in everything
    assert hashed not in everything
    assert PASSWORD not in everything


async def test_a_password_typed_with_composed_or_single_letters_is_the_same(city: City) -> None:
    await _add(city, "an", "viewer")
    decomposed = "nu\u031bo\u031b\u0301c ma\u0306\u0301m Phu\u0301 Quo\u0302\u0301c 40"
    assert decomposed != PASSWORD
    assert (await _login(city, "an", decomposed)).status == 201


@pytest.mark.parametrize("password", ["short", "1234567890", "aaaaaaaaaaaa", "password12", "an", "admin12345"])
async def test_a_password_that_is_guessed_first_is_refused(city: City, password: str) -> None:
    with pytest.raises(RequestError, match=r"user\.weak_password"):
        await _add(city, "an", "viewer", password)


@pytest.mark.parametrize("name", ["", "An", "../an", "an an", "an\n", "-an", "a" * 64, "an'; DROP TABLE iot.token;--"])
async def test_a_name_that_is_none_is_refused(city: City, name: str) -> None:
    with pytest.raises(RequestError):
        await _add(city, name, "viewer")


async def test_another_password_ends_every_session_and_token(city: City) -> None:
    await _add(city, "an", "technician")
    secret = (await _login(city, "an", PASSWORD)).json["secret"]
    session = _cookie(await _sign_in(city, {"user": "an", "password": PASSWORD}))
    async with Client(city.url, secret, lang="en") as client:
        with pytest.raises(RequestError, match=r"api\.unauthorized|api\.bad_password"):
            await client.set_own_password("wrong", "quite another 17")
        await client.set_own_password(PASSWORD, "quite another 17")
        with pytest.raises(ForbiddenError):
            await client.me()
    assert (await city.ask("GET", "/me", role=None, headers=session)).status == 401
    assert (await _login(city, "an", PASSWORD)).status == 401
    assert (await _login(city, "an", "quite another 17")).status == 201


async def test_a_user_that_was_removed_is_gone_at_once_and_its_name_is_free(city: City) -> None:
    await _add(city, "an", "technician")
    secret = (await _login(city, "an", PASSWORD)).json["secret"]
    async with city.client() as client:
        await client.remove_user("an")
    async with Client(city.url, secret, lang="en") as client:
        with pytest.raises(ForbiddenError, match=r"api\.unauthorized"):
            await client.me()
    assert (await _login(city, "an", PASSWORD)).status == 401
    await _add(city, "an", "viewer")


async def test_a_token_of_a_user_may_do_what_the_user_may_now(city: City) -> None:
    await _add(city, "an", "admin")
    await _add(city, "binh", "admin")
    secret = (await _login(city, "an", PASSWORD)).json["secret"]
    async with Client(city.url, secret, lang="en") as own, city.client() as admin:
        assert "tokens" in (await own.me()).actions
        viewer, all_of_it = (shapes.RightNew(role=shapes.Role(role)) for role in ("viewer", "admin"))
        await admin.change_rights("an", shapes.UserRights(give=(viewer,), take=(all_of_it,)))
        assert (await own.me()).role == "viewer"
        with pytest.raises(ForbiddenError, match=r"api\.forbidden"):
            await own.tokens()


async def test_the_last_administrator_stays(city: City) -> None:
    await _add(city, "an", "admin")
    async with city.client() as client:
        with pytest.raises(ConflictError, match=r"user\.last_admin"):
            await client.remove_user("an")
        everything = shapes.RightNew(role=shapes.Role.ADMIN)
        with pytest.raises(ConflictError, match=r"user\.last_admin"):
            await client.change_rights("an", shapes.UserRights(take=(everything,)))
        await _add(city, "binh", "admin")
        await client.remove_user("an")


async def test_signing_in_gives_the_browser_a_new_session_and_ends_the_one_it_had(city: City) -> None:
    planted = _cookie(await _sign_in(city, {"token": city.tokens["viewer"]}))
    own = await city.ask(
        "POST", "/session", role=None, headers=OWN_PAGE | planted, json={"token": city.tokens["admin"]}
    )
    assert _cookie(own) != planted
    assert (await city.ask("GET", "/me", role=None, headers=planted)).status == 401
    invented = {"Cookie": "iot_session=chosen-by-somebody-else"}
    reply = await city.ask(
        "POST", "/session", role=None, headers=OWN_PAGE | invented, json={"token": city.tokens["admin"]}
    )
    assert "chosen-by-somebody-else" not in reply.headers["Set-Cookie"]


async def test_guessing_is_slowed_down_by_user_and_address_and_noted_once(city: City) -> None:
    await _add(city, "an", "viewer")
    replies = [await _login(city, "an", f"guess number {number}") for number in range(10)]
    while replies[-1].status == 401 and len(replies) < 40:  # a guess is forgotten while a busy machine looks at others
        replies.append(await _login(city, "an", "one more guess"))
    assert [reply.status for reply in replies] == [401] * (len(replies) - 1) + [429]
    assert int(replies[-1].headers["Retry-After"]) >= 1
    noted = await city.path.pool.fetch("SELECT by, subject, address FROM iot.audit WHERE action = 'session.refused'")
    assert [tuple(row) for row in noted] == [("an", "user/an", "127.0.0.1")]
    elsewhere = {"X-Forwarded-For": "198.51.100.7"}  # through a proxy on this machine: the user is not locked out
    assert (await _login(city, "an", PASSWORD, headers=elsewhere)).status == 201


async def test_a_success_costs_no_try(city: City) -> None:
    await _add(city, "an", "viewer")
    assert {(await _login(city, "an", PASSWORD)).status for _ in range(12)} == {201}


def test_limits_hold_a_bounded_number_of_senders_and_let_the_patient_in() -> None:
    now = 0.0
    limit = limits.Limit(1.0, 2, clock=lambda: now)
    for _ in range(2):
        limit.take("a")
    with pytest.raises(TooOften) as refused:
        limit.take("a")
    assert refused.value.facts["seconds"] == 1
    now = 1.0
    limit.take("a")
    for number in range(30_000):
        limit.take(str(number))
    assert len(limit) == 20_000


async def _add(city: City, name: str, role: str, password: str = PASSWORD) -> None:
    right = shapes.RightNew(role=shapes.Role(role))
    async with city.client() as client:
        await client.add_user(shapes.UserNew(name=name, password=password, rights=(right,)))


async def test_the_audit_says_what_a_user_may_who_signed_in(city: City) -> None:
    await _add(city, "lan", "viewer")
    await _login(city, "lan", PASSWORD)
    await _sign_in(city, {"user": "lan", "password": PASSWORD})
    noted = await city.path.pool.fetch("SELECT action, after::text FROM iot.audit WHERE by = 'lan' ORDER BY id")
    assert [each["action"] for each in noted] == ["token.add", "session.add"]
    assert all('"viewer@*"' in each["after"] and "admin" not in each["after"] for each in noted), noted


async def _sign_in(city: City, body: dict[str, Any]) -> Reply:
    return await city.ask("POST", "/session", role=None, headers=OWN_PAGE, json=body)


async def _login(city: City, user: str, password: str, **options: Any) -> Reply:
    body = {"user": user, "password": password, "name": "laptop"}
    return await city.ask("POST", "/login", role=None, json=body, **options)


def _cookie(reply: Reply) -> dict[str, str]:
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
