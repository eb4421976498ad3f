"""Signing in at the page, and tokens for programs."""

from datetime import timedelta

import msgspec

from iot_core.api import shapes
from iot_core.api.access import COOKIE, is_https, require_own_page
from iot_core.api.problems import Unauthorized
from iot_core.api.roles import Action, actions_of, at_most
from iot_core.api.routes import Call, NoQuery, delete, get, post
from iot_core.errors import NotFoundError, RequestError
from iot_core.registry import tokens
from iot_core.registry.audit import Change, record


async def new_code(call: Call[NoQuery], body: shapes.SignInCodeNew) -> shapes.SignInCode:
    """Make a code that signs a browser in, once, within ten minutes."""
    role = at_most(call.who.role, body.role)
    async with call.connection() as connection, connection.transaction():
        token, code = await tokens.new_code(connection, call.who.id, body.name or call.who.name, role)
        after = {"name": token.name, "role": token.role}
        await record(connection, call.who.name, "sign_in_code.add", Change(f"token/{token.id}", after=after))
    assert token.expires_at is not None
    origin = call.request.url.origin().with_scheme("https" if is_https(call.request) else "http")
    url = f"{origin}/#code={code}"  # in the fragment, so that no log on the way ever sees it
    return shapes.SignInCode(code=code, url=url, expires_at=token.expires_at)


async def sign_in(call: Call[NoQuery], body: shapes.SessionNew) -> shapes.Me:
    """Open a session with a code or a token; the answer sets its cookie."""
    require_own_page(call.request)
    if (body.code is None) == (body.token is None):
        raise RequestError("api.code_or_token")
    async with call.connection() as connection:
        if body.code is not None:
            found = await tokens.sign_in_with_code(connection, body.code)
        else:
            found = await tokens.sign_in_with_token(connection, body.token or "")
        if found is None:
            raise Unauthorized("api.bad_code" if body.code is not None else "api.unauthorized")
        session, call.session = found
        await record(
            connection, session.name, "session.add", Change(f"token/{session.id}", after={"role": session.role})
        )
    return _me(session, call.services.settings.timezone)


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
        token, secret = await tokens.create(connection, body.name, body.role, by=call.who.name, life=life)
    return shapes.TokenAdded(token=_shape(token), secret=secret)


async def revoke(call: Call[NoQuery]) -> shapes.Nothing:
    """End a token, with the sessions that came from it."""
    token_id = call.number("id", NotFoundError("registry.no_token", id=call.path["id"]))
    async with call.connection() as connection:
        await tokens.revoke(connection, token_id, by=call.who.name)
    return shapes.Nothing()


def _me(token: tokens.Token, timezone: str) -> shapes.Me:
    return shapes.Me(name=token.name, role=shapes.Role(token.role), actions=actions_of(token.role), timezone=timezone)


def _shape(token: tokens.Token) -> shapes.Token:
    return msgspec.convert(token, shapes.Token, from_attributes=True)


routes = (
    post("/sign-in-codes", new_code, Action.SIGN_IN, status=201),
    post("/session", sign_in, None, status=201),
    delete("/session", sign_out, None),
    get("/me", me),
    get("/tokens", list_tokens, action=Action.TOKENS),
    post("/tokens", add_token, Action.TOKENS, status=201),
    delete("/tokens/{id}", revoke, Action.TOKENS),
)
