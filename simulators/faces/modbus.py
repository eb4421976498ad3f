"""Devices behind Modbus TCP gateways: several units on one port, each with its model's register map.

A poll cycle of a unit is complete when one client has read every register that the model's profile names. All answers
of a cycle come from one measurement, taken at its first request, so that a cycle is one observation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData
from pymodbus.simulator import SimDevice as Memory

from iot_core.model import Uplink
from simulators.device import Said, SimDevice, now_ms

if TYPE_CHECKING:
    from simulators.ledger import Ledger

_TABLE_OF: Final = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
"""Modbus function codes of reading, and the table each reads."""
_TABLES: Final = ("coil", "discrete", "holding", "input")
_BITS: Final = frozenset({"coil", "discrete"})
Register = tuple[str, int]


@dataclass(slots=True, eq=False)
class Client:
    """One TCP connection: what it asks just now, and the cycles it has begun, by unit."""

    asked: tuple[int, int] = (0, 0)
    """First address and count."""
    cycles: dict[int, Cycle] = field(default_factory=dict)
    complete: list[tuple[Unit, Sequence[Said]]] = field(default_factory=list)
    """Cycles whose last answer is being written."""


@dataclass(slots=True, eq=False)
class Cycle:
    """One measurement on its way to one client."""

    registers: Mapping[Register, int]
    said: Sequence[Said]
    served: set[Register] = field(default_factory=set)


_client: ContextVar[Client] = ContextVar("client")


@dataclass(slots=True, eq=False)
class Unit:
    """One device behind a gateway."""

    device: SimDevice
    unit_id: int
    needed: frozenset[Register]
    signs: dict[Register, int] = field(default_factory=dict)
    """Registers by which `iot modbus scan` tells the model, and that no metric is read from."""

    def measure(self) -> Cycle:
        """Measure now, as registers and as what they say."""
        device, profile = self.device, self.device.plan.voice.profile
        encoded = profile.encode(device.measure(now_ms()), channel=device.plan.voice.channel)
        blocks = encoded.registers or {}
        said = device.read_back(Uplink(driver="modbus", address=device.address, registers=blocks))
        return Cycle(dict(_flat(blocks)), [(None, values) for _, values in said])

    def serve(self, client: Client, table: str, address: int, count: int) -> Cycle:
        """Note a request, and give the measurement that answers it."""
        asked = {(table, address + n) for n in range(count)} & self.needed
        cycle = client.cycles.get(self.unit_id)
        if cycle is None or cycle.served & asked:  # asked again before it had all: it gave up and starts anew
            cycle = client.cycles[self.unit_id] = self.measure()
        cycle.served |= asked
        if cycle.served == self.needed:
            client.complete.append((self, cycle.said))
            del client.cycles[self.unit_id]
        return cycle

    def memory(self) -> Memory:
        """Lay out the unit's memory; every read refreshes it."""
        blocks = []
        for table in _TABLES:
            mine = [address for name, address in self.needed if name == table]
            held = {address for name, address in self.signs if name == table}
            held.update(range(min(mine), max(mine) + 1) if mine else ())
            made = [_bits(low, high) if table in _BITS else _words(low, high) for low, high in _spans(held)]
            blocks.append(made or [_bits(0, 0) if table in _BITS else _NOTHING])
        return Memory(self.unit_id, simdata=(blocks[0], blocks[1], blocks[2], blocks[3]), action=self._refresh)

    async def _refresh(self, function: int, start: int, *request: Any) -> ExcCodes | None:
        """Fill a table before pymodbus answers from it. `request`: address, count, the table's words, what to write."""
        _, _, words, written = request
        table = _TABLE_OF.get(function)
        if table is None or written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        client = _client.get()
        if self.unit_id not in client.cycles and self.device.fault.away(self.device, now_ms()):
            return ExcCodes.GATEWAY_NO_RESPONSE
        registers = self.serve(client, table, *client.asked).registers
        for n in range(len(words)):
            at = (table, start + n)
            words[n] = _packed(registers, *at) if table in _BITS else self.signs.get(at, registers.get(at, 0))
        return None


def _packed(registers: Mapping[Register, int], table: str, word: int) -> int:
    """Pack sixteen bits the way pymodbus keeps them."""
    return sum(registers.get((table, word * 16 + bit), 0) << bit for bit in range(16))


def unit_of(device: SimDevice, unit_id: int) -> Unit:
    """Give a device its place behind a gateway."""
    modbus = device.plan.voice.profile.modbus
    assert modbus is not None, device.plan.model
    channel = device.plan.voice.channel
    reads = modbus.reads(0, [channel] if channel else ())
    needed = frozenset((read.table, read.address + n) for read in reads for n in range(read.count))
    signs = dict(_flat(modbus.detect.registers())) if modbus.detect is not None else {}
    fields = [each for group in modbus.groups for each in group.fields if each.place is not None]
    says = {(read.table, read.address + n) for each in fields for read in each.place.reads for n in range(read.count)}
    return Unit(device, unit_id, needed, {at: word for at, word in signs.items() if at not in says})


def _spans(addresses: set[int]) -> list[tuple[int, int]]:
    """Give first and last of each run: one read may cross no edge of pymodbus' blocks."""
    firsts = sorted(each for each in addresses if each - 1 not in addresses)
    lasts = sorted(each for each in addresses if each + 1 not in addresses)
    return list(zip(firsts, lasts, strict=True))


def _flat(blocks: Mapping[str, Sequence[int]]) -> list[tuple[Register, int]]:
    """Turn `{"holding:4": [1, 2]}` into single registers."""
    return [
        ((name.partition(":")[0], int(name.partition(":")[2]) + n), word)
        for name, words in blocks.items()
        for n, word in enumerate(words)
    ]


_NOTHING: Final = SimData(0, count=1, datatype=DataType.INVALID)


def _words(low: int, high: int) -> SimData:
    return SimData(low, count=high - low + 1, values=0, datatype=DataType.REGISTERS)


def _bits(low: int, high: int) -> SimData:
    low = low // 16 * 16
    return SimData(low, values=[False] * (high - low + 16), datatype=DataType.BITS)


class _Connection(ServerRequestHandler):
    """Knows which client asks, and notes a cycle once its last answer is written."""

    def __init__(self, gateway: Gateway, *traces: Any) -> None:
        super().__init__(gateway, *traces)  # type: ignore[no-untyped-call]
        self._asking = Client()
        gateway.clients.append(self._asking)

    async def handle_request(self) -> None:
        gateway: Gateway = self.server
        if self.last_pdu is None or (gateway.silent and self.last_pdu.dev_id not in self._asking.cycles):
            return
        self._asking.asked = (self.last_pdu.address, self.last_pdu.count)
        _client.set(self._asking)
        await super().handle_request()  # type: ignore[no-untyped-call]
        for unit, said in self._asking.complete:
            gateway.ledger.acknowledge(gateway.ledger.send("modbus", unit.device.key, said))
        self._asking.complete.clear()


class Gateway(ModbusTcpServer):
    """A Modbus TCP gateway with the units behind it. `silent`: it ends the cycles it has begun and begins none."""

    def __init__(self, units: Sequence[Unit], address: tuple[str, int], ledger: Ledger, *, rtu: bool = False) -> None:
        framer = FramerType.RTU if rtu else FramerType.SOCKET
        super().__init__([*(unit.memory() for unit in units), _nobody()], address=address, framer=framer)
        self.ledger = ledger
        self.silent = False
        self.clients: list[Client] = []

    @property
    def busy(self) -> bool:
        """Whether a client has read a part of a unit; one that went away in the middle counts too."""
        return any(client.cycles for client in self.clients)

    def callback_new_connection(self) -> _Connection:
        return _Connection(self, self.trace_packet, self.trace_pdu, self.trace_connect)


def _nobody() -> Memory:
    """Answer for unit ids that no device has, as gateways do."""

    async def refuse(*_: object) -> ExcCodes | None:
        return ExcCodes.GATEWAY_NO_RESPONSE

    everything = [SimData(0, count=65_536, values=0, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 65_536, datatype=DataType.BITS)]
    return Memory(0, simdata=(bits, bits, everything, everything), action=refuse)


@asynccontextmanager
async def gateway(
    units: Sequence[Unit], port: int, ledger: Ledger, host: str = "127.0.0.1", *, rtu: bool = False
) -> AsyncIterator[Gateway]:
    """Serve units on a port until the block ends; `rtu`: serial frames over TCP, as serial servers pass them on."""
    server = Gateway(units, (host, port), ledger, rtu=rtu)
    await server.serve_forever(background=True)
    try:
        yield server
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
