"""The Modbus driver as a whole: real TCP on both sides, only the registry and the ingest path are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from drivers.modbus import schedule
from drivers.modbus.poller import driver as modbus_driver
from iot_core.settings import Modbus
from tests.drivers.modbus_peer import Asked, Peer, counting, listening, peer, silent
from tests.drivers.modbus_profiles import Model, Models, Read, models
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until

BLOCKS = (Read("holding", 4, 3), Read("input", 0, 2), Read("coil", 1, 2))
REGISTERS = {"holding:4": [4, 5, 6], "input:0": [0, 1], "coil:1": [1, 0]}
HERE = ("127.0.0.1",)
FAST = Modbus(timeout_s=0.8, gateways=HERE)


def at(port: int, unit_id: int) -> str:
    return f"modbus://127.0.0.1:{port}/{unit_id}"


@pytest.fixture(autouse=True)
def fresh_loggers() -> None:
    structlog.reset_defaults()


async def test_a_cycle_is_one_uplink_with_all_registers(free_port: Callable[[], int]) -> None:
    edges, profiles = Edges(), models(0.2, *BLOCKS)
    async with peer(free_port(), {9: counting}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=profiles))
        async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
            await until(lambda: len(edges.ingest.uplinks) >= 2)
    first, second = edges.ingest.uplinks[:2]
    assert (first.driver, first.address) == ("modbus", at(gateway.port, 9))
    assert first.registers == REGISTERS == second.registers
    assert first.received_at < second.received_at <= datetime.now(UTC)
    assert gateway.blocks(9)[:3] == ["holding:4+3", "input:0+2", "coil:1+2"], "one request for each block"
    assert edges.counted["modbus_cycles"] == len(edges.ingest.uplinks)


async def test_units_behind_one_gateway_share_one_connection_one_request_at_a_time(
    free_port: Callable[[], int],
) -> None:
    edges, at_work, most = Edges(), 0, 0

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.005)
        await counting(asked, writer)
        at_work -= 1

    async with peer(free_port(), dict.fromkeys(range(1, 9), slow)) as gateway:
        mounted = Mounted(*(unit(at(gateway.port, number), number=number) for number in range(1, 9)))
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.3, *BLOCKS)))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: len({uplink.address for uplink in edges.ingest.uplinks}) == 8)
            await driver.listening()
            assert driver.address_line() == "polling 8 units behind 1 gateway"
    assert gateway.connections == 1
    assert most == 1


async def test_polls_keep_to_the_grid_and_do_not_drift(free_port: Callable[[], int]) -> None:
    edges, times, interval = Edges(), [], 0.25
    loop = asyncio.get_running_loop()

    async def note(asked: Asked, writer: asyncio.StreamWriter) -> None:
        times.append(loop.time())
        await asyncio.sleep(0.05)  # an answer takes its time; the next poll must not be later for it
        await counting(asked, writer)

    async with peer(free_port(), {9: note}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(interval, BLOCKS[0])))
        phase = schedule.share(at(gateway.port, 9)) * interval

        def late() -> float:
            """Give the median of the last six; polls that drift are late by each fifth of the interval in turn."""
            return sorted((time - phase) % interval for time in times[-6:])[3]

        async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
            await until(lambda: len(times) >= 7 and late() < 0.04)  # the first poll comes at once


async def test_a_refused_block_is_missing_and_the_rest_is_used(free_port: Callable[[], int]) -> None:
    edges = Edges()

    async def no_inputs(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.function == 4:
            writer.write(asked.exception(2))
        else:
            await counting(asked, writer)

    async with peer(free_port(), {9: no_inputs}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        with capture_logs() as logs:
            async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
                await until(lambda: len(edges.ingest.uplinks) >= 4)
    assert edges.ingest.uplinks[3].registers == {"holding:4": [4, 5, 6], "coil:1": [1, 0]}
    assert edges.counted["modbus_exceptions"] == 1, "learned"
    refusals = [entry for entry in logs if entry["event"] == "modbus.refused"]
    assert [entry["blocks"] for entry in refusals] == [{"input:0": "exception 2"}], "told once"


@pytest.mark.parametrize("code", [0x0A, 0x0B])
async def test_a_gateway_that_speaks_for_a_silent_unit_keeps_its_connection(
    free_port: Callable[[], int], code: int
) -> None:
    edges = Edges()

    async def unreachable(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.exception(code))

    async with peer(free_port(), {8: unreachable, 9: counting}) as gateway:
        mounted = Mounted(unit(at(gateway.port, 8)), unit(at(gateway.port, 9), number=2))
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        with capture_logs() as logs:
            async with running(driver, mounted, edges.ingest):
                await until(lambda: len(edges.ingest.of(at(gateway.port, 9))) >= 5)
    assert not edges.ingest.of(at(gateway.port, 8))
    assert gateway.connections == 1
    assert len(gateway.blocks(8)) == len([block for block in gateway.blocks(8) if block == "holding:4+3"])
    told = [entry for entry in logs if entry["event"] == "modbus.unreachable"]
    assert [(entry["unit"], entry["reason"]) for entry in told] == [(at(gateway.port, 8), f"exception {code}")]


async def test_a_unit_that_dies_is_told_once_and_so_is_its_return(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port(), {9: counting}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        with capture_logs() as logs:
            async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
                await until(lambda: edges.ingest.uplinks)
                gateway.units[9] = silent
                await until(lambda: edges.counted["modbus_timeouts"] >= 4)
                gateway.units[9] = counting
                before = len(edges.ingest.uplinks)
                await until(lambda: len(edges.ingest.uplinks) >= before + 2)
    told = [(entry["event"], entry.get("reason")) for entry in logs]
    assert told == [("modbus.unreachable", "timeout"), ("modbus.recovered", None)]
    assert 0.1 <= logs[1]["after_s"] < 60
    assert logs[1]["unit"] == at(gateway.port, 9)


async def test_dead_units_cost_their_neighbours_one_timeout_at_most(free_port: Callable[[], int]) -> None:
    """Ten dead units with a timeout of 0.2 s would stop the living ones for 2 s; in turn they cost 0.2 s each."""
    edges, interval, timeout = Edges(), 0.3, 0.2
    async with peer(free_port(), {200: counting}) as gateway:
        dead = [unit(at(gateway.port, number), number=number) for number in range(1, 11)]
        mounted = Mounted(*dead, unit(living := at(gateway.port, 200), number=200))
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=timeout), profiles=models(interval, *BLOCKS)))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.counted["modbus_timeouts"] >= 12 and len(edges.ingest.of(living)) >= 8)
    received = [uplink.received_at for uplink in edges.ingest.of(living)]
    gaps = [(after - before).total_seconds() for before, after in pairwise(received)]
    assert max(gaps) < interval + timeout + 1


async def test_a_dead_unit_is_asked_ever_more_rarely(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port(), {9: counting}) as gateway:
        mounted = Mounted(unit(at(gateway.port, 8)), unit(living := at(gateway.port, 9), number=2))
        driver = modbus_driver(
            edges.context(modbus=Modbus(timeout_s=0.2, gateways=HERE), profiles=models(0.1, *BLOCKS))
        )
        async with running(driver, mounted, edges.ingest):
            await until(lambda: len(edges.ingest.of(living)) >= 25)
    assert 3 <= len(gateway.blocks(8)) <= 9


async def test_a_gateway_that_is_away_is_one_line_and_its_return_too(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "reconnect_delay", lambda _failures: 0.05)
    edges, gateway = Edges(), Peer(free_port(), {8: counting, 9: counting})
    mounted = Mounted(unit(at(gateway.port, 8)), unit(at(gateway.port, 9), number=2))
    driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
    with capture_logs() as logs:
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.counted["modbus_connect_failed"] >= 3)
            assert not edges.ingest.uplinks
            async with listening(gateway):
                await until(lambda: len({uplink.address for uplink in edges.ingest.uplinks}) == 2)
            await until(lambda: edges.counted["modbus_connect_failed"] >= 6)
            before = len(edges.ingest.uplinks)
            async with listening(gateway):
                await until(lambda: len(edges.ingest.uplinks) >= before + 4)
    told = [(entry["event"], entry.get("gateway")) for entry in logs]
    name = f"127.0.0.1:{gateway.port}"
    assert told == [("modbus.unreachable", name), ("modbus.recovered", name)] * 2
    assert logs[0]["units"] == 2


async def test_a_connection_that_breaks_is_opened_again_without_losing_the_cycle(free_port: Callable[[], int]) -> None:
    edges = Edges()

    async def breaks_once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.connection == 1 and asked.function == 4:
            writer.transport.abort()
        else:
            await counting(asked, writer)

    async with peer(free_port(), {9: breaks_once}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        with capture_logs() as logs:
            async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
                await until(lambda: len(edges.ingest.uplinks) >= 2)
    assert edges.ingest.uplinks[0].registers == REGISTERS
    assert edges.counted["modbus_broken"] == 1
    assert not logs


async def test_garbage_of_one_unit_does_not_touch_the_other(free_port: Callable[[], int]) -> None:
    edges = Edges()

    async def garbage(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01\xde\xad\xbe\xef" * 20)

    async with peer(free_port(), {8: garbage, 9: counting}) as gateway:
        mounted = Mounted(unit(at(gateway.port, 8)), unit(living := at(gateway.port, 9), number=2))
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        with capture_logs() as logs:
            async with running(driver, mounted, edges.ingest):
                await until(lambda: len(edges.ingest.of(living)) >= 6 and edges.counted["modbus_broken"] >= 2)
    assert {tuple(uplink.registers or ()) for uplink in edges.ingest.uplinks} == {tuple(REGISTERS)}
    assert not edges.ingest.of(at(gateway.port, 8))
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("modbus.unreachable", "garbage")]


async def test_units_come_and_go_while_it_runs(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(peer(free_port(), {8: counting, 9: counting}))
        two = await stack.enter_async_context(peer(free_port(), {1: counting}))
        mounted = Mounted(unit(at(one.port, 8)))
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.ingest.of(at(one.port, 8)))
            mounted.mount(unit(at(one.port, 9), number=2))
            mounted.mount(unit(at(two.port, 1), number=3))
            await until(lambda: edges.ingest.of(at(one.port, 9)) and edges.ingest.of(at(two.port, 1)))
            assert one.connections == 1
            mounted.dismount(at(two.port, 1))
            await until(lambda: two.open_now == 0)
            mounted.dismount(at(one.port, 8))
            await until(lambda: driver.address_line() == "polling 1 unit behind 1 gateway")
            asked = len(one.blocks(8))
            seen = len(edges.ingest.of(at(one.port, 9)))
            await until(lambda: len(edges.ingest.of(at(one.port, 9))) >= seen + 4)
            assert len(one.blocks(8)) <= asked + len(BLOCKS), "at most the cycle that was under way"


async def test_a_unit_that_cannot_be_polled_is_named_once_and_left_out(free_port: Callable[[], int]) -> None:
    edges = Edges()
    profiles = Models(
        {"no-registers": Model(timedelta(seconds=1), None), "acme-meter": models(0.1, *BLOCKS).get("acme-meter")}
    )
    async with peer(free_port(), {9: counting}) as gateway:
        mounted = Mounted(
            unit("modbus://127.0.0.1/nine"),
            unit(at(gateway.port, 1), profile="no-registers", number=2),
            unit(at(gateway.port, 2), profile="unheard-of", number=3),
            unit(at(gateway.port, 9), number=4),
        )
        driver = modbus_driver(edges.context(modbus=FAST, profiles=profiles))
        with capture_logs() as logs:
            async with running(driver, mounted, edges.ingest):
                await until(lambda: edges.ingest.uplinks)
                mounted.mount(unit(at(gateway.port, 9), number=4))
                await until(lambda: len(edges.ingest.uplinks) >= 2)
    assert sorted(entry["reason"] for entry in logs) == [
        "driver.modbus_bad_address", "driver.modbus_no_registers", "profile.unknown",
    ]  # fmt: skip


async def test_more_gateways_than_connections_take_turns(free_port: Callable[[], int]) -> None:
    edges, most = Edges(), 0

    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(free_port(), {1: counting})) for _ in range(6)]
        mounted = Mounted(*(unit(at(each.port, 1), number=number) for number, each in enumerate(peers)))
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=5, connections=2), profiles=models(0.2, *BLOCKS)))
        async with running(driver, mounted, edges.ingest):
            async with asyncio.timeout(60):
                while min(len(edges.ingest.of(at(each.port, 1))) for each in peers) < 3:
                    most = max(most, sum(bool(each.open_now) for each in peers))
                    await asyncio.sleep(0.002)
    assert most <= 3, "two, and one that is just being closed"
    assert sum(each.connections for each in peers) > 6


async def test_what_a_person_asks_for_takes_its_turn_too(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port(), {1: counting}) as one, peer(free_port(), {1: counting}) as other:
        here, there = (unit(at(each.port, 1), number=number) for number, each in enumerate((one, other)))
        driver = modbus_driver(
            edges.context(modbus=Modbus(timeout_s=0.5, connections=1), profiles=models(600, *BLOCKS))
        )
        async with running(driver, Mounted(here, there), edges.ingest):
            await driver.listening()
            for each in (here, there, here):
                assert (await driver.read(each)).registers
                await until(lambda: one.open_now + other.open_now == 1)


async def test_it_stops_at_once_in_the_middle_of_a_request(free_port: Callable[[], int]) -> None:
    edges = Edges()
    async with peer(free_port()) as gateway:
        driver = modbus_driver(edges.context(modbus=Modbus(timeout_s=30), profiles=models(0.1, *BLOCKS)))
        task = asyncio.create_task(driver.run(Mounted(unit(at(gateway.port, 9))), edges.ingest))
        await until(lambda: gateway.asked)
        before = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() - before < 1
        await until(lambda: gateway.open_now == 0)


async def test_polls_wait_on_disk_while_the_store_is_away_and_arrive_in_order(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    edges = Edges()
    async with peer(free_port(), {8: counting, 9: counting}) as gateway:
        mounted = Mounted(unit(at(gateway.port, 8)), unit(at(gateway.port, 9), number=2))
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS), spool=tmp_path))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.ingest.uplinks)
            edges.ingest.away = True
            await until(lambda: edges.counted["modbus_spooled"] >= 8)
            edges.ingest.away = False
            await until(lambda: len(edges.ingest.uplinks) >= 20)
    times = [uplink.received_at for uplink in edges.ingest.of(at(gateway.port, 9))]
    assert times == sorted(set(times)), "in order, each once"
    assert edges.counted["modbus_cycles"] - len(edges.ingest.uplinks) <= 1, "none lost"
    assert not edges.counted["modbus_dropped"]


async def test_without_a_spool_what_the_store_cannot_take_is_counted(free_port: Callable[[], int]) -> None:
    edges = Edges()
    edges.ingest.away = True
    async with peer(free_port(), {9: counting}) as gateway:
        driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.1, *BLOCKS)))
        async with running(driver, Mounted(unit(at(gateway.port, 9))), edges.ingest):
            await until(lambda: edges.counted["modbus_dropped"] >= 2)
    assert edges.counted["modbus_dropped"] in (edges.counted["modbus_cycles"], edges.counted["modbus_cycles"] - 1)


async def test_gateways_that_come_back_together_are_connected_to_one_after_the_other(
    free_port: Callable[[], int],
) -> None:
    """Forty gateways behind one switch that was off: their connections spread over a second, none is tried twice."""
    edges = Edges()
    times: list[float] = []
    loop = asyncio.get_running_loop()
    ports = [free_port() for _ in range(40)]
    mounted = Mounted(*(unit(at(port, 1), number=number) for number, port in enumerate(ports)))
    driver = modbus_driver(edges.context(modbus=FAST, profiles=models(0.2, BLOCKS[0])))
    async with AsyncExitStack() as stack, running(driver, mounted, edges.ingest):
        await until(lambda: edges.counted["modbus_connect_failed"] >= 40)
        began = loop.time()
        peers = [await stack.enter_async_context(peer(port, {1: counting})) for port in ports]
        while len(times) < 40 and loop.time() < began + 15:
            times += [loop.time() - began] * (sum(each.connections for each in peers) - len(times))
            await asyncio.sleep(0.005)
    assert len(times) == 40, "one connection each"
    assert max(sum(1 for each in times if first <= each < first + 0.1) for first in times) <= 25
