"""Users: people who sign in with a password, and which roles they have where."""

from collections.abc import Sequence

from iot_core.api import shapes
from iot_core.api.access import address
from iot_core.api.problems import Unauthorized
from iot_core.api.roles import Action
from iot_core.api.routes import ATTEMPTS, Call, NoQuery, Reach, delete, get, post
from iot_core.errors import RequestError
from iot_core.registry import users


async def list_users(call: Call[NoQuery]) -> shapes.Users:
    """List users with their rights."""
    async with call.connection() as connection:
        return shapes.Users(items=tuple(_shape(each) for each in await users.users(connection)))


async def add(call: Call[NoQuery], body: shapes.UserNew) -> shapes.User:
    """Add a user. Nobody is there by default; the first is added with the token of the core's own machine."""
    async with call.connection() as connection:
        given = _rights(body.rights)
        return _shape(await users.add(connection, body.name, body.title, body.password, given, by=call.who.name))


async def rights(call: Call[NoQuery], body: shapes.UserRights) -> shapes.User:
    """Let a user do more, or less; open streams and sessions notice at once."""
    name = call.path["name"]
    async with call.connection() as connection, connection.transaction():
        if body.give:
            await users.give(connection, name, _rights(body.give), by=call.who.name)
        await users.take(connection, name, _rights(body.take), by=call.who.name)
        return _shape(await users.find(connection, name))


async def password(call: Call[NoQuery], body: shapes.PasswordNew) -> shapes.Nothing:
    """Give a user another password; every session and token of theirs ends."""
    async with call.connection() as connection:
        await users.set_password(connection, call.path["name"], body.password, by=call.who.name)
    return shapes.Nothing()


async def own_password(call: Call[NoQuery], body: shapes.PasswordNew) -> shapes.Nothing:
    """Change the asker's own password, given the one before; every session and token of theirs ends."""
    if call.who.user is None:
        raise RequestError("user.token_only")
    attempt = call.request.app[ATTEMPTS].begin(address(call.request), call.who.user)
    async with call.connection() as connection:
        if await users.check(connection, call.who.user, body.before or "") is None:
            raise Unauthorized("api.bad_password")
        attempt.forgive()
        await users.set_password(connection, call.who.user, body.password, by=call.who.name)
    return shapes.Nothing()


async def remove(call: Call[NoQuery]) -> shapes.Nothing:
    """Remove a user; their sessions and tokens end at once, what they did stays in the audit."""
    async with call.connection() as connection:
        await users.remove(connection, call.path["name"], by=call.who.name)
    return shapes.Nothing()


def _rights(given: Sequence[shapes.RightNew]) -> list[users.UserRight]:
    return [users.UserRight(each.role.value, each.area) for each in given]


def _shape(user: users.User) -> shapes.User:
    return shapes.User(
        name=user.name, title=user.title, created_at=user.created_at, used_at=user.used_at,
        rights=tuple(shapes.Right(role=shapes.Role(each.role), area=each.area) for each in user.rights),
    )  # fmt: skip


routes = (
    get("/users", list_users, action=Action.USERS),
    post("/users", add, Action.USERS, status=201),
    post("/users/{name}/rights", rights, Action.USERS),
    post("/users/{name}/password", password, Action.USERS),
    delete("/users/{name}", remove, Action.USERS),
    post("/me/password", own_password, Action.SIGN_IN, reach=Reach.ANY),
)
