"""Checksums of frames: whether one holds, and the bytes that make it hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CHECKSUMS", "Checksum"]


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


def _crc16(data: bytes, *, start: int, polynomial: int, reflected: bool) -> int:
    crc = start
    for byte in data:
        crc ^= byte if reflected else byte << 8
        for _ in range(8):
            if reflected:
                crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
            else:
                crc = (crc << 1 ^ (polynomial if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def _crc8(data: bytes, *, polynomial: int, start: int = 0) -> int:
    crc = start
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (polynomial if crc & 0x80 else 0)) & 0xFF
    return crc


def _modbus(data: bytes) -> bytes:
    return _crc16(data, start=0xFFFF, polynomial=0xA001, reflected=True).to_bytes(2, "little")


def _ccitt(data: bytes) -> bytes:
    return _crc16(data, start=0xFFFF, polynomial=0x1021, reflected=False).to_bytes(2, "big")


def _xmodem(data: bytes) -> bytes:
    return _crc16(data, start=0, polynomial=0x1021, reflected=False).to_bytes(2, "big")


def _arc(data: bytes) -> bytes:
    return _crc16(data, start=0, polynomial=0xA001, reflected=True).to_bytes(2, "little")


def _xor(data: bytes) -> bytes:
    result = 0
    for byte in data:
        result ^= byte
    return bytes([result])


CHECKSUMS: Final[Mapping[str, tuple[int, Callable[[bytes], bytes]]]] = {
    "sum8": (1, lambda data: bytes([sum(data) & 0xFF])),  # the last byte is the sum of the others
    "sum8_zero": (1, lambda data: bytes([-sum(data) & 0xFF])),  # all bytes together make 0 modulo 256
    "xor8": (1, _xor),
    "crc8": (1, lambda data: bytes([_crc8(data, polynomial=0x07)])),
    "crc8_sensirion": (1, lambda data: bytes([_crc8(data, polynomial=0x31, start=0xFF)])),
    "crc16_modbus": (2, _modbus),  # the low byte first, as on a serial line
    "crc16_ccitt": (2, _ccitt),
    "crc16_xmodem": (2, _xmodem),
    "crc16_arc": (2, _arc),
}
"""Name -> number of bytes, and what they are for the bytes before them."""
