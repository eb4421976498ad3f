"""One alarm rule over one source as a pure state machine: values in, transitions out, no clock of its own.

    normal --condition--> pending --held for on_delay--> active --condition gone, past hysteresis--> normal
       ^                     |                              gone --off_delay--> normal; back before that: active
       '---condition gone----'          on_delay 0: normal --> active at once
                                        momentary: normal --> active --> normal at once; latched, the alarm stays

Time is the rule clock, min(time, received_at). A reading at or before `State.last_time` changes nothing, except that
a latched rule (fire) still raises, marked late. A timer that fell due before a reading fires before it is judged, so
the result does not depend on whether a worker was alive to fire it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from iot_core.model import AlarmRule, Comparison, Severity, Value

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before every reading: the last time of a rule that has judged nothing yet."""

_TRUTHS: Final = frozenset({Comparison.TERMS, Comparison.DEVICES, Comparison.CHANGED, Comparison.STUCK})
"""What is worked out elsewhere and arrives here as true or false."""

Judge = Callable[[Value], bool]


class Phase(StrEnum):
    """Where a rule stands for a source."""

    NORMAL = "normal"
    PENDING = "pending"
    ACTIVE = "active"


class Change(StrEnum):
    """What a step did."""

    PENDING = "pending"
    DROPPED = "dropped"
    RAISED = "raised"
    LATE = "late"
    RETURNED = "returned"
    LEAVING = "leaving"
    """The condition is gone; it is over when it stays so."""
    BACK = "back"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule stands, as its row keeps it. `due_at` is the timer of a pending rule, or of an active one's end."""

    phase: Phase = Phase.NORMAL
    since: datetime = NEVER
    due_at: datetime | None = None
    last_time: datetime = NEVER


class Transition(msgspec.Struct, frozen=True):
    """One change at a time of the rule clock; `value` is None when a timer and not a reading made it."""

    change: Change
    at: datetime
    value: Value | None = None


Step = tuple[State, tuple[Transition, ...]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its two questions answered by plain callables: does this value raise, does it return to normal."""

    rule: AlarmRule
    raises: Judge
    returns: Judge

    def severity(self, value: Value | None) -> Severity:
        """Give the severity that the rule's steps set at a value; without one, the rule's own."""
        if self.rule.steps and value is not None and not isinstance(value, str):
            falling = self.rule.comparison is Comparison.BELOW
            for at, severity in self.rule.steps:
                if (value <= at) if falling else (value >= at):
                    return severity
        return self.rule.severity


def compile_rule(rule: AlarmRule) -> Compiled:  # noqa: PLR0911 - one for each comparison
    """Turn a rule's comparison into callables. Silence is judged by time, so no value raises it."""
    limit = rule.threshold
    if rule.comparison is Comparison.EQUALS:
        return Compiled(rule, partial(operator.eq, limit), partial(operator.ne, limit))
    if rule.comparison is Comparison.IN:
        return Compiled(rule, rule.members.__contains__, partial(_outside, rule.members))
    if rule.comparison is Comparison.NOT_IN:
        return Compiled(rule, partial(_outside, rule.members), rule.members.__contains__)
    if rule.comparison in _TRUTHS:
        return Compiled(rule, partial(operator.is_, True), partial(operator.is_, False))
    if rule.comparison is Comparison.SILENT:
        return Compiled(rule, _no, _no)
    level = float(limit)
    if rule.comparison in {Comparison.BELOW, Comparison.RATE_BELOW}:
        return Compiled(rule, partial(operator.gt, level), partial(operator.le, level + rule.hysteresis))
    # partial(lt, level)(value) is level < value, without a Python frame
    return Compiled(rule, partial(operator.lt, level), partial(operator.ge, level - rule.hysteresis))


def read(compiled: Compiled, state: State, clock: datetime, value: Value) -> Step:
    """Judge one reading at a time of the rule clock."""
    if clock <= state.last_time:
        late = compiled.rule.latched and compiled.raises(value)
        return state, ((Transition(Change.LATE, clock, value),) if late else ())
    fired: tuple[Transition, ...] = ()
    if state.due_at is not None and state.due_at < clock:
        state, fired = fire(state, clock)
    state, changes = _judge(compiled, state, clock, value)
    return replace(state, last_time=clock), fired + changes


def fire(state: State, now: datetime) -> Step:
    """Do what a timer that fell due asks for; the alarm is as old as the timer, not as the worker's look."""
    if state.phase is Phase.NORMAL or state.due_at is None or state.due_at > now:
        return state, ()
    if state.phase is Phase.ACTIVE:
        return _normal(state, state.due_at), (Transition(Change.RETURNED, state.due_at),)
    return _activate(state, state.due_at), (Transition(Change.RAISED, state.due_at),)


def overdue(state: State, due: datetime, now: datetime) -> Step:
    """Raise silence when nothing was heard until `due`."""
    if state.phase is Phase.ACTIVE or due > now:
        return state, ()
    return _activate(state, due), (Transition(Change.RAISED, due),)


def heard(state: State, at: datetime) -> Step:
    """Clear silence: something arrived. Never earlier than the silence itself."""
    return withdraw(state, max(at, state.since))


def withdraw(state: State, at: datetime) -> Step:
    """Return to normal without a reading: the device is retired, or the rule is no more."""
    if state.phase is Phase.NORMAL:
        return state, ()
    change = Change.RETURNED if state.phase is Phase.ACTIVE else Change.DROPPED
    return _normal(state, at), (Transition(change, at),)


def _judge(  # noqa: PLR0911 - one for each arrow of the drawing
    compiled: Compiled, state: State, clock: datetime, value: Value
) -> Step:
    if state.phase is Phase.ACTIVE:
        if not compiled.returns(value):
            return (
                (replace(state, due_at=None), (Transition(Change.BACK, clock, value),)) if state.due_at else (state, ())
            )
        if not compiled.rule.off_delay:
            return _normal(state, clock), (Transition(Change.RETURNED, clock, value),)
        if state.due_at is None:
            return replace(state, due_at=clock + compiled.rule.off_delay), (Transition(Change.LEAVING, clock, value),)
        if state.due_at <= clock:
            return _normal(state, clock), (Transition(Change.RETURNED, clock, value),)
        return state, ()
    if not compiled.raises(value):
        dropped = (Transition(Change.DROPPED, clock, value),) if state.phase is Phase.PENDING else ()
        return (_normal(state, clock) if dropped else state), dropped
    raised = Transition(Change.RAISED, clock, value)
    if state.phase is Phase.PENDING:
        held = state.due_at is None or state.due_at <= clock
        return (_activate(state, clock), (raised,)) if held else (state, ())
    if compiled.rule.on_delay:
        due_at = clock + compiled.rule.on_delay
        pending = replace(state, phase=Phase.PENDING, since=clock, due_at=due_at)
        return pending, (Transition(Change.PENDING, clock, value),)
    return _over_at_once(state, raised) if compiled.rule.momentary else (_activate(state, clock), (raised,))


def _over_at_once(state: State, raised: Transition) -> Step:
    return _normal(state, raised.at), (raised, replace(raised, change=Change.RETURNED))


def _activate(state: State, at: datetime) -> State:
    return State(phase=Phase.ACTIVE, since=at, last_time=max(state.last_time, at))


def _normal(state: State, at: datetime) -> State:
    return State(phase=Phase.NORMAL, since=at, last_time=max(state.last_time, at))


def _no(_: Value) -> bool:
    return False


def _outside(members: frozenset[Value], value: Value) -> bool:
    return value not in members
