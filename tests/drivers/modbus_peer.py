"""Modbus peers written from the specification, over TCP, RTU over TCP and a serial line: none of our code in them."""

from __future__ import annotations

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

HEADER = struct.Struct(">HHHB")
REQUESTS = {1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 22: 7, 43: 4}
"""Function -> how long its request is; 15 and 16 say it in their sixth byte."""
TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}


def crc16(data: bytes) -> bytes:
    """Checksum of a serial frame, bit by bit as the specification's flow chart draws it."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            carry, register = register & 1, register >> 1
            if carry:
                register ^= 0xA001
    return bytes([register & 0xFF, register >> 8])


class Writer(Protocol):
    """Where an answer goes."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    async def drain(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it stood on the wire."""

    connection: int
    transaction: int
    unit_id: int
    function: int
    address: int
    count: int
    pdu: bytes = b""
    rtu: bool = False

    @property
    def block(self) -> str:
        return f"{TABLES[self.function]}:{self.address}+{self.count}"

    def frame(self, pdu: bytes, *, transaction: int | None = None, unit_id: int | None = None) -> bytes:
        said = self.transaction if transaction is None else transaction
        unit = self.unit_id if unit_id is None else unit_id
        if self.rtu:
            return bytes([unit]) + pdu + crc16(bytes([unit]) + pdu)
        return HEADER.pack(said & 0xFFFF, 0, len(pdu) + 1, unit) + pdu

    def words(self, words: list[int]) -> bytes:
        return self.frame(struct.pack(f">BB{len(words)}H", self.function, 2 * len(words), *words))

    def bits(self, bits: list[int]) -> bytes:
        packed = sum(bit << at for at, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
        return self.frame(bytes([self.function, len(packed)]) + packed)

    def exception(self, code: int) -> bytes:
        return self.frame(bytes([self.function | 0x80, code]))


Behave = Callable[[Asked, Any], Awaitable[None]]


async def counting(asked: Asked, writer: Writer) -> None:
    """Answer each register with its own address, each coil with the parity of it."""
    addresses = range(asked.address, asked.address + asked.count)
    if asked.function in (1, 2):
        writer.write(asked.bits([address % 2 for address in addresses]))
    else:
        writer.write(asked.words(list(addresses)))


async def silent(asked: Asked, writer: Writer) -> None:
    """Say nothing."""


async def nobody(asked: Asked, writer: Writer) -> None:
    """Say at once, as a gateway does, that no such unit is there: silence would need a deadline."""
    writer.write(asked.exception(0x0B))


@dataclass
class Peer:
    """A gateway. `units` says how each unit behind it behaves; the others are silent."""

    port: int
    units: dict[int, Behave] = field(default_factory=dict)
    rtu: bool = False
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        self._writers.add(writer)
        connection = self.connections
        try:
            while True:
                asked = await (_rtu_request if self.rtu else _tcp_request)(reader, connection)
                self.asked.append(asked)
                await self.units.get(asked.unit_id, silent)(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def blocks(self, unit_id: int) -> list[str]:
        return [asked.block for asked in self.asked if asked.unit_id == unit_id]


async def _tcp_request(reader: asyncio.StreamReader, connection: int) -> Asked:
    transaction, _, length, unit_id = HEADER.unpack(await reader.readexactly(HEADER.size))
    return _asked(connection, transaction, unit_id, await reader.readexactly(length - 1))


async def _rtu_request(reader: asyncio.StreamReader, connection: int) -> Asked:
    head = await reader.readexactly(2)
    size = REQUESTS.get(head[1])
    if size is None:
        head += await reader.readexactly(5)
        size = 6 + head[6]
    head += await reader.readexactly(size + 3 - len(head))
    assert crc16(head[:-2]) == head[-2:], head.hex()
    return _asked(connection, 0, head[0], head[1:-2], rtu=True)


def _asked(connection: int, transaction: int, unit_id: int, pdu: bytes, *, rtu: bool = False) -> Asked:
    address, count = struct.unpack_from(">HH", pdu.ljust(5, b"\0"), 1)
    return Asked(connection, transaction, unit_id, pdu[0], address, count, pdu, rtu)


@dataclass
class Memory:
    """A unit that keeps what is written to it; a register or coil that it does not have is an illegal address."""

    words: dict[int, int] = field(default_factory=dict)
    coils: dict[int, int] = field(default_factory=dict)
    functions: frozenset[int] = frozenset({1, 3, 5, 6, 15, 16})
    objects: dict[int, bytes] = field(default_factory=dict)
    """Of its device identification; function 43 is known where there are any."""
    written: list[str] = field(default_factory=list)

    async def __call__(self, asked: Asked, writer: Writer) -> None:
        writer.write(asked.frame(self.answer(asked.pdu)))

    def answer(self, pdu: bytes) -> bytes:
        function = pdu[0]
        if function == 43 and self.objects:
            return self._identification(pdu[2], pdu[3])
        if function not in self.functions:
            return bytes([function | 0x80, 1])
        address, count = struct.unpack_from(">HH", pdu, 1)
        cells = self.coils if function in (1, 5, 15) else self.words
        touched = range(address, address + (1 if function in (5, 6, 22) else count))
        if any(each not in cells for each in touched):
            return bytes([function | 0x80, 2])
        if function in (1, 3):
            return bytes([function]) + self._read([cells[each] for each in touched], bits=function == 1)
        self.written.append(pdu.hex())
        cells.update(zip(touched, self._values(pdu, len(touched)), strict=True))
        return pdu if function in (5, 6, 22) else pdu[:5]

    def _values(self, pdu: bytes, count: int) -> list[int]:
        address, value = struct.unpack_from(">HH", pdu, 1)
        if pdu[0] == 5:
            return [int(value == 0xFF00)]
        if pdu[0] == 6:
            return [value]
        if pdu[0] == 15:
            return [pdu[6 + at // 8] >> at % 8 & 1 for at in range(count)]
        if pdu[0] == 16:
            return list(struct.unpack_from(f">{count}H", pdu, 6))
        both, either = struct.unpack_from(">HH", pdu, 3)
        return [(self.words[address] & both) | (either & ~both & 0xFFFF)]

    @staticmethod
    def _read(values: list[int], *, bits: bool) -> bytes:
        if bits:
            packed = sum(bit << at for at, bit in enumerate(values)).to_bytes((len(values) + 7) // 8, "little")
            return bytes([len(packed)]) + packed
        return struct.pack(f">B{len(values)}H", 2 * len(values), *values)

    def _identification(self, level: int, first: int) -> bytes:
        known = sorted(each for each in self.objects if each < (3 if level == 1 else 128) and each >= first)
        chosen, more = known[:2], known[2:]  # two an answer: a client has to ask on
        body = b"".join(bytes([each, len(self.objects[each])]) + self.objects[each] for each in chosen)
        return bytes([43, 14, level, level, 0xFF if more else 0, more[0] if more else 0, len(chosen)]) + body


class SerialWriter:
    """The device's end of a serial line: sends no faster than the line does."""

    def __init__(self, fd: int, byte_s: float) -> None:
        self._fd, self._byte_s = fd, byte_s
        self.sending: list[asyncio.Task[None]] = []

    def write(self, data: bytes) -> None:
        self.sending.append(asyncio.create_task(self._send(data, self.sending[-1] if self.sending else None)))

    async def _send(self, data: bytes, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await after
        for at in range(0, len(data), 8):  # adapters hand over a few bytes at a time
            await asyncio.sleep(self._byte_s * len(data[at : at + 8]))
            os.write(self._fd, data[at : at + 8])

    def close(self) -> None:
        for task in self.sending:
            task.cancel()

    async def drain(self) -> None:
        if self.sending:
            await self.sending[-1]


@dataclass
class SerialBus:
    """Devices on one serial line."""

    path: str
    units: dict[int, Behave]
    asked: list[Asked] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Seconds between the last byte of an answer and the next request."""


@asynccontextmanager
async def serial_bus(units: dict[int, Behave], byte_s: float = 10 / 115_200) -> AsyncIterator[SerialBus]:
    """Make a pair of pseudo terminals with devices at one end."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.openpty()
    for fd in (ours, theirs):
        tty.setraw(fd)
    reader, writer = asyncio.StreamReader(), SerialWriter(ours, byte_s)
    bus = SerialBus(os.ttyname(theirs), units)
    quiet_since, waiting = loop.time(), True

    def arrived() -> None:
        nonlocal waiting
        if waiting:
            bus.gaps.append(loop.time() - quiet_since)
            waiting = False
        try:
            reader.feed_data(os.read(ours, 4096))
        except OSError:
            loop.remove_reader(ours)

    async def serve() -> None:
        nonlocal quiet_since, waiting
        while True:
            asked = await _rtu_request(reader, 1)
            bus.asked.append(asked)
            await bus.units.get(asked.unit_id, silent)(asked, writer)
            await writer.drain()
            quiet_since, waiting = loop.time(), True

    loop.add_reader(ours, arrived)
    serving = asyncio.create_task(serve())
    try:
        yield bus
    finally:
        serving.cancel()
        writer.close()
        await asyncio.gather(serving, *writer.sending, return_exceptions=True)
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


@asynccontextmanager
async def peer(port: int, units: dict[int, Behave] | None = None, *, rtu: bool = False) -> AsyncIterator[Peer]:
    made = Peer(port, units or {}, rtu)
    async with listening(made):
        yield made


@asynccontextmanager
async def listening(made: Peer) -> AsyncIterator[None]:
    """Listen for the length of a block; may be entered again afterwards."""
    server = await asyncio.start_server(made.serve, "127.0.0.1", made.port)
    try:
        yield
    finally:
        server.close()
        made.hang_up()
        await server.wait_closed()
