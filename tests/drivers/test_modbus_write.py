"""Writing with read-back, and asking in between: over real connections, to units that keep what is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyModbusTCP.server import DataBank, ModbusServer

from drivers.modbus.address import Endpoint, parse
from drivers.modbus.connections import Connections
from drivers.modbus.gateway import Gateway, Plan
from drivers.modbus.poller import driver as modbus_driver
from drivers.modbus.write import write
from iot_core.errors import CommandRejected, DeviceUnreachable
from iot_core.messages import said
from iot_core.model import Command, Uplink
from iot_core.profiles import load
from iot_core.profiles.modbus import Read, RegisterWrite
from iot_core.settings import Modbus
from tests.core import stopwatch
from tests.drivers.modbus_peer import Asked, Memory, Writer, counting, peer, silent
from tests.drivers.modbus_profiles import merge, models
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until


async def _nowhere(_: Uplink) -> None:
    """Take what nobody asked for."""


def plan(unit_id: int) -> Plan:
    return Plan("", unit_id, 60, (), 0, merge)


NINE = plan(9)


@asynccontextmanager
async def gateway_at(port: int, timeout_s: float = 0.2) -> AsyncIterator[Gateway]:
    made = Gateway(Endpoint("127.0.0.1", port), Connections(10), _nowhere, lambda _: None, timeout_s)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


LAMP = {"words": {0: 0x00FF, 1: 0, 2: 0}, "coils": {0: 0, 1: 0, 2: 0}}


def lamp(**more: object) -> Memory:
    return Memory(words=dict(LAMP["words"]), coils=dict(LAMP["coils"]), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "functions", "words", "coils"),
    [
        (RegisterWrite("holding", 1, (7, 8)), [16], {0: 255, 1: 7, 2: 8}, {0: 0, 1: 0, 2: 0}),
        (RegisterWrite("holding", 1, (7,)), [16], {0: 255, 1: 7, 2: 0}, {0: 0, 1: 0, 2: 0}),
        (RegisterWrite("holding", 1, (7,), single=True), [6], {0: 255, 1: 7, 2: 0}, {0: 0, 1: 0, 2: 0}),
        (RegisterWrite("coil", 1, (1,)), [5], {0: 255, 1: 0, 2: 0}, {0: 0, 1: 1, 2: 0}),
        (RegisterWrite("coil", 0, (1, 0, 1)), [15], {0: 255, 1: 0, 2: 0}, {0: 1, 1: 0, 2: 1}),
        (RegisterWrite("holding", 0, (0x0500,), mask=0x0F00), [16], {0: 0x05FF, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0}),
    ],
    ids=["registers", "one register", "function 6", "coil", "coils", "some bits, without function 22"],
)
@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_what_is_written_is_there(  # noqa: PLR0917 - pytest names them
    free_port: Callable[[], int],
    given: RegisterWrite,
    functions: list[int],
    words: dict[int, int],
    coils: dict[int, int],
    rtu: bool,
) -> None:
    memory = lamp()
    async with peer(free_port(), {9: memory}, rtu=rtu) as at:
        made = Gateway(Endpoint("127.0.0.1", at.port, rtu), Connections(10), _nowhere, lambda _: None, 0.3)
        await write(made, NINE, [given], device="lamp-1")
        made._link.close()
    assert (memory.words, memory.coils) == (words, coils)
    assert [bytes.fromhex(each)[0] for each in memory.written] == functions
    assert at.asked[-1].function in (1, 3), "read back"


async def test_some_bits_are_written_by_function_22_where_the_device_knows_it(free_port: Callable[[], int]) -> None:
    memory = lamp(functions=frozenset({3, 22}))
    async with peer(free_port(), {9: memory}) as at, gateway_at(at.port) as gateway:
        await write(gateway, NINE, [RegisterWrite("holding", 0, (0x0500,), mask=0x0F00)], device="lamp-1")
    assert memory.words[0] == 0x05FF
    assert [bytes.fromhex(each)[0] for each in memory.written] == [22]


async def test_a_device_that_says_yes_and_does_nothing_is_found_out(free_port: Callable[[], int]) -> None:
    async def liar(asked: Asked, writer: Writer) -> None:
        writer.write(asked.frame(asked.pdu[:5]) if asked.function == 16 else asked.words([0] * asked.count))

    async with peer(free_port(), {9: liar}) as at, gateway_at(at.port) as gateway:
        with pytest.raises(CommandRejected) as rejected:
            await write(gateway, NINE, [RegisterWrite("holding", 1, (7,))], device="lamp-1")
    assert rejected.value.facts == {"device": "lamp-1", "block": "holding:1", "wanted": [7], "found": [0]}
    assert "lamp-1" in said(rejected.value, "vi")


async def test_registers_that_follow_slowly_are_read_again(free_port: Callable[[], int]) -> None:
    reads = 0

    async def slow(asked: Asked, writer: Writer) -> None:
        nonlocal reads
        if asked.function == 16:
            writer.write(asked.frame(asked.pdu[:5]))
        else:
            reads += 1
            writer.write(asked.words([7 if reads > 2 else 0]))

    async with peer(free_port(), {9: slow}) as at, gateway_at(at.port) as gateway:
        await write(gateway, NINE, [RegisterWrite("holding", 1, (7,))], device="lamp-1")
    assert reads == 3


async def test_registers_that_only_take_are_not_read_back(free_port: Callable[[], int]) -> None:
    memory = lamp(functions=frozenset({16}))
    async with peer(free_port(), {9: memory}) as at, gateway_at(at.port) as gateway:
        await write(gateway, NINE, [RegisterWrite("holding", 1, (7,), read_back=False)], device="lamp-1")
    assert [asked.function for asked in at.asked] == [16]


@pytest.mark.parametrize(("code", "asked_times"), [(1, 1), (2, 1), (3, 1), (6, 4)])
async def test_a_refusal_names_its_code_and_only_a_busy_device_is_asked_again(
    free_port: Callable[[], int], code: int, asked_times: int
) -> None:
    async def no(asked: Asked, writer: Writer) -> None:
        writer.write(asked.exception(code))

    async with peer(free_port(), {9: no}) as at, gateway_at(at.port) as gateway:
        with pytest.raises(CommandRejected) as rejected:
            await write(gateway, NINE, [RegisterWrite("holding", 1, (7,))], device="lamp-1")
    assert rejected.value.facts["exception"] == code
    assert len(at.asked) == asked_times


async def test_silence_is_a_device_that_cannot_be_reached(free_port: Callable[[], int]) -> None:
    async with peer(free_port(), {9: silent}) as at, gateway_at(at.port) as gateway:
        with pytest.raises(DeviceUnreachable):
            await write(gateway, NINE, [RegisterWrite("coil", 1, (1,))], device="lamp-1")
    gone = Gateway(Endpoint("127.0.0.1", free_port()), Connections(10), _nowhere, lambda _: None, 0.2)
    with pytest.raises(DeviceUnreachable):
        await write(gone, NINE, [RegisterWrite("coil", 1, (1,))], device="lamp-1")


async def test_an_independent_server_is_written_to(free_port: Callable[[], int]) -> None:
    bank = DataBank(h_regs_size=20, i_regs_size=20, coils_size=20, d_inputs_size=20)
    server = ModbusServer("127.0.0.1", port := free_port(), no_block=True, data_bank=bank)
    server.start()
    try:
        async with gateway_at(port) as gateway:
            writes = [RegisterWrite("holding", 4, (352, 65336)), RegisterWrite("coil", 3, (1, 0, 1))]
            await write(gateway, plan(1), writes, device="m-1")
            assert bank.get_holding_registers(4, 2) == [352, 65336]
            assert bank.get_coils(3, 3) == [True, False, True]
            with pytest.raises(CommandRejected):
                await write(gateway, plan(1), [RegisterWrite("holding", 19, (1, 2))], device="m-1")
    finally:
        await asyncio.to_thread(server.stop)


@dataclass
class Pace:
    """Answers each request after a while, as a slow line does."""

    seconds: float
    asked: list[int] = field(default_factory=list)

    async def __call__(self, asked: Asked, writer: Writer) -> None:
        await asyncio.sleep(self.seconds)
        await counting(asked, writer)


async def test_a_unit_is_read_at_once_while_500_polls_are_under_way(free_port: Callable[[], int]) -> None:
    """250 units of 2 blocks each on one slow connection: a round of polls takes 10 s, and everybody is due at once."""
    edges, pace = Edges(), Pace(0.02)
    async with peer(free_port(), dict.fromkeys(range(1, 248), pace)) as at:
        addresses = [f"modbus://127.0.0.1:{at.port}/{number}" for number in range(1, 248)]
        mounted = Mounted(*(unit(address, number=number) for number, address in enumerate(addresses)))
        profiles = models(1, Read("holding", 0, 20), Read("input", 0, 20))
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=0.5), profiles=profiles))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.counted["modbus_cycles"] >= 10)
            took = []
            for _ in range(5):
                async with stopwatch() as watch:
                    uplink = await driver.read(unit(addresses[200], number=200))
                took.append(watch.seconds)
                assert uplink.registers is not None
                assert list(uplink.registers["holding:0"]) == list(range(20))
    assert max(took) < 1, "two requests of its own, and one of the polls before each"


async def test_a_unit_is_read_at_once_while_a_dead_one_is_waited_for(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port(), {9: counting}) as at:
        dead, living = f"modbus://127.0.0.1:{at.port}/8", unit(f"modbus://127.0.0.1:{at.port}/9", number=2)
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=3), profiles=models(3600, Read("holding", 0, 3))))
        async with running(driver, Mounted(unit(dead), living), edges.ingest):
            await until(lambda: edges.counted["modbus_timeouts"] >= 1)
            gateway = driver._gateways[parse(dead).place][0]
            gateway.poll_soon(dead)
            await until(lambda: len(at.blocks(8)) >= 2)
            async with stopwatch() as watch:
                await driver.read(living)
            assert watch.seconds < 1


async def test_a_silent_unit_that_is_asked_now_says_so(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port(), {}) as at:
        there = unit(f"modbus://127.0.0.1:{at.port}/8")
        driver = modbus_driver(
            edges.context(modbus=Modbus(timeout_s=0.2), profiles=models(3600, Read("holding", 0, 3)))
        )
        async with running(driver, Mounted(there), edges.ingest):
            await driver.listening()
            with pytest.raises(DeviceUnreachable) as caught:
                await driver.read(there)
            assert caught.value.facts["reason"] == "timeout"
            with pytest.raises(DeviceUnreachable):
                await driver.read(unit("modbus://127.0.0.1:1/8"))


CLASS = """\
title: {vi: Đèn, en: Lamp}
metrics:
  dim: {title: {vi: Mức sáng, en: Level}, ucum: "%", range: [0, 100]}
commands:
  dim:
    title: {vi: Đặt mức sáng, en: Set level}
    params: {level: {title: {vi: Mức, en: Level}, ucum: "%", range: [0, 100]}}
  off: {title: {vi: Tắt, en: Off}}
"""
PROFILE = """\
model: acme-lamp
vendor: Acme
title: {vi: Đèn, en: Lamp}
source: a test
interval: 1h
modbus: {points: {dim: {address: 16, type: uint16, scale: 0.1}}}
commands:
  dim: {write: [{address: 16, type: uint16, scale: 0.1, param: level}]}
examples: [{registers: {"holding:16": [500]}, values: {dim: 50}}, {registers: {}, held: truncated}]
"""


async def test_a_command_is_written_as_the_profile_says_and_the_unit_is_polled_at_once(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "lamp").mkdir()
    (tmp_path / "lamp" / "class.yaml").write_text(CLASS, encoding="utf-8")
    (tmp_path / "lamp" / "acme_lamp.yaml").write_text(PROFILE, encoding="utf-8")
    edges, memory = Edges(), Memory(words={16: 0})
    async with peer(free_port(), {9: memory}) as at:
        lamp = unit(f"modbus://127.0.0.1:{at.port}/9", profile="acme-lamp")
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=0.2), profiles=load(tmp_path)))
        async with running(driver, Mounted(lamp), edges.ingest):
            await until(lambda: edges.ingest.uplinks)
            await driver.send(lamp, command("dim", level=42.5))
            assert memory.words[16] == 425
            await until(lambda: len(edges.ingest.uplinks) == 2)
            with pytest.raises(CommandRejected) as rejected:
                await driver.send(lamp, command("off"))
    assert edges.ingest.uplinks[1].registers == {"holding:16": [425]}
    assert "acme-lamp" in said(rejected.value, "vi")


def command(name: str, **params: object) -> Command:
    return Command(id=1, name=name, params=params, expires=datetime.now(UTC))
