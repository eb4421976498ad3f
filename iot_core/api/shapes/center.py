"""Requests and answers about other centers."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from iot_core.api.shapes.base import Answer, Key, Latitude, Longitude, Name, Query, Request
from iot_core.model import Severity, Title


class CenterNew(Request, frozen=True, kw_only=True):
    """A center that sends us its alarms, signed. Without `secret` one is made."""

    key: Key
    name: Name
    area: Key | None = None
    """Where its alarms are when they name no area that we know."""
    secret: Annotated[str, Meta(max_length=200)] | None = None


class Center(Answer, frozen=True, kw_only=True):
    key: str
    name: str
    area: str | None
    created_at: datetime
    heard_at: datetime | None


class Centers(Answer, frozen=True, kw_only=True):
    items: tuple[Center, ...]


class CenterAdded(Answer, frozen=True, kw_only=True):
    """A center that was added; its `secret` is shown here once."""

    center: Center
    secret: str


class CenterQuery(Query, frozen=True, kw_only=True):
    """Which center speaks; the signature proves it."""

    center: Key


class OutsideAlarm(Struct, frozen=True, kw_only=True):
    """An alarm as another center has it; `id` is its own. What else is said is passed over."""

    id: Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1, max_length=200)]
    severity: Severity = Severity.HIGH
    title: Title | Annotated[str, Meta(min_length=1, max_length=500)]
    rule: Annotated[str, Meta(max_length=200)] | None = None
    """A feeding core's alarm of itself is `core.store`, `.ingest`, `.push` or `.core`, and has no device."""
    metric: Annotated[str, Meta(max_length=100)] | None = None
    value: float | bool | None = None
    simulated: bool = False
    test: bool = False
    acknowledged_by: Annotated[str, Meta(max_length=200)] | None = None
    version: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """Grows with each change of the alarm: where it is said, it decides which of two messages is the older."""
    state: Annotated[str, Meta(max_length=40)] | None = None
    by: str | None = None
    note: str | None = None


class OutsidePlace(Struct, frozen=True, kw_only=True):
    """What it concerns: `area` is used where it is one of ours."""

    name: Annotated[str, Meta(max_length=200)] | None = None
    class_: Annotated[str, Meta(max_length=40)] | None = field(default=None, name="class")
    area: Annotated[str, Meta(max_length=63)] | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class OutsideOrigin(Struct, frozen=True, kw_only=True):
    """The cores that a message came through, so that one which comes back is known."""

    via: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=20)] = ()


class OutsideData(Struct, frozen=True, kw_only=True):
    """What is said: an alarm and its place; or a core's vital signs.

    `parts` stand still (`core.stalled`) or move again (`core.recovered`); the next `iot.heartbeat` comes within
    `next_within_s` seconds.
    """

    alarm: OutsideAlarm | None = None
    device: OutsidePlace | None = None
    origin: OutsideOrigin | None = None
    parts: Annotated[tuple[Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}$")], ...], Meta(max_length=20)] = (
        "core",
    )
    next_within_s: Annotated[float, Meta(ge=1, le=86_400)] | None = None


class OutsideMessage(Struct, frozen=True, kw_only=True):
    """What another center says of one of its alarms; the form is that of our own webhooks.

    `type` is alarm.raised, alarm.updated, alarm.cleared or alarm.acknowledged; the others that our own webhooks have
    are understood too.
    """

    type: Annotated[str, Meta(max_length=100)]
    timestamp: datetime
    data: OutsideData = OutsideData()


class OutsideTaken(Answer, frozen=True, kw_only=True):
    """The alarm here. `ignored` says why nothing was changed: `repeat`, `older`, `loop`."""

    alarm: int | None = None
    ignored: str | None = None
