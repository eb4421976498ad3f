"""People who sign in with a password: kept as argon2id, their rights beside it. Nobody is there by default."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import asyncpg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry import rights
from iot_core.registry.audit import Change, record

__all__ = [
    "SHORTEST", "User", "UserRight", "add", "check", "end_sessions", "find", "give", "remove", "set_password", "take",
    "users",
]  # fmt: skip

SHORTEST: Final = 10
_LONGEST: Final = 1_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_threads: Final = ThreadPoolExecutor(2, "argon2")
"""Two passwords are hashed at the same time, no more: each takes 64 MiB and a core for some hundredths of a second."""

_USERS: Final = """
SELECT u.id, u.name, u.title, u.created_at,
    (SELECT max(used_at) FROM iot.token WHERE user_id = u.id) AS used_at,
    coalesce((SELECT array_agg(r.role ORDER BY r.role, area.key) FROM iot.user_right r
        LEFT JOIN iot.area ON area.id = r.area_id WHERE r.user_id = u.id), '{}') AS roles,
    coalesce((SELECT array_agg(area.key ORDER BY r.role, area.key) FROM iot.user_right r
        LEFT JOIN iot.area ON area.id = r.area_id WHERE r.user_id = u.id), '{}') AS areas
FROM iot.user_account u WHERE u.removed_at IS NULL AND ($1::text IS NULL OR u.name = $1) ORDER BY u.name
"""
_ADD: Final = """
INSERT INTO iot.user_account (name, title, password_hash) VALUES ($1, $2, $3)
ON CONFLICT (name) WHERE removed_at IS NULL DO NOTHING RETURNING id
"""
_HASH: Final = "SELECT id, password_hash FROM iot.user_account WHERE name = $1 AND removed_at IS NULL"
_SET: Final = "UPDATE iot.user_account SET password_hash = $2 WHERE name = $1 AND removed_at IS NULL RETURNING id"
_REMOVE: Final = "UPDATE iot.user_account SET removed_at = now() WHERE id = $1"
_END: Final = "UPDATE iot.token SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL"
_GIVE: Final = "INSERT INTO iot.user_right (user_id, role, area_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_TAKE: Final = "DELETE FROM iot.user_right WHERE user_id = $1 AND role = $2 AND area_id IS NOT DISTINCT FROM $3"
_OTHER_ADMIN: Final = """
SELECT EXISTS (SELECT FROM iot.user_right r JOIN iot.user_account u ON u.id = r.user_id
WHERE r.role = 'admin' AND r.area_id IS NULL AND u.removed_at IS NULL)
"""


@dataclass(frozen=True, slots=True)
class UserRight:
    """A role in an area; None: everywhere."""

    role: str
    area: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with a password. `used_at` is the last use of a token or session of theirs, to the hour."""

    id: int
    name: str
    title: str
    created_at: datetime
    used_at: datetime | None
    rights: tuple[UserRight, ...]


async def users(connection: asyncpg.Connection) -> list[User]:
    """List users by name."""
    return [_user(row) for row in await connection.fetch(_USERS, None)]


async def find(connection: asyncpg.Connection, name: str) -> User:
    """Give one. Raises NotFoundError."""
    row = await connection.fetchrow(_USERS, name)
    if row is None:
        raise NotFoundError("user.not_found", name=name)
    return _user(row)


async def add(
    connection: asyncpg.Connection, name: str, title: str, password: str, given: Sequence[UserRight], *, by: str
) -> User:
    """Add a user with rights. Raises RequestError for a bad name or weak password, ConflictError for one in use."""
    if not _NAME.fullmatch(name):
        raise RequestError("user.bad_name", name=name)
    _require_strong(name, password)
    hashed = await _hashed(password)
    async with connection.transaction():
        user_id = await connection.fetchval(_ADD, name, title, hashed)
        if user_id is None:
            raise ConflictError("user.exists", name=name)
        for right in given:
            await connection.execute(_GIVE, user_id, right.role, await _area(connection, right.area))
        after = {"title": title, "rights": _said(given)}
        await record(connection, by, "user.add", Change(f"user/{name}", after=after))
        return await find(connection, name)


async def check(connection: asyncpg.Connection, name: str, password: str) -> User | None:
    """Say whose name and password these are; None takes as long for a name that nobody has."""
    row = await connection.fetchrow(_HASH, name)
    hashed = row["password_hash"] if row is not None else await asyncio.to_thread(_nobody)
    if len(password) > _LONGEST or not await _matches(hashed, password) or row is None:
        return None
    if _hasher().check_needs_rehash(hashed):
        await connection.execute(_SET, name, await _hashed(password))
    return await find(connection, name)


async def set_password(connection: asyncpg.Connection, name: str, password: str, *, by: str) -> None:
    """Give a user another password; every session and token of theirs ends."""
    _require_strong(name, password)
    hashed = await _hashed(password)
    async with connection.transaction():
        user_id = await connection.fetchval(_SET, name, hashed)
        if user_id is None:
            raise NotFoundError("user.not_found", name=name)
        await end_sessions(connection, user_id)
        await record(connection, by, "user.password", Change(f"user/{name}", after={"password": "set"}))


async def give(connection: asyncpg.Connection, name: str, given: Sequence[UserRight], *, by: str) -> User:
    """Let a user do more."""
    async with connection.transaction():
        before = await find(connection, name)
        for right in given:
            await connection.execute(_GIVE, before.id, right.role, await _area(connection, right.area))
        return await _changed(connection, before, by)


async def take(connection: asyncpg.Connection, name: str, taken: Sequence[UserRight], *, by: str) -> User:
    """Let a user do less; open sessions notice at once. Raises ConflictError where no administrator would be left."""
    async with connection.transaction():
        before = await find(connection, name)
        for right in taken:
            await connection.execute(_TAKE, before.id, right.role, await _area(connection, right.area))
        await _require_admin(connection, before)
        return await _changed(connection, before, by)


async def remove(connection: asyncpg.Connection, name: str, *, by: str) -> None:
    """Remove a user with their sessions and tokens; what they did stays in the audit."""
    async with connection.transaction():
        before = await find(connection, name)
        await connection.execute(_REMOVE, before.id)
        await _require_admin(connection, before)
        await end_sessions(connection, before.id)
        await record(
            connection,
            by,
            "user.remove",
            Change(f"user/{name}", {"title": before.title, "rights": _said(before.rights)}),
        )


async def end_sessions(connection: asyncpg.Connection, user_id: int) -> None:
    """End every session and token of a user."""
    await connection.execute(_END, user_id)


async def _require_admin(connection: asyncpg.Connection, before: User) -> None:
    """Keep the last user who may do all everywhere, once there is one."""
    if UserRight("admin", None) in before.rights and not await connection.fetchval(_OTHER_ADMIN):
        raise ConflictError("user.last_admin", name=before.name)


async def _changed(connection: asyncpg.Connection, before: User, by: str) -> User:
    after = await find(connection, before.name)
    if after.rights != before.rights:
        change = Change(f"user/{before.name}", {"rights": _said(before.rights)}, {"rights": _said(after.rights)})
        await record(connection, by, "user.rights", change)
    return after


async def _area(connection: asyncpg.Connection, key: str | None) -> int | None:
    return None if key is None else (await rights.area_ids(connection, [key]))[0]


def _require_strong(name: str, password: str) -> None:
    """Refuse what is guessed first: short ones, the name itself, one letter repeated, a run of digits."""
    plain = password.lower()
    weak = len(set(plain)) < 5 or plain.strip("0123456789") in {"", name, "password", "matkhau", "admin"}
    if not SHORTEST <= len(password) <= _LONGEST or weak:
        raise RequestError("user.weak_password", shortest=SHORTEST)


def _said(given: Sequence[UserRight]) -> list[str]:
    return [f"{each.role}@{each.area or '*'}" for each in given]


def _user(row: Any) -> User:
    given = tuple(UserRight(role, area) for role, area in zip(row["roles"], row["areas"], strict=True))
    return User(
        id=row["id"], name=row["name"], title=row["title"], created_at=row["created_at"], used_at=row["used_at"],
        rights=given,
    )  # fmt: skip


# ---------------------------------------------------------------- argon2
@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()  # RFC 9106, second recommended option: argon2id, t=3, 64 MiB, 4 lanes


@cache
def _nobody() -> str:
    """Give the hash that a password is held against where there is no user, so that time tells nothing."""
    return _hasher().hash("nobody's password")


async def _hashed(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher().hash, _plain(password))


async def _matches(hashed: str, password: str) -> bool:
    def work() -> bool:
        try:
            return _hasher().verify(hashed, _plain(password))
        except (VerifyMismatchError, InvalidHashError):
            return False

    return await asyncio.get_running_loop().run_in_executor(_threads, work)


def _plain(password: str) -> str:
    """Take a password alike from keyboards that compose Vietnamese letters and those that do not (RFC 8265: NFC)."""
    return unicodedata.normalize("NFC", password)
