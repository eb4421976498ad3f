"""Readings of the past through a rule's state machine: what it would have raised, and until when. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

import msgspec

from iot_core.alarms.rules import Change, Compiled, Phase, State, Transition, fire, read, withdraw
from iot_core.model import Severity, Value

__all__ = ["Amount", "Bucket", "Episode", "Reading", "episodes", "spans"]

_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}

Open = Callable[[str, datetime], bool]
"""Whether a rule with these hours may ring at a time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source says to a rule at a time of the rule clock; `shown` is the number an alarm would carry."""

    clock: datetime
    value: Value
    shown: float | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """An alarm that would have been raised; `cleared_at` None: it would stand at the end."""

    raised_at: datetime
    cleared_at: datetime | None
    severity: Severity
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """The readings of one metric of one device in a part of a span, in the metric's unit."""

    start: datetime
    readings: int
    since: datetime
    until: datetime
    lowest: float
    highest: float
    total: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Amount:
    """What a span's readings of one metric of one device amount to, in its unit; first and last by time."""

    readings: int
    since: datetime
    until: datetime
    lowest: float
    highest: float
    mean: float
    first: float
    last: float


def episodes(compiled: Compiled, readings: Iterable[Reading], until: datetime, may_ring: Open) -> Iterator[Episode]:
    """Step the rule through readings in time order and then through its timers until `until`.

    Outside its hours a rule raises nothing, and what was waiting is dropped (`judge.Judging`).
    """
    rule = compiled.rule
    state = State()
    opened: Episode | None = None
    shown: float | None = None
    for reading in chain(readings, (None,)):
        clock = reading.clock if reading is not None else until
        fired: tuple[Transition, ...] = ()
        transitions: tuple[Transition, ...] = ()
        if state.due_at is not None and (reading is None or state.due_at < clock):
            # As the timer would have, before the reading.
            rings = state.phase is Phase.ACTIVE or may_ring(rule.hours, state.due_at)
            state, fired = fire(state, clock) if rings else withdraw(state, state.due_at)
        if reading is not None:
            if rule.hours and state.phase is not Phase.ACTIVE and not may_ring(rule.hours, clock):
                state = msgspec.structs.replace(withdraw(state, clock)[0], last_time=max(state.last_time, clock))
            else:
                state, transitions = read(compiled, state, clock, reading.value)
        before, shown = shown, reading.shown if reading is not None else shown
        for each in (*fired, *transitions):
            opened, ended = _follow(compiled, opened, each, before if each in fired else shown)
            if ended is not None and may_ring(rule.hours, ended.raised_at):
                yield ended
        if opened is not None and reading is not None:
            opened = _risen(opened, compiled.severity(reading.value))
    if opened is not None and may_ring(rule.hours, opened.raised_at):
        yield opened


def _follow(
    compiled: Compiled, opened: Episode | None, transition: Transition, shown: float | None
) -> tuple[Episode | None, Episode | None]:
    """Give the alarm that stands after a transition, and the one that it ended."""
    if transition.change is Change.RAISED:
        return Episode(transition.at, None, compiled.severity(transition.value), shown), None
    if transition.change is Change.RETURNED and opened is not None:
        return None, replace(opened, cleared_at=transition.at)
    return opened, None


def _risen(opened: Episode, severity: Severity) -> Episode:
    return replace(opened, severity=severity) if _RANKS[severity] < _RANKS[opened.severity] else opened


def spans(buckets: Iterable[Bucket], over: timedelta, width: timedelta) -> Iterator[tuple[datetime, Amount]]:
    """Slide a span over the buckets of one device: at each bucket's end, what the readings of `over` amount to."""
    held: deque[Bucket] = deque()
    following = iter(buckets)
    bucket = next(following, None)
    end = bucket.start + width if bucket is not None else None
    while end is not None:
        if bucket is not None and bucket.start < end:
            held.append(bucket)
            bucket = next(following, None)
        while held and held[0].start < end - over:
            held.popleft()
        if held:
            yield end, _amount(held)
            end += width
        else:
            end = bucket.start + width if bucket is not None else None


def _amount(held: deque[Bucket]) -> Amount:
    readings = sum([each.readings for each in held])
    return Amount(
        readings=readings,
        since=held[0].since,
        until=held[-1].until,
        lowest=min([each.lowest for each in held]),
        highest=max([each.highest for each in held]),
        mean=sum([each.total for each in held]) / readings,
        first=held[0].first,
        last=held[-1].last,
    )
