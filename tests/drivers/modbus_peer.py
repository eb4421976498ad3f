"""A Modbus TCP peer written from the specification: the driver is not tested against its own library alone."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HEADER = struct.Struct(">HHHBBHH")
TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it stood on the wire."""

    connection: int
    transaction: int
    unit_id: int
    function: int
    address: int
    count: int

    @property
    def block(self) -> str:
        return f"{TABLES[self.function]}:{self.address}+{self.count}"

    def frame(self, pdu: bytes, *, transaction: int | None = None, unit_id: int | None = None) -> bytes:
        said = self.transaction if transaction is None else transaction
        return struct.pack(">HHHB", said & 0xFFFF, 0, len(pdu) + 1, self.unit_id if unit_id is None else unit_id) + pdu

    def words(self, words: list[int]) -> bytes:
        return self.frame(struct.pack(f">BB{len(words)}H", self.function, 2 * len(words), *words))

    def bits(self, bits: list[int]) -> bytes:
        packed = sum(bit << at for at, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
        return self.frame(bytes([self.function, len(packed)]) + packed)

    def exception(self, code: int) -> bytes:
        return self.frame(bytes([self.function | 0x80, code]))


Behave = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


async def counting(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer each register with its own address, each coil with the parity of it."""
    addresses = range(asked.address, asked.address + asked.count)
    if asked.function in (1, 2):
        writer.write(asked.bits([address % 2 for address in addresses]))
    else:
        writer.write(asked.words(list(addresses)))


async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""


@dataclass
class Peer:
    """A gateway. `units` says how each unit behind it behaves; the others are silent."""

    port: int
    units: dict[int, Behave] = field(default_factory=dict)
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
                transaction, _, _, unit_id, function, address, count = HEADER.unpack(
                    await reader.readexactly(HEADER.size)
                )
                asked = Asked(connection, transaction, unit_id, function, address, count)
                self.asked.append(asked)
                await self.units.get(unit_id, silent)(asked, writer)
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


@asynccontextmanager
async def peer(port: int, units: dict[int, Behave] | None = None) -> AsyncIterator[Peer]:
    made = Peer(port, units or {})
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
