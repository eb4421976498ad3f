"""A broker whose access list lets the core read some topics and not others."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from drivers.mqtt import MqttDriver
from tests.drivers.test_mqtt.bench import Ingest, NoUnits, StubProfile, context, running, until
from tests.drivers.test_mqtt.test_saturation import CONNECT, SUBSCRIBE, _length

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASMOTA = StubProfile("tasmota", "mqtt:{address}", ("tele/{address}/SENSOR",))
SHELLY = StubProfile("shelly", "mqtt:{address}", ("{address}/status",))


class Strict:
    """Refuses some filters, and sends one message to whoever has subscribed to the rest."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours = False
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                if first >> 4 == CONNECT:
                    writer.write(b"\x20\x02\x01\x00")
                    ours = body.endswith(b"iot-core-ingest")
                elif first >> 4 == SUBSCRIBE:
                    asked = list(_names(body[2:]))
                    codes = bytes(0x80 if each in self.refused else 1 for each in asked)
                    writer.write(bytes([0x90, 2 + len(codes)]) + body[:2] + codes)
                    if ours:
                        self.asked += asked
                        topic, payload = b"iot/v1/a/telemetry", b"heard"
                        writer.write(bytes([0x30, 2 + len(topic) + len(payload), 0, len(topic)]) + topic + payload)
        writer.close()


def _names(said: bytes) -> list[str]:
    names = []
    while said:
        length = int.from_bytes(said[:2], "big")
        names.append(said[2 : 2 + length].decode())
        said = said[2 + length + 1 :]
    return names


@asynccontextmanager
async def serving(broker: Strict) -> AsyncIterator[int]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_filter_that_the_broker_refuses_costs_its_model_only_and_is_named() -> None:
    broker, counted, ingest = Strict("tele/+/SENSOR"), Counter[str](), Ingest()
    async with serving(broker) as port:
        with structlog.testing.capture_logs() as logs:
            bench = context(port, TASMOTA, SHELLY, counted=counted, kind="external")
            async with running(bench, ingest.emit):
                await until(lambda: ingest.payloads() == ["heard"])
    assert "+/status" in broker.asked
    assert counted["mqtt_filter_refused"] == 1
    told = [each for each in logs if each["event"].startswith("mqtt.")]
    assert [(each["event"], each["filter"], each["code"]) for each in told] == [
        ("mqtt.filter_refused", "tele/+/SENSOR", 128)
    ]


async def test_without_its_own_topics_the_core_says_which_one_it_is_not_let_read() -> None:
    broker, counted = Strict("iot/v1/+/status"), Counter[str]()
    async with serving(broker) as port:
        with structlog.testing.capture_logs() as logs:
            driver = MqttDriver(context(port, counted=counted, kind="external"))
            task = asyncio.create_task(driver.run(NoUnits(), Ingest().emit))
            await until(lambda: counted["mqtt_disconnected"])
            task.cancel()
            await asyncio.wait([task])
    away = next(each for each in logs if each["event"] == "mqtt.broker_away")
    assert away["detail"] == "iot/v1/+/status: SUBACK 128"
