"""Requests and answers about push targets and messages."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from iot_core.api.shapes.base import Answer, Key, Query, Request
from iot_core.model import Severity, Title


class PushNew(Request, frozen=True, kw_only=True):
    """A place that alarms go to. Without `secret` (`whsec_...`) one is made."""

    key: Key
    url: Annotated[str, Meta(max_length=2_000)] = ""
    """Of apprise it is the secret; a feed has none."""
    secret: Annotated[str, Meta(max_length=2_000)] | None = None
    accepts_simulated: bool = False
    min_severity: Severity = Severity.LOW
    kind: Literal["webhook", "mqtt", "apprise", "syslog", "feed"] = "webhook"
    format: Literal["", "json", "cap", "text", "cef"] = ""
    language: Literal["vi", "en"] = "vi"
    template: Annotated[str, Meta(max_length=8_000)] | None = None
    classes: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    areas: Annotated[tuple[Key, ...], Meta(max_length=1_000)] = ()
    hours: Annotated[str, Meta(max_length=500)] = ""
    watchdog: bool = False
    heartbeat_s: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    options: dict[str, Annotated[str, Meta(max_length=20_000)]] = field(default_factory=dict)
    """Of its kind: `username` (mqtt), `ca`, `cert`, `key` (PEM), `sender`, `sender_name`, `scope` (CAP), `audit`."""


class PushTarget(Answer, frozen=True, kw_only=True):
    """A place that alarms go to. `backlog` is how many messages wait; `dead` how many were given up.

    `last_error` is a code, `last_error_said` its sentence in the reader's language.
    """

    key: str
    kind: str
    url: str
    accepts_simulated: bool
    min_severity: Severity
    created_at: datetime
    backlog: int
    dead: int
    last_error: str | None
    last_error_said: str | None
    last_delivered_at: datetime | None
    format: str = "json"
    language: str = "vi"
    template: str | None = None
    classes: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    hours: str = ""
    watchdog: bool = False
    heartbeat_s: int | None = None
    heartbeat_at: datetime | None = None
    mtls: bool = False


class PushTargets(Answer, frozen=True, kw_only=True):
    items: tuple[PushTarget, ...]


class PushAdded(Answer, frozen=True, kw_only=True):
    """A target that was added; its `secret` is shown here once."""

    target: PushTarget
    secret: str


class PushRotate(Request, frozen=True, kw_only=True):
    """Give a webhook a new secret; for `keep_h` hours messages are signed with the old one too."""

    secret: Annotated[str, Meta(max_length=200)] | None = None
    keep_h: Annotated[float, Meta(ge=0, le=24 * 30)] = 24


class PushRotated(Answer, frozen=True, kw_only=True):
    """The new secret; it is shown here once."""

    secret: str


class PushLogQuery(Query, frozen=True, kw_only=True):
    """Which messages; the newest first."""

    target: str | None = None
    alarm: Annotated[int, Meta(ge=0)] | None = None
    state: Literal["waiting", "delivered", "dead"] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class PushMessage(Answer, frozen=True, kw_only=True):
    """A message and its receipt: when it was taken, with which status, and SHA-256 of the bytes that were sent."""

    message_id: str
    target: str
    type: str
    alarm: int | None
    created_at: datetime
    first_tried_at: datetime | None
    attempts: int
    next_at: datetime
    delivered_at: datetime | None
    dead_at: datetime | None
    last_status: int | None
    last_error: str | None
    last_error_said: str | None
    body_digest: str | None


class PushMessages(Answer, frozen=True, kw_only=True):
    items: tuple[PushMessage, ...]


class PushRetry(Request, frozen=True, kw_only=True):
    """Which dead letters come back: of one target, one message, or (neither) all."""

    target: str | None = None
    message_id: str | None = None


class PushRevived(Answer, frozen=True, kw_only=True):
    messages: int


class PushProveQuery(Query, frozen=True, kw_only=True):
    """A civil day, 2026-09-01."""

    day: date


class PushProof(Answer, frozen=True, kw_only=True):
    """One alarm of a day: when it was made, delivered to whom, seen and acknowledged by whom."""

    alarm: int
    title: Title
    severity: Severity
    device: str | None
    device_name: str | None
    area_name: str | None
    raised_at: datetime
    created_at: datetime
    targets: int
    delivered: int
    first_delivered_at: datetime | None
    dead: int
    seen_at: datetime | None
    seen_by: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class PushProofs(Answer, frozen=True, kw_only=True):
    items: tuple[PushProof, ...]


class PushTested(Answer, frozen=True, kw_only=True):
    """A test message is in the outbox under this id."""

    message_id: str
