"""Requests and answers about commands."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Query, Request
from iot_core.model import CommandState


class CommandNew(Request, frozen=True, kw_only=True):
    """A command of the device's class with its parameters; a native device's answer is waited for up to `wait_s`."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    params: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)
    wait_s: Annotated[float, Meta(ge=0, le=30)] = 5.0


class CommandSent(Answer, frozen=True, kw_only=True):
    """How far a command came."""

    id: int
    device: str
    name: str
    state: CommandState
    detail: str = ""


class OrderNew(Request, frozen=True, kw_only=True):
    """A command to devices of one class: those of a list, or those that a selector names.

    `ttl_s` is how long it may be on its way; a minute when not said, an hour where a second person must confirm it.
    `rate` is commands a second; with `stop_after` that many failures the rest is not sent (and the rate is then 10
    unless it is said). The same `idempotency_key` again gives the order of the first time. A `dry` run sends nothing.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    params: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)
    devices: Annotated[tuple[Key, ...], Meta(max_length=10_000)] | None = None
    where: Annotated[str, Meta(max_length=1_000)] | None = None
    ttl_s: Annotated[float, Meta(ge=1, le=30 * 86_400)] | None = None
    tries: Annotated[int, Meta(ge=1, le=100)] | None = None
    rate: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    stop_after: Annotated[int, Meta(ge=1)] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    dry: bool = False


class Command(Answer, frozen=True, kw_only=True):
    """A command with its life. `detail` is the device's own word, `said` ours about why it stands where it does."""

    id: int
    order: int
    device: str
    device_name: str
    name: str
    params: dict[str, Any]
    state: CommandState
    detail: str = ""
    said: str | None = None
    by: str
    source: str
    waits_for_second: bool = False
    confirmed_by: str | None = None
    tries: int = 0
    expires_at: datetime
    queued_at: datetime
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    ended_at: datetime | None = None


class CommandStep(Answer, frozen=True, kw_only=True):
    """What the stream `events` says as `event: command`: where a command stands now. It is not told again later."""

    id: int
    device: str
    name: str
    params: dict[str, Any]
    state: CommandState
    detail: str = ""


class Commands(Answer, frozen=True, kw_only=True):
    """Commands, the newest first."""

    items: tuple[Command, ...]


class CommandOrder(Answer, frozen=True, kw_only=True):
    """An order: `states` counts its commands. `number` is null of a dry run, which shows a sample of `devices`."""

    number: int | None
    name: str
    params: dict[str, Any]
    selector: str = ""
    total: int
    states: dict[str, int]
    by: str
    created_at: datetime | None = None
    rate: float | None = None
    stop_after: int | None = None
    stopped_at: datetime | None = None
    second_person: bool = False
    confirmed_by: str | None = None
    repeated: bool = False
    """It was ordered before, with the same idempotency key."""
    devices: tuple[str, ...] = ()


class CommandsQuery(Query, frozen=True, kw_only=True):
    """`open`: only those that are not over yet."""

    device: str | None = None
    order: int | None = None
    state: CommandState | None = None
    open: bool = False
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class CommandsCancelled(Answer, frozen=True, kw_only=True):
    """Which commands were cancelled, and how many had left already and go on."""

    ids: tuple[int, ...]
    left: int
