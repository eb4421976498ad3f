"""Requests and answers about escalation chains and holidays."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import date, datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Request
from iot_core.model import Severity


class EscalationStep(Request, frozen=True, kw_only=True):
    """After this long without an acknowledgement, tell this target; outside its hours it is passed over."""

    after_s: Annotated[int, Meta(ge=1, le=604_800)]
    target: Key
    hours: Annotated[str, Meta(max_length=500)] = ""


class EscalationNew(Request, frozen=True, kw_only=True):
    """A chain: its steps one after the other, the last one again every `repeat_s`, until someone takes the alarm."""

    key: Key
    steps: Annotated[tuple[EscalationStep, ...], Meta(min_length=1, max_length=20)]
    repeat_s: Annotated[int, Meta(ge=10, le=604_800)] = 900
    remind: Annotated[tuple[str, ...], Meta(max_length=24)] = ()
    """Times of day (07:00): an acknowledged alarm that is still open is named again to the first step's target."""
    min_severity: Severity = Severity.LOW
    classes: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    areas: Annotated[tuple[Key, ...], Meta(max_length=1_000)] = ()
    hours: Annotated[str, Meta(max_length=500)] = ""
    accepts_simulated: bool = False


class Escalation(Answer, frozen=True, kw_only=True):
    """A chain."""

    key: str
    steps: tuple[EscalationStep, ...]
    repeat_s: int
    remind: tuple[str, ...]
    min_severity: Severity
    classes: tuple[str, ...]
    areas: tuple[str, ...]
    hours: str
    accepts_simulated: bool
    created_at: datetime


class Escalations(Answer, frozen=True, kw_only=True):
    items: tuple[Escalation, ...]


class HolidayNew(Request, frozen=True, kw_only=True):
    """A day on which hours follow `holiday` and not their weekday."""

    day: date
    name: Annotated[str, Meta(max_length=200)] = ""


class Holiday(Answer, frozen=True, kw_only=True):
    day: date
    name: str


class Holidays(Answer, frozen=True, kw_only=True):
    items: tuple[Holiday, ...]
