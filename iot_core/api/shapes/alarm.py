"""Requests and answers about alarms."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from iot_core.api.shapes.base import AlarmState, Answer, Query, Request
from iot_core.model import Severity, Title


class Alarm(Answer, frozen=True, kw_only=True):
    """The occurrence of a rule at a device. `value` and `threshold` are true or false where the metric is."""

    id: int
    rule: str
    severity: Severity
    state: AlarmState
    title: Title
    device: str | None
    device_name: str | None
    class_key: str | None = field(name="class")
    area: str | None
    area_name: str | None
    latitude: float | None
    longitude: float | None
    metric: str | None
    value: float | bool | None
    threshold: float | bool | None
    latched: bool
    late: bool
    simulated: bool
    raised_at: datetime
    received_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    closed_at: datetime | None
    version: int
    area_name_en: str | None = None
    assigned_to: str | None = None
    cause: str | None = None
    shelved_until: datetime | None = None
    shelved_by: str | None = None
    shelved_reason: str | None = None
    suppressed_by: str | None = None
    """What keeps it quiet: `maintenance:12`, `incident:30`."""
    incident: int | None = None
    members: int = 0
    """Of an incident: how many alarms are inside."""
    test: bool = False


class AlarmDeed(Request, frozen=True, kw_only=True):
    """What somebody does with an alarm. `note`: the reason (shelve, out_of_service), the cause (close) or the words."""

    do: Literal["assign", "comment", "shelve", "unshelve", "out_of_service", "close", "reopen", "undo"]
    version: int | None = None
    """What was seen; when the alarm changed meanwhile, the answer is a conflict."""
    note: Annotated[str, Meta(max_length=2000)] | None = None
    to: Annotated[str, Meta(max_length=100)] | None = None
    """Whom it is assigned to; null: nobody."""
    until: Annotated[datetime, Meta(tz=True)] | None = None
    """Until when it is shelved."""


class AlarmDone(Alarm, frozen=True, kw_only=True):
    """An alarm after a deed. `undone`: of an undoing, the deed that it took back."""

    undone: Literal["acknowledged", "assigned", "shelved", "closed"] | None = None


class AlarmEvent(Answer, frozen=True, kw_only=True):
    """A step in an alarm's life."""

    id: int
    kind: Literal[
        "raised", "returned", "cleared", "acknowledged", "commented", "closed", "severity", "shelved", "unshelved",
        "suppressed", "unsuppressed", "assigned", "reopened", "undone",
    ]  # fmt: skip
    at: datetime
    recorded_at: datetime
    by: str | None
    value: float | bool | None
    note: str | None


class AlarmPush(Answer, frozen=True, kw_only=True):
    """A message about an alarm on its way to a target; `type` is `alarm.raised` or another step.

    `last_error` is a code, `last_error_said` its sentence in the reader's language.
    """

    target: str
    type: str
    created_at: datetime
    attempts: int
    last_status: int | None
    last_error: str | None
    last_error_said: str | None
    delivered_at: datetime | None
    dead_at: datetime | None


class TraceStep(Answer, frozen=True, kw_only=True):
    """One thing that happened on an alarm's way, at which time, with what is known of it.

    `what` is `measured`, `received` (with the bytes of the message that raised the alarm), `flushed`, `stored`,
    `judged` (by a clock, or from what was stored: no message raised it), `raised`, `event`, `queued`, `tried` (first),
    `failed` (one try, with why), `delivered` or `dead`.
    """

    at: datetime
    what: str
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)


class AlarmTrace(Answer, frozen=True, kw_only=True):
    """An alarm's whole way in the order of time, from the reading that raised it to the receipts."""

    alarm: int
    steps: tuple[TraceStep, ...]


class AlarmDetail(Alarm, frozen=True, kw_only=True):
    """`children`: the devices behind a silent gateway that are silent with it; `runbook`: what to do."""

    events: tuple[AlarmEvent, ...]
    pushes: tuple[AlarmPush, ...]
    children: tuple[str, ...] = ()
    runbook: Title | None = None


class Alarms(Answer, frozen=True, kw_only=True):
    """Open alarms, the most urgent that nobody has taken first, or all, the newest first; `total` counts them all."""

    items: tuple[Alarm, ...]
    total: int


class AlarmQuery(Query, frozen=True, kw_only=True):
    """`open=false` shows closed ones too, `quiet=true` those that are kept quiet, `incident` those inside one."""

    open: bool = True
    quiet: bool = False
    incident: int | None = None
    device: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 200


class Acknowledge(Request, frozen=True, kw_only=True):
    """`version` is what the person saw; when the alarm changed meanwhile, the answer is a conflict."""

    version: int | None = None


class Acknowledged(Alarm, frozen=True, kw_only=True):
    """An alarm that somebody has taken. `already`: before this request, which changed nothing then."""

    already: bool


class AlarmHappened(Answer, frozen=True, kw_only=True):
    """What the stream `events` says as `event: alarm`; its `id:` is the event's."""

    event: AlarmEvent
    alarm: Alarm
