"""The rules of every class, compiled once: what the hot loop asks, and what it needs to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from iot_core.alarms.rules import Compiled, Judge, compile_rule
from iot_core.alarms.terms import Asked, compile_terms, terms_of
from iot_core.messages import text
from iot_core.model import AlarmRule, Comparison, DeviceClass, Metric, MetricType, Severity, Title, Value


class HasInterval(Protocol):
    """A profile, as far as alarms need one."""

    @property
    def model(self) -> str:
        """Its key: what a unit's `profile` names."""
        ...

    @property
    def interval(self) -> timedelta:
        """How often a unit of this model speaks."""
        ...


class Knowledge(Protocol):
    """The classes and profiles; `iot_core.profiles.Profiles` is one."""

    @property
    def classes(self) -> Mapping[str, DeviceClass]:
        """All device classes by key."""
        ...

    def all(self) -> Sequence[HasInterval]:
        """All profiles, those that say how often their devices speak."""
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """A compiled rule of one class with its metric and that metric's bit; no metric: silence or plausibility.

    A rule over several metrics has `asked`, and `masks` names them.
    """

    compiled: Compiled
    class_key: str
    metric: Metric | None = None
    mask: int = 0
    asked: Asked | None = None
    masks: Mapping[str, int] = field(default_factory=dict)

    @property
    def rule(self) -> AlarmRule:
        """The rule itself."""
        return self.compiled.rule

    @property
    def is_silence(self) -> bool:
        """Say whether the rule is about hearing nothing of a device."""
        return self.rule.comparison is Comparison.SILENT and self.rule.metric is None

    @property
    def is_computed(self) -> bool:
        """Say whether it is answered from stored data, every few seconds, and not by the reading at hand."""
        rule = self.rule
        return rule.comparison in _COMPUTED or rule.derived is not None or rule.rollup is not None or (
            rule.comparison is Comparison.SILENT and rule.metric is not None)  # fmt: skip


_COMPUTED: Final = frozenset({Comparison.RATE_ABOVE, Comparison.RATE_BELOW, Comparison.CHANGED, Comparison.STUCK})


@dataclass(frozen=True, slots=True, eq=False)
class ClassWatch:
    """Everything watched in one class, or at the devices whose rules are alike.

    `levels` and `groups` are the hot loop's: metric, mask, judge, rule; metrics, mask, question, rule. `feeds` says
    which rules over several devices count a rule of one device, `hours` when a rule may ring, of those that say so.
    """

    device_class: DeviceClass
    watches: Mapping[str, Watch]
    levels: tuple[tuple[str, int, Judge, str], ...]
    groups: tuple[tuple[frozenset[str], int, Asked, str], ...]
    masks: Mapping[str, int]
    implausible: str | None
    hours: Mapping[str, str]
    feeds: Mapping[str, tuple[Watch, ...]]


def masks_of(device_class: DeviceClass, bits: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Give each metric's bit in the `bad` mask; `bits`: (class, metric) -> its number."""
    # Without a registry yet (a first start) bits follow the class's own order, as they will be assigned.
    return {
        metric.key: 1 << bits.get((device_class.key, metric.key), index)
        for index, metric in enumerate(device_class.metrics)
    }


def watch_class(device_class: DeviceClass, bits: Mapping[tuple[str, str], int]) -> ClassWatch:
    """Compile the rules of a class. `bits`: (class, metric) -> its number in the `bad` mask."""
    return watch_rules(device_class, device_class.rules, bits)


def watch_rules(
    device_class: DeviceClass, rules: Iterable[AlarmRule], bits: Mapping[tuple[str, str], int]
) -> ClassWatch:
    """Compile rules for devices of a class."""
    masks = masks_of(device_class, bits)
    watches = {rule.key: _watch(rule, device_class, masks) for rule in rules}
    implausible = implausible_rule(device_class.key) if device_class.life_safety else None
    if implausible is not None:
        watches[implausible.key] = Watch(compile_rule(implausible), device_class.key)
    at_once = [(key, watch) for key, watch in watches.items() if not watch.is_computed]
    feeds: dict[str, tuple[Watch, ...]] = {}
    for watch in watches.values():
        for fed in watch.rule.rules:
            feeds[fed] = (*feeds.get(fed, ()), watch)
    return ClassWatch(
        device_class,
        watches,
        tuple((w.metric.key, w.mask, w.compiled.raises, key) for key, w in at_once if w.metric is not None),
        tuple(
            (frozenset(w.masks), sum(w.masks.values()), w.asked, key) for key, w in at_once if w.asked is not None
        ),
        masks,
        implausible.key if implausible is not None else None,
        {key: watch.rule.hours for key, watch in watches.items() if watch.rule.hours},
        feeds,
    )  # fmt: skip


def _watch(rule: AlarmRule, device_class: DeviceClass, masks: Mapping[str, int]) -> Watch:
    if rule.comparison is Comparison.TERMS:
        # In the rule's own order: its alarm shows the first of them that the message said.
        asked = {term.metric: masks[term.metric] for term in terms_of(rule.terms) if term.metric is not None}
        return Watch(compile_rule(rule), device_class.key, asked=compile_terms(rule), masks=asked)
    metric = device_class.metric(rule.metric) if rule.metric is not None else None
    return Watch(compile_rule(rule), device_class.key, metric, masks[metric.key] if metric is not None else 0)


def implausible_rule(class_key: str) -> AlarmRule:
    """Make the fault alarm of a life-safety class: a detector that reports nonsense does not protect."""
    return AlarmRule(
        key=f"{class_key}.implausible",
        title=Title(text("alarm.implausible", "vi"), text("alarm.implausible", "en")),
        severity=Severity.HIGH,
        comparison=Comparison.EQUALS,
        threshold=True,
        runbook=Title(text("alarm.implausible_runbook", "vi"), text("alarm.implausible_runbook", "en")),
    )


def as_said(metric: Metric, column: str) -> str:
    """Write the SQL of a stored value as the number that was said: four bytes keep 0.1 as 0.10000000149."""
    if metric.type is MetricType.BOOL:
        return f"{column}::int::float8"
    if metric.type is not MetricType.FLOAT:
        return f"{column}::float8"
    scale = f"{10.0**metric.precision!r}::float8"
    return f"round({column}::float8 * {scale}) / {scale}"


def number(metric: Metric, value: Value) -> float:
    """Show a value as the number it is stored as."""
    if isinstance(value, str):
        return float(metric.members.get(value, 0))
    return round(float(value), metric.precision) if metric.type is MetricType.FLOAT else float(value)
