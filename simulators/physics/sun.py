"""When the sun passes an altitude (the general solar position calculations of NOAA's Global Monitoring Laboratory)."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

HORIZON = -0.833
"""The sun's centre at sunrise and sunset: half its disc and the refraction of the air below the horizon."""


def _declination_and_equation(at: datetime) -> tuple[float, float]:
    """Give the sun's declination in radians and the equation of time in minutes."""
    day = at.timetuple().tm_yday - 1 + (at.hour - 12) / 24
    gamma = 2 * math.pi / 365.2425 * day
    declination = (
        0.006918 - 0.399912 * math.cos(gamma) + 0.070257 * math.sin(gamma) - 0.006758 * math.cos(2 * gamma)
        + 0.000907 * math.sin(2 * gamma) - 0.002697 * math.cos(3 * gamma) + 0.00148 * math.sin(3 * gamma)
    )  # fmt: skip
    equation = 229.18 * (
        0.000075 + 0.001868 * math.cos(gamma) - 0.032077 * math.sin(gamma)
        - 0.014615 * math.cos(2 * gamma) - 0.040849 * math.sin(2 * gamma)
    )  # fmt: skip
    return declination, equation


@lru_cache(maxsize=8192)
def day_light(day: date, latitude: float, longitude: float, altitude: float = HORIZON) -> tuple[datetime, datetime]:
    """Say when the sun rises above and sinks below `altitude` degrees on the civil day around local noon, in UTC."""
    noon = datetime.combine(day, time(12), UTC) - timedelta(minutes=4 * longitude)
    declination, equation = _declination_and_equation(noon)
    phi = math.radians(latitude)
    cosine = (math.sin(math.radians(altitude)) - math.sin(phi) * math.sin(declination)) / (
        math.cos(phi) * math.cos(declination)
    )
    half = timedelta(minutes=4 * math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
    transit = noon - timedelta(minutes=equation)
    return transit - half, transit + half
