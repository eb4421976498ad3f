"""Monitoring files after Circular 10/2021/TT-BTNMT: a line a parameter, tab-separated, CRLF. Pure.

PM2,5<TAB>37.4<TAB>ug/m3<TAB>20260901100500<TAB>00

Status 00 measuring, 01 calibrating, 02 device error. Form and symbols as installed loggers write them (Annex 15, table
34 at second hand: the annex itself was not at hand), so file name and folder are a template in the settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Final
from zoneinfo import ZoneInfo

PERIOD: Final = timedelta(minutes=5)
MEASURING: Final = "00"
CALIBRATING: Final = "01"
FAILING: Final = "02"
SYMBOLS: Final = {
    "pm25": ("PM2,5", "ug/m3"), "pm10": ("PM10", "ug/m3"), "o3": ("O3", "ug/m3"), "no": ("NO", "ug/m3"),
    "no2": ("NO2", "ug/m3"), "so2": ("SO2", "ug/m3"), "co": ("CO", "ug/m3"), "h2s": ("H2S", "ug/m3"),
    "nh3": ("NH3", "ug/m3"), "temperature": ("Temp", "oC"), "humidity": ("RH", "%"), "pressure": ("P", "hPa"),
    "ph": ("pH", "-"), "tss": ("TSS", "mg/L"), "cod": ("COD", "mg/L"), "ammonium": ("NH4", "mg/L"),
    "flow": ("Flow", "m3/h"), "toc": ("TOC", "mg/L"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One metric's value in one row: `usable` where it counts, `calibrating` where the row says so."""

    metric: str
    value: float
    usable: bool
    calibrating: bool


@dataclass(frozen=True, slots=True)
class File:
    """A file for one station and period."""

    name: str
    body: str
    lines: int

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.body.encode()).hexdigest()


def make(station: str, period: datetime, samples: Iterable[Sample], *, name: str, zone: str) -> File | None:
    """Write the file of the five minutes that end at `period`; None when nothing was said in them."""
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    local = period.astimezone(ZoneInfo(zone))
    stamp = local.strftime("%Y%m%d%H%M%S")
    lines = []
    for metric, (symbol, unit) in SYMBOLS.items():
        if metric in by_metric:
            value, status = _judged(by_metric[metric])
            lines.append(f"{symbol}\t{value:.10g}\t{unit}\t{stamp}\t{status}\r\n")
    if not lines:
        return None
    facts: Mapping[str, str] = {
        "station": station, "time": stamp, "day": stamp[:8], "year": stamp[:4], "month": stamp[4:6]
    }  # fmt: skip
    return File(name.format(**facts), "".join(lines), len(lines))


def _judged(samples: list[Sample]) -> tuple[float, str]:
    """Average what measures; without that what calibrates; without that say that the device fails."""
    for chosen, status in (
        ([each for each in samples if each.usable], MEASURING),
        ([each for each in samples if each.calibrating], CALIBRATING),
    ):
        if chosen:
            return round(fmean(each.value for each in chosen), 4), status
    return round(fmean(each.value for each in samples), 4), FAILING
