"""Requests and answers without their framing (Modbus Application Protocol V1.1b3, sections 5-6). Pure.

| function 1 | data ... |                 at most 253 bytes
| function + 0x80 | exception code 1 |    the device says no
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

__all__ = [
    "BITS", "OBJECTS", "TABLES", "Block", "Cells", "Request", "answer_size", "identification", "identify", "mask_write",
    "read", "words", "write_bit", "write_bits", "write_word", "write_words",
]  # fmt: skip

TABLES: Final[Mapping[str, int]] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""Table -> the function that reads it."""
BITS: Final = frozenset({"coil", "discrete"})
MOST_WORDS: Final = 125
MOST_BITS: Final = 2000
MOST_WRITTEN_WORDS: Final = 123
MOST_WRITTEN_BITS: Final = 1968
OBJECTS: Final = ("vendor", "product", "revision", "url", "name", "model", "application")
"""Read device identification: the names of objects 0 to 6 (section 6.21)."""
_BASIC: Final = 1
_MEI: Final = 0x0E


class Block(Protocol):
    """Neighbouring registers or bits of one table, from a 0-based address on (in iot_core.profiles: Read)."""

    @property
    def table(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def count(self) -> int: ...


class Cells(NamedTuple):
    """A block of our own."""

    table: str
    address: int
    count: int  # type: ignore[assignment]  # not the tuple's method


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `size` is how long the PDU of a good answer is, 0 where the answer itself says it."""

    pdu: bytes
    size: int = 0

    @property
    def function(self) -> int:
        return self.pdu[0]


def read(block: Block) -> Request:
    """Ask for a block. Raises ValueError for one that no request can hold."""
    most = MOST_BITS if block.table in BITS else MOST_WORDS
    if not 1 <= block.count <= most or not 0 <= block.address <= 0x10000 - block.count:
        raise ValueError(f"{block.table}:{block.address}+{block.count}")
    data = (block.count + 7) // 8 if block.table in BITS else 2 * block.count
    return Request(struct.pack(">BHH", TABLES[block.table], block.address, block.count), 2 + data)


def words(block: Block, answer: bytes) -> list[int]:
    """Take the 16-bit words, or bits as 0 and 1, out of a good answer of the right size."""
    if block.table in BITS:
        packed = int.from_bytes(answer[2:], "little")
        return [packed >> at & 1 for at in range(block.count)]
    return list(struct.unpack_from(f">{block.count}H", answer, 2))


def write_bit(address: int, value: int) -> Request:
    """Write one coil (function 5)."""
    return Request(struct.pack(">BHH", 5, address, 0xFF00 if value else 0), 5)


def write_word(address: int, value: int) -> Request:
    """Write one holding register (function 6)."""
    return Request(struct.pack(">BHH", 6, address, value), 5)


def write_bits(address: int, values: Sequence[int]) -> Request:
    """Write coils (function 15). Raises ValueError for more than a request can hold."""
    if not 1 <= len(values) <= MOST_WRITTEN_BITS:
        raise ValueError(len(values))
    size = (len(values) + 7) // 8
    packed = sum((1 << at) for at, value in enumerate(values) if value).to_bytes(size, "little")
    return Request(struct.pack(">BHHB", 15, address, len(values), size) + packed, 5)


def write_words(address: int, values: Sequence[int]) -> Request:
    """Write holding registers (function 16). Raises ValueError for more than a request can hold."""
    if not 1 <= len(values) <= MOST_WRITTEN_WORDS:
        raise ValueError(len(values))
    return Request(struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values), 5)


def mask_write(address: int, value: int, mask: int) -> Request:
    """Write the bits of `mask` in one holding register, leave the others (function 22)."""
    return Request(struct.pack(">BHHH", 22, address, ~mask & 0xFFFF, value & mask), 7)


def identify(first: int = 0, level: int = _BASIC) -> Request:
    """Read device identification from an object on (function 43, MEI type 14); level 1 basic, 2 regular."""
    return Request(bytes([43, _MEI, level, first]))


def identification(answer: bytes) -> tuple[dict[str, str], int]:
    """Take names and texts out of an answer to `identify`, and the object to go on with (0: that was all).

    Raises ValueError for one that is cut off.
    """
    if len(answer) < 7 or answer[1] != _MEI:
        raise ValueError("no device identification")
    more, following, number = answer[4], answer[5], answer[6]
    found: dict[str, str] = {}
    at = 7
    for _ in range(number):
        if at + 2 > len(answer) or at + 2 + answer[at + 1] > len(answer):
            raise ValueError("device identification is cut off")
        kind, size = answer[at], answer[at + 1]
        if kind < len(OBJECTS):
            found[OBJECTS[kind]] = answer[at + 2 : at + 2 + size].decode("utf-8", "replace").strip("\0 ")
        at += 2 + size
    return found, following if more == 0xFF else 0


def answer_size(data: bytes) -> int | None:
    """Say how long the PDU that begins here is: 0 as long as its bytes do not tell, None when it can be no answer."""
    function = data[0]
    if function & 0x80:
        return 2
    if function in {1, 2, 3, 4}:
        return 2 + data[1] if len(data) > 1 else 0
    if function in {5, 6, 15, 16}:
        return 5
    if function == 22:
        return 7
    return _identification_size(data) if function == 43 else None


def _identification_size(data: bytes) -> int | None:
    if len(data) > 1 and data[1] != _MEI:
        return None
    at = 7
    for _ in range(data[6] if len(data) > 6 else 0):
        if len(data) < at + 2:
            return 0
        at += 2 + data[at + 1]
    if at > 253:
        return None
    return at if len(data) > 6 else 0
