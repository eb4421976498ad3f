"""A rule as class.yaml, a file or an override says it -> AlarmRule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from iot_core import hours
from iot_core.errors import RequestError
from iot_core.model import AlarmRule, Comparison, Metric, MetricType, Rollup, RuleTerm, Severity, Title
from iot_core.profiles.document import Document, Place, duration
from iot_core.profiles.near import like
from iot_core.profiles.table import Table

__all__ = ["ConditionSpec", "RuleSpec", "StepSpec", "Titles", "read_duration", "read_rule"]

_ZERO: Final = timedelta(0)
_LONGEST: Final = timedelta(days=400)
"""Of a rule's spans: more is a slip, and the calendar ends somewhere."""
_MOST_INTERVALS: Final = 10_000
_FEW: Final = timedelta(hours=1)


FORMULAS: Final = (
    "vn_aqi_hourly", "vn_aqi_daily", "continuous_flow", "burst_flow", "night_flow_ratio", "dma_night_flow",
)  # fmt: skip
"""What `derived` may name; iot_core/alarms/computed.py works them out."""


class Titles(Table, frozen=True, kw_only=True):
    """What people read, in both languages."""

    vi: str
    en: str


class ConditionSpec(Table, frozen=True, kw_only=True):
    """What a rule waits for, of one metric (`metric`, or a formula's result, `derived`) or of several."""

    metric: str | None = None
    derived: str | None = None
    """A computed value in place of a metric: `vn_aqi_hourly`. Their list: docs/alarms.md."""
    above: float | int | None = None
    below: float | int | None = None
    equals: float | int | bool | str | None = None
    among: list[float | int | bool | str] | None = msgspec.field(default=None, name="in")
    """It is one of these."""
    not_in: list[float | int | bool | str] | None = None
    """It is none of these."""
    rate_above: float | int | None = None
    """It rises faster than this, in its unit an hour, over the span `over`."""
    rate_below: float | int | None = None
    """It changes by less than this an hour: a negative number, for what falls."""
    changed: Literal[True] | None = None
    """It has another value than before; it is over when `over` has gone by without a change."""
    stuck_for: str | None = None
    """It has had the same value for so long."""
    silent_for: float | int | None = None
    """Intervals of the profile in which nothing was heard, of the device or of `metric`."""
    rollup: Literal["mean", "lowest", "highest", "increase"] | None = None
    """Compare what the readings of the span `over` amount to."""
    times: float | int | None = None
    """Beside `rollup` and an empty comparison: above so many times what the span amounts to."""
    over: str | None = None
    """The span that rates, rollups and changes look back over; in a group, how old another metric's reading may be."""
    every: list[Any] | None = msgspec.field(default=None, name="all")
    """All of these conditions, each of one metric, or groups of them."""
    some: list[Any] | None = msgspec.field(default=None, name="any")
    """One of these conditions."""
    at_least: int | None = None
    """With `of`: so many of these conditions. With `devices`: so many devices."""
    of: list[Any] | None = None
    """The conditions that `at_least` counts."""
    devices: list[str] | None = None
    """Names of rules of this class: so many devices of one area for which one of them holds, or held `within`."""
    within: str | None = None
    """How long ago a device's rule may have ceased and still count; default 60s."""
    alone: Literal["critical", "high", "medium", "low"] | None = None
    """Beside `devices`: the severity of a single device's alarm in an area that has enough devices to confirm it."""
    area_kind: str | None = None
    """Beside `devices`: only areas of this kind, as `fire_zone`; else every area in which devices stand."""
    behind: str | None = None
    """Beside `devices`: those behind a gateway of this class are counted by gateway, and the alarm is the gateway's."""
    fresh: Literal[True] | None = None
    """Beside `devices`: only devices whose rule began `within`: what is broken since weeks is no outage."""


class StepSpec(Table, frozen=True, kw_only=True):
    """A severity that an open alarm rises to."""

    at: float | int
    """From this value on, in the direction of the rule's own limit."""
    severity: Literal["critical", "high", "medium", "low"]
    """The severity from there on."""


class RuleSpec(Table, frozen=True, kw_only=True):
    """A default alarm rule. A limit that is an average (of an hour, a day) is no rule for a momentary value."""

    title: Titles
    severity: Literal["critical", "high", "medium", "low"]
    when: ConditionSpec
    source: str
    """Whose limit it is: a standard, the device itself, or the platform."""
    hold: str = msgspec.field(name="for", default="0s")
    """How long it must hold before it rings."""
    gone_for: str = "0s"
    """How long it must be gone before it is over."""
    hysteresis: float | int = 0
    """How far the value must go back before it is over, in the metric's unit."""
    steps: list[StepSpec] = msgspec.field(default_factory=list)
    """One alarm that rises: its severity at further values."""
    hours: str = ""
    """When it may ring: `mon-fri 07:00-17:00, holiday 00:00-24:00`. Empty: always."""
    latched: bool = False
    """It stays until a person acknowledges it, whatever the readings say."""
    momentary: bool = False
    """It is over as soon as it is said, so that the next one rings anew: a button says no release. Beside `latched`."""
    runbook: Titles | None = None
    """What to do: shown with the alarm and sent along."""
    enabled: bool = True
    """False switches it off: a change of a rule that says so, for an area, a label or a device."""


def read_rule(
    document: Document,
    place: Place,
    class_key: str,
    metrics: Mapping[str, Metric],
    rules: frozenset[str] | None = None,
    *,
    classes: Collection[str] | None = None,
) -> AlarmRule | None:
    """Read one rule; None when it is switched off. `rules`: which names `devices` may say; None: those beside it.

    `classes`: those that `behind` may name; None: any. Raises ConfigError naming file, line and key.
    """
    name = str(place[-1])
    spec = document.read(place, RuleSpec)
    if spec.momentary and (not spec.latched or spec.hold != "0s"):
        raise document.error((*place, "momentary"), "latched beside it, and no for: what is over at once cannot last")
    if spec.hysteresis < 0:
        raise document.error((*place, "hysteresis"), "0 or more")
    try:
        hours.parse(spec.hours)
    except RequestError as exc:
        raise document.error((*place, "hours"), "hours such as mon-fri 07:00-17:00, holiday 00:00-24:00") from exc
    condition = _Reader(document, (*place, "when"), metrics, class_key, classes).read(
        spec.when, rules or _beside(document)
    )
    rule = AlarmRule(
        key=f"{class_key}.{name}",
        title=Title(spec.title.vi, spec.title.en),
        severity=Severity(spec.severity),
        hysteresis=float(spec.hysteresis),
        on_delay=_span(document, (*place, "for"), spec.hold),
        off_delay=_span(document, (*place, "gone_for"), spec.gone_for),
        steps=tuple(sorted(((float(step.at), Severity(step.severity)) for step in spec.steps), key=_by_urgency)),
        hours=spec.hours,
        latched=spec.latched,
        momentary=spec.momentary,
        runbook=Title(spec.runbook.vi, spec.runbook.en) if spec.runbook is not None else None,
        source=spec.source,
        **condition,
    )
    if rule.steps and rule.comparison not in {Comparison.ABOVE, Comparison.BELOW}:
        raise document.error((*place, "steps"), "steps beside above or below only")
    return rule if spec.enabled else None


def read_duration(document: Document, place: Place, text: object) -> timedelta:
    """Read a duration such as `60s`. Raises ConfigError."""
    span = duration(text) if isinstance(text, str) else None
    if span is None:
        raise document.error(place, "a duration such as 30s, 15m, 24h or 7d")
    return span


def _span(document: Document, place: Place, text: object) -> timedelta:
    span = read_duration(document, place, text)
    if span > _LONGEST:
        raise document.error(place, f"a duration of {_LONGEST.days}d at most")
    return span


class _Reader:
    """Reads a `when`."""

    def __init__(
        self,
        document: Document,
        place: Place,
        metrics: Mapping[str, Metric],
        class_key: str,
        classes: Collection[str] | None,
    ) -> None:
        self.document = document
        self.place = place
        self.metrics = metrics
        self.class_key = class_key
        self.classes = classes

    def read(  # noqa: PLR0911 - one return for each form of a condition
        self, when: ConditionSpec, rules: frozenset[str]
    ) -> dict[str, Any]:
        """Give the fields of AlarmRule that the condition sets."""
        self._check_company(when)
        if when.devices is not None:
            return self._devices(when, rules)
        if self._grouped(when):
            term = self._group(when, self.place)
            over = self._over(when, _ZERO)
            return {"comparison": Comparison.TERMS, "terms": term.terms, "least": term.least, "over": over}
        if when.rollup is not None or when.derived is not None:
            return self._computed(when)
        comparison, value = self._one(when, self.place)
        if comparison is Comparison.SILENT:
            return self._silence(when)
        metric = self._metric(when, self.place)
        found: dict[str, Any] = {"comparison": comparison, "metric": metric.key}
        if comparison in {Comparison.IN, Comparison.NOT_IN}:
            return found | {"members": frozenset(value)}
        if comparison is Comparison.STUCK:
            return found | {"over": _span(self.document, (*self.place, "stuck_for"), value)}
        if comparison is Comparison.CHANGED:
            return found | {"over": self._over(when, _FEW)}
        if comparison in {Comparison.RATE_ABOVE, Comparison.RATE_BELOW}:
            found["over"] = self._over(when, _FEW)
        return found | {"threshold": value}

    def _check_company(self, when: ConditionSpec) -> None:
        """Refuse what would be passed over: a key that says nothing beside the others."""
        grouped, counted = self._grouped(when), when.devices is not None
        changes = when.changed is not None or when.rate_above is not None or when.rate_below is not None
        beside: tuple[tuple[bool, str, tuple[str, ...]], ...] = (
            (grouped or when.rollup is not None or changes, "beside a rate, changed, rollup or a group", ("over",)),
            (when.rollup is not None, "beside rollup", ("times",)),
            (counted or when.of is not None, "beside of or devices", ("at_least",)),
            (counted, "beside devices", ("within", "alone", "area_kind", "behind", "fresh")),
            (not (grouped or counted or when.derived is not None), "one condition, of one metric", ("metric",)),
            (not (grouped or counted), "beside a metric", ("rollup", "derived", *(name for _, name in _ASKED))),
            (not counted, "one kind of condition", ("every", "some", "of")),
        )
        for fits, expected, names in beside:
            for name in names:
                if not fits and getattr(when, name) is not None:
                    raise self.document.error((*self.place, _SPELLED.get(name, name)), expected)

    def _devices(self, when: ConditionSpec, rules: frozenset[str]) -> dict[str, Any]:
        rules -= {str(self.place[-2])}  # itself
        for name in when.devices or ():
            if name not in rules:
                raise self.document.error((*self.place, "devices"), f"rules of this class: {', '.join(sorted(rules))}")
        if not when.devices or when.at_least is None or when.at_least < 1:
            raise self.document.error(self.place, "devices with at least one rule, and at_least from 1 on")
        if when.alone is not None and when.behind is not None:
            raise self.document.error((*self.place, "alone"), "alone beside devices of an area, not beside behind")
        if when.behind is not None and self.classes is not None and when.behind not in self.classes:
            expected = f"a class of gateways{like(when.behind, self.classes)}: {', '.join(sorted(self.classes))}"
            raise self.document.error((*self.place, "behind"), expected)
        return {
            "comparison": Comparison.DEVICES,
            "rules": tuple(f"{self.class_key}.{name}" for name in when.devices),
            "least": when.at_least,
            "alone": Severity(when.alone) if when.alone is not None else None,
            "over": _span(self.document, (*self.place, "within"), when.within or "60s"),
            "area_kind": when.area_kind or "",
            "behind": when.behind or "",
            "fresh": when.fresh is True,
        }

    def _computed(self, when: ConditionSpec) -> dict[str, Any]:
        found: dict[str, Any] = {"derived": when.derived, "rollup": Rollup(when.rollup) if when.rollup else None}
        if when.derived is not None and when.derived not in FORMULAS:
            raise self.document.error((*self.place, "derived"), f"a formula: {', '.join(FORMULAS)}")
        if when.rollup is not None:
            found["over"] = self._over(when, None)
        if when.derived is None:
            found["metric"] = self._metric(when, self.place).key
        if when.times is not None:
            return found | {"comparison": Comparison.ABOVE, "threshold": float(when.times), "times": float(when.times)}
        comparison, value = self._one(when, self.place)
        if comparison not in {Comparison.ABOVE, Comparison.BELOW} or isinstance(value, (bool, str)):
            raise self.document.error(self.place, "above or below with a number beside rollup or derived")
        return found | {"comparison": comparison, "threshold": float(value)}

    def _silence(self, when: ConditionSpec) -> dict[str, Any]:
        assert when.silent_for is not None
        if not 1 <= when.silent_for <= _MOST_INTERVALS:
            expected = f"silent_for with a number of intervals from 1 to {_MOST_INTERVALS}"
            raise self.document.error((*self.place, "silent_for"), expected)
        metric = self._metric(when, self.place).key if when.metric is not None else None
        return {"comparison": Comparison.SILENT, "threshold": float(when.silent_for), "metric": metric}

    def _grouped(self, when: ConditionSpec) -> bool:
        return when.every is not None or when.some is not None or when.of is not None

    def _group(self, when: ConditionSpec, place: Place) -> RuleTerm:
        given = [each for each in (when.every, when.some, when.of) if each is not None]
        if len(given) != 1 or not given[0] or when.metric is not None:
            raise self.document.error(place, "one list of conditions: all, any, or of with at_least")
        terms = tuple(self._term(each, (*place, index)) for index, each in enumerate(given[0]))
        least = len(terms) if when.every is not None else 1 if when.some is not None else when.at_least or 0
        if not 1 <= least <= len(terms):
            raise self.document.error((*place, "at_least"), f"a number from 1 to {len(terms)}")
        return RuleTerm(comparison=Comparison.TERMS, terms=terms, least=least)

    def _term(self, said: object, place: Place) -> RuleTerm:
        when = self.document.convert(place, said, ConditionSpec)
        if self._grouped(when):
            return self._group(when, place)
        comparison, value = self._one(when, place)
        if comparison not in _AT_ONCE:
            raise self.document.error(place, "above, below, equals, in or not_in inside a group")
        metric = self._metric(when, place).key
        if comparison in {Comparison.IN, Comparison.NOT_IN}:
            return RuleTerm(comparison=comparison, metric=metric, members=frozenset(value))
        return RuleTerm(comparison=comparison, metric=metric, threshold=value)

    def _one(self, when: ConditionSpec, place: Place) -> tuple[Comparison, Any]:
        given = [(comparison, getattr(when, name)) for comparison, name in _ASKED if getattr(when, name) is not None]
        if len(given) != 1:
            raise self.document.error(place, f"exactly one of {', '.join(_NAMES)}")
        comparison, value = given[0]
        if when.metric is not None and comparison is not Comparison.SILENT:
            metric = self._metric(when, place)
            if not _fits(metric, comparison, value):
                expected = f"what a metric of type {metric.type} can be compared with"
                raise self.document.error((*place, comparison.value), expected)
        return comparison, value

    def _metric(self, when: ConditionSpec, place: Place) -> Metric:
        metric = self.metrics.get(when.metric or "")
        if metric is None:
            raise self.document.error((*place, "metric"), f"a metric of this class: {', '.join(self.metrics)}")
        return metric

    def _over(self, when: ConditionSpec, default: timedelta | None) -> timedelta:
        if when.over is None and default is not None:
            return default
        span = _span(self.document, (*self.place, "over"), when.over)
        if span <= _ZERO:
            raise self.document.error((*self.place, "over"), "a span longer than nothing")
        return span


_ASKED: Final = (
    (Comparison.ABOVE, "above"),
    (Comparison.BELOW, "below"),
    (Comparison.EQUALS, "equals"),
    (Comparison.IN, "among"),
    (Comparison.NOT_IN, "not_in"),
    (Comparison.RATE_ABOVE, "rate_above"),
    (Comparison.RATE_BELOW, "rate_below"),
    (Comparison.CHANGED, "changed"),
    (Comparison.STUCK, "stuck_for"),
    (Comparison.SILENT, "silent_for"),
)
_NAMES: Final = ("above", "below", "equals", "in", "not_in", "rate_above", "rate_below", "changed", "stuck_for",
    "silent_for")  # fmt: skip
_SPELLED: Final = {"among": "in", "every": "all", "some": "any"}
_AT_ONCE: Final = frozenset({Comparison.ABOVE, Comparison.BELOW, Comparison.EQUALS, Comparison.IN, Comparison.NOT_IN})
_OF_EVERY_TYPE: Final = frozenset({Comparison.CHANGED, Comparison.STUCK})


def _fits(metric: Metric, comparison: Comparison, value: Any) -> bool:
    if comparison in _OF_EVERY_TYPE:
        return True
    if comparison in {Comparison.IN, Comparison.NOT_IN}:
        return bool(value) and all(_fits(metric, Comparison.EQUALS, each) for each in value)
    if metric.type is MetricType.BOOL:
        return comparison is Comparison.EQUALS and isinstance(value, bool)
    if metric.type is MetricType.ENUM:
        return comparison is Comparison.EQUALS and value in metric.members
    return not isinstance(value, (bool, str))


def _beside(document: Document) -> frozenset[str]:
    rules = document.at(("rules",))
    return frozenset(rules) if isinstance(rules, dict) else frozenset()


def _by_urgency(step: tuple[float, Severity]) -> int:
    """Sort the most urgent first, as they are tried."""
    return tuple(Severity).index(step[1])
