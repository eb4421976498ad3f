"""How a Modbus model is told from others: by what it says of itself, and by registers that hold what they must.

detect:
  device_id: {vendor: "Acme*", product: "AQ4*"}        # read device identification, function 43/14
  points:
    - {address: 0x9C40, type: string, length: 4, equals: SunS}
    - {table: input, address: 70, type: float32, between: [45, 65]}
  nothing: "the manual names no register that says what it is"      # in place of both, where a scan can only guess
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.profiles.modbus import Read, RegisterSpec, blocks_of, words_of
from iot_core.profiles.table import Table
from iot_core.profiles.values import Scalar

if TYPE_CHECKING:
    from iot_core.profiles.modbus import Point, Words

__all__ = ["Detect", "DetectSpec", "Judged", "Sign", "SignSpec"]

_CERTAIN: Final = 2
"""One equal 16-bit register in 65,536 is chance; ranges prove less."""
_SMALL: Final = 16
"""Numbers below this stand in the registers of every device: to meet one of them proves nothing."""


class SignSpec(RegisterSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register of `detect`, and what it must hold: exactly one of `equals` (this, or one of these) and `between`."""

    equals: Scalar | list[Scalar] | None = None
    """The raw value is this, or one of these."""
    between: tuple[float | int, float | int] | None = None
    """The raw value lies within `[low, high]`."""


class IdentitySpec(Table, frozen=True, kw_only=True):
    """What a device says of itself (Modbus function 43/14), as patterns."""

    vendor: str = ""
    product: str = ""
    """Its product code."""
    revision: str = ""
    url: str = ""
    name: str = ""
    """Its product name."""
    model: str = ""
    application: str = ""


class DetectSpec(Table, frozen=True, kw_only=True):
    """How the model is recognised on a line; what of it can be read must hold."""

    device_id: IdentitySpec | None = None
    """Read device identification (43/14): object -> pattern with `*` and `?`, whatever the case of letters."""
    points: list[SignSpec] = msgspec.field(default_factory=list)
    """Registers, and what they must hold: `- {address: 0x9C40, type: string, length: 4, equals: SunS}`."""
    nothing: str = ""
    """Why nothing tells it from others, in place of `device_id` and `points`: a scan can only guess."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a look at a unit says of a model: how many of its signs are there, and whether one says that it is not."""

    held: int
    of: int
    refuted: bool = False

    @property
    def complete(self) -> bool:
        """Say whether every sign is there."""
        return not self.refuted and self.held == self.of > 0


@dataclass(frozen=True, slots=True)
class Sign:
    """A register that holds what only this model's holds (one of `equals`), or something in a range."""

    point: Point
    equals: tuple[Scalar, ...] = ()
    between: tuple[float, float] | None = None

    def holds(self, words: Words) -> bool | None:
        """Say whether the registers agree; None for what was not read: an older firmware may lack it."""
        try:
            raw = self.point.locate(words)
        except DecodeError:
            return None
        if self.between is not None:
            return isinstance(raw, (int, float)) and self.between[0] <= raw <= self.between[1]
        return raw in self.equals

    @property
    def telling(self) -> int:
        """How many words prove something: those that equal what few devices hold there."""
        tells = bool(self.equals) and all(isinstance(each, str) or abs(each) >= _SMALL for each in self.equals)
        return self.point.count if tells else 0


@dataclass(frozen=True, slots=True)
class Detect:
    """What tells a model from others; without device_id and signs `nothing` says why nothing does."""

    device_id: Mapping[str, str]
    """Name of an identification object -> a pattern with `*` and `?`, compared without case."""
    signs: tuple[Sign, ...]
    nothing: str = ""

    @property
    def reads(self) -> tuple[Read, ...]:
        """What has to be read to decide."""
        return tuple(dict.fromkeys(read for sign in self.signs for read in sign.point.reads))

    def judge(self, identification: Mapping[str, str], registers: Mapping[str, Sequence[int]]) -> Judged:
        """Say what a device's own words and its registers (blocks as in an uplink) say of this model.

        A device that says nothing of itself, or lacks a register, refutes nothing.
        """
        words = words_of(registers)
        said = [
            fnmatchcase(identification[name].casefold(), pattern.casefold()) if identification.get(name) else None
            for name, pattern in self.device_id.items()
        ]
        said += [sign.holds(words) for sign in self.signs]
        return Judged(held=said.count(True), of=len(said), refuted=False in said)

    def registers(self) -> dict[str, list[int]]:
        """Give blocks that hold every sign, as a unit of this model has them."""
        words: dict[int, int] = {}
        for sign in self.signs:
            held = sign.equals[0] if sign.between is None else round(sum(sign.between) / 2)
            sign.point.place(held, words)
        return blocks_of(words)

    @property
    def certain(self) -> bool:
        """Say whether agreement proves the model: its own words do, or equal registers; ranges alone do not."""
        equal = sum(sign.telling for sign in self.signs)
        return bool(self.device_id) or equal >= _CERTAIN or (equal > 0 and len(self.signs) > 1)
