"""A weather station in the open: the bay's sky, a monsoon wind, showers that mostly fall on summer afternoons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from simulators.physics.air import sunshine
from simulators.physics.chance import between, seeded, uniform, wander
from simulators.physics.weather import LOCAL, summer, weather

SLOT_S = 1800
INSTALLED = date(2025, 1, 1)
_SUN = 1050.0
"""W/m2 of a clear noon."""
_LUX_PER_WATT = 115.0


@lru_cache(maxsize=8192)
def showers(seed: int, day: date) -> tuple[float, ...]:
    """Draw a day's rain rates in mm/h, one for each half hour: dry, or one shower that swells and thins out."""
    season = summer(datetime(day.year, day.month, day.day, 12, tzinfo=LOCAL))
    if uniform(seed, "wet", day.toordinal()) > 0.30 + 0.18 * season:
        return (0.0,) * 48
    middle = between(20, 44, seed, "middle", day.toordinal()) if season > 0 else between(0, 48, seed, "middle")
    width = between(0.8, 3.0, seed, "width", day.toordinal())
    peak = (8 + 12 * max(0.0, season)) * between(0.05, 1.6, seed, "peak", day.toordinal()) ** 2
    rates = (peak * math.exp(-(((slot - middle) / width) ** 2)) for slot in range(48))
    return tuple(rate if rate >= 0.1 else 0.0 for rate in rates)


@lru_cache(maxsize=4096)
def _fallen_before(seed: int, day: date) -> float:
    days = range(max(0, (day - INSTALLED).days))
    return sum(sum(showers(seed, INSTALLED + timedelta(days=n))) for n in days) * SLOT_S / 3600


def rain_rate(seed: int, time: datetime) -> float:
    """Give the rain rate in mm/h."""
    local = time.astimezone(LOCAL)
    return showers(seed, local.date())[(local.hour * 3600 + local.minute * 60 + local.second) // SLOT_S]


def rain_total(seed: int, time: datetime) -> float:
    """Integrate the rain since installation, in mm."""
    local = time.astimezone(LOCAL)
    rates = showers(seed, local.date())
    whole, rest = divmod(local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6, SLOT_S)
    fallen = sum(rates[: int(whole)]) * SLOT_S + rates[int(whole)] * rest
    return _fallen_before(seed, local.date()) + fallen / 3600


@dataclass(frozen=True, slots=True)
class WeatherStation:
    """One station under the city's sky."""

    city: int
    seed: int

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the station measures."""
        at, sky, rate = time.timestamp(), weather(self.city, time), rain_rate(self.city, time)
        wind = sky.wind * between(0.9, 1.4, self.seed, "site") * (1 + min(1.0, rate / 30))
        cloud = 0.75 + 0.2 * math.tanh(wander(seeded(self.city, "cloud"), at, 1800)) - min(0.6, rate / 10)
        sun = _SUN * sunshine(time) * max(0.05, cloud)
        logarithm = math.log(sky.humidity / 100) + 17.62 * sky.temperature / (243.12 + sky.temperature)
        monsoon = 90 + 50 * summer(time)  # from the north-east in winter, from the south-east in summer
        return {
            "temperature": sky.temperature + 0.2 * wander(seeded(self.seed, "temperature"), at, 120),
            "humidity": max(15.0, min(100.0, sky.humidity + min(15.0, 2 * rate))),
            "pressure": sky.pressure - between(0.2, 6.0, self.seed, "height"),
            "dew_point": 243.12 * logarithm / (17.62 - logarithm),
            "wind_speed": wind,
            "wind_gust": wind * (1.4 + 0.15 * abs(wander(seeded(self.seed, "gust"), at, 10))),
            "wind_direction": (monsoon + 18 * wander(seeded(self.city, "direction"), at, 600)) % 360,
            "rain": rate / 60,
            "rain_total": rain_total(self.city, time),
            "rain_rate": rate,
            "solar_radiation": sun,
            "illuminance": sun * _LUX_PER_WATT,
            "uv_index": 11 * sun / _SUN,
            "lightning_strikes": int(rate / 8),
            "lightning_distance": max(1.0, 18 - rate / 2),
            "noise": 44 + min(20.0, 2 * wind + rate / 2),
            "battery": between(70, 100, self.seed, "battery"),
            "battery_voltage": between(3.3, 3.7, self.seed, "battery"),
            "fault": False,
        }
