"""One rule at one source, under lock: its state, its open alarm, and what happens to them in this transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from iot_core.alarms.alarm import AlarmRow, EventKind
from iot_core.alarms.rules import Change, Phase, State, Transition
from iot_core.model import AlarmRule, Comparison, Severity

_ORDER: Final = tuple(Severity)
_SILENT_WHEN_SHELVED: Final = frozenset({EventKind.RAISED, EventKind.SEVERITY})
ENDS: Final = frozenset({EventKind.CLEARED, EventKind.CLOSED})
_WITH_LIMIT: Final = frozenset(Comparison) - {
    Comparison.SILENT, Comparison.TERMS, Comparison.DEVICES, Comparison.STUCK, Comparison.CHANGED,
}  # fmt: skip

Key = tuple[str, int, str]
"""Source kind, source id, rule: how state rows are named, and the order in which they are locked."""


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the uplink (or timer) that made a transition. `now` is our clock: when an alarm closed."""

    received_at: datetime
    now: datetime
    metric: str | None = None
    value: float | None = None
    simulated: bool = False
    severity: Severity | None = None
    device_id: int | None = None
    suppressed_by: str | None = None
    test: bool = False
    ended: str | None = None
    """Why it ends without a reading: `retired`, `rule` (there is none any more), `maintenance`."""

    def without_value(self) -> Occasion:
        """Give the same occasion, not claiming a value."""
        return replace(self, metric=None, value=None)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A source and rule that a person has put aside: until when, by whom, why."""

    until: datetime
    by: str
    reason: str


@dataclass(slots=True)
class Slot:
    """An alarm that this transaction reads or writes."""

    row: AlarmRow
    changed: bool = False


class Happening(msgspec.Struct, frozen=True):
    """An event to be written, with the alarm as it was then. `push` is its type for the world outside, if any."""

    slot: Slot
    kind: EventKind
    at: datetime
    as_of: AlarmRow
    by: str | None = None
    value: float | None = None
    note: str | None = None
    push: str | None = None


class Case:
    """A locked state row with its open alarm. Nothing is written before `ledger.save`."""

    def __init__(self, key: Key, state: State, alarm: AlarmRow | None = None, shelf: Shelf | None = None) -> None:
        self.key = key
        self.shelf = shelf
        self.before = state
        self.state = state
        self.open = Slot(alarm) if alarm is not None else None
        self.slots: list[Slot] = [self.open] if self.open is not None else []
        self.happenings: list[Happening] = []
        self.dirty = False

    def move(self, rule: AlarmRule | None, state: State, transitions: Sequence[Transition], occasion: Occasion) -> None:
        """Take a step of the state machine over into the alarm. A rule that is no more (None) can only return."""
        self.state = state
        for transition in transitions:
            self.dirty = self.dirty or transition.change is not Change.LATE
            if transition.change is Change.RETURNED:
                self._return(transition.at, occasion.value, occasion.now, occasion.ended)
            elif rule is not None and transition.change is Change.RAISED:
                # Raised by a timer (no value): the reading at hand is not what raised it.
                self._raise(rule, transition.at, occasion if transition.value is not None else occasion.without_value())
            elif rule is not None and transition.change is Change.LATE and self.open is None:
                self._raise(rule, transition.at, occasion, late=True)
            elif transition.change is Change.BACK and self.open is not None and self.open.row.returned_at is not None:
                self.open.row = replace(self.open.row, returned_at=None)

    def rise(self, severity: Severity, at: datetime, occasion: Occasion) -> None:
        """Make the open alarm more urgent; it never becomes less so while it is open."""
        if self.open is None or _ORDER.index(severity) >= _ORDER.index(self.open.row.severity):
            return
        self.dirty = True
        if self.open.row.incident_id is not None and severity is Severity.CRITICAL:  # it is held back no longer
            self.happen(out_of_incident(self.open.row), EventKind.UNSUPPRESSED, at)
        row = self.open.row
        self.happen(
            replace(row, severity=severity, value=occasion.value, version=row.version + 1),
            EventKind.SEVERITY, at, value=occasion.value, note=severity.value, push="alarm.severity",
        )  # fmt: skip

    def acknowledge(self, by: str, now: datetime, note: str | None = None) -> None:
        """Note who took the alarm; it ends now if its condition is gone already."""
        if self.open is None or self.open.row.acknowledged_at is not None:
            return
        row = self.open.row
        self.happen(
            replace(row, acknowledged_at=now, acknowledged_by=by, version=row.version + 1),
            EventKind.ACKNOWLEDGED,
            now,
            by=by,
            note=note,
            push="alarm.acknowledged",
            closes=now if row.cleared_at is not None else None,
        )
        if row.cleared_at is None and self.state.phase is not Phase.ACTIVE:
            self._clear(now, None, now)

    def show(self, value: float) -> None:
        """Give the open alarm, raised without a reading at hand, the value that stood then."""
        assert self.open is not None
        slot = self.open
        slot.row = replace(slot.row, value=value)
        self.happenings = [
            replace(each, value=value, as_of=replace(each.as_of, value=value))
            if each.slot is slot and each.kind is EventKind.RAISED and each.value is None
            else each
            for each in self.happenings
        ]

    def _raise(self, rule: AlarmRule, at: datetime, occasion: Occasion, *, late: bool = False) -> None:
        again = self.open is not None  # it came back before anyone acknowledged it: the same alarm, raised again
        if self.open is None:
            self.open = Slot(_new(self.key, rule, at, occasion))
            self.slots.append(self.open)
        before = self.open.row
        # It was told and still stands, latched: work at its device that began meanwhile does not take it back.
        stands = again and before.cleared_at is None and before.suppressed_by is None and not before.test
        # Quiet as long as the incident lasts, also of one that rang before that was known; after it, it begins anew.
        incident = None if before.incident_over else before.incident_id
        suppressed_by = occasion.suppressed_by or (f"incident:{incident}" if incident is not None else None)
        row = replace(
            before,
            metric=occasion.metric or rule.metric,
            value=occasion.value,
            raised_at=at,
            received_at=occasion.received_at,
            cleared_at=None,
            returned_at=None,
            late=late,
            incident_id=incident,
            incident_over=False,
            suppressed_by=None if stands else suppressed_by,
            test=occasion.test and not stands,
            version=before.version + again,
        )
        if self.shelf is not None and self.shelf.until > occasion.now:
            shelf = self.shelf
            row = replace(row, shelved_until=shelf.until, shelved_by=shelf.by, shelved_reason=shelf.reason)
        self.happen(row, EventKind.RAISED, at, value=occasion.value, push="alarm.raised")

    def _return(self, at: datetime, value: float | None, now: datetime, note: str | None) -> None:
        if self.open is None:
            return
        row = self.open.row
        if row.latched and row.acknowledged_at is None and not row.test:  # stays active until a person has seen it
            self.happen(replace(row, returned_at=at), EventKind.RETURNED, at, value=value, note=note)
        else:
            self._clear(at, value, now, note)

    def _clear(self, at: datetime, value: float | None, now: datetime, note: str | None = None) -> None:
        assert self.open is not None
        row = self.open.row
        self.happen(
            replace(row, cleared_at=at, version=row.version + 1),
            EventKind.CLEARED,
            at,
            value=value,
            note=note,
            push="alarm.cleared",
            closes=now if row.acknowledged_at is not None else None,
        )

    def happen(
        self,
        row: AlarmRow,
        kind: EventKind,
        at: datetime,
        *,
        by: str | None = None,
        value: float | None = None,
        note: str | None = None,
        push: str | None = None,
        closes: datetime | None = None,
    ) -> None:
        """Note a step of the open alarm; what is quiet tells nobody outside, but its end."""
        slot = self.open
        assert slot is not None
        if closes is not None:
            row = replace(row, closed_at=closes)
        slot.row, slot.changed = row, True
        if kind is EventKind.RAISED and row.late:
            note = "late"
        # An end is for those who were told of the alarm before it was quiet: the outbox knows them.
        suppressed = row.suppressed_by is not None and kind not in ENDS
        if suppressed or (row.shelved_until is not None and kind in _SILENT_WHEN_SHELVED):
            push = None
        self.happenings.append(Happening(slot, kind, at, row, by=by, value=value, note=note, push=push))
        if closes is not None:
            self.happenings.append(Happening(slot, EventKind.CLOSED, closes, row))
            self.open = None


def out_of_incident(row: AlarmRow) -> AlarmRow:
    """Give an alarm that is inside an incident as one that rings by itself."""
    return replace(row, incident_id=None, incident_over=False, suppressed_by=None, version=row.version + 1)


def _new(key: Key, rule: AlarmRule, at: datetime, occasion: Occasion) -> AlarmRow:
    kind, source_id, name = key
    known = rule.comparison in _WITH_LIMIT and (rule.metric is not None or rule.derived is not None)
    threshold = float(rule.threshold) if known and not isinstance(rule.threshold, str) else None
    return AlarmRow(
        source_kind=kind,
        source_id=source_id,
        device_id=source_id if kind == "device" else occasion.device_id,
        rule=name,
        severity=occasion.severity or rule.severity,
        title=rule.title,
        runbook=rule.runbook,
        threshold=threshold,
        latched=rule.latched,
        simulated=occasion.simulated,
        raised_at=at,
        received_at=occasion.received_at,
    )
