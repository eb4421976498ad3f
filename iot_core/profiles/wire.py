"""Numbers as bytes: whole, floating, BCD and text, in every byte and word order that devices use."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final, Literal

from iot_core.errors import DecodeError
from iot_core.model import Reason

__all__ = ["Endian", "Order", "TypeName", "WireType", "reorder", "wire_type"]

Endian = Literal["big", "little"]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
TypeName = Literal[
    "uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64",
    "float32", "float64", "bcd8", "bcd16", "bcd32", "bcd64", "string",
]  # fmt: skip
_DIGITS: Final = (6, 7, 8, 9)


@dataclass(frozen=True, slots=True)
class WireType:
    """How many bytes a raw value takes and what they mean. `kind` is uint, int, float, bcd or string."""

    kind: str
    size: int

    def read(self, data: bytes, endian: Endian = "big") -> int | float | str | None:
        """Read exactly `size` bytes; None for a float that is not a number, which devices say for unknown."""
        if self.kind == "string":
            return data.split(b"\x00")[0].decode("utf-8", "replace").strip()
        if self.kind == "float":
            return _read_float(data, endian)
        number = int.from_bytes(data, endian, signed=self.kind == "int")
        return _from_bcd(number) if self.kind == "bcd" else number

    def write(self, raw: object, endian: Endian = "big") -> bytes:
        """Write a raw value. Raises ValueError when it does not fit."""
        if self.kind == "string":
            return str(raw).encode()[: self.size].ljust(self.size, b"\x00")
        if not isinstance(raw, (int, float)):
            raise ValueError(f"{raw!r} is not a number")  # noqa: TRY004 - callers expect one error for what does not fit
        if self.kind == "float":
            return struct.pack((">" if endian == "big" else "<") + ("f" if self.size == 4 else "d"), raw)
        if not math.isfinite(raw):
            raise ValueError(f"{raw} does not fit")
        number = round(raw)
        try:
            if self.kind == "bcd":
                number = int(str(number), 16)
            return number.to_bytes(self.size, endian, signed=self.kind == "int")
        except OverflowError as exc:
            raise ValueError(f"{raw} does not fit in {self.size} bytes") from exc

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest raw value."""
        bits = self.size * 8
        if self.kind == "uint":
            return 0, 2**bits - 1
        if self.kind == "int":
            return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        if self.kind == "bcd":
            return 0, 10 ** (self.size * 2) - 1
        return -1e30, 1e30


def wire_type(name: TypeName, length: int = 0) -> WireType:
    """Find a type by its name in a profile; `length` is a string's number of bytes."""
    if name == "string":
        return WireType("string", length)
    kind = name.rstrip("0123456789")
    return WireType(kind, int(name.removeprefix(kind)) // 8)


def reorder(data: bytes, order: Order) -> bytes:
    """Turn the bytes of 16-bit words between a device's order and ABCD; the same step leads back."""
    if order in {"BADC", "DCBA"}:
        data = b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))
    if order in {"CDAB", "DCBA"}:
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -2, -2))
    return data


def _read_float(data: bytes, endian: Endian) -> float | None:
    pattern = (">" if endian == "big" else "<") + ("f" if len(data) == 4 else "d")
    (number,) = struct.unpack(pattern, data)
    if math.isnan(number):
        return None
    if len(data) == 8 or math.isinf(number):
        return float(number)
    # The shortest decimal that is this float32: 230.2, not 230.1999969482422.
    for digits in _DIGITS:
        short = float(f"{number:.{digits}g}")
        try:
            if struct.pack(pattern, short) == data:
                return short
        except OverflowError:
            continue
    return float(number)


def _from_bcd(number: int) -> int:
    text = f"{number:x}"
    if not text.isdigit():
        raise DecodeError(Reason.BAD_FIELD, f"{text} is not BCD")
    return int(text)
