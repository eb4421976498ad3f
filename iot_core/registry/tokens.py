r"""Who may ask: tokens, sign-in codes and the page's sessions, kept as SHA-256 of 256 random bits.

token --> sign-in code (once, ten minutes) --> session (a cookie, thirty days)
  \------------------------------------------>/      all end with the token
user and password -> session, or token ------>/      all end with the user
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import asyncpg

from iot_core.errors import ConflictError, NotFoundError
from iot_core.messages import LOCAL
from iot_core.registry.audit import Change, record
from iot_core.registry.rights import ROLES, Right, area_ids, cut, said, user_rights

__all__ = [
    "CODE_LIFE",
    "HIGHEST",
    "SESSION_LIFE",
    "Kind",
    "Token",
    "create",
    "ensure_local_token",
    "identify",
    "new_code",
    "revoke",
    "rights_of",
    "sign_in_as",
    "sign_in_with_code",
    "sign_in_with_token",
    "sign_out",
    "tokens",
]

CODE_LIFE: Final = timedelta(minutes=10)
SESSION_LIFE: Final = timedelta(days=30)
HIGHEST: Final = ROLES[-1]
_CODE_LETTERS: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # none that is read as another one
_CODE_GROUPS: Final = (4, 4, 4)
"""31 letters, 12 places: 59 bits, more than anyone can try in the ten minutes that a code lives."""

_COLUMNS: Final = """
token.id, token.kind, token.name, token.role, token.created_at, token.expires_at, token.used_at, token.user_id,
    token.area_ids, (SELECT name FROM iot.user_account u WHERE u.id = token.user_id) AS user,
    (SELECT array_agg(key ORDER BY key) FROM iot.area WHERE area.id = ANY(token.area_ids)) AS areas
"""
# Whoever came from a token or a user is there no longer than it.
_LIVE: Final = """
token.revoked_at IS NULL AND (token.expires_at IS NULL OR token.expires_at > now())
AND NOT EXISTS (SELECT FROM iot.token AS parent WHERE parent.id = token.parent_id
    AND (parent.revoked_at IS NOT NULL OR parent.expires_at <= now()))
AND NOT EXISTS (SELECT FROM iot.user_account u WHERE u.id = token.user_id AND u.removed_at IS NOT NULL)
"""
_CREATE: Final = f"""
INSERT INTO iot.token (kind, parent_id, name, hash, role, expires_at, user_id, area_ids)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval, $7, $8) RETURNING {_COLUMNS}
"""
_FIND: Final = f"SELECT {_COLUMNS}, token.hash FROM iot.token WHERE token.hash = $1 AND token.kind = $2 AND {_LIVE}"
_USED: Final = "UPDATE iot.token SET used_at = date_trunc('hour', now()) WHERE id = $1"
_USE_UP: Final = f"""
UPDATE iot.token SET revoked_at = now() WHERE hash = $1 AND kind = 'code' AND {_LIVE}
RETURNING parent_id, name, role, user_id, area_ids
"""
_IS_USER: Final = "SELECT EXISTS (SELECT FROM iot.user_account WHERE name = $1)"
_LIST: Final = f"SELECT {_COLUMNS} FROM iot.token WHERE kind = 'token' AND {_LIVE} ORDER BY id"
_REVOKE: Final = f"""
UPDATE iot.token SET revoked_at = now() WHERE id = $1::bigint AND kind = 'token' AND {_LIVE} RETURNING name, role
"""
_SIGN_OUT: Final = "DELETE FROM iot.token WHERE hash = $1 AND kind = 'session'"
_FORGET: Final = "DELETE FROM iot.token WHERE kind <> 'token' AND (expires_at < now() OR revoked_at IS NOT NULL)"
_HOUR: Final = timedelta(hours=1)


class Kind(StrEnum):
    """What a row of the table is."""

    TOKEN = "token"  # noqa: S105 - the word, not one
    CODE = "code"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Somebody who may ask, and as what.

    `name` is what the audit calls them: the user's name, or the token's own (`label`) where it belongs to none. `role`
    bounds what may be done with it; `rights` is what may be done with it now, empty where nobody asked for them.
    """

    id: int
    kind: Kind
    name: str
    label: str = ""
    role: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = None
    user_id: int | None = None
    user: str | None = None
    areas: tuple[str, ...] | None = None
    area_ids: tuple[int, ...] | None = None
    rights: tuple[Right, ...] = ()


async def identify(connection: asyncpg.Connection, secret: str, kind: Kind) -> Token | None:
    """Say whose live token or session this is, and what they may do with it now."""
    digest = _hash(secret)
    row = await connection.fetchrow(_FIND, digest, kind)
    if row is None or not hmac.compare_digest(row["hash"], digest):
        return None
    token = _token(row)
    if token.used_at is None or datetime.now(UTC) - token.used_at >= _HOUR:
        await connection.execute(_USED, token.id)
    return replace(token, rights=await rights_of(connection, token))


async def rights_of(connection: asyncpg.Connection, token: Token) -> tuple[Right, ...]:
    """Say what may be done with a token now."""
    if token.user_id is None:
        whole: tuple[Right, ...] = (Right(token.role),)
    else:
        whole = await user_rights(connection, token.user_id)
        if token.role == ROLES[-1] and token.area_ids is None:
            return whole
    if token.user_id is None and token.area_ids is None:
        return whole
    return await cut(connection, whole, token.role, token.area_ids)


async def tokens(connection: asyncpg.Connection) -> list[Token]:
    """List the live tokens, without codes and sessions."""
    found = [_token(row) for row in await connection.fetch(_LIST)]
    return [replace(each, rights=await rights_of(connection, each)) for each in found]


async def create(
    connection: asyncpg.Connection,
    name: str,
    role: str,
    *,
    by: str,
    life: timedelta | None = None,
    areas: Sequence[str] | None = None,
    user_id: int | None = None,
) -> tuple[Token, str]:
    """Make a token; its secret is given here once.

    Raises NotFoundError for an area that is not there, ConflictError for a program's that is called like a user: the
    audit names both by it.
    """
    async with connection.transaction():
        if user_id is None and await connection.fetchval(_IS_USER, name):
            raise ConflictError("user.token_name", name=name)
        ids = None if areas is None else await area_ids(connection, areas)
        token, secret = await _create(
            connection, Kind.TOKEN, name=name, role=role, life=life, secret=secrets.token_urlsafe(32),
            user_id=user_id, area_ids=ids,
        )  # fmt: skip
        token = replace(token, rights=await rights_of(connection, token))
        # The role of a user's own token only bounds what the user may do.
        may = {"role": role, "areas": areas} if user_id is None else {"rights": said(token.rights)}
        after = {"name": name, **may, "user": token.user, "expires_at": token.expires_at}
        await record(connection, by, "token.add", Change(f"token/{token.id}", after=after))
        return token, secret


async def revoke(connection: asyncpg.Connection, token_id: int, *, by: str) -> None:
    """End a token, with the codes and sessions that came from it."""
    async with connection.transaction():
        row = await connection.fetchrow(_REVOKE, token_id)
        if row is None:
            raise NotFoundError("registry.no_token", id=token_id)
        await record(connection, by, "token.revoke", Change(f"token/{token_id}", before=dict(row)))


# ---------------------------------------------------------------- the page
async def new_code(
    connection: asyncpg.Connection, parent_id: int, name: str, role: str, like: Token | None = None
) -> tuple[Token, str]:
    """Make a code that signs a browser in, once, as the same user and in the same areas as `like`."""
    letters = iter(secrets.choice(_CODE_LETTERS) for _ in range(sum(_CODE_GROUPS)))
    code = "-".join("".join(next(letters) for _ in range(size)) for size in _CODE_GROUPS)
    await connection.execute(_FORGET)
    token, _ = await _create(
        connection, Kind.CODE, parent_id=parent_id, name=name, role=role, life=CODE_LIFE, secret=_plain(code),
        user_id=like.user_id if like else None, area_ids=like.area_ids if like else None,
    )  # fmt: skip
    return token, code


async def sign_in_with_code(connection: asyncpg.Connection, code: str) -> tuple[Token, str] | None:
    """Turn a code into a session. Of two that come with the same code, one gets it."""
    async with connection.transaction():
        row = await connection.fetchrow(_USE_UP, _hash(_plain(code)))
        if row is None:
            return None
        return await _session(
            connection, row["parent_id"], row["name"], row["role"], user_id=row["user_id"], area_ids=row["area_ids"]
        )


async def sign_in_with_token(connection: asyncpg.Connection, secret: str) -> tuple[Token, str] | None:
    """Open a session for whoever holds a token."""
    token = await identify(connection, secret, Kind.TOKEN)
    if token is None:
        return None
    return await _session(connection, token.id, token.label, token.role, user_id=token.user_id, area_ids=token.area_ids)


async def sign_in_as(connection: asyncpg.Connection, user_id: int, name: str) -> tuple[Token, str]:
    """Open a session for a user whose password was right."""
    return await _session(connection, None, name, ROLES[-1], user_id=user_id)


async def sign_out(connection: asyncpg.Connection, secret: str) -> None:
    """End a session."""
    await connection.execute(_SIGN_OUT, _hash(secret))


async def _session(
    connection: asyncpg.Connection,
    parent_id: int | None,
    name: str,
    role: str,
    *,
    user_id: int | None = None,
    area_ids: Sequence[int] | None = None,
) -> tuple[Token, str]:
    secret = secrets.token_urlsafe(32)
    token, secret = await _create(
        connection, Kind.SESSION, parent_id=parent_id, name=name, role=role, life=SESSION_LIFE, secret=secret,
        user_id=user_id, area_ids=area_ids,
    )  # fmt: skip
    return replace(token, rights=await rights_of(connection, token)), secret


# ---------------------------------------------------------------- the local command line
async def ensure_local_token(connection: asyncpg.Connection, path: Path) -> str:
    """Leave the command line on this machine an admin token in `path` (mode 0600), and keep one that still works."""
    secret = _read(path)
    token = await identify(connection, secret, Kind.TOKEN) if secret else None
    if token is not None and token.role == "admin":
        os.chmod(path, 0o600)  # noqa: PTH101 - one local file, at start
        return secret
    _, secret = await create(connection, LOCAL, "admin", by="iot up")
    _write(path, secret)
    return secret


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _write(path: Path, secret: str) -> None:
    """Write the file anew, never readable by others, never half."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secret + "\n")
    new.replace(path)


async def _create(
    connection: asyncpg.Connection,
    kind: Kind,
    *,
    name: str,
    role: str,
    life: timedelta | None,
    secret: str,
    parent_id: int | None = None,
    user_id: int | None = None,
    area_ids: Sequence[int] | None = None,
) -> tuple[Token, str]:
    ids = None if area_ids is None else list(area_ids)
    row = await connection.fetchrow(_CREATE, kind, parent_id, name, _hash(secret), role, life, user_id, ids)
    return _token(row), secret


def _token(row: Any) -> Token:
    return Token(
        id=row["id"], kind=Kind(row["kind"]), name=row["user"] or row["name"], label=row["name"], role=row["role"],
        created_at=row["created_at"], expires_at=row["expires_at"], used_at=row["used_at"],
        user_id=row["user_id"], user=row["user"],
        areas=None if row["area_ids"] is None else tuple(row["areas"] or ()),
        area_ids=None if row["area_ids"] is None else tuple(row["area_ids"]),
    )  # fmt: skip


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _plain(code: str) -> str:
    """Take a code however it was typed: blanks, dashes, small letters."""
    return "".join(letter for letter in code.upper() if letter.isalnum())
