from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iot_core.alarms.rules import (
    Change,
    Compiled,
    Phase,
    State,
    Transition,
    compile_rule,
    fire,
    heard,
    overdue,
    read,
    withdraw,
)
from iot_core.model import AlarmRule, Comparison, Severity, Value
from tests.alarms.city import MINUTE, SECOND, T0, title


def above(**facts: Any) -> AlarmRule:
    given = {"comparison": Comparison.ABOVE, "metric": "level", "threshold": 10.0, **facts}
    return AlarmRule(key="tank.high", title=title("High"), severity=Severity.HIGH, **given)


def run(
    alarm_rule: AlarmRule, *readings: tuple[float, Value], state: State | None = None
) -> list[tuple[Change, float]]:
    """Judge readings (seconds, value) in this order; give changes with their seconds."""
    state = state or State()
    compiled, found = compile_rule(alarm_rule), []
    for seconds, value in readings:
        state, transitions = read(compiled, state, T0 + seconds * SECOND, value)
        found += [(each.change, (each.at - T0) / SECOND) for each in transitions]
    return found


def test_alarm_is_raised_above_the_threshold_and_not_at_it() -> None:
    assert run(above(), (0, 10.0), (1, 10.1)) == [(Change.RAISED, 1)]


def test_alarm_clears_only_after_hysteresis() -> None:
    assert run(above(hysteresis=2.0), (0, 11.0), (1, 9.0), (2, 8.1), (3, 8.0)) == [
        (Change.RAISED, 0),
        (Change.RETURNED, 3),
    ]


def test_below_is_the_mirror_of_above() -> None:
    below = above(comparison=Comparison.BELOW, hysteresis=2.0)
    assert run(below, (0, 10.0), (1, 9.9), (2, 11.9), (3, 12.0)) == [(Change.RAISED, 1), (Change.RETURNED, 3)]


def test_equals_takes_booleans_and_names() -> None:
    assert run(above(comparison=Comparison.EQUALS, threshold=True), (0, False), (1, True), (2, False)) == [
        (Change.RAISED, 1),
        (Change.RETURNED, 2),
    ]
    assert run(above(comparison=Comparison.EQUALS, threshold="stuck"), (0, "open"), (1, "stuck")) == [
        (Change.RAISED, 1)
    ]


def test_no_value_raises_a_silence_rule() -> None:
    assert run(above(comparison=Comparison.SILENT, metric=None, threshold=3.0), (0, 3.0), (1, True)) == []


def test_condition_must_hold_for_the_delay() -> None:
    slow = above(on_delay=MINUTE)
    assert run(slow, (0, 11.0), (59, 11.0), (60, 11.0)) == [(Change.PENDING, 0), (Change.RAISED, 60)]
    assert run(slow, (0, 11.0), (59, 9.0), (70, 11.0)) == [
        (Change.PENDING, 0),
        (Change.DROPPED, 59),
        (Change.PENDING, 70),
    ]


def test_reading_after_the_delay_fires_the_timer_at_its_own_time() -> None:
    assert run(above(on_delay=MINUTE), (0, 11.0), (90, 9.0)) == [
        (Change.PENDING, 0),
        (Change.RAISED, 60),
        (Change.RETURNED, 90),
    ]


def test_reading_at_or_before_the_last_changes_nothing() -> None:
    assert run(above(), (5, 9.0), (5, 11.0), (4, 11.0)) == []


def test_a_momentary_rule_is_over_at_once_and_rings_each_time() -> None:
    rule = above(latched=True, momentary=True)
    assert run(rule, (1, 11.0), (2, 12.0)) == [
        (Change.RAISED, 1), (Change.RETURNED, 1), (Change.RAISED, 2), (Change.RETURNED, 2),
    ]  # fmt: skip


def test_latched_rule_raises_even_from_a_late_reading() -> None:
    assert run(above(latched=True), (5, 9.0), (4, 11.0)) == [(Change.LATE, 4)]


def test_timer_fires_not_before_it_is_due() -> None:
    pending, _ = read(compile_rule(above(on_delay=MINUTE)), State(), T0, 11.0)
    assert fire(pending, T0 + 59 * SECOND) == (pending, ())
    active, transitions = fire(pending, T0 + timedelta(days=1))
    assert (active.phase, active.due_at, transitions) == (
        Phase.ACTIVE,
        None,
        (Transition(Change.RAISED, T0 + MINUTE),),
    )
    assert fire(active, T0 + timedelta(days=1)) == (active, ())


def test_silence_is_raised_once_and_cleared_when_something_arrives() -> None:
    due = T0 + MINUTE
    assert overdue(State(), due, due - SECOND) == (State(), ())
    silent, raised = overdue(State(), due, due + SECOND)
    assert [each.change for each in raised] == [Change.RAISED]
    assert overdue(silent, due, due + MINUTE) == (silent, ())
    back, cleared = heard(silent, due - SECOND)
    assert (back.phase, cleared) == (Phase.NORMAL, (Transition(Change.RETURNED, due),))


@pytest.mark.parametrize(
    ("phase", "change"), [(Phase.ACTIVE, [Change.RETURNED]), (Phase.PENDING, [Change.DROPPED]), (Phase.NORMAL, [])]
)
def test_withdrawn_rule_returns_to_normal(phase: Phase, change: list[Change]) -> None:
    state, transitions = withdraw(State(phase=phase, since=T0, due_at=T0), T0 + MINUTE)
    assert (state.phase, [each.change for each in transitions]) == (Phase.NORMAL, change)


class Plain:
    """The rule told as one would tell a person: go through what was accepted, from the start, every time."""

    def __init__(self, compiled: Compiled) -> None:
        self.rule = compiled.rule
        self.accepted: list[tuple[int, float | None]] = []  # (second, value); None: a timer looked at the clock
        self.late: list[int] = []

    def tell(self) -> tuple[str, list[tuple[str, int]]]:
        limit, low = float(self.rule.threshold), float(self.rule.threshold) - self.rule.hysteresis
        delay = int(self.rule.on_delay / SECOND)
        true_since: int | None = None
        active = False
        story: list[tuple[str, int]] = []
        for second, value in self.accepted:
            due = None if true_since is None else true_since + delay
            if (
                not active
                and due is not None
                and (due < second or (due == second and (value is None or value > limit)))
            ):
                active, true_since = True, None
                story.append(("raised", due))
            if value is None:
                continue
            if active and value <= low:
                active = False
                story.append(("returned", second))
            elif not active and value > limit:
                true_since = second if true_since is None else true_since
                if delay == 0:
                    active, true_since = True, None
                    story.append(("raised", second))
            elif not active:
                true_since = None
        return "active" if active else ("normal" if true_since is None else "pending"), story

    @property
    def last(self) -> int:
        """The newest second that was judged: a reading's, or of a timer that fired."""
        _, story = self.tell()
        read_at = [second for second, value in self.accepted if value is not None]
        return max([-1, *read_at, *(second for kind, second in story if kind == "raised")])


class Machine(RuleBasedStateMachine):
    """Readings in disorder, timers whenever a worker looks, restarts that keep only what a row keeps."""

    @initialize(delay=st.sampled_from([0, 1, 7]), hysteresis=st.sampled_from([0.0, 2.0]), latched=st.booleans())
    def start(self, delay: int, hysteresis: float, latched: bool) -> None:
        self.compiled = compile_rule(above(on_delay=delay * SECOND, hysteresis=hysteresis, latched=latched))
        self.state = State()
        self.plain = Plain(self.compiled)
        self.story: list[tuple[str, int]] = []
        self.late: list[int] = []
        self.clock = 0

    def note(self, transitions: tuple[Transition, ...]) -> None:
        for each in transitions:
            second = second_of(each.at)
            if each.change is Change.LATE:
                self.late.append(second)
            elif each.change in {Change.RAISED, Change.RETURNED}:
                self.story.append((each.change.value, second))

    @rule(second=st.integers(0, 60), value=st.sampled_from([7.0, 8.0, 9.0, 10.0, 11.0, 12.0]))
    def reading(self, second: int, value: float) -> None:
        if second > self.plain.last:
            self.plain.accepted.append((second, value))
        elif self.compiled.rule.latched and value > 10.0:
            self.plain.late.append(second)
        self.state, transitions = read(self.compiled, self.state, T0 + second * SECOND, value)
        self.note(transitions)
        self.clock = max(self.clock, second)

    @rule(later=st.integers(0, 20))
    def timer(self, later: int) -> None:
        self.clock += later
        self.plain.accepted.append((self.clock, None))
        self.state, transitions = fire(self.state, T0 + self.clock * SECOND)
        self.note(transitions)

    @rule()
    def restart(self) -> None:
        row = (self.state.phase.value, self.state.since, self.state.due_at, self.state.last_time)
        self.state = State(phase=Phase(row[0]), since=row[1], due_at=row[2], last_time=row[3])

    @rule()
    def redelivery(self) -> None:
        """What was said last is said again."""
        said = [each for each in self.plain.accepted if each[1] is not None]
        if said and said[-1][1] is not None:
            before = self.state
            self.state, transitions = read(self.compiled, self.state, T0 + said[-1][0] * SECOND, said[-1][1])
            assert self.state == before
            assert {each.change for each in transitions} <= {Change.LATE}

    @invariant()
    def agrees(self) -> None:
        phase, story = self.plain.tell()
        assert (self.state.phase.value, self.story, self.late) == (phase, story, self.plain.late)
        assert (self.state.due_at is not None) == (self.state.phase is Phase.PENDING)


def second_of(when: datetime) -> int:
    return int((when - T0) / SECOND)


TestStateMachine = Machine.TestCase
TestStateMachine.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
