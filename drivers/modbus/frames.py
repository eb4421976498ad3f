"""What an answer on the wire may look like (Modbus Messaging on TCP/IP V1.0b, section 3.1.3). Pure.

| transaction 2 | protocol 2 = 0 | length 2 | unit 1 | function 1 | byte count 1 | data ... |
                                                     | function + 0x80 | exception code 1 |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct(">HHHBB")
_LENGTHS = range(2, 255)
"""Unit, function and data; a PDU has at most 253 bytes."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked last on a connection."""

    transaction: int
    unit_id: int
    function: int

    @classmethod
    def of(cls, packet: bytes) -> Question:
        """Read a request as it goes out."""
        transaction, _, _, unit_id, function = _HEADER.unpack_from(packet)
        return cls(transaction, unit_id, function)

    def is_garbage(self, received: bytes) -> bool:
        """Say whether these bytes can no longer become an answer. A late answer to an earlier question is none."""
        while len(received) >= _HEADER.size:
            transaction, protocol, length, unit_id, function = _HEADER.unpack_from(received)
            if protocol or length not in _LENGTHS:
                return True
            if len(received) < length + 6:
                return False
            mine = transaction in (self.transaction, 0) and unit_id == self.unit_id
            if mine and not self._answered_by(function, received[8 : length + 6]):
                return True
            received = received[length + 6 :]
        return any(received[2:4])

    def _answered_by(self, function: int, data: bytes) -> bool:
        if function == self.function | 0x80:
            return True
        return function == self.function and len(data) >= 1 and data[0] == len(data) - 1
