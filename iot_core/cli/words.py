"""States, severities, values and positions as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from iot_core.cli.times import age, local, span
from iot_core.messages import LOCAL, text, title

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from iot_core.api import shapes
    from iot_core.model import Title

__all__ = [
    "SEVERITY_STYLE",
    "STATE_STYLE",
    "SYMBOLS",
    "ending",
    "headline",
    "moment",
    "person",
    "position",
    "symbol",
    "value",
    "value_with_unit",
    "word",
    "written",
]

HEADLINE: Final = 120
STATE_STYLE = {"alarm": "bold red", "silent": "yellow", "ok": "green", "never": "dim", "retired": "dim"}
SEVERITY_STYLE = {"critical": "bold red", "high": "red", "medium": "yellow", "low": ""}
SYMBOLS = {
    "Cel": "°C",
    "ug/m3": "µg/m³",
    "m3": "m³",
    "m3/h": "m³/h",
    "m3/s": "m³/s",
    "W/m2": "W/m²",
    "uS/cm": "µS/cm",
    "ug/L": "µg/L",
    "deg": "°",
    "[pH]": "",
    "{NTU}": "NTU",
    "V.A": "VA",
    "V.A{reactive}": "var",
    "kV.A.h{reactive}": "kvarh",
    "[ppm]": "ppm",
    "[ppb]": "ppb",
    "dB[SPL]": "dB",
    "kW.h": "kWh",
    "1": "",
}
"""UCUM codes that a person reads more easily in another spelling; all others are read as they are."""


def word(kind: str, name: str) -> str:
    """Say a member of a closed set (`state`, `severity`, `alarm`, `quality`, `lifecycle`)."""
    return text(f"cli.{kind}_{name}")


def person(name: str | None) -> str:
    """Name who did it; what is no person's name is said in the reader's language."""
    return text("cli.local_person") if name == LOCAL else name or ""


def headline(both: Title) -> str:
    """Write a title where others stand beside it: what is longer is cut, the whole is where its alarm stands alone."""
    said = " ".join(title(both).split())
    return said if len(said) <= HEADLINE else said[: HEADLINE - 1] + "…"


def value_with_unit(latest: shapes.Latest | shapes.Now) -> str:
    """Write a value with its unit of measure; truth as yes and no."""
    return f"{value(latest.value)} {symbol(latest.ucum)}".rstrip()


def symbol(ucum: str) -> str:
    """Write a unit of measure as a person reads it."""
    return SYMBOLS.get(ucum, ucum)


def value(plain: float | bool | str | None) -> str:
    """Write a value."""
    if plain is None:
        return "-"
    if isinstance(plain, bool):
        return text("cli.yes") if plain else text("cli.no")
    return f"{plain:.10g}" if isinstance(plain, float) else str(plain)


def written(name: str, params: Mapping[str, Any]) -> str:
    """Write a command as it is typed."""
    said = (f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in params.items())
    return " ".join((name, *said))


def moment(time: datetime | None) -> str:
    """Write a time with its age."""
    return "-" if time is None else f"{local(time)} ({age(time)})"


def ending(time: datetime, now: datetime) -> str:
    """Write when something ends and how long that is yet; nothing once it is over."""
    return f"{local(time)} ({text('cli.left', span=span(time - now))})" if time > now else "-"


def position(latitude: float | None, longitude: float | None) -> str:
    """Write a position as maps take it."""
    return "-" if latitude is None or longitude is None else f"{latitude:.9g}, {longitude:.9g}"
