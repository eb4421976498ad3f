"""One rule at one device against that device's part of a batch, in time order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.alarms.alarm import EventKind
from iot_core.alarms.case import Case, Occasion
from iot_core.alarms.history import WHOLE_ROW, History, named, value_since, values_before
from iot_core.alarms.rules import Change, Phase, State, Step, heard, read, withdraw
from iot_core.alarms.times import Times
from iot_core.alarms.watch import ClassWatch, Watch, number
from iot_core.alarms.windows import Windows, no_window, quieted
from iot_core.model import Observation, Quality, Severity, Value

RAISED_BEFORE: Final = """
SELECT EXISTS (
    SELECT FROM iot.alarm a JOIN iot.alarm_event e ON e.alarm_id = a.id AND e.kind = 'raised'
    WHERE a.device_id = $1 AND a.rule = $2 AND e.at = $3)
"""


TOGETHER: Final = timedelta(minutes=15)
"""How old another metric's reading may be to be judged beside this one, where the rule does not say `over`."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What an observation says to one rule; `shown` is the number that the alarm carries."""

    value: Value
    metric: str
    shown: float | None


@dataclass(slots=True, kw_only=True)
class Judging:
    """A locked case, the rule that judges it, and what the tables knew before the batch."""

    connection: asyncpg.Connection
    watched: ClassWatch
    watch: Watch
    case: Case
    stored: History
    now: datetime
    window: Windows = no_window
    times: Times
    alone: Severity | None = None
    _seen: dict[datetime, Value] = field(default_factory=dict, init=False)
    _latest: dict[str, tuple[datetime, Value]] = field(default_factory=dict, init=False)

    async def judge(self, group: Sequence[Observation]) -> None:
        """Judge all observations of the device."""
        if self.watch.is_silence:
            self._hear(group)
            return
        if self.watch.asked is not None:
            await self._remember(group)
        judged = self.watch.metric.key if self.watch.metric is not None else WHOLE_ROW
        last = self.stored.last.get((self.case.key[1], judged)) if self.watch.asked is None else None
        if last is not None and last > self.case.state.last_time:
            self.case.state = replace(self.case.state, last_time=last)
        for observation in sorted(group, key=self.stored.clock):
            said = self._said(observation)
            if said is not None:
                await self._step(observation, said)

    async def _step(self, observation: Observation, said: _Said) -> None:
        clock = self.stored.clock(observation)
        state = self._judged_before(observation)
        first = self._first(observation, said)
        reading = first is None or observation.correction
        if not reading:
            # Stored before, or held as a conflict: no reading, so it can at most raise what is latched, late.
            if first is not None and self.watch.compiled.raises(first):
                return
            state = replace(state, last_time=max(state.last_time, clock))
        self._seen.setdefault(observation.time, said.value)
        compiled = self.watch.compiled
        if compiled.rule.hours and state.phase is not Phase.ACTIVE and not self.times.open(compiled.rule.hours, clock):
            self.case.move(compiled.rule, *_outside_hours(state, clock), Occasion(received_at=clock, now=self.now))
            return
        new, transitions = read(compiled, state, clock, said.value)
        if any(each.change is Change.LATE for each in transitions) and await self._raised_before(clock):
            return
        suppressed_by, test = quieted(self.window, self.case.key[1], clock) if transitions else (None, False)
        occasion = Occasion(
            received_at=observation.received_at,
            now=self.now,
            metric=said.metric,
            value=said.shown,
            simulated=observation.simulated,
            severity=self.alone or compiled.severity(said.value),
            suppressed_by=suppressed_by,
            test=test,
        )
        self.case.move(self.watch.rule, new if reading else self.case.state, transitions, occasion)
        if reading and compiled.rule.steps and new.phase is Phase.ACTIVE:
            self.case.rise(compiled.severity(said.value), clock, occasion)

    def _judged_before(self, observation: Observation) -> State:
        """Give the state with the time up to which the observation's own metrics had been judged."""
        state = self.case.state
        if self.watch.asked is None:
            return state
        device_id = self.case.key[1]
        known = [
            self.stored.last.get((device_id, metric)) for metric in self.watch.masks if metric in observation.values
        ]
        if any(each is None for each in known):
            return state
        return replace(state, last_time=max(state.last_time, min(each for each in known if each is not None)))

    async def _remember(self, group: Sequence[Observation]) -> None:
        """Read what the rule's metrics said before this batch."""
        first = min(each.time for each in group)
        span = self.watch.rule.over or TOGETHER
        self._latest = await values_before(self.connection, self.watched, self.watch, self.case.key[1], first, span)

    async def _raised_before(self, clock: datetime) -> bool:
        """Say whether a late reading finds its alarm open, or has raised it before: it does so once."""
        if self.case.open is not None:
            return True
        found: bool = await self.connection.fetchval(RAISED_BEFORE, self.case.key[1], self.case.key[2], clock)
        return found

    def _first(self, observation: Observation, said: _Said) -> Value | None:
        """Give the value that stands already for the same device and time, in the table or earlier in the batch."""
        if observation.time in self._seen:
            return self._seen[observation.time]
        before = self.stored.value(observation, said.metric) if self.watch.asked is None else None
        if before is None and self.watch.asked is None:
            return None
        if self.watch.asked is not None:
            there = [self.stored.value(observation, each) for each in self.watch.masks if each in observation.values]
            return said.value if all(each is not None for each in there) else None
        if self.watch.metric is None:
            return said.value  # plausibility: the same value again says the same again
        assert before is not None
        return named(self.watch.metric, before)

    def _hear(self, group: Sequence[Observation]) -> None:
        at = max(each.received_at for each in group)
        if self.case.state.phase is Phase.ACTIVE and at > self.case.state.since:
            state, transitions = heard(self.case.state, at)
            self.case.move(self.watch.rule, state, transitions, Occasion(received_at=at, now=self.now))

    def _said(self, observation: Observation) -> _Said | None:
        """Read what an observation says to the rule; None when it says nothing that may be judged."""
        if observation.quality >= Quality.CALIBRATION:
            return None
        metric = self.watch.metric
        if self.watch.asked is not None:
            return self._said_by_group(observation)
        if metric is None:
            return self._said_of_plausibility(observation)
        value = observation.values.get(metric.key)
        if value is None or observation.bad & self.watch.mask:
            return None
        return _Said(value, metric.key, number(metric, value))

    def _said_by_group(self, observation: Observation) -> _Said | None:
        assert self.watch.asked is not None
        fresh = {
            metric: value
            for metric, mask in self.watch.masks.items()
            if (value := observation.values.get(metric)) is not None and not observation.bad & mask
        }
        if not fresh:
            return None
        self._latest.update((metric, (observation.time, value)) for metric, value in fresh.items())
        oldest = observation.time - (self.watch.rule.over or TOGETHER)
        known = {metric: value for metric, (at, value) in self._latest.items() if at >= oldest}
        holds = self.watch.asked(known)
        if holds is None:
            return None
        shown = next(iter(fresh))
        metric = self.watched.device_class.metric(shown)
        assert metric is not None
        return _Said(value=holds, metric=shown, shown=number(metric, fresh[shown]))

    def _said_of_plausibility(self, observation: Observation) -> _Said | None:
        for metric in self.watched.device_class.metrics:
            value = observation.values.get(metric.key)
            if value is not None and observation.bad & self.watched.masks[metric.key]:
                return _Said(value=True, metric=metric.key, shown=number(metric, value))
        shown = self.case.open.row.metric if self.case.open is not None else None
        if shown is None or observation.values.get(shown) is None:
            return None  # says nothing of the metric that was out of range
        return _Said(value=False, metric=shown, shown=None)


async def show_value(connection: asyncpg.Connection, watch: Watch | None, case: Case) -> None:
    """Fill in the value of an alarm that a timer raised: the one that was standing then."""
    if watch is None or watch.metric is None or case.open is None or case.open.row.value is not None:
        return
    if any(each.kind is EventKind.RAISED for each in case.happenings):
        found = await value_since(connection, watch, case.key[1], case.before.since)
        if found is not None:
            case.show(number(watch.metric, found))


def _outside_hours(state: State, clock: datetime) -> Step:
    """Outside its hours a rule raises nothing, and what was waiting is dropped."""
    dropped, transitions = withdraw(state, clock)
    return replace(dropped, last_time=max(state.last_time, clock)), transitions
