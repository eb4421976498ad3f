"""Sparkplug B payloads written byte by byte from the encoding rules of protobuf, without any protobuf library.

Source: protobuf.dev/programming-guides/encoding; field numbers of section 6.4.1 of the Sparkplug specification 3.0.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME = range(1, 14)
DATASET, BYTES = 16, 17


def varint(number: int) -> bytes:
    """Write seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value)


def text(at: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(at << 3 | 2) + varint(len(data)) + data


@dataclass(frozen=True, kw_only=True)
class Said:
    """One metric as a sender says it."""

    name: str | None = None
    alias: int | None = None
    time: int | None = None
    type: int | None = None
    value: object = None
    null: bool = False
    historical: bool = False
    quality: int | None = None

    def encode(self) -> bytes:
        out = b"" if self.name is None else text(1, self.name)
        for at, said in ((2, self.alias), (3, self.time), (4, self.type)):
            out += b"" if said is None else number(at, said)
        out += (number(5, 1) if self.historical else b"") + (number(7, 1) if self.null else b"")
        if self.quality is not None:
            out += text(9, text(1, "Quality") + text(2, number(1, INT32) + number(3, self.quality)))
        return out + self._value()

    def _value(self) -> bytes:  # noqa: PLR0911 - one a type
        match self.value:
            case None:
                return b""
            case bool():
                return number(14, self.value)
            case int() if self.type in {INT64, UINT64, DATETIME}:
                return number(11, self.value % (1 << 64))
            case int():
                return number(10, self.value % (1 << 32))
            case float() if self.type == DOUBLE:
                return varint(13 << 3 | 1) + struct.pack("<d", self.value)
            case float():
                return varint(12 << 3 | 5) + struct.pack("<f", self.value)
            case bytes():
                return text(17 if self.type == DATASET else 16, self.value)
            case _:
                return text(15, str(self.value))


@dataclass(kw_only=True)
class Node:
    """An edge node's counters: `seq` goes on with each message but the will."""

    bd_seq: int = 0
    seq: int = -1
    sent: list[bytes] = field(default_factory=list)

    def birth(self, *metrics: Said, time: int) -> bytes:
        """Write an NBIRTH, with which `seq` begins at 0."""
        self.seq = -1
        return self.message(Said(name="bdSeq", time=time, type=INT64, value=self.bd_seq), *metrics, time=time)

    def message(self, *metrics: Said, time: int) -> bytes:
        """Write a DBIRTH, NDATA, DDATA or DDEATH."""
        self.seq = (self.seq + 1) % 256
        return payload(*metrics, time=time, seq=self.seq)

    def will(self) -> bytes:
        """Write the NDEATH that is given with CONNECT."""
        return payload(Said(name="bdSeq", type=INT64, value=self.bd_seq), time=None, seq=None)


def payload(*metrics: Said, time: int | None, seq: int | None) -> bytes:
    out = b"" if time is None else number(1, time)
    out += b"".join(text(2, each.encode()) for each in metrics)
    return out if seq is None else out + number(3, seq)
