"""The line between core and broker fails, and two cores want one session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import missing
from tests.faults.city import City, sending
from tests.faults.proxy import proxy
from tests.faults.result import Recorder
from tests.up import core_process

OPEN = ("allow_anonymous true", "max_queued_messages 500000", "max_inflight_messages 2000")


@pytest.fixture
def open_broker(tmp_path: Path) -> Iterator[servers.Mosquitto]:
    """A broker elsewhere that lets everyone in."""
    try:
        with servers.mosquitto(tmp_path / "broker", *OPEN) as broker:
            yield broker
    except servers.Missing as exc:
        missing(str(exc))


@pytest.mark.faults(
    "The network to the broker goes silent, half open",
    "The broker's PINGRESP fails to come within a keep-alive; the core connects anew with the same session",
)
async def test_a_silent_line_to_the_broker_is_noticed_and_costs_nothing(
    state_path: Path, ports: int, database: str, open_broker: servers.Mosquitto, record: Recorder
) -> None:
    settings = {"STORE_DSN": database, "MQTT_BROKER": "external", "MQTT_KEEPALIVE_S": "2"}
    async with (
        proxy(ports + 1, lambda: asyncio.open_connection("127.0.0.1", open_broker.port)) as wire,
        core_process(state_path, ports, **settings) as up,
    ):
        town = City(up)
        senders = [await town.mqtt(key, timed=timed, port=open_broker.port) for key, timed in DEVICES]
        async with sending(*senders):
            await town.stored_again()
            wire.silence()
            await asyncio.sleep(8)
            assert not await up.ready()
            wire.speak()
            back = await town.stored_again()
            wire.silence(forget=True)
            back = max(back, await town.stored_again())
        verdict = await town.verdict()
        record(verdict, up, back_s=back)
        assert verdict.sound, verdict
        assert await up.counter("mqtt_disconnected") >= 2


DEVICES = (("timed", True), ("numbered", False))


@pytest.mark.faults(
    "Two cores on one client id, one broker and one database, for 10 s",
    "They take the session from each other; what neither had committed is delivered again, and stored once",
)
async def test_two_workers_on_one_client_id_lose_nothing_and_double_nothing(
    state_path: Path, ports: int, database: str, open_broker: servers.Mosquitto, record: Recorder
) -> None:
    settings = {"STORE_DSN": database, "MQTT_BROKER": "external"}
    second = state_path.with_name("second")

    def connect() -> object:
        return asyncio.open_connection("127.0.0.1", open_broker.port)

    async with (
        proxy(ports + 1, connect),  # type: ignore[arg-type]
        proxy(ports + 4, connect),  # type: ignore[arg-type]
        core_process(state_path, ports, **settings) as up,
    ):
        town = City(up)
        senders = [await town.mqtt(key, timed=timed, port=open_broker.port) for key, timed in DEVICES]
        async with sending(*senders):
            await town.stored_again()
            async with core_process(second, ports + 3, **settings) as other:
                await asyncio.sleep(10)
                moved = await up.counter("mqtt_disconnected") + await other.counter("mqtt_disconnected")
                both = [await each.counter("ingest_stored") for each in (up, other)]
            back = await town.stored_again()
        verdict = await town.verdict()
        record(verdict, up, back_s=back, noted=f"The session moved {moved} times")
        assert verdict.sound, verdict
        assert all(both), both
