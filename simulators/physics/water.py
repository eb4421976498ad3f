"""Water meters: a house where taps open and close, and a main that feeds a district."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate

from simulators.physics.chance import between, seeded, uniform, wander
from simulators.physics.weather import LOCAL, local_hour, summer

HOUSEHOLD = (0.30, 0.20, 0.15, 0.15, 0.30, 0.90, 1.60, 1.50, 1.05, 0.85, 0.85, 1.05,
             1.10, 0.80, 0.75, 0.85, 1.20, 1.75, 2.00, 1.85, 1.65, 1.40, 1.05, 0.70)  # fmt: skip
"""A Vietnamese household's demand by hour, mean 1: early morning, and a peak at six in the evening."""
INSTALLED = date(2025, 1, 1)
_DAY_S = 86_400
_CUMULATED = tuple(accumulate(HOUSEHOLD))


@dataclass(frozen=True, slots=True)
class Fixture:
    """A tap, basin, washing machine or shower: litres an hour while open, minutes open, its part of the day's water."""

    rate: float
    minutes: float
    part: float


FIXTURES = (
    Fixture(60, 1, 0.14),
    Fixture(360, 1, 0.36),
    Fixture(840, 10, 0.10),
    Fixture(480, 5, 0.40),
)


def _second_of_day(chance: float) -> float:
    """Turn a draw from [0, 1) into a second of the day, likelier where the profile is high."""
    wanted = chance * _CUMULATED[-1]
    hour = bisect_right(_CUMULATED, wanted)
    before = _CUMULATED[hour - 1] if hour else 0.0
    return 3600 * (hour + (wanted - before) / HOUSEHOLD[hour])


@lru_cache(maxsize=8192)
def _day_volume(seed: int, mean: float, day: date) -> float:
    """Draw a day's volume in m3."""
    return mean * between(0.6, 1.4, seed, "day", day.toordinal())


@lru_cache(maxsize=4096)
def _volume_before(seed: int, mean: float, day: date) -> float:
    return sum(_day_volume(seed, mean, INSTALLED + timedelta(days=n)) for n in range(max(0, (day - INSTALLED).days)))


@lru_cache(maxsize=4096)
def _openings(seed: int, mean: float, day: date) -> tuple[tuple[float, float, float], ...]:
    """Give a day's openings of taps: start and end in seconds of the day, m3/h. Together exactly the day's volume."""
    volume = _day_volume(seed, mean, day)
    drawn: list[tuple[float, float, float]] = []
    for kind, fixture in enumerate(FIXTURES):
        once = fixture.rate / 1000 * fixture.minutes / 60
        times = max(1, round(volume * fixture.part / once))
        length = 3600 * volume * fixture.part / times / (fixture.rate / 1000)
        for n in range(times):
            start = min(_second_of_day(uniform(seed, "tap", day.toordinal(), kind, n)), _DAY_S - length)
            drawn.append((start, start + length, fixture.rate / 1000))
    return tuple(drawn)


def _local_day(time: datetime) -> tuple[date, float]:
    local = time.astimezone(LOCAL)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return local.date(), (local - midnight).total_seconds()


def _common(city: int, seed: int, time: datetime, drop: float) -> dict[str, float | int | bool | str]:
    """Give what every meter says besides volume and flow. `drop` is the pressure lost to the flow, in bar."""
    at = time.timestamp()
    network = (
        3.1 - 0.35 * math.exp(-(((local_hour(time) - 18.5) / 2) ** 2)) + 0.08 * wander(seeded(city, "net"), at, 600)
    )
    return {
        "pressure": max(0.8, network - between(0, 0.9, seed, "height") - drop),
        "temperature": 24.5 + 4.5 * summer(time) + 0.2 * wander(seeded(seed, "water"), at, 1800),
        "battery": between(82, 99, seed, "battery"),
        "leak": False,
        "burst": False,
        "reverse_flow": False,
        "tamper": False,
        "dry": False,
        "fault": False,
        "battery_low": False,
        "blocked": False,
        "valve_open": True,
    }


@dataclass(frozen=True, slots=True)
class HouseMeter:
    """The meter of a household that uses `mean` m3 a day."""

    city: int
    seed: int
    mean: float = 0.5

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the meter measures."""
        day, second = _local_day(time)
        volume, flow = between(0, 40, self.seed, "start") + _volume_before(self.seed, self.mean, day), 0.0
        for start, end, rate in _openings(self.seed, self.mean, day):
            volume += rate * max(0.0, min(second, end) - start) / 3600 if second > start else 0.0
            flow += rate if start <= second < end else 0.0
        return {"volume": volume, "flow": flow, **_common(self.city, self.seed, time, 0.08 * flow * flow)}


@dataclass(frozen=True, slots=True)
class MainMeter:
    """A flow meter on a main that passes `mean` m3 an hour into a district; `night` of it never stops (leakage)."""

    city: int
    seed: int
    mean: float = 60.0
    night: float = 0.2

    def _demand(self, hour: float) -> float:
        """Flow in m3/h: the profile's hours joined by lines, on top of what flows all night."""
        index, part = int(hour) % 24, hour % 1.0
        shape = HOUSEHOLD[index] + (HOUSEHOLD[(index + 1) % 24] - HOUSEHOLD[index]) * part
        return self.mean * (self.night + (1 - self.night) * shape)

    def _passed(self, hour: float) -> float:
        """Integrate the day up to `hour`, in m3: whole hours as trapezoids, then the piece."""
        whole = int(hour)
        total = sum((self._demand(n) + self._demand(n + 1)) / 2 for n in range(whole))
        return total + (self._demand(whole) + self._demand(hour)) / 2 * (hour - whole)

    def at(self, time: datetime) -> dict[str, float | int | bool | str]:
        """Give everything the meter measures. The flow wobbles by half a percent, the register does not."""
        day, second = _local_day(time)
        flow = self._demand(second / 3600)
        volume = (day - INSTALLED).days * self._passed(24.0) + self._passed(second / 3600)
        wobble = 1 + 0.005 * wander(seeded(self.seed, "flow"), time.timestamp(), 5, 0.5)
        return {"volume": volume, "flow": flow * wobble, **_common(self.city, self.seed, time, 0.002 * flow)}
