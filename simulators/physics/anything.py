"""A device of a class that nobody wrote physics for: every metric wanders inside its plausible range."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from iot_core.model import MetricType
from simulators.physics.chance import between, seeded, wander

if TYPE_CHECKING:
    from iot_core.model import DeviceClass, Metric, Value

_STEP_S: Final = 60.0
_HOUR_S: Final = 3600
_WIDE: Final = 100.0
"""Of a metric without a range: what lies between its ends."""
_DAYS: Final = 3650.0
"""A counter passes its range in ten years, and then begins again."""


@dataclass(frozen=True, slots=True)
class Anything:
    """One device of a class of somebody's own."""

    device_class: DeviceClass
    seed: int

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give what it measures."""
        return {metric.key: self._value(metric, time.timestamp()) for metric in self.device_class.metrics}

    def _value(self, metric: Metric, at: float) -> Value:
        own = seeded(self.seed, metric.key)
        if metric.type is MetricType.BOOL:
            return False  # a truth value is an alarm more often than not
        if metric.type is MetricType.ENUM:
            members = sorted(metric.members)
            return members[seeded(own, int(at // _HOUR_S)) % len(members)]
        low = metric.minimum if metric.minimum is not None else min(0.0, (metric.maximum or _WIDE) - _WIDE)
        high = metric.maximum if metric.maximum is not None else low + _WIDE
        if metric.counter:
            number = low + (high - low) * (at / 86_400 / _DAYS % 1)
        else:
            middle = low + (high - low) * between(0.3, 0.6, own, "middle")
            number = min(high, max(low, middle + 0.03 * (high - low) * wander(own, at, _STEP_S)))
        return round(number) if metric.type is MetricType.INT else number
