"""Checksums of frames: whether one holds, and the bytes that make it hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["CHECKSUMS", "LITTLE", "Checksum", "crc"]

Endian = Literal["big", "little"]


@dataclass(frozen=True, slots=True)
class Checksum:
    """The bytes at the end of a frame that follow from those before them, from byte `start` on."""

    name: str
    size: int
    make: Callable[[bytes], bytes]
    start: int = 0

    def holds(self, data: bytes) -> bool:
        """Say whether the last bytes fit the others."""
        return len(data) > self.size and self.make(data[self.start : -self.size]) == data[-self.size :]

    def put(self, data: bytearray) -> None:
        """Write the last bytes so that it holds."""
        data[-self.size :] = self.make(bytes(data[self.start : -self.size]))


def crc(data: bytes, *, bits: int, polynomial: int, init: int = 0, reflected: bool = False, xor: int = 0) -> int:
    """Reckon a cyclic redundancy check, named as catalogues do: `polynomial` and `init` in normal form."""
    if reflected:
        polynomial, value = _mirrored(polynomial, bits), _mirrored(init, bits)
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (polynomial if value & 1 else 0)
        return value ^ xor
    top, full, value = 1 << bits - 1, (1 << bits) - 1, init
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & full
    return value ^ xor


def _mirrored(number: int, bits: int) -> int:
    return int(f"{number:0{bits}b}"[::-1], 2)


def _crc16(endian: Endian, **keys: Any) -> Callable[[bytes], bytes]:
    return lambda data: crc(data, bits=16, **keys).to_bytes(2, endian)


def _xor(data: bytes) -> bytes:
    result = 0
    for byte in data:
        result ^= byte
    return bytes([result])


CHECKSUMS: Final[Mapping[str, tuple[int, Callable[[bytes], bytes]]]] = {
    "sum8": (1, lambda data: bytes([sum(data) & 0xFF])),  # the last byte is the sum of the others
    "sum8_zero": (1, lambda data: bytes([-sum(data) & 0xFF])),  # all bytes together make 0 modulo 256
    "xor8": (1, _xor),
    "crc8": (1, lambda data: bytes([crc(data, bits=8, polynomial=0x07)])),
    "crc8_sensirion": (1, lambda data: bytes([crc(data, bits=8, polynomial=0x31, init=0xFF)])),
    "sum16": (2, lambda data: (sum(data) & 0xFFFF).to_bytes(2, "big")),
    "crc16_modbus": (2, _crc16("little", polynomial=0x8005, init=0xFFFF, reflected=True)),  # as on a serial line
    "crc16_ccitt": (2, _crc16("big", polynomial=0x1021, init=0xFFFF)),
    "crc16_xmodem": (2, _crc16("big", polynomial=0x1021)),
    "crc16_arc": (2, _crc16("little", polynomial=0x8005, reflected=True)),
    "crc16_x25": (2, _crc16("little", polynomial=0x1021, init=0xFFFF, reflected=True, xor=0xFFFF)),
}
"""Name -> number of bytes, and what they are for the bytes before them."""
LITTLE: Final = frozenset({"crc16_modbus", "crc16_arc", "crc16_x25"})
"""Those whose low byte comes first."""
