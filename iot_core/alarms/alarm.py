"""An alarm as a row: one occurrence of a rule at a source, with the state people see after ISA-18.2.

             not acknowledged       acknowledged
active       unacknowledged   --->  acknowledged
               |    ^                   |
               v    | again             v
normal       returned         --->    closed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final

import msgspec

from iot_core.model import Severity, Title


class AlarmState(StrEnum):
    """What people and the API are told."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    CLOSED = "closed"


class EventKind(StrEnum):
    """A line in an alarm's history. `returned`: a latched alarm's condition is gone, the alarm is not."""

    RAISED = "raised"
    RETURNED = "returned"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"
    COMMENTED = "commented"
    CLOSED = "closed"
    SEVERITY = "severity"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"
    ASSIGNED = "assigned"
    REOPENED = "reopened"
    UNDONE = "undone"


class AlarmRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm. `id` is 0 until it is stored; `raised_at` is the rule clock of the latest time it was raised.

    `suppressed_by` names what keeps it quiet (`maintenance:ID`, `incident:ID`), `incident_id` the incident it is part
    of; `incident_over` says that this has ended (only where an alarm is locked); `members` counts those of an incident.
    """

    id: int = 0
    source_kind: str
    source_id: int
    device_id: int | None
    rule: str
    severity: Severity
    title: Title
    metric: str | None = None
    value: float | None = None
    threshold: float | None = None
    latched: bool = False
    late: bool = False
    simulated: bool = False
    raised_at: datetime
    received_at: datetime
    cleared_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    closed_at: datetime | None = None
    returned_at: datetime | None = None
    shelved_until: datetime | None = None
    shelved_by: str | None = None
    shelved_reason: str | None = None
    suppressed_by: str | None = None
    incident_id: int | None = None
    incident_over: bool = False
    assigned_to: str | None = None
    cause: str | None = None
    test: bool = False
    runbook: Title | None = None
    version: int = 1
    device_key: str | None = None
    device_name: str | None = None
    class_key: str | None = None
    area_key: str | None = None
    area_name: str | None = None
    area_name_en: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    members: int = 0

    def quiet(self, now: datetime) -> bool:
        """Say whether it must not ring: shelved, suppressed, or inside an incident."""
        return self.suppressed_by is not None or (self.shelved_until is not None and self.shelved_until > now)

    @property
    def state(self) -> AlarmState:
        """Derive the one word for people."""
        if self.closed_at is not None:
            return AlarmState.CLOSED
        if self.cleared_at is not None:
            return AlarmState.RETURNED
        return AlarmState.UNACKNOWLEDGED if self.acknowledged_at is None else AlarmState.ACKNOWLEDGED


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEvent:
    """A line in an alarm's history."""

    id: int
    alarm_id: int
    kind: EventKind
    at: datetime
    recorded_at: datetime
    by: str | None = None
    value: float | None = None
    note: str | None = None


_DERIVED: Final = {"severity", "title", "runbook"}
_FIELDS: Final = tuple(name for name in AlarmRow.__struct_fields__ if name not in _DERIVED)


def from_record(record: Mapping[str, Any]) -> AlarmRow:
    """Build an alarm from a row of iot.alarm, with or without the facts of its device."""
    known = {name: record[name] for name in _among(tuple(record.keys()))}
    return AlarmRow(
        severity=Severity(record["severity"]),
        title=Title(record["title_vi"], record["title_en"]),
        runbook=Title(record["runbook_vi"], record["runbook_en"]) if record["runbook_vi"] is not None else None,
        **known,
    )


@cache
def _among(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Name the fields that a row has; there are few kinds of rows."""
    return tuple(name for name in _FIELDS if name in columns)
