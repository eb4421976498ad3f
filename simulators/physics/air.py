"""An air-quality station beside a street: traffic's two peaks, winter's inversions, wind that thins, slow chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from simulators.physics.chance import between, seeded, wander
from simulators.physics.sun import day_light
from simulators.physics.weather import LATITUDE, LOCAL, LONGITUDE, local_hour, summer, weather


def traffic(time: datetime) -> float:
    """Traffic on a main street, 0..1: peaks at 07:15 and 17:30, half as high at the weekend."""
    hour = local_hour(time)
    peaks = math.exp(-(((hour - 7.25) / 1.3) ** 2)) + math.exp(-(((hour - 17.5) / 1.6) ** 2))
    day = 0.35 * math.exp(-(((hour - 13) / 5) ** 2))
    week = 0.6 if time.astimezone(LOCAL).weekday() >= 5 else 1.0
    return min(1.0, 0.06 + week * (0.75 * peaks + day))


def sunshine(time: datetime) -> float:
    """How high the sun stands, 0 at night to 1 at noon: what makes ozone."""
    rise, sink = day_light(time.astimezone(LOCAL).date(), LATITUDE, LONGITUDE)
    if not rise < time < sink:
        return 0.0
    return math.sin(math.pi * (time - rise) / (sink - rise))


@dataclass(frozen=True, slots=True)
class AirStation:
    """One station. `city` seeds the weather that all stations share, `seed` its own street."""

    city: int
    seed: int

    def _noise(self, name: str, at: float, step_s: float = 120.0) -> float:
        return wander(seeded(self.seed, name), at, step_s)

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the station measures."""
        at, sky, cars = time.timestamp(), weather(self.city, time), traffic(time)
        street = between(0.75, 1.3, self.seed, "street")
        thinning = 1 / (0.55 + 0.22 * sky.wind)
        background = (30 - 13 * summer(time)) * math.exp(0.15 * wander(seeded(self.city, "haze"), at, 3600))
        pm25 = street * thinning * background * (0.65 + 0.6 * cars) * math.exp(0.12 * self._noise("pm25", at))
        fine_part = between(0.55, 0.68, self.seed, "fine") * math.exp(0.03 * self._noise("fine", at))
        no2 = street * thinning * (8 + 55 * cars) * math.exp(0.15 * self._noise("no2", at))
        ozone = (18 + 95 * sunshine(time)) * math.exp(0.1 * self._noise("o3", at)) * 40 / (40 + no2)
        return {
            "pm1": pm25 * between(0.66, 0.76, self.seed, "pm1"),
            "pm25": pm25,
            "pm10": pm25 / min(0.9, fine_part) + 1.2 * sky.wind,
            "no2": no2,
            "o3": ozone,
            "so2": 6 * thinning * math.exp(0.2 * self._noise("so2", at)),
            "co": street * thinning * (350 + 900 * cars) * math.exp(0.12 * self._noise("co", at)),
            "co2": 418 + street * thinning * 45 * cars + 4 * self._noise("co2", at),
            "temperature": sky.temperature + 0.4 * self._noise("temperature", at),
            "humidity": max(15.0, min(100.0, sky.humidity + 1.2 * self._noise("humidity", at))),
            "pressure": sky.pressure - between(0.2, 6.0, self.seed, "height") + 0.1 * self._noise("pressure", at),
            "noise": 49 + 8 * math.log10(1 + 60 * cars * street) + 1.5 * self._noise("noise", at, 15),
            "no": 0.35 * no2,
            "h2s": 3 * thinning,
            "nh3": 9 * thinning,
            "hcho": 4 + 6 * cars,
            "pm4": 1.15 * pm25,
            "battery": 96 + 3 * math.sin(math.pi * (local_hour(time) - 9) / 12),
        }
