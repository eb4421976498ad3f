"""The same promises on every broker that we name, for devices that speak MQTT 3.1.1 and for those that speak 5."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from drivers.mqtt.session import Session, opened
from iot_core import sparkplug
from iot_core.broker import embedded
from iot_core.driver import BrokerEndpoint
from iot_core.model import Command
from iot_core.settings import Mqtt
from tests import newer, servers
from tests.conftest import missing
from tests.drivers.test_mqtt.bench import DURABLE, Ingest, StubProfile, context, running, until
from tests.drivers.test_mqtt.test_uplinks import UNIT
from tests.rabbitmq import rabbitmq
from tests.sparkplug_wire import INT32, Node, Said

PLUG = StubProfile("acme-plug", "mqtt:tele/{address}", ("tele/{address}/SENSOR",))
V311, V5 = aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5


@dataclass(frozen=True)
class Broker:
    """Where a broker is, whom it lets in, what it speaks, and whether a filter with + brings what it retains."""

    name: str
    port: int
    account: tuple[str, str] | None = None
    versions: tuple[str, ...] = ("3.1.1", "5")
    retained: bool = True

    def endpoint(self) -> BrokerEndpoint:
        name, password = self.account or (None, None)
        kind = "embedded" if self.name == "iotcore" else "external"
        return BrokerEndpoint("127.0.0.1", self.port, name, password, 100, kind)

    def device(self, version: aiomqtt.ProtocolVersion = V311, **more: Any) -> aiomqtt.Client:
        name, password = self.account or (None, None)
        return aiomqtt.Client("127.0.0.1", self.port, username=name, password=password, protocol=version, **more)


@contextmanager
def iotcore(folder: Path) -> Iterator[int]:
    port = servers.free_ports(1)
    options = {"listen": "127.0.0.1", "port": port, "max_payload_size": 1_000_000, "max_inflight_count": 100}
    words: list[str | Path] = [sys.executable, "-P", "-c", embedded._CHILD, json.dumps(options), embedded._packages()]
    with (folder / "iotcore.log").open("wb") as log, servers._child(words, None, log) as server:
        servers.until(lambda: server.poll() is not None or servers.answers(port), what="iotcore")
        yield port


BROKERS = ["mosquitto 2.0.11", "mosquitto 2.0.21", "iotcore", "rabbitmq"]


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    with ExitStack() as stack:
        try:
            match request.param:
                case "rabbitmq":
                    port = stack.enter_context(rabbitmq(folder / "rabbitmq")).port
                    yield Broker("rabbitmq", port, ("guest", "guest"), ("3.1.1",), retained=False)
                case "iotcore":
                    yield Broker("iotcore", stack.enter_context(iotcore(folder)), None, ("3.1.1",))
                case name:
                    program = newer.program("usr/sbin/mosquitto") if name.endswith("21") else ()
                    found = servers.mosquitto(folder / "mosquitto", *DURABLE, program=program)
                    yield Broker("mosquitto", stack.enter_context(found).port)
        except servers.Missing as exc:
            missing(str(exc))


def settings(version: str, client_id: str) -> Mqtt:
    return Mqtt(version=version, client_id=client_id, window=100, keepalive_s=10)


@asynccontextmanager
async def core(broker: Broker, ingest: Ingest, client_id: str, version: str = "3.1.1") -> AsyncIterator[Any]:
    made = context(broker.port, PLUG, endpoint=broker.endpoint(), mqtt=settings(version, client_id))
    async with running(made, ingest.emit) as driver:
        yield driver


async def test_what_a_device_publishes_arrives_once(broker: Broker) -> None:
    for version in broker.versions:
        await arrives_once(broker, version)


async def arrives_once(broker: Broker, version: str) -> None:
    name = f"once-{version.replace('.', '')}"  # RabbitMQ takes a dot for a slash
    topic = f"iot/v1/{name}/telemetry"
    ingest = Ingest()
    async with core(broker, ingest, name, version), broker.device(V5 if version == "5" else V311) as device:
        for number in range(250):
            await device.publish(topic, str(number), qos=1)
        await device.publish("tele/plug-1/SENSOR", "vendor", qos=1)
        await until(lambda: len(ingest.of(f"iot:{name}")) >= 250 and ingest.of("mqtt:tele/plug-1"))
    assert sorted(int(each.payload) for each in ingest.of(f"iot:{name}")) == list(range(250))
    again = Ingest()
    async with core(broker, again, name, version), broker.device() as device:
        await device.publish(topic, "last", qos=1)
        await until(lambda: again.of(f"iot:{name}"))
    assert [each.payload for each in again.of(f"iot:{name}")] == [b"last"], "nothing that was done comes again"


async def test_a_restarted_worker_takes_the_session_over_with_what_was_not_done(broker: Broker) -> None:
    """The first one hangs (it never acknowledges, never closes); the second has its client id."""
    hung: list[bytes] = []

    async def hang(session: Session) -> None:
        while messages := await session.take():
            hung.extend(message.payload for message in messages)

    async with opened(broker.endpoint(), settings("3.1.1", "take-over")) as session:
        reading = asyncio.create_task(hang(session))
        await session.subscribe(["iot/v1/+/telemetry"])
        async with broker.device() as device:
            for number in range(20):
                await device.publish("iot/v1/taken-1/telemetry", str(number), qos=1)
        await until(lambda: len(hung) == 20)
        ingest = Ingest()
        async with core(broker, ingest, "take-over"):
            await until(lambda: len(ingest.of("iot:taken-1")) >= 20)
            await until(lambda: not session.up, what="the broker ends the older connection")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert sorted(int(each.payload) for each in ingest.of("iot:taken-1")) == list(range(20))


async def test_presence_comes_by_last_will_and_is_retained(broker: Broker) -> None:
    will = ["--will-topic", "iot/v1/will-1/status", "--will-payload", "offline", "--will-qos", "1", "--will-retain"]
    account = ["-u", broker.account[0], "-P", broker.account[1]] if broker.account else []
    ingest = Ingest()
    async with core(broker, ingest, "will"):
        words = ["mosquitto_sub", "-p", str(broker.port), "-q", "1", "-t", "hello", *account, *will]
        child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        async with broker.device() as other:
            heard = asyncio.create_task(child.stdout.readline())
            while not heard.done():
                await other.publish("hello", "are you there", qos=1)
                await asyncio.wait([heard], timeout=0.1)
        child.kill()  # no DISCONNECT, as with a cut cable
        await child.communicate()
        await until(lambda: ingest.of("iot:will-1"))
    assert [(each.payload, each.retained) for each in ingest.of("iot:will-1")] == [(b"offline", False)]
    late = Ingest()
    async with core(broker, late, "will-late"), broker.device() as device:
        if not broker.retained:  # RabbitMQ before 4.1: the core keeps presence itself, and hears of the next change
            await device.publish("iot/v1/other/status", "online", qos=1)
            await until(lambda: late.of("iot:other"))
            assert not late.of("iot:will-1")
            return
        await until(lambda: late.of("iot:will-1"))
    assert [(each.payload, each.retained) for each in late.of("iot:will-1")] == [(b"offline", True)]


async def test_a_command_reaches_its_device(broker: Broker) -> None:
    command = Command(id=7, name="dim", params={"level": 40}, expires=datetime(2026, 5, 1, tzinfo=UTC))
    async with core(broker, Ingest(), "commands") as driver, broker.device() as device:
        await device.subscribe("iot/v1/lamp-1/commands", qos=1)
        await until(lambda: driver._outlet._link is not None)
        await driver.send(UNIT, command)
        async with asyncio.timeout(60):
            message = await anext(aiter(device.messages))
    assert json.loads(message.payload)["params"] == {"level": 40}


async def test_an_edge_node_of_sparkplug_is_heard_and_hears_that_its_host_is_there(broker: Broker) -> None:
    state, node, ingest = "spBv1.0/STATE/ioc", Node(), Ingest()
    at = 1_772_000_000_000
    level = Said(name="Level", alias=5, time=at, type=INT32, value=-20)
    mqtt = msgspec.structs.replace(settings("3.1.1", "sparkplug"), sparkplug_host="ioc")
    made = context(broker.port, PLUG, endpoint=broker.endpoint(), mqtt=mqtt)
    async with broker.device() as device:
        await device.subscribe(state, qos=1)
        heard = aiter(device.messages)
        async with asyncio.timeout(60), running(made, ingest.emit):
            assert json.loads((await anext(heard)).payload)["online"] is True
            await device.publish("spBv1.0/park/NBIRTH/node-1", node.birth(level, time=at), qos=0)
            by_alias = node.message(replace(level, name=None, type=None, value=-21), time=at)
            await device.publish("spBv1.0/park/NDATA/node-1", by_alias, qos=0)
            await until(lambda: len(ingest.of("sparkplug:park/node-1")) == 2)
        async with asyncio.timeout(60):
            assert json.loads((await anext(heard)).payload)["online"] is False
    (metric,) = sparkplug.read(ingest.of("sparkplug:park/node-1")[1].payload).metrics
    assert (metric.name, metric.value) == ("Level", -21)


async def test_the_content_type_of_mqtt_5_travels_with_the_payload(broker: Broker) -> None:
    said = ["application/cbor", "application/senml+json; v=1", "Application/JSON", "text/plain"]
    newest = broker.versions[-1]
    ingest = Ingest()
    async with core(broker, ingest, "content", newest), broker.device(V5 if newest == "5" else V311) as device:
        for each in said:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = each
            more: dict[str, Any] = {"properties": properties} if newest == "5" else {}
            await device.publish("iot/v1/content-1/telemetry", b"\xa0", qos=1, **more)
        await until(lambda: len(ingest.of("iot:content-1")) == len(said))
    expected = [60, 110, 50, None] if newest == "5" else [None] * 4
    assert [each.content_format for each in ingest.of("iot:content-1")] == expected
