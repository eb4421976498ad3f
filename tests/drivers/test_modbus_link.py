"""One connection against peers that are not pymodbus' client: by specification, by another library, and broken ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from pyModbusTCP.server import DataBank, ModbusServer

from drivers.modbus.address import Endpoint
from drivers.modbus.link import Broken, Link, Malformed, Refused, Silent
from tests.core import stopwatch
from tests.drivers.modbus_peer import Asked, Behave, counting, peer, silent
from tests.drivers.modbus_profiles import Read

HOLDING = Read("holding", 4, 3)
TIMEOUT_S = 0.8


@asynccontextmanager
async def linked(port: int, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Link]:
    link = Link(Endpoint("127.0.0.1", port), timeout_s)
    await link.open()
    try:
        yield link
    finally:
        link.close()


async def test_all_four_tables_are_read(free_port: Callable[[], int]) -> None:
    async with peer(free_port(), {9: counting}) as gateway, linked(gateway.port) as link:
        assert await link.read(9, HOLDING) == [4, 5, 6]
        assert await link.read(9, Read("input", 65533, 2)) == [65533, 65534]
        assert await link.read(9, Read("coil", 3, 10)) == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
        assert await link.read(9, Read("discrete", 8, 1)) == [0]
        assert await link.read(9, Read("holding", 0, 125)) == list(range(125))
        assert await link.read(9, Read("coil", 0, 2000)) == [number % 2 for number in range(2000)]
    assert [asked.function for asked in gateway.asked] == [3, 4, 1, 2, 3, 1]
    assert gateway.connections == 1


async def test_pymodbus_server_is_read(free_port: Callable[[], int]) -> None:
    device = SimDevice(12, SimData(0, values=[10, 20, 30, 40], datatype=DataType.REGISTERS))
    server = ModbusTcpServer(device, address=("127.0.0.1", port := free_port()))
    await server.serve_forever(background=True)
    try:
        async with linked(port) as link:
            assert await link.read(12, Read("holding", 1, 3)) == [20, 30, 40]
            with pytest.raises(Refused) as refused:
                await link.read(12, Read("holding", 100, 2))
            assert refused.value.code == 2
            assert await link.read(12, Read("holding", 0, 1)) == [10], "the connection lives on after an exception"
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_an_independent_server_is_read(free_port: Callable[[], int]) -> None:
    bank = DataBank(h_regs_size=20, i_regs_size=20, coils_size=20, d_inputs_size=20)
    bank.set_holding_registers(4, [352, 65336, 7])
    bank.set_input_registers(0, [1, 2])
    bank.set_coils(0, [True, False, True])
    server = ModbusServer("127.0.0.1", port := free_port(), no_block=True, data_bank=bank)
    server.start()
    try:
        async with linked(port) as link:
            assert await link.read(1, HOLDING) == [352, 65336, 7]
            assert await link.read(1, Read("input", 0, 2)) == [1, 2]
            assert await link.read(1, Read("coil", 0, 3)) == [1, 0, 1]
            with pytest.raises(Refused):
                await link.read(1, Read("holding", 18, 5))
    finally:
        await asyncio.to_thread(server.stop)


async def test_an_exception_names_its_code(free_port: Callable[[], int]) -> None:
    async def busy(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.exception(6))

    async with peer(free_port(), {9: busy}) as gateway, linked(gateway.port) as link:
        with pytest.raises(Refused) as refused:
            await link.read(9, HOLDING)
        assert refused.value.code == 6
        assert link.connected


async def test_silence_ends_at_the_timeout_and_keeps_the_connection_once(free_port: Callable[[], int]) -> None:
    async with peer(free_port(), {9: silent, 1: counting}) as gateway, linked(gateway.port) as link:
        before = asyncio.get_running_loop().time()
        async with stopwatch() as watch:
            with pytest.raises(Silent):
                await link.read(9, HOLDING)
        assert asyncio.get_running_loop().time() - before >= TIMEOUT_S
        assert watch.seconds < TIMEOUT_S * 3
        assert await link.read(1, HOLDING) == [4, 5, 6]
        for _ in range(2):
            with pytest.raises(Silent):
                await link.read(9, HOLDING)
        assert not link.connected, "two silences without a byte in between: the connection itself may be dead"
        assert gateway.connections == 1


async def test_a_device_is_left_alone_between_two_requests_as_long_as_it_needs(free_port: Callable[[], int]) -> None:
    times: list[float] = []

    async def note(asked: Asked, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        await counting(asked, writer)

    async with peer(free_port(), {9: note, 1: note}) as gateway, linked(gateway.port) as link:
        for unit_id in (9, 1, 9):
            await link.read(unit_id, HOLDING, pause_s=0.08)
    assert min(after - before for before, after in pairwise(times)) >= 0.075


async def test_a_late_answer_is_never_taken_for_the_next_one(free_port: Callable[[], int]) -> None:
    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(gateway.asked) == 1:
            await asyncio.sleep(TIMEOUT_S * 1.5)
            writer.write(asked.words([111] * asked.count))
        else:
            await counting(asked, writer)

    async with peer(free_port(), {9: late}) as gateway, linked(gateway.port) as link:
        with pytest.raises(Silent):
            await link.read(9, HOLDING)
        assert await link.read(9, HOLDING) == [4, 5, 6]
        assert gateway.connections == 1
        link.close()
        assert link.strangers == 1, "it came, and was told by its number"


async def send(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)


async def http(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def noise(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, b"\xff" + random.Random(7).randbytes(99))


async def half_then_close(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.words([1, 2, 3])[:8])
    writer.close()


async def close(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def abort(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def wrong_function(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.frame(bytes([16, 0, 4, 0, 3])))


async def wrong_byte_count(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.frame(bytes([3, 200, 0, 1])))


@pytest.mark.parametrize(
    ("behave", "reason"),
    [(http, "garbage"), (noise, "garbage"), (wrong_function, "garbage"), (wrong_byte_count, "garbage"),
     (half_then_close, "closed"), (close, "closed"), (abort, "closed")],
)  # fmt: skip
async def test_a_broken_connection_is_known_at_once(
    free_port: Callable[[], int], behave: Behave, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(free_port(), {9: behave, 1: counting}) as gateway, linked(gateway.port, 60) as link:
        before = asyncio.get_running_loop().time()
        with pytest.raises(Broken, match=reason):
            await link.read(9, HOLDING)
        assert asyncio.get_running_loop().time() - before < 30, "not waited for the timeout"
        assert not link.connected
        await link.open()
        assert await link.read(1, HOLDING) == [4, 5, 6]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.words([1, 2, 3])[:9])


async def wrong_transaction(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.frame(bytes([3, 6, 0, 1, 0, 2, 0, 3]), transaction=asked.transaction + 1))


async def wrong_unit(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await send(writer, asked.frame(bytes([3, 6, 0, 1, 0, 2, 0, 3]), unit_id=77))


@pytest.mark.parametrize(("behave", "kept"), [(half, False), (wrong_transaction, True), (wrong_unit, True)])
async def test_an_answer_that_never_gets_whole_or_is_not_mine_is_silence(
    free_port: Callable[[], int], behave: Behave, kept: bool
) -> None:
    async with peer(free_port(), {9: behave}) as gateway, linked(gateway.port) as link:
        with pytest.raises(Silent):
            await link.read(9, HOLDING)
        assert link.connected is kept, "half a frame must not stand in front of the next one"


async def test_a_foreign_frame_before_the_answer_is_skipped(free_port: Callable[[], int]) -> None:
    async def both(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await wrong_transaction(asked, writer)
        await wrong_unit(asked, writer)
        await counting(asked, writer)

    async with peer(free_port(), {9: both}) as gateway, linked(gateway.port) as link:
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_an_answer_in_pieces_is_put_together(free_port: Callable[[], int]) -> None:
    async def pieces(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await send(writer, *(bytes([byte]) for byte in asked.words([1, 2, 3])))

    async with peer(free_port(), {9: pieces}) as gateway, linked(gateway.port) as link:
        assert await link.read(9, HOLDING) == [1, 2, 3]


async def test_an_answer_with_too_few_registers_is_malformed_but_the_connection_stays(
    free_port: Callable[[], int],
) -> None:
    async def short(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.words([1]))

    async with peer(free_port(), {9: short}) as gateway, linked(gateway.port) as link:
        with pytest.raises(Malformed):
            await link.read(9, HOLDING)
        assert link.connected


async def test_a_close_between_requests_is_noticed(free_port: Callable[[], int]) -> None:
    async with peer(free_port(), {9: counting}) as gateway, linked(gateway.port) as link:
        await link.read(9, HOLDING)
        gateway.hang_up()
        async with asyncio.timeout(30):
            while link.connected:
                await asyncio.sleep(0.005)
        with pytest.raises(Broken):
            await link.read(9, HOLDING)


async def test_nobody_there_is_a_broken_link(free_port: Callable[[], int]) -> None:
    link = Link(Endpoint("127.0.0.1", free_port()), TIMEOUT_S)
    with pytest.raises(Broken, match="refused"):
        await link.open()
    assert not link.connected


async def test_a_read_can_be_cancelled_at_once(free_port: Callable[[], int]) -> None:
    async with peer(free_port(), {9: silent}) as gateway, linked(gateway.port) as link:
        reading = asyncio.create_task(link.read(9, HOLDING))
        async with asyncio.timeout(30):
            while not gateway.asked:
                await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
