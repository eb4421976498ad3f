"""RTU on a pair of terminals and over TCP, against peers written from the specification, with what lines do to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice
from structlog.testing import capture_logs

from drivers.modbus import pdu, schedule
from drivers.modbus.address import Endpoint, Line, Place
from drivers.modbus.link import Broken, Link, Refused, Silent
from drivers.modbus.poller import ModbusDriver
from iot_core.settings import Modbus
from tests.drivers.modbus_peer import Asked, Behave, Memory, SerialBus, Writer, counting, peer, serial_bus, silent
from tests.drivers.modbus_profiles import Read, models
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until

HOLDING = Read("holding", 4, 3)
TIMEOUT_S = 0.8


@asynccontextmanager
async def linked(place: Place, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Link]:
    link = Link(place, timeout_s)
    await link.open()
    try:
        yield link
    finally:
        link.close()


def line(bus: SerialBus, baud: int = 115_200) -> Line:
    return Line(bus.path, baud, "N", 1)


async def test_all_tables_are_read_on_a_serial_line() -> None:
    async with serial_bus({9: counting}) as bus, linked(line(bus)) as link:
        assert await link.read(9, HOLDING) == [4, 5, 6]
        assert await link.read(9, Read("input", 65533, 2)) == [65533, 65534]
        assert await link.read(9, Read("coil", 3, 10)) == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
        assert await link.read(9, Read("discrete", 8, 1)) == [0]
        assert await link.read(9, Read("holding", 0, 125)) == list(range(125))
        assert await link.read(9, Read("coil", 0, 2000)) == [number % 2 for number in range(2000)]


async def test_all_tables_are_read_over_tcp_too(free_port: Callable[[], int]) -> None:
    async with (
        peer(free_port(), {9: counting}, rtu=True) as gateway,
        linked(Endpoint("127.0.0.1", gateway.port, rtu=True)) as link,
    ):
        assert await link.read(9, HOLDING) == [4, 5, 6]
        assert await link.read(9, Read("coil", 0, 2000)) == [number % 2 for number in range(2000)]
        assert gateway.connections == 1


async def test_between_two_frames_the_line_is_quiet_for_three_and_a_half_bytes() -> None:
    place = Line("", 2400, "E", 1)
    async with (
        serial_bus({9: counting}, byte_s=place.byte_s) as bus,
        linked(place._replace(port=bus.path)) as link,
    ):
        for _ in range(5):
            await link.read(9, HOLDING)
    assert min(bus.gaps[1:]) >= place.quiet_s == pytest.approx(0.016, abs=0.001)


async def test_a_long_answer_on_a_slow_line_takes_its_time_without_a_timeout() -> None:
    place = Line("", 2400, "N", 1)  # 125 registers travel 1.06 s, longer than the timeout
    async with serial_bus({9: counting}, byte_s=place.byte_s) as bus, linked(place._replace(port=bus.path)) as link:
        assert await link.read(9, Read("holding", 0, 125)) == list(range(125))


async def test_an_exception_names_its_code() -> None:
    async def busy(asked: Asked, writer: Writer) -> None:
        writer.write(asked.exception(6))

    async with serial_bus({9: busy}) as bus, linked(line(bus)) as link:
        with pytest.raises(Refused) as refused:
            await link.read(9, HOLDING)
        assert refused.value.code == 6
        assert link.connected


def noisy(before: bytes, after: bytes = b"") -> Behave:
    async def answer(asked: Asked, writer: Writer) -> None:
        frame = asked.words(list(range(asked.address, asked.address + asked.count)))
        writer.write(before + frame + after)

    return answer


@pytest.mark.parametrize(
    "behave",
    [noisy(b"\x00"), noisy(b"\xff"), noisy(b"\x09"), noisy(b"\x09\x03"), noisy(b"", b"\0"), noisy(b"", b"\x09\x03")],
    ids=["00", "FF", "its unit id", "the head of an answer", "00 after it", "a head after it"],
)  # fmt: skip
async def test_noise_around_an_answer_is_skipped(behave: Behave) -> None:
    async with serial_bus({9: behave}) as bus, linked(line(bus)) as link:
        for _ in range(3):
            assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_the_echo_of_a_two_wire_adapter_is_skipped() -> None:
    async def echoing(asked: Asked, writer: Writer) -> None:
        writer.write(asked.frame(asked.pdu))
        await counting(asked, writer)

    async with serial_bus({9: echoing}) as bus, linked(line(bus)) as link:
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def broken(asked: Asked, writer: Writer) -> None:
    frame = bytearray(asked.words([1, 2, 3]))
    frame[4] ^= 1
    writer.write(bytes(frame))


async def half(asked: Asked, writer: Writer) -> None:
    writer.write(asked.words([1, 2, 3])[:7])


async def short(asked: Asked, writer: Writer) -> None:
    writer.write(asked.words([1]))


async def another_unit(asked: Asked, writer: Writer) -> None:
    writer.write(asked.frame(bytes([3, 6, 0, 1, 0, 2, 0, 3]), unit_id=77))


@pytest.mark.parametrize("behave", [broken, half, short, another_unit, silent])
async def test_what_is_no_answer_is_silence_and_the_next_unit_is_read(behave: Behave) -> None:
    async with serial_bus({9: behave, 1: counting}) as bus, linked(line(bus)) as link:
        with pytest.raises(Silent):
            await link.read(9, HOLDING)
        assert await link.read(1, HOLDING) == [4, 5, 6]


def late_once(delay_s: float, words: list[int]) -> Behave:
    """Answer the first question late, with other words, everything else in time; in the order of the questions."""
    asked_before = False

    async def answer(asked: Asked, writer: Writer) -> None:
        nonlocal asked_before
        if not asked_before:
            asked_before = True
            await asyncio.sleep(delay_s)
            writer.write(asked.words(words))
        else:
            await counting(asked, writer)

    return answer


@pytest.mark.parametrize("delay_s", [TIMEOUT_S * 1.2, TIMEOUT_S * 1.5])
@pytest.mark.parametrize("count", [1, 3], ids=["one register", "three"])
async def test_a_late_answer_is_never_taken_for_the_next_one(delay_s: float, count: int) -> None:
    """RTU frames carry no number: the same question again must not take the old answer."""
    block = Read("holding", 4, count)
    async with serial_bus({9: late_once(delay_s, [111] * count)}) as bus, linked(line(bus)) as link:
        with pytest.raises(Silent):
            await link.read(9, block)
        assert await link.read(9, block) == [4, 5, 6][:count]
        assert [asked.count for asked in bus.asked] == [count, 2 if count == 1 else 1, count], "a knock in between"
        assert await link.read(9, block) == [4, 5, 6][:count]
        assert len(bus.asked) == 4, "no knock once it is in step again"


async def test_a_late_answer_over_tcp_is_never_taken_for_the_next_one(free_port: Callable[[], int]) -> None:
    async with (
        peer(free_port(), {9: late_once(TIMEOUT_S * 1.5, [111] * 3)}, rtu=True) as gateway,
        linked(Endpoint("127.0.0.1", gateway.port, rtu=True)) as link,
    ):
        with pytest.raises(Silent):
            await link.read(9, HOLDING)
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_a_device_that_ignores_the_knock_is_read_again_all_the_same() -> None:
    async def only_whole_values(asked: Asked, writer: Writer) -> None:
        if asked.count == 3 and len(bus.asked) > 1:
            await counting(asked, writer)

    async with serial_bus({9: only_whole_values}) as bus, linked(line(bus)) as link:
        for _ in range(2):
            with pytest.raises(Silent):
                await link.read(9, HOLDING)
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_a_late_answer_of_another_unit_is_told_by_its_unit_id() -> None:
    async with serial_bus({8: late_once(TIMEOUT_S * 1.3, [111] * 3), 9: counting}) as bus, linked(line(bus)) as link:
        with pytest.raises(Silent):
            await link.read(8, HOLDING)
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_a_read_that_was_cancelled_owes_an_answer_too() -> None:
    async with serial_bus({9: late_once(0.1, [111] * 3)}) as bus, linked(line(bus)) as link:
        reading = asyncio.create_task(link.read(9, HOLDING))
        async with asyncio.timeout(30):
            while not bus.asked:
                await asyncio.sleep(0.002)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await link.read(9, HOLDING) == [4, 5, 6]


async def test_a_port_that_vanishes_is_a_broken_link_and_can_be_opened_again(tmp_path: object) -> None:
    ours, theirs = os.openpty()
    link = Link(Line(os.ttyname(theirs), 9600, "N", 1), TIMEOUT_S)
    await link.open()
    os.close(theirs)
    os.close(ours)
    with pytest.raises((Broken, Silent)):
        await link.read(9, HOLDING)
    async with serial_bus({9: counting}) as bus, linked(line(bus)) as again:
        assert await again.read(9, HOLDING) == [4, 5, 6]


async def test_a_port_can_be_opened_again_at_once_and_by_one_only() -> None:
    async with serial_bus({9: counting}) as bus:
        first, second = Link(line(bus), TIMEOUT_S), Link(line(bus), TIMEOUT_S)
        for _ in range(3):
            await first.open()
            assert await first.read(9, HOLDING) == [4, 5, 6]
        with pytest.raises(Broken, match="in use"):
            await second.open()
        first.close()
        await second.open()
        assert await second.read(9, HOLDING) == [4, 5, 6]
        second.close()


async def test_no_such_port_is_a_broken_link() -> None:
    link = Link(Line("/dev/ttyNONE7", 9600, "N", 1), TIMEOUT_S)
    with pytest.raises(Broken, match="no such port"):
        await link.open()


@pytest.mark.parametrize("rtu", [False, True])
async def test_device_identification_is_read_to_its_end(free_port: Callable[[], int], rtu: bool) -> None:
    objects = {0: b"Acme", 1: b"AQ4", 2: b"V1.2", 3: b"https://acme.example", 4: b"Air station", 5: b"AQ4-S"}
    async with (
        peer(free_port(), {9: Memory(objects=objects), 8: Memory()}, rtu=rtu) as gateway,
        linked(Endpoint("127.0.0.1", gateway.port, rtu=rtu)) as link,
    ):
        assert await link.identify(9) == {
            "vendor": "Acme", "product": "AQ4", "revision": "V1.2", "url": "https://acme.example",
            "name": "Air station", "model": "AQ4-S",
        }  # fmt: skip
        with pytest.raises(Refused):
            await link.identify(8)


async def test_an_independent_server_on_a_serial_line_is_read_and_written_to(tmp_path: Path) -> None:
    """pymodbus at the other end of a line that socat makes: none of our frames in it."""
    ends = [tmp_path / "ours", tmp_path / "theirs"]
    program = await asyncio.create_subprocess_exec("socat", *(f"pty,raw,echo=0,link={end}" for end in ends))
    try:
        async with asyncio.timeout(30):
            while not all(end.exists() for end in ends):
                await asyncio.sleep(0.01)
        memory = SimDevice(12, SimData(0, values=[10, 20, 30, 40], datatype=DataType.REGISTERS))
        server = ModbusSerialServer(memory, port=str(ends[1]), baudrate=9600)
        await server.serve_forever(background=True)
        try:
            async with linked(Line(str(ends[0]), 9600, "N", 1), timeout_s=30) as link:
                assert await link.read(12, Read("holding", 1, 3)) == [20, 30, 40]
                await link.ask(12, pdu.write_words(2, [7, 8]))
                assert await link.read(12, Read("holding", 0, 4)) == [10, 20, 7, 8]
                with pytest.raises(Refused) as refused:
                    await link.read(12, Read("holding", 100, 2))
                assert refused.value.code == 2
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]
    finally:
        program.terminate()
        await program.wait()


def on(bus: SerialBus, unit_id: int) -> str:
    return f"modbus://{line(bus)}/{unit_id}"


async def test_units_on_one_serial_line_are_polled_and_a_dead_one_delays_them_by_one_timeout() -> None:
    """Ten dead units would stop the living ones for 2 s; in turn they cost 0.2 s each."""
    edges, interval, timeout = Edges(), 0.4, 0.2
    async with serial_bus({1: counting, 2: counting, 3: counting}) as bus:
        mounted = Mounted(*(unit(on(bus, number), number=number) for number in (1, 2, 3, *range(8, 18))))
        driver = ModbusDriver(edges.context(modbus=Modbus(timeout_s=timeout), profiles=models(interval, HOLDING)))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: min(len(edges.ingest.of(on(bus, number))) for number in (1, 2, 3)) >= 6)
    for number in (1, 2, 3):
        times = [uplink.received_at for uplink in edges.ingest.of(on(bus, number))]
        assert max((b - a).total_seconds() for a, b in pairwise(times)) < interval + timeout + 1
        assert all(uplink.registers == {"holding:4": [4, 5, 6]} for uplink in edges.ingest.of(on(bus, number)))
    assert not edges.ingest.of(on(bus, 8))


async def test_a_unit_that_sets_the_line_otherwise_is_left_out_and_named() -> None:
    edges = Edges()
    async with serial_bus({1: counting, 2: counting}) as bus:
        other = f"modbus://{bus.path}:9600-8E1/2"
        driver = ModbusDriver(edges.context(modbus=Modbus(gateways=("127.0.0.1",)), profiles=models(0.2, HOLDING)))
        with capture_logs() as logs:
            async with running(driver, Mounted(unit(on(bus, 1)), unit(other, number=2)), edges.ingest):
                await until(lambda: len(edges.ingest.of(on(bus, 1))) >= 2)
    assert [(entry["unit"], entry["reason"]) for entry in logs] == [(other, "modbus.line_differs")]


async def test_a_line_that_is_pulled_out_is_one_log_line_and_its_return_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "reconnect_delay", lambda _failures: 0.05)
    edges, port = Edges(), tmp_path / "ttyUSB0"
    address = f"modbus://{port}:115200-8N1/1"
    driver = ModbusDriver(
        edges.context(modbus=Modbus(timeout_s=0.2, gateways=("127.0.0.1",)), profiles=models(0.1, HOLDING))
    )
    with capture_logs() as logs:
        async with running(driver, Mounted(unit(address)), edges.ingest):
            await until(lambda: edges.counted["modbus_connect_failed"] >= 2)
            async with serial_bus({1: counting}) as bus:
                port.symlink_to(bus.path)
                await until(lambda: len(edges.ingest.uplinks) >= 3)
                port.unlink()
            await until(lambda: edges.counted["modbus_connect_failed"] >= 5)
            before = len(edges.ingest.uplinks)
            async with serial_bus({1: counting}) as bus:
                port.symlink_to(bus.path)
                await until(lambda: len(edges.ingest.uplinks) >= before + 3)
    told = [(entry["event"], entry.get("reason")) for entry in logs if "gateway" in entry]
    assert told == [("modbus.unreachable", "no such port"), ("modbus.recovered", None)] * 2
