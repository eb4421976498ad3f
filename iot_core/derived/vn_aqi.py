"""VN_AQI, Vietnam's air quality index: by the hour (nowcast) and by the day.

Source: Quyết định 1459/QĐ-TCMT of 12 November 2019; sections and tables below are its own. Concentrations are 1-hour
means in ug/m3 at 25 degC and 101.325 kPa, CO too. An hour without data is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Final

__all__ = ["BREAKPOINTS", "SOURCE", "Aqi", "daily", "hourly", "nowcast", "sub_index"]

SOURCE: Final = "VN_AQI, QĐ 1459/QĐ-TCMT"
_INDEX: Final = (0, 50, 100, 150, 200, 300, 400, 500)
BREAKPOINTS: Final[Mapping[str, Sequence[float]]] = {
    "o3_1h": (0, 160, 200, 300, 400, 800, 1_000, 1_200),
    "o3_8h": (0, 100, 120, 170, 210, 400),
    "co": (0, 10_000, 30_000, 45_000, 60_000, 90_000, 120_000, 150_000),
    "so2": (0, 125, 350, 550, 800, 1_600, 2_100, 2_630),
    "no2": (0, 100, 200, 700, 1_200, 2_350, 3_100, 3_850),
    "pm10": (0, 50, 150, 250, 350, 420, 500, 600),
    "pm25": (0, 25, 50, 80, 150, 250, 350, 500),
}
"""Table 2. The intervals touch: there is no gap between 25 and 25.1."""
PARTICLES: Final = ("pm25", "pm10")
GASES: Final = ("so2", "no2", "co")
NOWCAST_HOURS: Final = 12
LEAST_SHARE: Final = 0.75
"""Share of a day's or of eight hours' means that must be there. Ours: the Decision sets no such share (2.2.2)."""
_O3_8H_TOP: Final = 400.0

Hours = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Aqi:
    """An index with the pollutant that sets it, and the index of each pollutant that had data."""

    value: int
    dominant: str
    parts: Mapping[str, int]


def sub_index(pollutant: str, concentration: float) -> float:
    """Give the index of one pollutant, not rounded (formula 1); capped at 500, because table 2 ends there.

    sub_index("pm25", 20.266) -> 40.53
    """
    steps = BREAKPOINTS[pollutant]
    if concentration >= steps[-1]:
        return float(_INDEX[len(steps) - 1])
    step = next(i for i in range(1, len(steps)) if concentration < steps[i])
    low, high = steps[step - 1], steps[step]
    return (_INDEX[step] - _INDEX[step - 1]) / (high - low) * (max(concentration, 0) - low) + _INDEX[step - 1]


def nowcast(hours: Hours) -> float | None:
    """Weigh the last 12 hours of a particle metric, newest first (formula 2, section 2.2.1).

    None unless two of the newest three hours are there. The Decision writes the sum for w = 1/2 without its
    denominator, which is right only when no hour is missing; both cases are normalised here.
    """
    said = list(hours[:NOWCAST_HOURS])
    if sum(value is not None for value in said[:3]) < 2:
        return None
    known = [value for value in said if value is not None]
    highest = max(known)
    weight = max(min(known) / highest, 0.5) if highest > 0 else 1.0
    weighted = [(weight**age, value) for age, value in enumerate(said) if value is not None]
    return sum(share * value for share, value in weighted) / sum(share for share, _ in weighted)


def hourly(hours: Mapping[str, Hours]) -> Aqi | None:
    """Give the index of an hour from the hours up to it, newest first: `pm25`, `pm10`, `o3`, `so2`, `no2`, `co`.

    None without a particle metric (section 2.1.b).
    """
    found = {name: nowcast(hours[name]) for name in PARTICLES if name in hours}
    found |= {name: hours[name][0] for name in GASES if hours.get(name)}
    if hours.get("o3"):
        found["o3_1h"] = hours["o3"][0]
    return _worst(found)


def daily(hours: Mapping[str, Hours]) -> Aqi | None:
    """Give the index of a civil day from its 24 hours, oldest first (section 2.2.2).

    `o3` may have 31 hours: the seven before midnight are part of the first running means over eight hours.
    """
    found: dict[str, float | None] = {name: _mean(hours[name], 24) for name in PARTICLES if name in hours}
    found |= {name: _highest(hours[name]) for name in GASES if name in hours}
    ozone = hours.get("o3", ())
    found["o3_1h"] = _highest(ozone[-24:])
    running = [_mean(ozone[end - 8 : end], 8) for end in range(8, len(ozone) + 1)]
    found["o3_8h"] = _highest(running)
    if found["o3_8h"] is not None and found["o3_8h"] > _O3_8H_TOP:
        found["o3_8h"] = None  # above it only the 1-hour column counts
    return _worst(found)


def _worst(found: Mapping[str, float | None]) -> Aqi | None:
    parts = {name: sub_index(name, value) for name, value in found.items() if value is not None}
    if not any(name in parts for name in PARTICLES):
        return None
    dominant = max(parts, key=lambda name: parts[name])
    rounded = {name: _half_up(value) for name, value in parts.items()}
    return Aqi(rounded[dominant], dominant, rounded)


def _mean(values: Hours, hours: int) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) >= hours * LEAST_SHARE else None


def _highest(values: Hours) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _half_up(value: float) -> int:
    """Round as the Decision's examples do: 109.5 is 110, and so is no banker's 110.5."""
    return floor(value + 0.5)
