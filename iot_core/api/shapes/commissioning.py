"""Requests and answers about commissioning records."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Query, Request, Text, Value
from iot_core.model import CommandState


class CommissioningQuery(Query, frozen=True, kw_only=True):
    """What counts as the first uplink: what arrived since then. `without` names metrics that are not expected."""

    since: Annotated[datetime, Meta(tz=True)]
    without: Annotated[str, Meta(max_length=2_000)] | None = None


class CommissioningNew(Request, frozen=True, kw_only=True):
    """Keep the record of a commissioning, with the command that was sent and how far it came."""

    since: Annotated[datetime, Meta(tz=True)]
    without: Annotated[str, Meta(max_length=2_000)] | None = None
    command: Annotated[str, Meta(max_length=40)] | None = None
    command_state: CommandState | None = None
    notes: Text = ""


class MetricCheck(Answer, frozen=True, kw_only=True):
    """One metric that the model says it can say: `ok`, `missing`, `bad` (outside its range) or `excused`."""

    metric: str
    result: str
    value: Value | None = None
    time: datetime | None = None


class Commissioning(Answer, frozen=True, kw_only=True):
    """How a device does since a moment. `passed`: heard, all expected metrics said and plausible, nothing held.

    `harmless` is the command of its class that may be tried without consequence, where its model has one. `id` and
    `at` are those of the record, null where none was kept.
    """

    device: str
    profile: str
    serial: str | None
    firmware: str | None
    address: str
    since: datetime
    heard_at: datetime | None
    metrics: tuple[MetricCheck, ...]
    held: int
    harmless: str | None = None
    command: str | None = None
    command_state: str | None = None
    passed: bool = False
    notes: str = ""
    id: int | None = None
    at: datetime | None = None
    by: str | None = None


class Commissionings(Answer, frozen=True, kw_only=True):
    """The records of a device, the newest first."""

    items: tuple[Commissioning, ...]
