"""A fire detector on a ceiling, quiet for years, and a fire below it that grows with the square of time.

Q = alpha t^2 (kW)  ->  ceiling jet: temperature rise (Alpert)  ->  optical density, CO in proportion
                                                                ->  smoke at the alarm point, heat at 58 degC
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulators.physics.chance import between, seeded, uniform, wander
from simulators.physics.weather import weather

SLOW, MEDIUM, FAST, ULTRA_FAST = 0.002930, 0.01172, 0.0469, 0.1876
"""Fire growth in kW/s2: 1055 kW after 600, 300, 150 and 75 s."""
SMOKE_ALARM = 0.15
"""dB/m: the usual alarm point of an optical detector; EN 54-7 asks for at least 0.05."""
HEAT_ALARM = 58.0
"""degC: a common setting of class A1 detectors (EN 54-5: 54 to 65)."""
CO_ALARM = 300.0
"""ppm at which EN 50291-1 asks for an alarm within three minutes."""
_DENSITY_PER_KELVIN = 0.08
"""dB/m of smoke for each kelvin of the ceiling jet: between wood and polyurethane foam."""
_CO_PER_KELVIN = 6.0
_HALVED_IN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A fire: when it began, how fast it grows, how large it gets, when it is put out."""

    ignited: datetime
    growth: float = FAST
    peak_kw: float = 1500.0
    burns: timedelta = timedelta(minutes=10)

    def heat_release(self, time: datetime, lag_s: float = 0.0) -> float:
        """Give the heat released, in kW, as it is felt `lag_s` later."""
        since = (time - self.ignited).total_seconds() - lag_s
        if since <= 0:
            return 0.0
        out = self.burns.total_seconds()
        grown = min(self.peak_kw, self.growth * min(since, out) ** 2)
        return grown * math.exp2(-max(0.0, since - out) / _HALVED_IN_S)


def jet_rise(heat_kw: float, distance: float, height: float) -> float:
    """Give the temperature rise of the ceiling jet in kelvin (Alpert), `distance` metres beside the plume's axis."""
    if distance / height <= 0.18:
        return float(16.9 * heat_kw ** (2 / 3) / height ** (5 / 3))
    return float(5.38 * (heat_kw / distance) ** (2 / 3) / height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A multi-criteria detector, `distance` metres beside where a fire would burn, under a ceiling of `height`."""

    city: int
    seed: int
    distance: float = 2.0
    height: float = 3.0
    fire: Fire | None = None
    zone: bool = False
    """It says the alarm of a zone, as a panel does that tells no smoke from heat."""

    def _rise(self, time: datetime) -> float:
        if self.fire is None:
            return 0.0
        return jet_rise(self.fire.heat_release(time, self.distance / 2), self.distance, self.height)

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the detector measures and decides."""
        at, rise = time.timestamp(), self._rise(time)
        dust = 0.006 + 0.0015 * wander(seeded(self.seed, "smoke"), at, 10)
        density = max(0.0, dust) + min(6.0, _DENSITY_PER_KELVIN * rise)
        indoor = 24 + 0.3 * (weather(self.city, time).temperature - 24) + between(-1, 1, self.seed, "room")
        temperature = indoor + 0.1 * wander(seeded(self.seed, "temperature"), at, 60) + rise
        co = max(0.0, 1.5 + 0.4 * wander(seeded(self.seed, "co"), at, 60)) + _CO_PER_KELVIN * rise
        return {
            "smoke": density >= SMOKE_ALARM,
            "heat": temperature >= HEAT_ALARM,
            "co_alarm": co >= CO_ALARM,
            "smoke_density": density,
            "temperature": min(temperature, 125.0),
            "co": min(co, 999.0),
            "battery": 80 + int(20 * uniform(self.seed, "battery")),
            "battery_low": False,
            "call_point": False,
            "fault": False,
            "tamper": False,
            "test": False,
            "gas": False,
            "alarm": self.zone and (density >= SMOKE_ALARM or temperature >= HEAT_ALARM),
            "prealarm": self.zone and SMOKE_ALARM > density >= 0.65 * SMOKE_ALARM,
            "disabled": False,
        }
