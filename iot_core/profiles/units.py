"""Conversions between units of measure (UCUM), for the cases that devices really send: always linear.

Gases in ppm or ppb become mass concentrations at 25 degC and 101.325 kPa, the reference of QCVN 05:2023 (1.3.10):
a molar volume of 24.465 L/mol.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["SAME", "Linear", "conversion", "convertible", "is_ucum", "known", "meant"]

_MOLAR_VOLUME: Final = 24.465  # L/mol: 0.08205737 x 298.15


@dataclass(frozen=True, slots=True)
class Linear:
    """`value = raw * factor + offset`."""

    factor: float = 1.0
    offset: float = 0.0


SAME: Final = Linear()
"""The conversion that changes nothing."""


# Each unit as a multiple of its kind's base. What stands together can be converted.
_KINDS: Final[tuple[dict[str, Linear], ...]] = (
    {"Cel": Linear(), "K": Linear(1, -273.15), "[degF]": Linear(5 / 9, -160 / 9), "mCel": Linear(0.001)},
    {"%": Linear(), "1": Linear(100), "[ppth]": Linear(0.1)},
    {
        "hPa": Linear(),
        "mbar": Linear(),
        "Pa": Linear(0.01),
        "kPa": Linear(10),
        "bar": Linear(1000),
        "mm[Hg]": Linear(1.33322),  # UCUM: a metre of mercury is 133.322 kPa
        "m[H2O]": Linear(98.0665),
        "[psi]": Linear(68.94757293168361),
        "[in_i'Hg]": Linear(33.863788),
    },
    {"W": Linear(), "mW": Linear(0.001), "kW": Linear(1000)},
    {"V.A": Linear(), "kV.A": Linear(1000)},
    {"V.A{reactive}": Linear(), "kV.A{reactive}": Linear(1000)},
    {"V": Linear(), "mV": Linear(0.001), "kV": Linear(1000)},
    {"A": Linear(), "mA": Linear(0.001)},
    {"Hz": Linear(), "kHz": Linear(1000)},
    {"kW.h": Linear(), "W.h": Linear(0.001), "mW.h": Linear(1e-6), "J": Linear(1 / 3.6e6), "MW.h": Linear(1000)},
    {"kV.A.h{reactive}": Linear(), "V.A.h{reactive}": Linear(0.001)},
    {
        "m3": Linear(),
        "L": Linear(0.001),
        "dm3": Linear(0.001),
        "[gal_us]": Linear(0.003785411784),
        "[cft_i]": Linear(0.028316846592),
    },
    {"m3/h": Linear(), "L/h": Linear(0.001), "L/min": Linear(0.06), "L/s": Linear(3.6), "m3/s": Linear(3600)},
    {"ug/m3": Linear(), "mg/m3": Linear(1000), "ng/m3": Linear(0.001)},
    {"[ppm]": Linear(), "[ppb]": Linear(0.001)},
    {"dB[SPL]": Linear(), "B[SPL]": Linear(10)},
    {"dB/m": Linear()},
    {
        "m": Linear(),
        "mm": Linear(0.001),
        "cm": Linear(0.01),
        "km": Linear(1000),
        "[in_i]": Linear(0.0254),
        "[ft_i]": Linear(0.3048),
    },
    {"mm/h": Linear(), "[in_i]/h": Linear(25.4)},
    {
        "m/s": Linear(),
        "mm/s": Linear(0.001),
        "cm/s": Linear(0.01),
        "km/h": Linear(1 / 3.6),
        "[mi_i]/h": Linear(0.44704),
        "[kn_i]": Linear(1852 / 3600),
    },
    {"deg": Linear(), "rad": Linear(180 / math.pi)},
    {"lx": Linear(), "klx": Linear(1000)},
    {"W/m2": Linear()},
    {"uS/cm": Linear(), "mS/cm": Linear(1000), "S/m": Linear(10_000)},
    {"{NTU}": Linear(), "{FNU}": Linear()},
    {"mg/L": Linear(), "ug/L": Linear(0.001), "g/L": Linear(1000)},
    {"[pH]": Linear()},
    {"g": Linear(), "kg": Linear(1000), "mg": Linear(0.001), "t": Linear(1e6)},
    {"uSv/h": Linear(), "nSv/h": Linear(0.001), "mSv/h": Linear(1000)},
    {"N": Linear(), "kN": Linear(1000)},
    {"Ohm": Linear(), "kOhm": Linear(1000)},
    {"s": Linear(), "ms": Linear(0.001), "min": Linear(60), "h": Linear(3600), "d": Linear(86_400)},
)
# What SenML (RFC 8428 section 12.1), LwM2M and vendors write for a UCUM unit.
_ALIASES: Final = {
    "%RH": "%",
    "/": "1",
    "%EL": "%",
    "ppm": "[ppm]",
    "ppb": "[ppb]",
    "C": "Cel",
    "F": "[degF]",
    "degC": "Cel",
    "degF": "[degF]",
    "kWh": "kW.h",
    "Wh": "W.h",
    "l": "L",
    "l/s": "L/s",
    "l/h": "L/h",
    "dB": "dB[SPL]",
    "dBspl": "dB[SPL]",
    "µg/m3": "ug/m3",
    "µg/m³": "ug/m3",
    "ug/m³": "ug/m3",
    "m³": "m3",
    "VA": "V.A",
    "kVA": "kV.A",
    "var": "V.A{reactive}",
    "kvar": "kV.A{reactive}",
    "varh": "V.A.h{reactive}",
    "kvarh": "kV.A.h{reactive}",
    "NTU": "{NTU}",
    "FNU": "{FNU}",
    "mg/l": "mg/L",
    "ug/l": "ug/L",
    "pH": "[pH]",
    "in": "[in_i]",
    "in/h": "[in_i]/h",
    "inHg": "[in_i'Hg]",
    "mmHg": "mm[Hg]",
    "mH2O": "m[H2O]",
    "psi": "[psi]",
    "mph": "[mi_i]/h",
    "kn": "[kn_i]",
    "knots": "[kn_i]",
    "gal": "[gal_us]",
    "°C": "Cel",
    "°F": "[degF]",
    "m³/h": "m3/h",
    "mWh": "mW.h",
    "MWh": "MW.h",
    "µS/cm": "uS/cm",
    "ft": "[ft_i]",
    "W/m²": "W/m2",
    "°": "deg",
}


_ATOMS: Final = (
    "mol|min|Cel|bar|Ohm|deg|rad|Hz|Pa|Wb|lm|lx|Bq|Gy|Sv|sr|cd|eV|mo|wk|m|s|g|L|l|A|K|V|W|J|N|C|F|S|T|B|h|d|a|t|%|1"
)
_TERM: Final = re.compile(
    rf"(?:\{{[^{{}}\s]+\}}|(?:\[[^\[\]\s]+\]|(?:da|[YZEPTGMkhdcmunpf])?(?:{_ATOMS}))[-+]?\d?(?:\{{[^{{}}\s]+\}}|\[[A-Z]+\])?|10\*-?\d+)"
)
"""A prefix and an atom, a special atom in brackets, an annotation in braces; with an exponent."""


def is_ucum(unit: str) -> bool:
    """Say whether a unit of measure is known here, or is made of UCUM's atoms: `g/m2`, `Bq/m3`, `{count}`."""
    return known(unit) or all(_TERM.fullmatch(term) for term in re.split(r"[./]", unit.removeprefix("/")))


def known(unit: str) -> bool:
    """Say whether a unit of measure can be converted to others."""
    return any(unit in kind for kind in _KINDS)


def meant(unit: str) -> str:
    """Say how UCUM writes what people write: `kWh` is `kW.h`; empty where nobody knows."""
    return _ALIASES.get(unit, "")


def convertible(ucum: str) -> list[str]:
    """List the units of measure that can become this one."""
    return next((list(kind) for kind in _KINDS if ucum in kind), [ucum])


def conversion(wire: str, ucum: str, molar_mass: float | None = None) -> Linear | None:
    """Say how a value in `wire` becomes one in `ucum`; None when it cannot."""
    wire = _ALIASES.get(wire, wire)
    if wire == ucum:
        return Linear()
    for kind in _KINDS:
        if wire in kind and ucum in kind:
            return _through(kind[wire], kind[ucum])
    if molar_mass and wire in {"[ppm]", "[ppb]"} and ucum in {"ug/m3", "mg/m3"}:
        to_mass = molar_mass / _MOLAR_VOLUME * (1000 if wire == "[ppm]" else 1)
        return Linear(to_mass if ucum == "ug/m3" else to_mass / 1000)
    return None


def _through(source: Linear, target: Linear) -> Linear:
    return Linear(source.factor / target.factor, (source.offset - target.offset) / target.factor)
