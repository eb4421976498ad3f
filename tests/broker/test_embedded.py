"""The embedded broker: for machines without Mosquitto, and for this machine only."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from iot_core.broker import Embedded, local
from iot_core.broker.embedded import WINDOW
from iot_core.errors import StartError
from tests.broker.bench import killed_core, mqtt, pool_of, publish_to, started, state_dir
from tests.drivers.test_mqtt.bench import Ingest, context, settle, until
from tests.drivers.test_mqtt.bench import running as driving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

    from iot_core.broker import Broker
    from iot_core.state import StateDir

TOPIC = "iot/v1/aq-1/telemetry"


@pytest.fixture
def state() -> Iterator[StateDir]:
    with state_dir() as made:
        yield made


@pytest.fixture
async def pool(migrated_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool_of(migrated_dsn) as opened:
        yield opened


@contextmanager
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("iot_core.broker.mosquitto.shutil.which", lambda *_, **__: None)
        yield


def device(broker: Broker) -> aiomqtt.Client:
    return aiomqtt.Client(broker.endpoint.host, broker.endpoint.port, identifier="device")


async def test_without_mosquitto_the_embedded_broker_serves_and_says_what_it_lacks(
    state: StateDir, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_installed(monkeypatch):
        async with started(state, pool, mqtt()) as broker:
            assert broker.kind == "embedded"
            assert str(broker.endpoint.port) in broker.line()
            assert "\n" not in broker.line()
            ingest = Ingest()
            async with driving(context(broker.endpoint.port, kind="embedded"), ingest.emit), device(broker) as client:
                await client.publish(TOPIC, "{}", qos=1)
                await until(lambda: ingest.taken)
    assert ingest.taken[0].address == "iot:aq-1"


async def test_mosquitto_asked_for_and_not_there_is_an_error(
    state: StateDir, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_installed(monkeypatch), pytest.raises(StartError, match=r"broker\.no_mosquitto"):
        async with started(state, pool, mqtt(broker="mosquitto")):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
async def test_it_refuses_to_listen_where_others_could_reach_it(state: StateDir, pool: asyncpg.Pool, host: str) -> None:
    with pytest.raises(StartError, match=r"broker\.embedded_loopback"):
        async with started(state, pool, mqtt(broker="embedded", host=host)):
            pass


async def test_more_than_its_window_waits_until_the_first_are_done(state: StateDir, pool: asyncpg.Pool) -> None:
    async with started(state, pool, mqtt(broker="embedded")) as broker:
        ingest = Ingest(finish=False)
        assert broker.endpoint.window == WINDOW
        async with driving(context(broker.endpoint.port, kind="embedded"), ingest.emit), device(broker) as client:
            for number in range(WINDOW * 3):
                await client.publish(TOPIC, str(number), qos=1)
            done = 0
            while done < WINDOW * 3:
                await until(lambda: len(ingest.taken) > done)  # noqa: B023
                assert len(ingest.taken) - done <= WINDOW
                await settle(ingest.taken[done])
                done += 1
    assert ingest.payloads() == [str(number) for number in range(WINDOW * 3)]


async def test_what_was_not_done_comes_again_to_the_same_session(state: StateDir, pool: asyncpg.Pool) -> None:
    async with started(state, pool, mqtt(broker="embedded")) as broker:
        bench = context(broker.endpoint.port, kind="embedded")
        first, second = Ingest(finish=False), Ingest()
        async with device(broker) as client:
            async with driving(bench, first.emit):
                for number in range(20):
                    await client.publish(TOPIC, str(number), qos=1)
                await until(lambda: len(first.taken) == 20)
            for number in range(20, 50):
                await client.publish(TOPIC, str(number), qos=1)
            async with driving(bench, second.emit):
                await until(lambda: len(set(second.payloads())) == 50)


async def test_a_retained_status_restores_presence(state: StateDir, pool: asyncpg.Pool) -> None:
    async with started(state, pool, mqtt(broker="embedded")) as broker:
        ingest = Ingest()
        async with device(broker) as client:
            await client.publish("iot/v1/aq-1/status", "online", qos=1, retain=True)
            async with driving(context(broker.endpoint.port, kind="embedded"), ingest.emit):
                await until(lambda: ingest.taken)
    assert ingest.taken[0].retained
    assert ingest.taken[0].kind == "status"


async def test_it_outlives_a_killed_core_and_is_adopted_with_its_messages(
    migrated_dsn: str, state: StateDir, pool: asyncpg.Pool
) -> None:
    settings = mqtt(broker="embedded")
    left = await killed_core(state, migrated_dsn, settings)
    assert await publish_to(settings, "nobody", "", "held") == 0
    async with started(state, pool, settings) as broker:
        assert isinstance(broker, Embedded)
        assert broker.child is not None
        assert broker.child.pid == left
        ingest = Ingest()
        async with driving(context(settings.port, kind="embedded"), ingest.emit):
            await until(lambda: ingest.taken)
    assert ingest.payloads() == ["held"]


async def test_it_is_started_again_when_it_dies(state: StateDir, pool: asyncpg.Pool) -> None:
    counted, ingest = Counter[str](), Ingest()
    async with started(state, pool, mqtt(broker="embedded")) as broker:
        assert isinstance(broker, Embedded)
        assert broker.child is not None
        bench = context(broker.endpoint.port, kind="embedded", counted=counted)
        async with driving(bench, ingest.emit) as driver:
            os.kill(broker.child.pid, signal.SIGKILL)
            await until(lambda: counted["mqtt_disconnected"])
            driver._intake.subscribed.clear()
            await driver.listening()
            async with device(broker) as client:
                await client.publish(TOPIC, "again", qos=1)
                await until(lambda: ingest.taken)


async def test_a_start_that_fails_is_tried_again(
    state: StateDir, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_BACK_OFF_S", 0.01)
    async with started(state, pool, mqtt(broker="embedded")) as broker:
        assert isinstance(broker, Embedded)
        assert broker.child is not None
        died, check = broker.child.pid, broker._check_port
        refused: list[object] = []

        def in_use() -> None:
            if len(refused) < 2:
                refused.append(broker.child)
                raise StartError("broker.port", host="-", port=0, detail="in use")
            check()

        monkeypatch.setattr(broker, "_check_port", in_use)
        os.kill(died, signal.SIGKILL)
        await until(lambda: broker.child and broker.child.alive() and broker.child.pid != died and broker.answers())
    assert len(refused) == 2


async def test_a_broker_elsewhere_is_left_alone(state: StateDir, pool: asyncpg.Pool) -> None:
    async with started(state, pool, mqtt(broker="external", host="broker.example", username="core")) as broker:
        assert (broker.kind, broker.endpoint.host, broker.endpoint.username) == ("external", "broker.example", "core")
        assert "broker.example" in broker.line()
        await broker.refresh()
    assert not (state.broker / "child.json").exists()
