"""The rules of every class, compiled once: what the hot loop asks, and what it needs to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from iot_core.alarms.rules import Compiled, Judge, compile_rule
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
    """A compiled rule of one class with its metric and that metric's bit; no metric: silence or plausibility."""

    compiled: Compiled
    class_key: str
    metric: Metric | None = None
    mask: int = 0

    @property
    def rule(self) -> AlarmRule:
        """The rule itself."""
        return self.compiled.rule

    @property
    def is_silence(self) -> bool:
        """Say whether the rule is about hearing nothing."""
        return self.rule.comparison is Comparison.SILENT


@dataclass(frozen=True, slots=True)
class ClassWatch:
    """Everything watched in one class. `levels` is the hot loop's: metric, mask, judge, rule."""

    device_class: DeviceClass
    watches: Mapping[str, Watch]
    levels: tuple[tuple[str, int, Judge, str], ...]
    masks: Mapping[str, int]
    implausible: str | None


def watch_class(device_class: DeviceClass, bits: Mapping[tuple[str, str], int]) -> ClassWatch:
    """Compile the rules of a class. `bits`: (class, metric) -> its number in the `bad` mask."""
    # Without a registry yet (a first start) bits follow the class's own order, as they will be assigned.
    masks = {
        metric.key: 1 << bits.get((device_class.key, metric.key), index)
        for index, metric in enumerate(device_class.metrics)
    }
    watches: dict[str, Watch] = {}
    for rule in device_class.rules:
        metric = device_class.metric(rule.metric) if rule.metric is not None else None
        mask = masks[metric.key] if metric is not None else 0
        watches[rule.key] = Watch(compile_rule(rule), device_class.key, metric, mask)
    implausible = implausible_rule(device_class.key) if device_class.life_safety else None
    if implausible is not None:
        watches[implausible.key] = Watch(compile_rule(implausible), device_class.key)
    levels = tuple(
        (watch.metric.key, watch.mask, watch.compiled.raises, key)
        for key, watch in watches.items()
        if watch.metric is not None
    )
    return ClassWatch(device_class, watches, levels, masks, implausible.key if implausible is not None else None)


def implausible_rule(class_key: str) -> AlarmRule:
    """Make the fault alarm of a life-safety class: a detector that reports nonsense does not protect."""
    return AlarmRule(
        key=f"{class_key}.implausible",
        title=Title(text("alarm.implausible", "vi"), text("alarm.implausible", "en")),
        severity=Severity.HIGH,
        comparison=Comparison.EQUALS,
        threshold=True,
    )


def number(metric: Metric, value: Value) -> float:
    """Show a value as the number it is stored as."""
    if isinstance(value, str):
        return float(metric.members.get(value, 0))
    return round(float(value), metric.precision) if metric.type is MetricType.FLOAT else float(value)
