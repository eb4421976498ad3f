"""Framing: questions as bytes, and the one answer found in whatever arrives. Pure, bounded.

TCP (Modbus Messaging on TCP/IP V1.0b, section 3.1.3):
| transaction 2 | protocol 2 = 0 | length 2 | unit 1 | PDU ... |

RTU (Modbus over Serial Line V1.02, section 2.5.1):
| unit 1 | PDU ... | CRC 2, low byte first |

An RTU frame carries no number: that an answer belongs to this question and not to an earlier one is for `Link` to know.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import Final

from drivers.modbus.pdu import Request, answer_size

__all__ = ["Framing", "Garbage", "Rtu", "Tcp", "crc"]

_HEADER: Final = struct.Struct(">HHHB")
_LENGTHS: Final = range(3, 255)
"""Unit id and PDU: at least function and one byte more, at most 254."""
_MOST_RTU: Final = 256


class Garbage(Exception):
    """Raised when what has arrived can never become an answer: the connection is of no use any more."""


class Framing(ABC):
    """One question at a time. `ask` gives its bytes; `feed` is given what arrives until it returns the answer's PDU."""

    def __init__(self) -> None:
        self._unit_id = 0
        self._request = Request(b"\0")
        self._received = bytearray()
        self.strangers = 0
        """Whole frames that answered something else: late, or another master's."""

    @property
    def clean(self) -> bool:
        """Say whether no part of a frame is left lying."""
        return not self._received

    @abstractmethod
    def ask(self, unit_id: int, request: Request) -> bytes:
        """Begin a question."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes | None:
        """Take bytes in; give the answer's PDU once it is whole. Raises Garbage."""

    @abstractmethod
    def idle(self, data: bytes) -> None:
        """Take bytes in that come while nothing is asked. Raises Garbage."""

    def _answers(self, pdu: bytes | bytearray) -> bool:
        """Say whether a PDU is a good answer to the question, or the device's no."""
        if pdu[0] == self._request.function | 0x80:
            return len(pdu) == 2
        return pdu[0] == self._request.function and len(pdu) == (self._request.size or answer_size(bytes(pdu)))


class Tcp(Framing):
    """Frames with a transaction number: an answer to another question is told by it."""

    def __init__(self, transaction: int) -> None:
        super().__init__()
        self._transaction = transaction

    def ask(self, unit_id: int, request: Request) -> bytes:
        self._transaction = self._transaction + 1 & 0xFFFF
        self._unit_id, self._request = unit_id, request
        return _HEADER.pack(self._transaction, 0, len(request.pdu) + 1, unit_id) + request.pdu

    def feed(self, data: bytes) -> bytes | None:
        received = self._received
        received += data
        while len(received) >= _HEADER.size:
            transaction, protocol, length, unit_id = _HEADER.unpack_from(received)
            if protocol or length not in _LENGTHS:
                raise Garbage
            if len(received) < length + 6:
                return None
            pdu = bytes(received[7 : length + 6])
            del received[: length + 6]
            if transaction == self._transaction and unit_id == self._unit_id:
                # Behind half an answer that another frame made whole lies the rest of that frame.
                if not self._is_whole(pdu) or self._is_astray():
                    raise Garbage
                return pdu
            self.strangers += 1
        if self._is_astray():
            raise Garbage
        return None

    def _is_astray(self) -> bool:
        """Say whether what is left can never become a frame."""
        received = self._received
        return any(received[2:4]) or (len(received) >= 6 and int.from_bytes(received[4:6], "big") not in _LENGTHS)

    def idle(self, data: bytes) -> None:
        self.feed(data)

    def _is_whole(self, pdu: bytes) -> bool:
        """Say whether an answer to this question is as long as it says; `Link` tells one that is short of registers."""
        if pdu[0] == self._request.function | 0x80:
            return len(pdu) == 2
        return pdu[0] == self._request.function and len(pdu) == answer_size(pdu)


class Rtu(Framing):
    """Frames told by unit, function, length and checksum; noise around them is skipped."""

    def ask(self, unit_id: int, request: Request) -> bytes:
        self._unit_id, self._request = unit_id, request
        self._received.clear()  # what came before the question cannot answer it
        frame = bytes([unit_id]) + request.pdu
        return frame + crc(frame)

    def feed(self, data: bytes) -> bytes | None:
        received = self._received
        received += data
        if self._still_arriving():
            return None
        at, begun = 0, None
        while at < len(received):
            size = _frame_size(received, at)
            if not size:
                begun = at if size == 0 and begun is None else begun
                at += 1
                continue
            pdu = bytes(received[at + 1 : at + size - 2])
            if received[at] == self._unit_id and self._answers(pdu):
                del received[: at + size]
                return pdu
            self.strangers += 1
            at += size
            begun = None
        del received[: at if begun is None else begun]
        return None

    def idle(self, data: bytes) -> None:
        self.strangers += bool(data)

    def _still_arriving(self) -> bool:
        """Say whether this looks like the beginning of the answer: then there is nothing to search for yet."""
        received = self._received
        mine = received[:2] == bytes([self._unit_id, self._request.function])
        return mine and len(received) < self._request.size + 3


def _frame_size(received: bytearray, at: int) -> int | None:
    """Say how long the frame that begins here is: 0 when it may still become one, None when nothing begins here."""
    body = bytes(received[at + 1 : at + _MOST_RTU - 2])
    if not body:
        return 0
    size = answer_size(body)
    if not size:
        return size
    whole = size + 3
    if whole > _MOST_RTU:
        return None
    if len(received) - at < whole:
        return 0
    return whole if crc(bytes(received[at : at + whole - 2])) == received[at + whole - 2 : at + whole] else None


def _table() -> tuple[int, ...]:
    """Compute the checksum of every byte (polynomial 0xA001, Modbus over Serial Line V1.02, section 6.2.2)."""
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_CRC: Final = _table()


def crc(data: bytes) -> bytes:
    """Give the two bytes that end an RTU frame."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")
