"""Requests and answers about held uplinks."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, field

from iot_core.api.shapes.base import Answer, Query, Request
from iot_core.model import Reason


class HeldQuery(Query, frozen=True, kw_only=True):
    """All of what is given must fit. `before` goes on after a page: the last id of it."""

    device: str | None = None
    reason: Reason | None = None
    start: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    """By time of arrival."""
    end: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    before: int | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class Held(Answer, frozen=True, kw_only=True):
    """An uplink, or a part of one, that could not be used; `said` is the reason in the reader's language."""

    id: int
    received_at: datetime
    device: str | None
    driver: str
    address: str
    topic: str
    kind: str
    reason: str
    said: str
    detail: str
    part: Any
    payload: str
    registers: dict[str, list[int]] | None


class HeldDetail(Held, frozen=True, kw_only=True):
    """A held row with its whole payload, as text in `payload` if it is some, and in hexadecimal digits.

    `others` are further parts that are held of the same uplink.
    """

    content_format: int | None
    retained: bool
    hex: str
    others: tuple[int, ...]


class HeldReplay(Request, frozen=True, kw_only=True):
    """Which held uplinks to run through the path again: by device, reason or ids, or `all`.

    Go on with `after` and `until` of the answer before.
    """

    device: str | None = None
    reason: Reason | None = None
    ids: Annotated[tuple[int, ...], Meta(max_length=1_000)] | None = None
    all: bool = False
    preview: bool = False
    after: int = 0
    until: int | None = None


class HeldCount(Answer, frozen=True, kw_only=True):
    reason: str
    said: str
    parts: int
    uplinks: int


class HeldReplayed(Answer, frozen=True, kw_only=True):
    """What a step did: uplinks taken, observations stored, parts held again. `after` is null when nothing is left."""

    until: int
    after: int | None = None
    uplinks: int = 0
    stored: int = 0
    held: int = 0
    reasons: tuple[HeldCount, ...] = ()


class HeldList(Answer, frozen=True, kw_only=True):
    """Held uplinks, the newest first; `total` counts all that match."""

    items: tuple[Held, ...]
    total: int
