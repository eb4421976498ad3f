"""One rule at one device against that device's part of a batch, in time order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from msgspec.structs import replace

from iot_core.alarms.alarm import EventKind
from iot_core.alarms.case import Case, Occasion
from iot_core.alarms.history import WHOLE_ROW, History, Newest, named, value_since, values_before
from iot_core.alarms.rules import Change, Phase, State, Step, Transition, fire, heard, read, withdraw
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

    async def judge(self, group: Sequence[Observation]) -> None:
        """Judge all observations of the device."""
        if self.watch.is_silence:
            self._hear(group)
            return
        if self.watch.asked is not None:
            await self._judge_group(group)
            return
        judged = self.watch.metric.key if self.watch.metric is not None else WHOLE_ROW
        last = self.stored.last.get((self.case.key[1], judged))
        if last is not None and last > self.case.state.last_time:
            self.case.state = replace(self.case.state, last_time=last)
        for observation in sorted(group, key=self.stored.clock):
            said = self._said(observation)
            if said is not None:
                await self._step(observation, said)

    async def _step(self, observation: Observation, said: _Said) -> None:
        clock = self.stored.clock(observation)
        first = self._first(observation, said)
        reading = first is None or observation.correction
        if first is not None and not reading and self.watch.compiled.raises(first):
            return
        self._seen.setdefault(observation.time, said.value)
        if reading:
            await self._hear_news(observation, said, clock)
        else:  # stored before, or held as a conflict
            await self._hear_late(observation, said, clock)

    async def _judge_group(self, group: Sequence[Observation]) -> None:
        """Ask a rule over several metrics of the newest value of each, whatever the order in which they came."""
        assert self.watch.asked is not None
        first = min(each.time for each in group)
        span = self.watch.rule.over or TOGETHER
        latest = await values_before(self.connection, self.watched, self.watch, self.case.key[1], first, span)
        news: dict[datetime, tuple[Observation, _Said]] = {}  # of one time of the clock, the last word counts
        for observation in sorted(group, key=self.stored.clock):
            clock = self.stored.clock(observation)
            fresh = {
                metric: Newest(observation.time, clock, value)
                for metric, value in self._usable(observation).items()
                if metric not in latest or observation.time > latest[metric].time
            }
            if not fresh:
                continue
            latest |= fresh
            until = max(each.time for each in latest.values())
            holds = self.watch.asked({key: each.value for key, each in latest.items() if each.time >= until - span})
            if holds is not None:
                shown = next(iter(fresh))
                metric = self.watched.device_class.metric(shown)
                assert metric is not None
                said = _Said(value=holds, metric=shown, shown=number(metric, fresh[shown].value))
                news[max(each.clock for each in latest.values())] = observation, said
        for clock in sorted(news):
            await self._hear_news(*news[clock], clock)

    async def _hear_news(self, observation: Observation, said: _Said, clock: datetime) -> None:
        if clock > self.case.state.last_time:
            self._read(observation, said, clock)
        else:
            await self._hear_late(observation, said, clock)

    async def _hear_late(self, observation: Observation, said: _Said, clock: datetime) -> None:
        """Take what is no reading, or comes too late to be one: it can at most raise what is latched, once."""
        late = self.watch.rule.latched and self.watch.compiled.raises(said.value) and self._may_ring(clock)
        if late and not await self._raised_before(clock):
            transition = Transition(Change.LATE, clock, said.value)
            self.case.move(self.watch.rule, self.case.state, (transition,), self._occasion(observation, said, clock))

    def _read(self, observation: Observation, said: _Said, clock: datetime) -> None:
        """Let a reading that is news change the state."""
        rule = self.watch.rule
        self._let_timer_go_first(clock, observation)
        if self.case.state.phase is not Phase.ACTIVE and not self._may_ring(clock):
            occasion = Occasion(received_at=clock, now=self.now)
            self.case.move(rule, *_outside_hours(self.case.state, clock), occasion)
            return
        state, transitions = read(self.watch.compiled, self.case.state, clock, said.value)
        occasion = self._occasion(observation, said, clock)
        self.case.move(rule, state, transitions, occasion)
        if rule.steps and state.phase is Phase.ACTIVE:
            self.case.rise(self.watch.compiled.severity(said.value), clock, occasion)

    def _let_timer_go_first(self, clock: datetime, observation: Observation) -> None:
        """Do what a timer asks for that fell due before a reading; its own time decides whether it may ring."""
        state = self.case.state
        if state.due_at is None or state.due_at >= clock:
            return
        rings = state.phase is Phase.ACTIVE or self._may_ring(state.due_at)
        step = fire(state, clock) if rings else withdraw(state, state.due_at)
        by, test = quieted(self.window, self.case.key[1], state.due_at)
        occasion = Occasion(
            received_at=observation.received_at, now=self.now, simulated=observation.simulated,
            severity=self.alone, suppressed_by=by, test=test,
        )  # fmt: skip
        self.case.move(self.watch.rule, *step, occasion)

    def _occasion(self, observation: Observation, said: _Said, clock: datetime) -> Occasion:
        suppressed_by, test = quieted(self.window, self.case.key[1], clock)
        return Occasion(
            received_at=observation.received_at,
            now=self.now,
            metric=said.metric,
            value=said.shown,
            simulated=observation.simulated,
            severity=self.alone or self.watch.compiled.severity(said.value),
            suppressed_by=suppressed_by,
            test=test,
        )

    def _may_ring(self, clock: datetime) -> bool:
        return self.times.open(self.watch.rule.hours, clock)

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
        before = self.stored.value(observation, said.metric)
        if before is None or self.watch.metric is None:
            return None if before is None else said.value  # plausibility: the same value again says the same again
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
        if metric is None:
            return self._said_of_plausibility(observation)
        value = observation.values.get(metric.key)
        if value is None or observation.bad & self.watch.mask:
            return None
        return _Said(value, metric.key, number(metric, value))

    def _usable(self, observation: Observation) -> dict[str, Value]:
        """Give what an observation says of the metrics of a rule over several."""
        if observation.quality >= Quality.CALIBRATION:
            return {}
        return {
            metric: value
            for metric, mask in self.watch.masks.items()
            if (value := observation.values.get(metric)) is not None and not observation.bad & mask
        }

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
