"""Requests and answers about classes and profiles."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from msgspec import field

from iot_core.api.shapes.base import Answer, Value
from iot_core.model import MetricType, Severity, Title


class Metric(Answer, frozen=True, kw_only=True):
    key: str
    title: Title
    type: MetricType
    ucum: str
    precision: int
    minimum: float | None
    maximum: float | None
    counter: bool
    members: dict[str, int]


class Rule(Answer, frozen=True, kw_only=True):
    key: str
    title: Title
    severity: Severity
    comparison: str
    metric: str | None
    threshold: Value
    hysteresis: float
    on_delay_s: float
    latched: bool
    source: str


class Class(Answer, frozen=True, kw_only=True):
    """`retired` metrics it had once; what was stored of them is kept and exported."""

    key: str
    title: Title
    life_safety: bool
    metrics: tuple[Metric, ...]
    retired: tuple[str, ...]
    rules: tuple[Rule, ...]


class Classes(Answer, frozen=True, kw_only=True):
    items: tuple[Class, ...]


class Profile(Answer, frozen=True, kw_only=True):
    """A vendor's model; `address` is the template of its units' addresses."""

    model: str
    vendor: str
    title: Title
    class_key: str = field(name="class")
    source: str
    interval_s: float
    address: str


class ProfileList(Answer, frozen=True, kw_only=True):
    items: tuple[Profile, ...]
