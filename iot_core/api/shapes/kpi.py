"""Requests and answers about alarm figures and handovers."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from iot_core.api.shapes.base import AlarmState, Answer, Query, Request
from iot_core.model import Severity, Title


class KpiQuery(Query, frozen=True, kw_only=True):
    """From when on; default the last 30 days."""

    since: Annotated[datetime, Meta(tz=True)] | None = None


class KpiOf(Answer, frozen=True, kw_only=True):
    """How often a rule rang at a device."""

    rule: str
    device: str | None
    alarms: int


class AlarmKpi(Answer, frozen=True, kw_only=True):
    """Figures after ISA-18.2 clause 16 and EEMUA 191. Simulated, test, shelved and suppressed alarms do not count."""

    since: datetime
    until: datetime
    alarms: int
    alarms_a_day: float
    most_in_10_min: int
    flood_share: float
    """Share of the 10-minute spans with more than 10 alarms."""
    by_severity: dict[str, int]
    frequent: tuple[KpiOf, ...]
    """The ten that rang most."""
    chattering: int
    """Times that something rang for the third time within a minute."""
    stale: int
    """Active now for more than a day."""
    standing: int
    answer_median_s: float | None
    """From ringing to somebody's acknowledgement."""
    answer_p95_s: float | None


class HandoverNew(Request, frozen=True, kw_only=True):
    """A shift handed over to `to`: what happened since `since`, default the last handover."""

    since: Annotated[datetime, Meta(tz=True)] | None = None
    to: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=2000)] | None = None


class HandoverAlarm(Answer, frozen=True, kw_only=True):
    """An alarm as the shift leaves it: who had it before them, who took it.

    `place`: the name of its device, of what another center tells of, or of its area.
    """

    id: int
    rule: str
    severity: Severity
    title: Title
    state: AlarmState
    device: str | None
    raised_at: datetime
    seen_by: tuple[str, ...]
    acknowledged_by: str | None
    assigned_to: str | None
    shelved_until: datetime | None
    cause: str | None
    place: str | None = None


class Handover(Answer, frozen=True, kw_only=True):
    """What one shift leaves to the next. `open`: not closed yet; `unseen`: of those, nobody has looked at them."""

    id: int
    at: datetime
    since: datetime
    by: str
    to: str | None
    note: str | None
    raised: int
    closed: int
    open: tuple[HandoverAlarm, ...]
    unseen: tuple[int, ...]
    shelved: tuple[int, ...]
    deeds: dict[str, int]
    """By person: how many deeds on alarms."""
