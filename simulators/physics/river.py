"""A tidal river: its level at a bridge, and what is in its water. Rain lifts it, muddies it and thins it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulators.physics.chance import between, seeded, wander
from simulators.physics.station import rain_total
from simulators.physics.weather import summer

TIDE_S = 89_428
"""The tide of Hạ Long Bay comes once in a lunar day (24 h 50 min 28 s)."""
_BRIDGE_M = 8.0
_ALERT_M, _DANGER_M = 4.0, 5.0
_RUNS_OFF = timedelta(hours=6)


def run_off(city: int, time: datetime) -> float:
    """Give the rain of the last six hours in mm: what still runs off the city."""
    return rain_total(city, time) - rain_total(city, time - _RUNS_OFF)


@dataclass(frozen=True, slots=True)
class RiverGauge:
    """A gauge under a bridge."""

    city: int
    seed: int

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything that gauges measure."""
        at, rain = time.timestamp(), run_off(self.city, time)
        phase = 2 * math.pi * at / TIDE_S
        spring = 1 + 0.35 * math.cos(2 * math.pi * at / (13.66 * 86_400))
        level = 2.2 + 0.9 * spring * math.cos(phase) + 0.015 * rain
        level += 0.01 * wander(seeded(self.seed, "wave"), at, 20) + between(-0.2, 0.2, self.seed, "zero")
        velocity = -0.5 * spring * math.sin(phase) + 0.25 + 0.01 * rain
        return {
            "level": level,
            "distance": _BRIDGE_M - level,
            "depth": level + 0.8,
            "fill": 100 * level / _BRIDGE_M,
            "velocity": velocity,
            "discharge": velocity * 40 * (level + 0.8),
            "temperature": 24.5 + 5 * summer(time),
            "conductivity": max(150.0, 900 - 8 * rain),
            "alert": level >= _ALERT_M,
            "danger": level >= _DANGER_M,
            "tilt": False,
            "battery": between(70, 100, self.seed, "battery"),
            "battery_voltage": between(3.3, 3.7, self.seed, "battery"),
            "fault": False,
        }


@dataclass(frozen=True, slots=True)
class WaterProbe:
    """A multi-parameter probe in the river, or in the soil of a park beside it."""

    city: int
    seed: int

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything that probes measure."""
        at, rain = time.timestamp(), run_off(self.city, time)
        temperature = 24.5 + 5 * summer(time) + 0.3 * wander(seeded(self.seed, "temperature"), at, 1800)
        turbidity = (18 + 2.5 * rain) * math.exp(0.1 * wander(seeded(self.seed, "turbidity"), at, 300))
        conductivity = max(120.0, 420 - 4 * rain + 10 * wander(seeded(self.seed, "salt"), at, 900))
        saturation = 78 + 6 * math.sin(2 * math.pi * at / 86_400) - min(20.0, 0.3 * rain)
        # Oxygen that fresh water holds at sea level, mg/L (a cubic through the table of Benson and Krause).
        full = 14.6 - 0.41 * temperature + 0.008 * temperature**2 - 0.000077 * temperature**3
        return {
            "temperature": temperature,
            "ph": 7.3 + 0.1 * wander(seeded(self.seed, "ph"), at, 1800) - min(0.5, 0.01 * rain),
            "conductivity": conductivity,
            "turbidity": turbidity,
            "dissolved_oxygen": full * saturation / 100,
            "oxygen_saturation": saturation,
            "orp": 210 + 12 * wander(seeded(self.seed, "orp"), at, 1800),
            "tss": 1.4 * turbidity,
            "tds": 0.64 * conductivity,
            "salinity": 0.0005 * conductivity,
            "chlorine": 0.02,
            "ammonium": 0.4 + 0.004 * rain,
            "nitrate": 1.1,
            "cod": 14 + 0.1 * rain,
            "chlorophyll": 9.0,
            "soil_moisture": 32 + min(20.0, 0.5 * rain),
            "battery": between(70, 100, self.seed, "battery"),
            "battery_voltage": between(3.3, 3.7, self.seed, "battery"),
            "fault": False,
        }
