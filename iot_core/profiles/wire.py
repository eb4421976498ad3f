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
    "uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint40", "int40", "uint48", "int48",
    "uint56", "int56", "uint64", "int64", "float16", "float32", "float64",
    "bcd8", "bcd16", "bcd24", "bcd32", "bcd48", "bcd64", "string", "hex",
]  # fmt: skip
_DIGITS: Final = (6, 7, 8, 9)
_FLOATS: Final = {2: "e", 4: "f", 8: "d"}


@dataclass(frozen=True, slots=True)
class WireType:
    """How many bytes a raw value takes and what they mean. `kind` is uint, int, float, bcd, string or hex."""

    kind: str
    size: int

    def read(self, data: bytes, endian: Endian = "big") -> int | float | str | None:
        """Read exactly `size` bytes; None for what devices say for unknown: NaN, and BCD of F only."""
        if self.kind == "hex":
            return (data if endian == "big" else data[::-1]).hex()
        if self.kind == "string":
            return data.split(b"\x00")[0].decode("utf-8", "replace").strip()
        if self.kind == "float":
            return _read_float(data, endian)
        number = int.from_bytes(data, endian, signed=self.kind == "int")
        return _from_bcd(number, len(data) * 2) if self.kind == "bcd" else number

    def write(self, raw: object, endian: Endian = "big") -> bytes:
        """Write a raw value. Raises ValueError when it does not fit."""
        if self.kind == "string":
            return str(raw).encode()[: self.size].ljust(self.size, b"\x00")
        if self.kind == "hex":
            return _from_hex(raw, self.size, endian)
        if not isinstance(raw, (int, float)):
            raise ValueError(f"{raw!r} is not a number")  # noqa: TRY004 - callers expect one error for what does not fit
        if self.kind == "float":
            return _write_float(raw, self.size, endian)
        if not math.isfinite(raw):
            raise ValueError(f"{raw} does not fit")
        number = round(raw)
        try:
            if self.kind == "bcd":
                number = _to_bcd(number, self.size * 2)
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
    """Find a type by its name in a profile; `length` is the number of bytes of a string or of hex."""
    if name in {"string", "hex"}:
        return WireType(name, length)
    kind = name.rstrip("0123456789")
    return WireType(kind, int(name.removeprefix(kind)) // 8)


def reorder(data: bytes, order: Order) -> bytes:
    """Turn the bytes of 16-bit words between a device's order and ABCD; the same step leads back."""
    if order in {"BADC", "DCBA"}:
        data = b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))
    if order in {"CDAB", "DCBA"}:
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -2, -2))
    return data


def _write_float(number: float, size: int, endian: Endian) -> bytes:
    try:
        return struct.pack((">" if endian == "big" else "<") + _FLOATS[size], number)
    except OverflowError as exc:
        raise ValueError(f"{number} does not fit in {size} bytes") from exc


def _read_float(data: bytes, endian: Endian) -> float | None:
    pattern = (">" if endian == "big" else "<") + _FLOATS[len(data)]
    (number,) = struct.unpack(pattern, data)
    if math.isnan(number):
        return None
    if len(data) != 4 or math.isinf(number):
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


def _from_bcd(number: int, digits: int) -> int | None:
    """Read BCD; F in the first digit is a minus (EN 13757-3), F in all of them no value."""
    text = f"{number:0{digits}x}"
    if text.strip("f") == "":
        return None
    sign = -1 if text[0] == "f" else 1
    text = text[1:] if sign < 0 else text
    if not text.isdecimal():
        raise DecodeError(Reason.BAD_FIELD, f"{text} is not BCD")
    return sign * int(text)


def _to_bcd(number: int, digits: int) -> int:
    text = f"{abs(number):0{digits}d}"
    if number < 0:
        if len(text) > digits or text[0] != "0":
            raise ValueError(f"{number} does not fit in {digits} digits")
        text = "f" + text[1:]
    return int(text, 16)


def _from_hex(raw: object, size: int, endian: Endian) -> bytes:
    data = bytes(size) if raw == 0 else bytes.fromhex(str(raw))  # 0: nothing is given
    if len(data) != size:
        raise ValueError(f"{raw} is not {size} bytes")
    return data if endian == "big" else data[::-1]
