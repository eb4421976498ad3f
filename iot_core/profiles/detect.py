"""How a Modbus model is told from others: by what it says of itself, and by registers that hold what they must.

detect:
  device_id: {vendor: "Acme*", product: "AQ4*"}        # read device identification, function 43/14
  points:
    - {address: 0x9C40, type: string, length: 4, equals: SunS}
    - {table: input, address: 70, type: float32, between: [45, 65]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from iot_core.errors import DecodeError
from iot_core.profiles.modbus import Read, RegisterSpec, words_of
from iot_core.profiles.table import Table

if TYPE_CHECKING:
    from iot_core.profiles.modbus import Point, Words

__all__ = ["Detect", "DetectSpec", "Sign", "SignSpec"]

_OBJECTS = Literal["vendor", "product", "revision", "url", "name", "model", "application"]
_CERTAIN: Final = 2
"""One equal 16-bit register in 65,536 is chance; ranges prove less."""


class SignSpec(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register of `detect`, and what it must hold: exactly one of `equals` and `between`."""

    equals: float | int | str | None = None
    between: tuple[float | int, float | int] | None = None


class DetectSpec(Table, frozen=True, kw_only=True):
    """How the model is recognised on a line; all of it must hold."""

    device_id: dict[_OBJECTS, str] = msgspec.field(default_factory=dict)
    """Read device identification (43/14): object -> pattern with `*` and `?`, whatever the case of letters."""
    points: list[SignSpec] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sign:
    """A register that holds what only this model's holds, or something in a range."""

    point: Point
    equals: float | int | str | None = None
    between: tuple[float, float] | None = None

    def holds(self, words: Words) -> bool:
        """Say whether the registers agree; what was not read does not."""
        try:
            raw = self.point.locate(words)
        except DecodeError:
            return False
        if self.between is not None:
            return isinstance(raw, (int, float)) and self.between[0] <= raw <= self.between[1]
        return raw == self.equals


@dataclass(frozen=True, slots=True)
class Detect:
    """All of it must hold."""

    device_id: Mapping[str, str]
    """Name of an identification object -> a pattern with `*` and `?`, compared without case."""
    signs: tuple[Sign, ...]

    @property
    def reads(self) -> tuple[Read, ...]:
        """What has to be read to decide."""
        return tuple(dict.fromkeys(read for sign in self.signs for read in sign.point.reads))

    def fits(self, identification: Mapping[str, str]) -> bool:
        """Say whether a device's own words agree."""
        return all(
            fnmatchcase(identification.get(name, "").casefold(), pattern.casefold())
            for name, pattern in self.device_id.items()
        )

    def holds(self, registers: Mapping[str, Sequence[int]]) -> bool:
        """Say whether all registers agree; blocks as in an uplink."""
        words = words_of(registers)
        return all(sign.holds(words) for sign in self.signs)

    @property
    def certain(self) -> bool:
        """Say whether agreement proves the model: its own words do, or equal registers; ranges alone do not."""
        equal = sum(sign.point.count for sign in self.signs if sign.between is None)
        return bool(self.device_id) or equal >= _CERTAIN or (equal > 0 and len(self.signs) > 1)
