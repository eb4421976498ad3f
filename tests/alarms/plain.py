"""The alarms of a small city, told as one would tell a person: no database, no locks, no caches, whole seconds.

Written from docs/alarms.md and not from the code: tests/alarms/test_model.py holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from iot_core.model import AlarmRule, Comparison, DeviceClass, Metric, MetricType, Rollup, RuleTerm, Severity, Value
from tests.alarms.city import MINUTE, SECOND, title

NEVER = -(10**9)
OPENS, SHUTS = 5 * 60, 15 * 60
"""When the rule that has hours may ring: 10:05 to 10:15 in Vietnam, in seconds after T0."""
REMINDED = 20 * 60
"""When the chain names what stays open though somebody took it: 10:20 in Vietnam."""
FIRST, SECOND_AFTER, AGAIN = 60, 120, 300
"""The chain: duty after a minute without an acknowledgement, head two minutes later, head again every five."""
INTERVAL = 60
TOGETHER = 15 * 60
WORST_FIRST = ("critical", "high", "medium", "low")


def _rule(name: str, comparison: Comparison, severity: Severity = Severity.MEDIUM, **facts: Any) -> AlarmRule:
    return AlarmRule(key=name, title=title(name), severity=severity, comparison=comparison, **facts)


def _level(name: str, **facts: Any) -> AlarmRule:
    return _rule(name, **{"comparison": Comparison.ABOVE, "metric": "level", **facts})


PUMP = DeviceClass(
    key="pump",
    title=title("Pump"),
    metrics=(
        Metric(key="level", title=title("Level"), type=MetricType.FLOAT, minimum=0, maximum=100),
        Metric(key="pressure", title=title("Pressure"), type=MetricType.FLOAT, minimum=0, maximum=10),
        Metric(key="valve", title=title("Valve"), type=MetricType.ENUM, members={"shut": 0, "open": 1, "stuck": 2}),
    ),
    rules=(
        _level("pump.high", threshold=20.0, hysteresis=5.0, steps=((50.0, Severity.CRITICAL), (30.0, Severity.HIGH))),
        _level("pump.slow", threshold=30.0, hysteresis=10.0, on_delay=MINUTE, off_delay=90 * SECOND),
        _level("pump.day", threshold=40.0, on_delay=30 * SECOND, off_delay=40 * SECOND, hours="daily 10:05-10:15"),
        _rule("pump.valve", Comparison.IN, Severity.LOW, metric="valve", members=frozenset({"open", "stuck"})),
        _rule(
            "pump.both", Comparison.TERMS, Severity.HIGH, least=2,
            terms=(RuleTerm(comparison=Comparison.ABOVE, metric="level", threshold=50.0),
                   RuleTerm(comparison=Comparison.BELOW, metric="pressure", threshold=4.0)),
        ),
        _level("pump.mean", threshold=45.0, rollup=Rollup.MEAN, over=5 * MINUTE, steps=((60.0, Severity.CRITICAL),)),
        _level("pump.rate", comparison=Comparison.RATE_ABOVE, threshold=500.0, over=5 * MINUTE, off_delay=2 * MINUTE),
        _rule("pump.changed", Comparison.CHANGED, metric="pressure", over=2 * MINUTE),
        _rule("pump.stuck", Comparison.STUCK, metric="pressure", over=4 * MINUTE, on_delay=MINUTE),
        _rule("pump.no_pressure", Comparison.SILENT, Severity.LOW, metric="pressure", threshold=3.0),
        _rule("pump.silent", Comparison.SILENT, Severity.LOW, threshold=3.0),
    ),
)  # fmt: skip
SMOKE = DeviceClass(
    key="smoker",
    title=title("Smoke detector"),
    metrics=(
        Metric(key="smoke", title=title("Smoke"), type=MetricType.BOOL),
        Metric(key="button", title=title("Button"), type=MetricType.BOOL),
    ),
    rules=(
        _rule("smoker.smoke", Comparison.EQUALS, Severity.CRITICAL, metric="smoke", threshold=True, latched=True),
        _rule(
            "smoker.button", Comparison.EQUALS, Severity.CRITICAL, metric="button", threshold=True, latched=True,
            momentary=True,
        ),
        _rule(
            "smoker.fire", Comparison.DEVICES, Severity.CRITICAL, least=2, rules=("smoker.smoke",), over=MINUTE,
            alone=Severity.HIGH, latched=True,
        ),
        _rule("smoker.silent", Comparison.SILENT, Severity.HIGH, threshold=3.0),
    ),
)  # fmt: skip
RULES = {rule.key: rule for device_class in (PUMP, SMOKE) for rule in device_class.rules}
COMPUTED = ("pump.mean", "pump.rate", "pump.changed", "pump.stuck")
CONFIRMED = "smoker.fire"

Key = tuple[str, str]
"""Who and which rule: `("pump-1", "pump.high")`; the zone is called `zone`."""


def seconds(span: timedelta) -> int:
    return int(span / SECOND)


@dataclass(frozen=True)
class Said:
    """One message: who, measured and arrived when, what. `usable`: not said during a calibration."""

    device: str
    time: int
    received: int
    values: dict[str, Value]
    usable: bool = True


@dataclass
class State:
    """Where a rule stands."""

    phase: str = "normal"
    since: int = NEVER
    due: int | None = None
    last: int = NEVER


@dataclass
class Ladder:
    """Where an alarm stands on the escalation chain."""

    due: int
    taken: bool = False
    step: int = 0


@dataclass(frozen=True)
class Work:
    """Somebody works at a device: maintenance, or a walk test."""

    id: int
    device: str
    start: int
    end: int
    test: bool


@dataclass(eq=False)
class Alarm:
    """What people see, with its history and what the world outside was told."""

    severity: str
    raised: int
    latched: bool
    late: bool = False
    cleared: int | None = None
    returned: int | None = None
    taken_by: str | None = None
    closed: bool = False
    assigned: list[str | None] = field(default_factory=lambda: [None])
    shelved: int | None = None
    quiet: str | None = None
    test: bool = False
    events: list[str] = field(default_factory=list)
    deeds: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    rung: list[str] = field(default_factory=list)
    ladder: Ladder | None = None
    device: str | None = None


class Refused(Exception):
    """What a person may not do now."""


class Plain:
    """The city: what it stored, where each rule stands, the alarms of each."""

    def __init__(self, gateways: dict[str, str], zone: tuple[str, ...]) -> None:
        self.gateways = gateways
        self.zone = zone
        self.stored: dict[str, dict[int, Said]] = {}
        self.heard: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        self.states: dict[Key, State] = {}
        self.alarms: dict[Key, list[Alarm]] = {}
        self.shelves: dict[Key, int] = {}
        self.work: list[Work] = []
        self.rang: dict[Key, set[int]] = {}
        self.confirmer = ""
        self.watching_since: int | None = None
        self.now = 0

    # ---------------------------------------------------------------- what is said
    def hear(self, batch: list[Said]) -> None:
        """Take a batch that arrived now."""
        known = {device: dict(rows) for device, rows in self.stored.items()}
        devices = sorted({each.device for each in batch})
        moved: set[str] = set()
        before = {device: replace(self.state((device, "smoker.smoke"))) for device in self.zone}
        for device in devices:
            mine = sorted((each for each in batch if each.device == device), key=lambda each: self._clock(known, each))
            for rule in (PUMP if device.startswith("pump") else SMOKE).rules:
                if rule.comparison in {Comparison.ABOVE, Comparison.IN, Comparison.EQUALS} and rule.rollup is None:
                    if self._levels(known, device, rule, mine) and rule.key == "smoker.smoke":
                        moved.add(device)
                elif rule.comparison is Comparison.TERMS:
                    self._group(known, device, rule, mine)
                elif rule.comparison is Comparison.SILENT and rule.metric is None:
                    state = self.state((device, rule.key))
                    if state.phase == "active" and self.now > state.since:
                        self._back((device, rule.key), rule, self.now)
        wanted = any(each.device in self.zone and each.usable and each.values.get("smoke") is True for each in batch)
        if moved & set(self.zone) and (wanted or self.state(("zone", CONFIRMED)).phase != "normal"):
            self._confirm(moved & set(self.zone), before)
        for each in batch:
            rows = self.stored.setdefault(each.device, {})
            first = rows.get(each.time)
            rows[each.time] = each if first is None else Said(
                each.device, each.time, first.received, {**each.values, **first.values}, first.usable
            )  # fmt: skip
            self.heard[each.device] = max(self.heard.get(each.device, NEVER), each.received)
            self.newest[each.device] = max(self.newest.get(each.device, NEVER), each.time)

    @staticmethod
    def _clock(known: dict[str, dict[int, Said]], each: Said) -> int:
        first = known.get(each.device, {}).get(each.time)
        return min(each.time, each.received, *([first.received] if first is not None else []))

    def _judged(self, known: dict[str, dict[int, Said]], device: str, metric: str) -> int:
        rows = known.get(device, {}).values()
        return max(
            (min(row.time, row.received) for row in rows if row.usable and metric in row.values), default=NEVER
        )  # fmt: skip

    def _levels(self, known: dict[str, dict[int, Said]], device: str, rule: AlarmRule, batch: list[Said]) -> bool:
        """Judge a rule over one metric; say whether its state moved."""
        key, metric = (device, rule.key), rule.metric or ""
        state = self.state(key)
        judged, moved = max(state.last, self._judged(known, device, metric)), False
        for each in batch:
            if not each.usable or metric not in each.values:
                continue
            value, clock = each.values[metric], self._clock(known, each)
            first = known.get(device, {}).get(each.time)
            if first is not None and metric in first.values:
                judged = max(judged, clock)  # it was said before: no reading, whatever it says now
                if _raises(rule, first.values[metric]):
                    continue
            if clock <= max(judged, state.last):
                if rule.latched and _raises(rule, value):
                    self._late(key, rule, clock)
                continue
            judged = clock
            moved |= self._time_passes(key, rule, clock)
            if rule.hours and state.phase != "active" and not OPENS <= clock < SHUTS:
                if state.phase == "pending":
                    state.phase, state.since, state.due = "normal", clock, None
                continue
            moved |= self._reads(key, rule, clock, value)
        return moved

    def _time_passes(self, key: Key, rule: AlarmRule, clock: int) -> bool:
        """Do what a timer would have done that fell due before a reading."""
        state = self.state(key)
        if state.due is None or state.due >= clock:
            return False
        self._rings(key, rule, state.due)
        return True

    def _rings(self, key: Key, rule: AlarmRule, due: int) -> None:
        state = self.state(key)
        state.due = None
        if state.phase == "active":
            self._back(key, rule, due)
        elif rule.hours and not OPENS <= due < SHUTS:
            state.phase, state.since, state.last = "normal", due, max(state.last, due)
        else:
            self._raise(key, rule, due)

    def _reads(  # noqa: C901, PLR0912 - one branch for each sentence of the docs
        self, key: Key, rule: AlarmRule, clock: int, value: Value
    ) -> bool:
        """Let a value that is judged change the state."""
        state = self.state(key)
        before = state.phase
        state.last = max(state.last, clock)
        if state.phase == "active":
            if not _returns(rule, value):
                if state.due is not None:
                    state.due = None
                    if (alarm := self.open(key)) is not None:
                        alarm.returned = None
            elif not rule.off_delay or (state.due is not None and state.due <= clock):
                self._back(key, rule, clock)
            elif state.due is None:
                state.due = clock + seconds(rule.off_delay)
        elif not _raises(rule, value):
            if state.phase == "pending":
                state.phase, state.since, state.due = "normal", clock, None
        elif state.phase == "pending":
            if state.due is not None and state.due <= clock:
                self._raise(key, rule, clock, value)
        elif rule.on_delay:
            state.phase, state.since, state.due = "pending", clock, clock + seconds(rule.on_delay)
        else:
            self._raise(key, rule, clock, value)
            if rule.momentary:
                self._back(key, rule, clock)
                return True
        if state.phase == "active" and rule.steps:
            self._rise(key, _severity(rule, value))
        return state.phase != before

    def _group(  # noqa: C901 - one branch for each sentence of the docs
        self, known: dict[str, dict[int, Said]], device: str, rule: AlarmRule, batch: list[Said]
    ) -> None:
        """Judge a rule over several metrics: each newest value, of the last quarter of an hour."""
        key = (device, rule.key)
        if self.state(key).phase == "normal" and not any(_may_hold(each) for each in batch):
            return  # a message that says no by itself opens nothing, also if a part of it is old news
        newest: dict[str, tuple[int, int, Value]] = {}
        for row in known.get(device, {}).values():
            for metric, value in row.values.items():
                if row.usable and row.time >= newest.get(metric, (NEVER, 0, 0))[0]:
                    newest[metric] = (row.time, min(row.time, row.received), value)
        outcomes: dict[int, bool] = {}  # of one second, the last word counts
        for each in batch:
            said = {
                metric: value for metric, value in each.values.items()
                if metric in {"level", "pressure"} and each.usable and each.time > newest.get(metric, (NEVER, 0, 0))[0]
            }  # fmt: skip
            if not said:
                continue
            newest.update((metric, (each.time, self._clock(known, each), value)) for metric, value in said.items())
            together = {metric: newest[metric] for metric in ("level", "pressure") if metric in newest}
            until = max(time for time, _, _ in together.values())
            values = {metric: value for metric, (time, _, value) in together.items() if time >= until - TOGETHER}
            clock = max(clock for _, clock, _ in together.values())
            terms = [
                None if "level" not in values else float(values["level"]) > 50,
                None if "pressure" not in values else float(values["pressure"]) < 4,
            ]
            if False in terms or None not in terms:
                outcomes[clock] = False not in terms
        state = self.state(key)
        before = replace(state)
        for clock in sorted(outcomes):
            if clock > state.last:
                self._reads(key, rule, clock, outcomes[clock])
        if state.phase == before.phase and state.since == before.since:
            state.last = before.last  # nothing changed, so nothing was noted

    def _confirm(self, moved: set[str], before: dict[str, State]) -> None:
        """Two detectors of the zone that hold, or ceased to within the minute before."""
        key, rule, state = ("zone", CONFIRMED), RULES[CONFIRMED], self.state(("zone", CONFIRMED))
        now = {device: self.state((device, "smoker.smoke")) for device in self.zone}
        clock = max(now[device].since for device in moved)
        spans: list[tuple[int, int | None]] = []
        for device, mine in now.items():
            if mine.phase == "active":
                spans.append((mine.since, None))
            elif device in moved:
                begun = before[device].since if before[device].phase == "active" else mine.since
                spans.append((begun, mine.since))
            elif mine.since >= clock - 60:
                spans.append((mine.since, mine.since))
        holds = any(until is None for _, until in spans)
        if state.phase != "active":
            moments = [
                at for at, _ in spans
                if sum(since <= at and (until is None or until >= at - 60) for since, until in spans) > 1
            ]  # fmt: skip
            holds = bool(moments)
            clock = max(clock, min(moments, default=clock))
        if clock > state.last:
            self.confirmer = max(sorted(moved), key=lambda device: now[device].since)
            phase, last = state.phase, state.last
            self._reads(key, rule, clock, holds)
            if state.phase == phase:
                state.last = last  # nothing changed, so nothing was noted

    # ---------------------------------------------------------------- what becomes of alarms
    def state(self, key: Key) -> State:
        return self.states.setdefault(key, State())

    def open(self, key: Key) -> Alarm | None:
        return next((each for each in self.alarms.get(key, ()) if not each.closed), None)

    def window(self, device: str, at: int) -> tuple[str | None, bool]:
        """Say what keeps a device's alarms quiet then, and whether they are a test."""
        there = [each for each in self.work if each.device == device and each.start <= at < each.end]
        if any(each.test for each in there):
            return None, True
        return (f"maintenance:{max(each.id for each in there)}", False) if there else (None, False)

    def _raise(self, key: Key, rule: AlarmRule, at: int, value: Value | None = None) -> None:
        state = self.state(key)
        state.phase, state.since, state.due, state.last = "active", at, None, max(state.last, at)
        self._ring(key, rule, at, self._worth(key[0], rule, value))

    def _ring(self, key: Key, rule: AlarmRule, at: int, severity: str, *, late: bool = False) -> None:
        alarm = self.open(key)
        stands = alarm is not None and alarm.cleared is None and alarm.quiet is None and not alarm.test
        if alarm is None:
            alarm = Alarm(severity, at, rule.latched)
            self.alarms.setdefault(key, []).append(alarm)
        quiet, test = self.window(key[0], at)
        if key[0] == "zone":  # as the detector that confirmed it
            like = self.alarms[self.confirmer, "smoker.smoke"][-1]
            quiet, test, alarm.device = like.quiet, like.test, alarm.device or self.confirmer
        alarm.raised, alarm.late, alarm.cleared, alarm.returned = at, late, None, None
        if not stands:  # a fire that still stands is no test, and not quiet, for work that began since
            alarm.quiet, alarm.test = quiet, test
        if self.shelves.get(key, NEVER) > self.now:
            alarm.shelved = self.shelves[key]
        self.rang.setdefault(key, set()).add(at)
        self._happen(alarm, "raised", "raised")

    def _worth(self, device: str, rule: AlarmRule, value: Value | None) -> str:
        if rule.key == "smoker.smoke" and device in self.zone:
            return "high"  # another detector of the zone could confirm it
        return _severity(rule, value)

    def _rise(self, key: Key, severity: str) -> None:
        alarm = self.open(key)
        if alarm is not None and WORST_FIRST.index(severity) < WORST_FIRST.index(alarm.severity):
            alarm.severity = severity
            self._happen(alarm, "severity", "severity")

    def _late(self, key: Key, rule: AlarmRule, at: int) -> None:
        """What is latched rings also when it comes late, once."""
        if self.open(key) is None and at not in self.rang.setdefault(key, set()):
            self._ring(key, rule, at, self._worth(key[0], rule, True), late=True)

    def _back(self, key: Key, rule: AlarmRule, at: int) -> None:
        state = self.state(key)
        state.phase, state.since, state.due, state.last = "normal", at, None, max(state.last, at)
        alarm = self.open(key)
        if alarm is None:
            return
        if rule.latched and alarm.taken_by is None and not alarm.test:
            alarm.returned = at
            self._happen(alarm, "returned")
        else:
            self._clear(alarm, at)

    def _clear(self, alarm: Alarm, at: int) -> None:
        alarm.cleared = at
        self._happen(alarm, "cleared", "cleared")
        if alarm.taken_by is not None:
            self._close(alarm)

    def _close(self, alarm: Alarm) -> None:
        alarm.closed = True
        alarm.events.append("closed")

    def _happen(self, alarm: Alarm, kind: str, told: str | None = None, *, by: bool = False) -> None:
        alarm.events.append(kind)
        if by:
            alarm.deeds.append(kind)
        if told in {"cleared", "closed"}:
            if _owed(alarm.told) or (told == "closed" and alarm.told):
                alarm.told.append(told)
            return
        if told is None or alarm.quiet is not None or (alarm.shelved is not None and told in {"raised", "severity"}):
            return
        alarm.told.append(told)
        urgent = alarm.severity in {"critical", "high"} and not alarm.test
        if told in {"raised", "severity", "reopened"} and urgent and alarm.ladder is None:
            alarm.ladder = Ladder(self.now + FIRST)

    def _ring_again(self, key: Key, alarm: Alarm) -> None:
        if alarm.cleared is None and alarm.taken_by is None:
            self.rang.setdefault(key, set()).add(self.now)
            self._happen(alarm, "raised", "raised")

    # ---------------------------------------------------------------- what people do
    def take(self, key: Key, alarm: Alarm) -> None:
        if alarm.taken_by is not None or alarm.closed:
            return
        alarm.taken_by = "lan"
        self._happen(alarm, "acknowledged", "acknowledged", by=True)
        if alarm.cleared is not None:
            self._close(alarm)
        elif self.state(key).phase != "active":
            self._clear(alarm, self.now)

    def assign(self, alarm: Alarm, to: str | None) -> None:
        _must(not alarm.closed)
        alarm.assigned.append(to)
        self._happen(alarm, "assigned", by=True)

    def comment(self, alarm: Alarm) -> None:
        self._happen(alarm, "commented", "comment")

    def shelve(self, key: Key, alarm: Alarm, until: int) -> None:
        _must(not alarm.closed)
        alarm.shelved = self.shelves[key] = until
        self._happen(alarm, "shelved", "shelved", by=True)

    def unshelve(self, key: Key, alarm: Alarm) -> None:
        _must(not alarm.closed)
        if alarm.shelved is None:
            return
        alarm.shelved = None
        self.shelves.pop(key, None)
        self._happen(alarm, "unshelved")
        self._ring_again(key, alarm)

    def close(self, key: Key, alarm: Alarm) -> None:
        _must(not alarm.closed and not (alarm.cleared is None and self.state(key).phase == "active"))
        alarm.cleared = self.now if alarm.cleared is None else alarm.cleared
        alarm.taken_by = alarm.taken_by or "lan"
        self._happen(alarm, "closed", "closed", by=True)
        alarm.closed = True

    def reopen(self, key: Key, alarm: Alarm) -> None:
        _must(alarm.closed and self.open(key) is None)
        alarm.closed, alarm.taken_by, alarm.quiet = False, None, None
        self._happen(alarm, "reopened", "reopened")

    def undo(self, key: Key, alarm: Alarm) -> None:
        last = alarm.deeds[-1] if alarm.deeds else "undone"
        _must(last != "undone" and not (last == "shelved" and alarm.shelved is None))
        _must(not (last in {"acknowledged", "closed"} and self.open(key) not in (None, alarm)))
        if last in {"acknowledged", "closed"}:
            alarm.quiet = None if alarm.closed else alarm.quiet
            alarm.closed, alarm.taken_by = False, None
            if alarm.latched and alarm.returned is not None:
                alarm.cleared = None  # it was latched until the click that was wrong
            self._happen(alarm, "undone", "reopened", by=True)
        elif last == "assigned":
            alarm.assigned.pop()
            self._happen(alarm, "undone", by=True)
        else:
            alarm.shelved = None
            self.shelves.pop(key, None)
            self._happen(alarm, "undone", by=True)
            self._ring_again(key, alarm)

    # ---------------------------------------------------------------- what time does
    def look(self) -> None:
        """What falls due, who fell silent, what ends by itself."""
        if self.watching_since is None:
            self.watching_since = self.now
        for key, state in self.states.items():
            if state.due is not None and state.due <= self.now and not self._handing_in(key[0], state.due):
                self._rings(key, RULES[key[1]], state.due)
        for device in sorted(self.heard, key=lambda each: each in self.gateways):
            self._listen(device)
        for key, alarms in self.alarms.items():
            for alarm in alarms:
                self._settle(key, alarm)
        self.shelves = {key: until for key, until in self.shelves.items() if until > self.now}

    def _handing_in(self, device: str, due: int) -> bool:
        return self.heard.get(device, NEVER) > self.now - 5 and self.newest[device] < due

    def _listen(self, device: str) -> None:
        key = (device, f"{class_of(device)}.silent")
        own = self.heard[device] + 3 * INTERVAL
        if self.state(key).phase == "active":
            if own >= self.now:
                self._back(key, RULES[key[1]], max(self.heard[device], self.state(key).since))
        elif own < self.now and self.grace < self.now and not self._answered_for(device):
            self._raise(key, RULES[key[1]], max(own, self.grace))

    @property
    def grace(self) -> int:
        """Since when we have been listening."""
        return self.now if self.watching_since is None else self.watching_since

    def _answered_for(self, device: str) -> bool:
        """A silent gateway answers for those behind it that nothing was heard of since; one in doubt is waited for."""
        if (gateway := self.gateways.get(device)) is None:
            return False
        silence, heard = self.state((gateway, f"{class_of(gateway)}.silent")), self.heard[device]
        if silence.phase == "active":
            return silence.since >= heard
        lives = self.heard.get(gateway, self.now) >= heard + INTERVAL
        return not lives and self.now <= heard + 6 * INTERVAL

    def _settle(self, key: Key, alarm: Alarm) -> None:
        if alarm.closed:
            return
        if alarm.shelved is not None and alarm.shelved <= self.now:
            alarm.shelved = None
            self._happen(alarm, "unshelved")
            self._ring_again(key, alarm)
        device = alarm.device or key[0]
        worked_at = self.window(device, self.now) != (None, False)
        if (alarm.test or alarm.quiet is not None) and not worked_at:
            if self.state(key).phase == "active":
                alarm.quiet, alarm.test = None, False
                self._happen(alarm, "unsuppressed")
                self._ring_again(key, alarm)
            else:
                alarm.quiet = None
                alarm.cleared = self.now if alarm.cleared is None else alarm.cleared
                alarm.events.append("unsuppressed")
                self._close(alarm)

    def compute(self) -> None:
        """Answer the rules that look at what is stored."""
        for device in [each for each in self.stored if each.startswith("pump")]:
            for name in COMPUTED:
                value = self._amount(device, RULES[name])
                if value is not None:
                    self._answer((device, name), RULES[name], value)
            self._miss(device)

    def _answer(self, key: Key, rule: AlarmRule, value: Value) -> None:
        state = self.state(key)
        raises = _raises(rule, value)
        if raises is (state.phase != "normal") and not (raises and (rule.off_delay or rule.steps)):
            return
        if self.now <= state.last:
            return
        before = replace(state)
        self._time_passes(key, rule, self.now)
        self._reads(key, rule, self.now, value)
        if (state.phase, state.since, state.due) == (before.phase, before.since, before.due):
            state.last = before.last  # nothing changed, so nothing was noted

    def _amount(self, device: str, rule: AlarmRule) -> Value | None:
        over, metric = seconds(rule.over), rule.metric or ""
        rows = sorted(
            (row.time, float(row.values[metric])) for row in self.stored[device].values()
            if row.usable and metric in row.values and self.now - over < row.time <= self.now
        )  # fmt: skip
        if not rows:
            return None
        values = [value for _, value in rows]
        reach = rows[-1][0] - rows[0][0]
        if rule.comparison is Comparison.CHANGED:
            return min(values) != max(values)
        if len(rows) < 2 or reach < over * (0.5 if rule.comparison is Comparison.RATE_ABOVE else 0.75):
            return None
        if rule.comparison is Comparison.STUCK:
            return min(values) == max(values)
        if rule.comparison is Comparison.RATE_ABOVE:
            return (values[-1] - values[0]) / (reach / 3600)
        return sum(values) / len(values)

    def _miss(self, device: str) -> None:
        """A metric that is not said any more by a device that is heard."""
        key = (device, "pump.no_pressure")
        said = [min(row.time, row.received) for row in self.stored[device].values() if "pressure" in row.values]
        if not said or self.heard[device] + 3 * INTERVAL < self.now:
            return
        due = max(said) + 3 * INTERVAL
        if self.state(key).phase == "active":
            if due >= self.now:
                self._back(key, RULES[key[1]], max(self.now, self.state(key).since))
        elif due < self.now:
            self._raise(key, RULES[key[1]], due)

    def climb(self) -> None:
        """Walk along the chain: duty after a minute, head two minutes later, again every five; 10:20 what is open."""
        for alarm in [each for alarms in self.alarms.values() for each in alarms]:
            ladder = alarm.ladder
            if ladder is None:
                continue
            if alarm.closed:
                alarm.ladder = None
            elif ladder.taken is not (alarm.taken_by is not None):
                ladder.taken, ladder.step = alarm.taken_by is not None, 0
                ladder.due = self._reminder() if ladder.taken else self.now + FIRST
            elif ladder.due <= self.now:
                self._climb(alarm, ladder)

    def _climb(self, alarm: Alarm, ladder: Ladder) -> None:
        """Tell the next one; a test is nobody's to climb."""
        shelved = alarm.shelved is not None and alarm.shelved > self.now
        if shelved or alarm.quiet is not None or (alarm.cleared is not None and alarm.severity != "critical"):
            ladder.due = self.now + FIRST
        elif ladder.taken:
            alarm.rung += [] if alarm.test else ["duty"]
            ladder.due = self._reminder()
        elif ladder.step == 0:
            alarm.rung += [] if alarm.test else ["duty"]
            ladder.step, ladder.due = 1, self.now + SECOND_AFTER
        else:
            alarm.rung += [] if alarm.test else ["head"]
            ladder.due = self.now + AGAIN

    def _reminder(self) -> int:
        return REMINDED if self.now < REMINDED else REMINDED + 24 * 3600


def class_of(device: str) -> str:
    return "pump" if device.startswith("pump") else "smoker"


def _may_hold(each: Said) -> bool:
    level, pressure = each.values.get("level"), each.values.get("pressure")
    said = [None if level is None else float(level) > 50, None if pressure is None else float(pressure) < 4]
    return each.usable and False not in said and True in said


def _must(allowed: bool) -> None:
    if not allowed:
        raise Refused


def _raises(rule: AlarmRule, value: Value) -> bool:
    if rule.comparison is Comparison.IN:
        return value in rule.members
    if rule.comparison in {Comparison.ABOVE, Comparison.RATE_ABOVE}:
        return float(value) > float(rule.threshold)
    return value is True


def _returns(rule: AlarmRule, value: Value) -> bool:
    if rule.comparison in {Comparison.ABOVE, Comparison.RATE_ABOVE}:
        return float(value) <= float(rule.threshold) - rule.hysteresis
    return not _raises(rule, value)


def _severity(rule: AlarmRule, value: Value | None) -> str:
    reached = [
        severity.value for at, severity in rule.steps if value is not None and float(value) >= at
    ]  # fmt: skip
    return min(reached, key=WORST_FIRST.index, default=rule.severity.value)


def _owed(told: Sequence[str]) -> bool:
    """Say whether who was told of an alarm does not know yet that it is over."""
    stands = [each for each in told if each in {"raised", "severity", "reopened", "cleared", "closed"}]
    return bool(stands) and stands[-1] not in {"cleared", "closed"}
