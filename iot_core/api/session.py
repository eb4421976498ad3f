"""Signing in, at the page and from a command line; tokens for programs."""

from datetime import timedelta
from typing import Any, Final

import asyncpg

from iot_core.api import shapes
from iot_core.api.access import COOKIE, address, is_https, require_own_page
from iot_core.api.problems import Unauthorized
from iot_core.api.roles import Action, actions_of, at_most, role_of
from iot_core.api.routes import ATTEMPTS, Call, NoQuery, Reach, delete, get, post
from iot_core.errors import NotFoundError, RequestError
from iot_core.registry import tokens, users
from iot_core.registry.audit import Change, record
from iot_core.registry.rights import said

_REFUSED: Final = ("api.bad_code", "api.unauthorized", "api.bad_password")


async def new_code(call: Call[NoQuery], body: shapes.SignInCodeNew) -> shapes.SignInCode:
    """Make a code that signs a browser in, once, within ten minutes."""
    role = at_most(call.who, body.role)
    async with call.connection() as connection, connection.transaction():
        token, code = await tokens.new_code(connection, call.who.id, body.name or call.who.label, role, like=call.who)
        after = {"name": token.name, "role": token.role}
        await record(connection, call.who.name, "sign_in_code.add", Change(f"token/{token.id}", after=after))
    assert token.expires_at is not None
    origin = call.request.url.origin().with_scheme("https" if is_https(call.request) else "http")
    url = f"{origin}/#code={code}"  # in the fragment, so that no log on the way ever sees it
    return shapes.SignInCode(code=code, url=url, expires_at=token.expires_at)


async def sign_in(call: Call[NoQuery], body: shapes.SessionNew) -> shapes.Me:
    """Open a session with a code, a token, or a name and password; the answer sets its cookie."""
    require_own_page(call.request)
    ways = (body.code is not None, body.token is not None, body.user is not None or body.password is not None)
    if sum(ways) != 1:
        raise RequestError("api.code_or_token")
    attempt = call.request.app[ATTEMPTS].begin(address(call.request), body.user or "")
    async with call.connection() as connection:
        if body.code is not None:
            found = await tokens.sign_in_with_code(connection, body.code)
        elif body.token is not None:
            found = await tokens.sign_in_with_token(connection, body.token)
        else:
            user = await users.check(connection, body.user or "", body.password or "")
            found = None if user is None else await tokens.sign_in_as(connection, user.id, user.name)
        if found is None:
            await refused(call, connection, body.user)
            raise Unauthorized(_REFUSED[ways.index(True)])
        attempt.forgive()
        session, call.session = found
        if before := call.request.cookies.get(COOKIE):  # the browser's old session ends: nobody can have planted it
            await tokens.sign_out(connection, before)
        await record(
            connection,
            session.name,
            "session.add",
            Change(f"token/{session.id}", after={"rights": said(session.rights)}),
        )
    return _me(session, call.services.settings.timezone)


async def login(call: Call[NoQuery], body: shapes.LoginNewToken) -> shapes.TokenAdded:
    """Give a user a token of their own for a name and password. Its secret is in this answer and nowhere else."""
    attempt = call.request.app[ATTEMPTS].begin(address(call.request), body.user)
    async with call.connection() as connection:
        user = await users.check(connection, body.user, body.password)
        if user is None:
            await refused(call, connection, body.user)
            raise Unauthorized("api.bad_password")
        attempt.forgive()
        token, secret = await tokens.create(
            connection, body.name, tokens.HIGHEST, by=user.name, life=timedelta(days=body.days), user_id=user.id
        )
    return shapes.TokenAdded(token=_shape(token), secret=secret)


async def log_out(call: Call[NoQuery]) -> shapes.Nothing:
    """End the token that asks."""
    async with call.connection() as connection:
        if call.who.kind is tokens.Kind.TOKEN:
            await tokens.revoke(connection, call.who.id, by=call.who.name)
    return shapes.Nothing()


async def refused(call: Call[Any], connection: asyncpg.Connection, user: str | None) -> None:
    """Count who was not let in, and note the first of each minute, user and address."""
    call.services.counters.count("sign_in_refused")
    if call.request.app[ATTEMPTS].worth_noting(address(call.request), user or ""):
        await record(connection, user or "?", "session.refused", Change(f"user/{user or '?'}"))


async def sign_out(call: Call[NoQuery]) -> shapes.Nothing:
    """End the session of this browser."""
    require_own_page(call.request)
    async with call.connection() as connection:
        await tokens.sign_out(connection, call.request.cookies.get(COOKIE, ""))
    call.session = ""
    return shapes.Nothing()


async def me(call: Call[NoQuery]) -> shapes.Me:
    """Say who asks and what they may do."""
    return _me(call.who, call.services.settings.timezone)


async def list_tokens(call: Call[NoQuery]) -> shapes.Tokens:
    """List tokens."""
    async with call.connection() as connection:
        found = await tokens.tokens(connection)
    return shapes.Tokens(items=tuple(_shape(each) for each in found))


async def add_token(call: Call[NoQuery], body: shapes.TokenNew) -> shapes.TokenAdded:
    """Make a token. Its secret is in this answer and nowhere else."""
    life = timedelta(days=body.days) if body.days else None
    async with call.connection() as connection:
        token, secret = await tokens.create(
            connection, body.name, body.role, by=call.who.name, life=life, areas=body.areas
        )
    return shapes.TokenAdded(token=_shape(token), secret=secret)


async def revoke(call: Call[NoQuery]) -> shapes.Nothing:
    """End a token, with the sessions that came from it."""
    token_id = call.number("id", NotFoundError("registry.no_token", id=call.path["id"]))
    async with call.connection() as connection:
        await tokens.revoke(connection, token_id, by=call.who.name)
    return shapes.Nothing()


def _me(token: tokens.Token, timezone: str) -> shapes.Me:
    rights = _rights(token)
    return shapes.Me(name=token.name, role=role_of(token), actions=actions_of(token), timezone=timezone, rights=rights)


def _rights(token: tokens.Token) -> tuple[shapes.Right, ...]:
    return tuple(
        shapes.Right(role=shapes.Role(right.role), area=area)
        for right in token.rights
        for area in ((None,) if right.areas is None else right.named)
    )


def _shape(token: tokens.Token) -> shapes.Token:
    return shapes.Token(
        id=token.id, name=token.label, role=shapes.Role(token.role), user=token.user, areas=token.areas,
        created_at=token.created_at, expires_at=token.expires_at, used_at=token.used_at, rights=_rights(token),
    )  # fmt: skip


routes = (
    post("/sign-in-codes", new_code, Action.SIGN_IN, status=201, reach=Reach.ANY),
    post("/session", sign_in, None, status=201),
    delete("/session", sign_out, None),
    post("/login", login, None, status=201),
    delete("/login", log_out, Action.SIGN_IN, reach=Reach.ANY),
    get("/me", me, reach=Reach.ANY),
    get("/tokens", list_tokens, action=Action.TOKENS),
    post("/tokens", add_token, Action.TOKENS, status=201),
    delete("/tokens/{id}", revoke, Action.TOKENS),
)
