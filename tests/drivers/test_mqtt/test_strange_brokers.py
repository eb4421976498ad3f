"""A broker of others: it refuses some topics, and goes in the middle of a backlog."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import structlog
from mqttium.api import AsyncClient

from drivers.mqtt import MqttDriver
from tests.drivers.test_mqtt.bench import Ingest, NoUnits, StubProfile, context, running, until
from tests.drivers.test_mqtt.test_saturation import CONNECT, SUBSCRIBE, _length

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASMOTA = StubProfile("tasmota", "mqtt:{address}", ("tele/{address}/SENSOR",))
SHELLY = StubProfile("shelly", "mqtt:{address}", ("{address}/status",))


class Strange:
    """Refuses some filters, and sends messages to whoever has subscribed to the rest."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[str] = []
        self.messages = 1
        self.goes = False
        """Hangs up behind the messages."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours = False
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                if first >> 4 == CONNECT:
                    writer.write(b"\x20\x02\x00\x00")
                    ours = body.endswith(b"iot-core-ingest")
                elif first >> 4 == SUBSCRIBE:
                    asked = list(_names(body[2:]))
                    codes = bytes(0x80 if each in self.refused else 1 for each in asked)
                    writer.write(bytes([0x90, 2 + len(codes)]) + body[:2] + codes)
                    if ours:
                        self.asked += asked
                        topic, payload = b"iot/v1/a/telemetry", b"heard"
                        one = bytes([0x30, 2 + len(topic) + len(payload), 0, len(topic)]) + topic + payload
                        writer.write(one * self.messages)
                        self.messages = 0
                    if ours and self.goes:
                        break
        writer.close()


def _names(said: bytes) -> list[str]:
    names = []
    while said:
        length = int.from_bytes(said[:2], "big")
        names.append(said[2 : 2 + length].decode())
        said = said[2 + length + 1 :]
    return names


@asynccontextmanager
async def serving(broker: Strange) -> AsyncIterator[int]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_filter_that_the_broker_refuses_costs_its_model_only_and_is_named() -> None:
    broker, counted, ingest = Strange("tele/+/SENSOR"), Counter[str](), Ingest()
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
    broker, counted = Strange("iot/v1/+/status"), Counter[str]()
    async with serving(broker) as port:
        with structlog.testing.capture_logs() as logs:
            driver = MqttDriver(context(port, counted=counted, kind="external"))
            task = asyncio.create_task(driver.run(NoUnits(), Ingest().emit))
            await until(lambda: counted["mqtt_disconnected"])
            task.cancel()
            await asyncio.wait([task])
    away = next(each for each in logs if each["event"] == "mqtt.broker_away")
    assert away["detail"] == "iot/v1/+/status: SUBACK 128"


async def test_what_a_broker_sent_once_before_it_went_is_stored() -> None:
    """Of QoS 0: what the broker waits to be acknowledged for it sends again, this it does not."""
    broker, ingest = Strange(), Ingest()
    broker.messages, broker.goes = 1_000, True
    async with serving(broker) as port, running(context(port, kind="external"), ingest.emit):
        await until(lambda: len(ingest.taken) == 1_000)


async def test_a_driver_ends_that_is_cancelled_while_the_broker_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ctrl-C ends broker and core: asyncio.wait_for forgets a cancellation for an error of the same moment."""
    connecting = asyncio.Event()

    async def refused(*_: object, **__: object) -> None:
        connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("refused") from None

    monkeypatch.setattr(AsyncClient, "connect", refused)
    async with serving(Strange()) as port:
        driver = MqttDriver(context(port, kind="external"))
        task = asyncio.create_task(driver.run(NoUnits(), Ingest().emit))
        await connecting.wait()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        ended = task.done()
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
    assert ended
