"""The weather over Hạ Long Bay: one sky for all stations, moist subtropical, monsoon in winter from the north-east."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from simulators.physics.chance import seeded, wander

LOCAL = ZoneInfo("Asia/Ho_Chi_Minh")
LATITUDE, LONGITUDE = 20.95, 107.07


@dataclass(frozen=True, slots=True)
class Weather:
    """Air temperature in degC, relative humidity in %, pressure at sea level in hPa, wind in m/s."""

    temperature: float
    humidity: float
    pressure: float
    wind: float


def local_hour(time: datetime) -> float:
    """Give the hour of the civil day with its fraction."""
    local = time.astimezone(LOCAL)
    return local.hour + local.minute / 60 + local.second / 3600


def summer(time: datetime) -> float:
    """Say how much summer it is: 1 in the middle of July, -1 in the middle of January."""
    return math.cos(2 * math.pi * (time.astimezone(LOCAL).timetuple().tm_yday - 196) / 365.25)


def _vapour_pressure(temperature: float) -> float:
    """Saturation vapour pressure over water in hPa (Magnus)."""
    return 6.112 * math.exp(17.62 * temperature / (243.12 + temperature))


def weather(seed: int, time: datetime) -> Weather:
    """Give the weather at a time. Humidity follows from a slow dew point, so it falls when the day warms."""
    at, hour, season = time.timestamp(), local_hour(time), summer(time)
    mean = 23.4 + 6.2 * season + 1.5 * wander(seeded(seed, "front"), at, 6 * 3600)
    temperature = mean + 3.0 * math.cos(2 * math.pi * (hour - 14) / 24)
    dew_point = mean - 4.5 + 1.2 * season + 1.2 * wander(seeded(seed, "dew"), at, 6 * 3600)
    humidity = 100 * _vapour_pressure(min(dew_point, temperature)) / _vapour_pressure(temperature)
    tide = 1.2 * math.cos(4 * math.pi * (hour - 10) / 24)
    pressure = 1012 - 6.5 * season + tide + 2.0 * wander(seeded(seed, "pressure"), at, 6 * 3600)
    wind = (
        2.2 * math.exp(0.45 * wander(seeded(seed, "wind"), at, 1800)) * (1.2 + 0.3 * math.sin(math.pi * hour / 12 - 2))
    )
    return Weather(temperature, max(25.0, min(99.5, humidity)), pressure, wind)
