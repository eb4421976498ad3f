"""Requests and answers about users, tokens and sessions."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Name, Request, Role


class TokenNew(Request, frozen=True, kw_only=True):
    """A token for a program. Without `areas` it holds everywhere, without `days` for ever."""

    name: Name
    role: Role
    areas: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=100)] | None = None
    days: Annotated[int, Meta(ge=1, le=3_650)] | None = None


class Right(Answer, frozen=True, kw_only=True):
    """A role in an area with all inside it; without an area, everywhere."""

    role: Role
    area: str | None = None


class Token(Answer, frozen=True, kw_only=True):
    """A token: its role at most, in its areas at most (null: everywhere); of a user, never more than theirs.

    `rights` is what may be done with it now: which role where. `used_at` is its last use, to the hour.
    """

    id: int
    name: str
    role: Role
    user: str | None = None
    areas: tuple[str, ...] | None = None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = None
    rights: tuple[Right, ...] = ()


class Tokens(Answer, frozen=True, kw_only=True):
    items: tuple[Token, ...]


class TokenAdded(Answer, frozen=True, kw_only=True):
    """A token that was made; `secret` is shown here once."""

    token: Token
    secret: str


class SignInCodeNew(Request, frozen=True, kw_only=True):
    """Who is to sign in at the page: by default the asker; never as more than the asker."""

    name: Name | None = None
    role: Role | None = None


class SignInCode(Answer, frozen=True, kw_only=True):
    """Good once, for ten minutes. `url` opens the page and signs in."""

    code: str
    url: str
    expires_at: datetime


class SessionNew(Request, frozen=True, kw_only=True):
    """Exactly one of them: a code, a token, or a user's name with the password. The answer sets the cookie."""

    code: str | None = None
    token: str | None = None
    user: Annotated[str, Meta(max_length=63)] | None = None
    password: Annotated[str, Meta(max_length=1_000)] | None = None


class LoginNewToken(Request, frozen=True, kw_only=True):
    """A user's name and password, for a token of theirs: `name` says where it is kept."""

    user: Annotated[str, Meta(max_length=63)]
    password: Annotated[str, Meta(max_length=1_000)]
    name: Name
    days: Annotated[int, Meta(ge=1, le=365)] = 90


class RightNew(Request, frozen=True, kw_only=True):
    """A role in an area with all inside it; without an area, everywhere."""

    role: Role
    area: Key | None = None


Rights = Annotated[tuple[RightNew, ...], Meta(min_length=1, max_length=100)]


class UserNew(Request, frozen=True, kw_only=True):
    """Somebody who signs in with a password."""

    name: Annotated[str, Meta(max_length=63)]
    title: Annotated[str, Meta(max_length=200)] = ""
    password: Annotated[str, Meta(max_length=1_000)]
    rights: Rights


class UserRights(Request, frozen=True, kw_only=True):
    """What a user may do more, or less: taken first, then given."""

    give: Annotated[tuple[RightNew, ...], Meta(max_length=100)] = ()
    take: Annotated[tuple[RightNew, ...], Meta(max_length=100)] = ()


class PasswordNew(Request, frozen=True, kw_only=True):
    """Another password. Who changes their own gives the one before."""

    password: Annotated[str, Meta(max_length=1_000)]
    before: Annotated[str, Meta(max_length=1_000)] | None = None


class User(Answer, frozen=True, kw_only=True):
    """Somebody who signs in with a password. `used_at` is when they were last here, to the hour."""

    name: str
    title: str
    rights: tuple[Right, ...]
    created_at: datetime
    used_at: datetime | None


class Users(Answer, frozen=True, kw_only=True):
    items: tuple[User, ...]


class Endpoints(Answer, frozen=True, kw_only=True):
    """Where devices reach the core, each as `HOST:PORT`."""

    mqtt: str
    coap: str
    mqtts: str | None = None
    """The same broker over TLS; None where it does not listen for that."""


class Me(Answer, frozen=True, kw_only=True):
    """Who asks, what they may do (`rights`: which role where), and the zone of the core's times (an IANA name)."""

    name: str
    role: Role
    actions: tuple[str, ...]
    timezone: str
    rights: tuple[Right, ...] = ()
