"""Requests and answers about senders and claims that wait."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Latitude, Longitude, Name, Request
from iot_core.api.shapes.device import DeviceAdded


class Sender(Answer, frozen=True, kw_only=True):
    """Somebody who sends and whom nobody registered. Add a device with this `address` to accept what waits.

    `guess` names the models that understand what it said last, the likeliest first.
    """

    address: str
    driver: str
    messages: int
    first_at: datetime
    last_at: datetime
    topic: str
    payload: str
    """The beginning of the last one, as text."""
    registers: dict[str, list[int]] | None
    guess: tuple[str, ...] = ()
    says: dict[str, str] = msgspec.field(default_factory=dict)
    """What a scan or a bridge's list tells of it."""


class Claim(Answer, frozen=True, kw_only=True):
    """A new device that claimed itself with a batch key, and waits. Its address in the inbox is `claim:ID`.

    `contested` counts how often somebody else showed the same serial number: look at the label before you accept.
    """

    id: int
    batch: str
    profile: str
    serial: str
    driver: str
    came_from: str | None
    contested: int
    claimed_at: datetime
    last_at: datetime


class Inbox(Answer, frozen=True, kw_only=True):
    items: tuple[Sender, ...]
    claims: tuple[Claim, ...] = ()


class InboxFound(Request, frozen=True, kw_only=True):
    """Somebody whom a scan found: proven to be of `model`, or perhaps one of `guess` (model: weight).

    `registers` is what was read (`holding:4`: words); it is stored when the device is accepted as such a model.
    """

    address: Annotated[str, Meta(pattern=r"^modbus://\S+/\d+$", max_length=500)]
    model: Annotated[str, Meta(max_length=200)] | None = None
    guess: Annotated[dict[str, float], Meta(max_length=50)] = msgspec.field(default_factory=dict)
    says: Annotated[dict[str, Annotated[str, Meta(max_length=500)]], Meta(max_length=50)] = msgspec.field(
        default_factory=dict
    )
    registers: Annotated[
        dict[str, Annotated[tuple[Annotated[int, Meta(ge=0, le=65_535)], ...], Meta(max_length=2_000)]],
        Meta(max_length=50),
    ] = msgspec.field(default_factory=dict)
    at: Annotated[datetime, Meta(tz=True)] | None = None


class InboxAdd(Request, frozen=True, kw_only=True):
    """Let those wait who were found elsewhere: a job file of a scan on site."""

    found: Annotated[tuple[InboxFound, ...], Meta(max_length=1_000)]


class InboxAdded(Answer, frozen=True, kw_only=True):
    """How many wait now, and how many are registered already."""

    waiting: int
    registered: int


class InboxAccept(Request, frozen=True, kw_only=True):
    """Take what waits at an address (or `claim:ID`) into the registry. What is left out is guessed or made up.

    `replace` mounts it as another unit at the device `key`, which is there already.
    """

    address: Annotated[str, Meta(min_length=1, max_length=500)]
    key: Key | None = None
    profile: str | None = None
    name: Name | None = None
    area: Key | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    gateway: Key | None = None
    replace: bool = False


class InboxAcceptAll(Request, frozen=True, kw_only=True):
    """Take all of the inbox, or what one driver heard. Without `profile` only what has one likely model."""

    profile: str | None = None
    driver: str | None = None
    area: Key | None = None
    gateway: Key | None = None
    skip: Annotated[tuple[Annotated[str, Meta(max_length=600)], ...], Meta(max_length=100_000)] = ()
    """Addresses that were left before, and are not to be tried again."""
    dry_run: bool = False


class InboxLeft(Answer, frozen=True, kw_only=True):
    """Somebody who stays in the inbox, and why, in the asker's language."""

    address: str
    code: str
    detail: str


class InboxPreview(Answer, frozen=True, kw_only=True):
    """Somebody who is accepted: as which device, of which model."""

    address: str
    key: str
    profile: str


class InboxAccepted(Answer, frozen=True, kw_only=True):
    """Who was accepted (with `dry_run`: nobody), who is meant, and who stays."""

    items: tuple[DeviceAdded, ...]
    left: tuple[InboxLeft, ...]
    preview: tuple[InboxPreview, ...] = ()
    more: int = 0
    """How many wait beyond those who were looked at."""


class InboxReject(Request, frozen=True, kw_only=True):
    """Refuse claims for good (their ids), or forget what a sender said (addresses)."""

    claims: Annotated[tuple[int, ...], Meta(max_length=1_000)] = ()
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=500)], ...], Meta(max_length=1_000)] = ()


class InboxRejected(Answer, frozen=True, kw_only=True):
    claims: int
    messages: int
