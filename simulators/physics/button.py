"""A panic button under a counter: quiet until somebody presses it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from simulators.physics.chance import between

HELD = timedelta(seconds=10)
"""How long after a press the button still says so: repeats against a lost message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One button; `pressed` is when it was pressed last."""

    seed: int
    pressed: datetime | None = None

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the button says."""
        pressed = self.pressed is not None and self.pressed <= time < self.pressed + HELD
        values: dict[str, float | int | bool | str] = {
            "pressed": pressed,
            "tamper": False,
            "test": False,
            "fault": False,
            "battery": int(between(60, 100, self.seed, "battery")),
            "battery_low": False,
            "battery_voltage": between(2.8, 3.1, self.seed, "battery"),
        }
        return values | {"press": "long"} if pressed else values
