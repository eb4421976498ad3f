"""Acknowledged means committed: whatever dies or is away, what was not done comes again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from iot_core.errors import StoreUnavailable
from tests import servers
from tests.drivers.test_mqtt.bench import DURABLE, Ingest, context, publish, running, settle, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iot_core.model import Uplink
    from tests.servers import Mosquitto

TOPIC = "iot/v1/aq-1/telemetry"

VICTIM = """
import asyncio, sys
from tests.drivers.test_mqtt.bench import context, running

async def emit(uplink):
    print(uplink.payload.decode(), flush=True)  # taken, and never done

async def main():
    async with running(context(int(sys.argv[1])), emit):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Mosquitto]:
    with servers.mosquitto(tmp_path / "broker", *DURABLE) as broker:
        yield broker


async def backlog(broker: Mosquitto, first: int, last: int, topic: str = TOPIC) -> None:
    lines = b"".join(b"%d\n" % number for number in range(first, last))
    assert await publish(broker, "-q", "1", "-l", "-t", topic, lines=lines) == 0


async def test_what_was_not_done_when_the_core_was_killed_is_delivered_again(durable: Mosquitto) -> None:
    words = [sys.executable, "-c", VICTIM, str(durable.port)]
    victim = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=servers.ROOT)
    assert victim.stdout is not None
    taken: set[bytes] = set()
    async with asyncio.timeout(60):
        while not taken:
            await publish(durable, "-q", "1", "-t", TOPIC, "-m", "hello")
            with_timeout = asyncio.wait_for(victim.stdout.readline(), 0.5)
            try:
                taken.add(await with_timeout)
            except TimeoutError:
                continue
        await backlog(durable, 0, 15)
        while b"14\n" not in taken:
            taken.add(await victim.stdout.readline())
    os.kill(victim.pid, signal.SIGKILL)
    await victim.wait()
    await backlog(durable, 15, 50)  # published while there is no core
    ingest = Ingest()
    async with running(context(durable.port), ingest.emit):
        await until(lambda: {str(number) for number in range(50)} <= set(ingest.payloads()))


async def test_what_was_done_is_not_delivered_again(durable: Mosquitto) -> None:
    first, second = Ingest(), Ingest()
    async with running(context(durable.port), first.emit):
        await backlog(durable, 0, 100)
        await until(lambda: len(first.taken) == 100)
    async with running(context(durable.port), second.emit):
        await backlog(durable, 100, 110)
        await until(lambda: len(second.taken) == 10)
    assert second.payloads() == [str(number) for number in range(100, 110)]


async def test_a_cancelled_driver_waits_for_what_it_handed_over(durable: Mosquitto) -> None:
    first, second = Ingest(finish=False), Ingest()
    later = []
    async with running(context(durable.port), first.emit):
        await backlog(durable, 0, 10)
        await until(lambda: len(first.taken) == 10)

        async def commit() -> None:
            await asyncio.sleep(0.2)
            await settle(*first.taken)

        later.append(asyncio.create_task(commit()))
    await later[0]
    async with running(context(durable.port), second.emit):
        await backlog(durable, 10, 11)
        await until(lambda: second.taken)
    assert second.payloads() == ["10"]


async def test_outcomes_in_another_order_acknowledge_each_message_once(durable: Mosquitto) -> None:
    first, second = Ingest(finish=False), Ingest()
    async with running(context(durable.port), first.emit):
        await backlog(durable, 0, 20)
        await until(lambda: len(first.taken) == 20)
        await settle(*reversed(first.taken))
    async with running(context(durable.port), second.emit):
        await backlog(durable, 20, 21)
        await until(lambda: second.taken)
    assert second.payloads() == ["20"]


async def test_a_message_done_after_its_connection_was_lost_is_counted_and_comes_again(tmp_path: Path) -> None:
    counted, ingest, port = Counter[str](), Ingest(finish=False), servers.free_ports(1)
    persistent = (*DURABLE, "persistence true", f"persistence_location {tmp_path}/")
    with servers.mosquitto(tmp_path / "broker", *persistent, port=port) as broker:
        async with running(context(port, counted=counted), ingest.emit):
            await backlog(broker, 0, 5)
            await until(lambda: len(ingest.taken) == 5)
            os.kill(broker.pid, signal.SIGTERM)  # it writes its state down
            await until(lambda: counted["mqtt_disconnected"] >= 1)
            await settle(*ingest.taken)
            assert counted["mqtt_stale_acknowledgement"] == 5
            ingest.finish = True
            with servers.mosquitto(tmp_path / "again", *persistent, port=port):
                await until(lambda: len(ingest.taken) == 10)
    assert ingest.payloads() == [str(number) for number in range(5)] * 2


class StoreAway(Ingest):
    """An ingest path whose database is away until it is back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused = 0

    async def emit(self, uplink: Uplink) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable
        await super().emit(uplink)


async def test_while_the_store_is_away_the_driver_leaves_and_then_loses_nothing(durable: Mosquitto) -> None:
    counted, ingest = Counter[str](), StoreAway()
    async with running(context(durable.port, counted=counted, keepalive_s=2), ingest.emit):
        await backlog(durable, 0, 100)
        await until(lambda: len(set(ingest.payloads())) == 100)
        ingest.away, taken = True, len(ingest.taken)
        await backlog(durable, 100, 200)
        await until(lambda: counted["mqtt_store_away"])
        left = counted["mqtt_store_away"]
        await backlog(durable, 200, 300)
        await until(lambda: counted["mqtt_store_away"] >= left + 2)  # it comes back to ask, and leaves again
        assert len(ingest.taken) == taken
        ingest.away = False
        await until(lambda: len(set(ingest.payloads())) == 300)
    assert set(ingest.payloads()) == {str(number) for number in range(300)}


async def test_a_short_absence_of_the_store_costs_no_connection(durable: Mosquitto) -> None:
    counted, ingest = Counter[str](), StoreAway()
    async with running(context(durable.port, counted=counted, keepalive_s=60), ingest.emit):
        ingest.away = True
        await backlog(durable, 0, 50)
        await until(lambda: ingest.refused >= 2)
        ingest.away = False
        await until(lambda: len(ingest.taken) == 50)
    assert ingest.payloads() == [str(number) for number in range(50)]
    assert not counted["mqtt_store_away"]
    assert not counted["mqtt_disconnected"]


class Stuck(Ingest):
    """An ingest path that has no room until somebody frees it."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()

    async def emit(self, uplink: Uplink) -> None:
        await self.room.wait()
        await super().emit(uplink)


async def test_an_ingest_path_without_room_for_half_a_keep_alive_is_a_store_that_is_away(durable: Mosquitto) -> None:
    counted, ingest = Counter[str](), Stuck()
    async with running(context(durable.port, counted=counted, keepalive_s=2), ingest.emit):
        await backlog(durable, 0, 50)
        await until(lambda: counted["mqtt_store_away"] >= 1)
        ingest.room.set()
        await until(lambda: len(set(ingest.payloads())) == 50)


async def test_a_broker_that_comes_back_finds_the_driver(tmp_path: Path) -> None:
    counted, ingest, port = Counter[str](), Ingest(), servers.free_ports(1)
    with servers.mosquitto(tmp_path / "one", *DURABLE, port=port) as broker:
        async with running(context(port, counted=counted), ingest.emit) as driver:
            os.kill(broker.pid, signal.SIGKILL)
            await until(lambda: counted["mqtt_disconnected"] >= 1)
            driver._intake.subscribed.clear()
            with servers.mosquitto(tmp_path / "two", *DURABLE, port=port) as again:
                await driver.listening()
                await backlog(again, 0, 5)
                await until(lambda: len(ingest.taken) == 5)


async def test_what_the_broker_dropped_is_read_from_it_and_counted(tmp_path: Path) -> None:
    small = ("allow_anonymous true", "max_queued_messages 10", "max_inflight_messages 5", "sys_interval 1")
    with servers.mosquitto(tmp_path / "broker", *small) as broker:
        async with running(context(broker.port), Ingest().emit):
            pass
        await backlog(broker, 0, 100)
        counted, ingest = Counter[str](), Ingest()
        async with running(context(broker.port, counted=counted), ingest.emit):
            await until(lambda: len(ingest.taken) + counted["mqtt_broker_dropped"] == 100)
            assert counted["mqtt_broker_dropped"] > 0
