"""Lean Modbus TCP gateways, a process of their own: many unit ids on a few ports, and when each of them was asked.

Run as `python -m simulators.bench.gateways` with a Field as JSON on one line of standard input; it says its ports.
Every further line is answered with a Seen of the time since the line before. It speaks just enough Modbus by itself
(function 3), because a server library would be what is measured.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from itertools import pairwise
from typing import Final

import msgspec

_HEADER: Final = struct.Struct(">HHHB")
_ASKED: Final = struct.Struct(">BHH")
_ILLEGAL: Final = b"\x83\x02"


class Field(msgspec.Struct, frozen=True):
    """What to serve: ports, unit ids from 1 on, registers from 0 on, and how long a device takes to answer."""

    gateways: int
    units: int
    registers: int
    answer_s: float


class Seen(msgspec.Struct, frozen=True):
    """What was asked since the last report. `gaps_s` are the longest times between two polls, one a unit."""

    polls: int
    silent: int
    """Units that were never asked."""
    gaps_s: list[float]
    cpu_s: float


class Gateway(asyncio.Protocol):
    """One connection to a gateway."""

    def __init__(self, field: Field, asked: dict[int, list[float]]) -> None:
        self._field = field
        self._asked = asked
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._buffer += data
        while len(self._buffer) >= 12:
            transaction, _, length, unit = _HEADER.unpack_from(self._buffer)
            function, address, count = _ASKED.unpack_from(self._buffer, 7)
            self._buffer = self._buffer[length + 6 :]
            self._answer(transaction, unit, self._pdu(function, unit, address, count))

    def _pdu(self, function: int, unit: int, address: int, count: int) -> bytes:
        if function != 3 or address + count > self._field.registers:
            return _ILLEGAL
        if address == 0:
            self._asked.setdefault(unit, []).append(time.monotonic())
        words = (0x4248, 0x2000 + unit) * (count // 2)  # floats near 50, other ones for every unit
        return struct.pack(f">BB{count}H", 3, 2 * count, *words)

    def _answer(self, transaction: int, unit: int, pdu: bytes) -> None:
        frame = _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu
        if self._field.answer_s:
            asyncio.get_running_loop().call_later(self._field.answer_s, self._write, frame)
        else:
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(frame)


def _report(field: Field, asked: list[dict[int, list[float]]], cpu_s: float) -> Seen:
    times = [each for gateway in asked for each in gateway.values()]
    gaps = [max((b - a for a, b in pairwise(each)), default=0.0) for each in times]
    silent = field.gateways * field.units - len(times)
    return Seen(sum(map(len, times)), silent, gaps, cpu_s)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    field = msgspec.json.decode(await reader.readline(), type=Field)
    asked: list[dict[int, list[float]]] = [{} for _ in range(field.gateways)]

    def gateway(number: int) -> Gateway:
        return Gateway(field, asked[number])

    servers = [
        await loop.create_server(lambda number=n: gateway(number), "127.0.0.1", 0)  # type: ignore[misc]
        for n in range(field.gateways)
    ]
    _say([server.sockets[0].getsockname()[1] for server in servers])
    used = time.process_time()
    while await reader.readline():
        _say(_report(field, asked, time.process_time() - used))
        used = time.process_time()
        for each in asked:
            each.clear()


def _say(thing: object) -> None:
    sys.stdout.write(msgspec.json.encode(thing).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
