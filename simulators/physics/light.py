"""A LED streetlight on an astronomic clock, dimmed after ten at night, with the power it takes and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise

from simulators.physics.chance import between, seeded, wander
from simulators.physics.sun import day_light
from simulators.physics.weather import LATITUDE, LOCAL, LONGITUDE, local_hour, weather

SWITCHED_AT = -4.0
"""The sun's altitude, in degrees, at which lamps go on and off: some 17 minutes outside sunset and sunrise."""
LATE, EARLY = time(22), time(5)
DIMMED = 0.5
INSTALLED = date(2025, 1, 1)
DIM_EXPONENT = 1.03
_POWER_FACTOR = ((0.0, 0.30), (0.10, 0.50), (0.30, 0.80), (0.50, 0.90), (0.75, 0.95), (1.0, 0.97))


def power_factor(dim: float) -> float:
    """Power factor of a driver at a dim level 0..1: it falls when little is drawn through the same filter."""
    for (low, first), (high, second) in pairwise(_POWER_FACTOR):
        if dim <= high:
            return first + (second - first) * (dim - low) / (high - low)
    return _POWER_FACTOR[-1][1]


@lru_cache(maxsize=4096)
def night(evening: date) -> tuple[tuple[datetime, datetime, float], ...]:
    """Give the stretches of the night that begins on `evening`: from, to, dim level."""
    dusk = day_light(evening, LATITUDE, LONGITUDE, SWITCHED_AT)[1]
    dawn = day_light(evening + timedelta(days=1), LATITUDE, LONGITUDE, SWITCHED_AT)[0]
    late = datetime.combine(evening, LATE, LOCAL).astimezone(UTC)
    early = datetime.combine(evening + timedelta(days=1), EARLY, LOCAL).astimezone(UTC)
    return (dusk, late, 1.0), (late, early, DIMMED), (early, max(early, dawn), 1.0)


def dim_at(time: datetime) -> float:
    """Give the commanded level, 0..1."""
    evening = (time.astimezone(LOCAL) - timedelta(hours=12)).date()
    return next((dim for start, end, dim in night(evening) if start <= time < end), 0.0)


@lru_cache(maxsize=4096)
def _equivalent_hours(evening: date, until: datetime | None) -> float:
    """Hours at full power that a night (up to `until`) is worth, by the dimming exponent."""
    total = 0.0
    for start, end, dim in night(evening):
        stop = end if until is None else min(end, until)
        total += max(0.0, (stop - start).total_seconds()) / 3600 * dim**DIM_EXPONENT
    return total


@lru_cache(maxsize=4096)
def _equivalent_hours_before(evening: date) -> float:
    """Sum the nights since installation, `evening`'s not included."""
    return sum(
        _equivalent_hours(INSTALLED + timedelta(days=n), None) for n in range(max(0, (evening - INSTALLED).days))
    )


@dataclass(frozen=True, slots=True)
class Lamp:
    """One luminaire of `rated` watts; its node draws `standby` watts day and night."""

    city: int
    seed: int
    rated: float = 100.0
    standby: float = 0.5

    def _power(self, dim: float) -> float:
        return self.standby + (self.rated - self.standby) * float(dim**DIM_EXPONENT)

    def energy(self, time: datetime) -> float:
        """Integrate the power since installation, in kWh. Drivers hold their power whatever the mains do."""
        evening = (time.astimezone(LOCAL) - timedelta(hours=12)).date()
        start = datetime.combine(INSTALLED, datetime.min.time(), LOCAL)
        full = _equivalent_hours_before(evening) + _equivalent_hours(evening, time)
        hours = max(0.0, (time - start).total_seconds() / 3600)
        return (self.standby * hours + (self.rated - self.standby) * full) / 1000

    @staticmethod
    def lit_hours(time: datetime) -> float:
        """Count the hours of light since installation: eleven and a half a night, near enough for the tropics."""
        start = datetime.combine(INSTALLED, datetime.min.time(), LOCAL)
        return max(0.0, (time - start).total_seconds() / 86_400 * 11.5)

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the node measures."""
        at, dim = time.timestamp(), dim_at(time)
        power, factor = self._power(dim), power_factor(dim)
        sag = 4 * math.exp(-(((local_hour(time) - 19.5) / 2.5) ** 2))
        voltage = between(222, 228, self.seed, "feeder") - sag + 1.5 * wander(seeded(self.seed, "voltage"), at, 30)
        return {
            "on": dim > 0,
            "dim": 100 * dim,
            "power": power,
            "voltage": voltage,
            "current": power / (voltage * factor),
            "power_factor": factor,
            "energy": self.energy(time),
            "temperature": weather(self.city, time).temperature + 18 * power / self.rated,
            "lamp_failure": False,
            "day_burner": False,
            "gear_failure": False,
            "relay_failure": False,
            "overload": False,
            "lamp_hours": self.lit_hours(time),
        }
