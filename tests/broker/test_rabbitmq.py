"""A real RabbitMQ that asks a real core: devices log in by the registry, speak on their own topics, and are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import aiomqtt
import pytest

from iot_core.api import shapes
from tests.broker.intruder import Intruder
from tests.conftest import missing
from tests.core import command, core_running, last_week, until
from tests.rabbitmq import rabbitmq
from tests.servers import Missing

Free = Callable[[int], int]
AT = f"{last_week()}T08:00:00+07:00"

pytestmark = pytest.mark.timeout(180)


async def test_devices_of_the_registry_speak_through_rabbitmq(
    dsn: str, state_path: Path, tmp_path: Path, free_ports: Free
) -> None:
    ports = free_ports(4)
    account = {"username": "iot", "password": "core-secret"}
    mqtt = {"broker": "external", "port": ports + 3, **account}
    with ExitStack() as stack:
        try:
            stack.enter_context(rabbitmq(tmp_path / "rabbitmq", api=f"http://127.0.0.1:{ports}", port=ports + 3))
        except Missing as exc:
            missing(str(exc))
        async with core_running(dsn, state_path, lambda _: ports, mqtt=mqtt) as (core, client):
            added = await client.add_device(shapes.DeviceNew(key="aq-1", profile="native-air-quality"))
            victim = await client.add_device(shapes.DeviceNew(key="aq-2", profile="native-air-quality"))
            assert added.secret
            assert victim.secret

            async def publish(key: str, secret: str, topic: str) -> int:
                body = json.dumps({"time": AT, "pm25": 35})
                code, _, _ = await command(
                    "mosquitto_pub", "-p", str(ports + 3), "-q", "1", "-u", key, "-P", secret, "-i", key,
                    "-t", topic, "-m", body,
                )  # fmt: skip
                return code

            assert await publish("aq-1", added.secret, "iot/v1/aq-1/telemetry") == 0
            await until(lambda: core.counters.total("ingest_stored") == 1)
            assert await publish("aq-1", "wrong", "iot/v1/aq-1/telemetry") != 0
            assert await publish("aq-1", added.secret, "iot/v1/aq-2/telemetry") != 0
            assert core.counters.total("ingest_stored") == 1

            async with aiomqtt.Client(
                "127.0.0.1", ports + 3, username="aq-1", password=added.secret, identifier="aq-1", timeout=60
            ) as device:
                (granted,) = await device.subscribe("iot/v1/aq-1/commands", qos=1)
            assert granted == "Granted QoS 1"
            await Intruder(core, "aq-1", added.secret, "aq-2", victim.secret).tries_everything()

            await client.revoke_secret("aq-1")
            assert await publish("aq-1", added.secret, "iot/v1/aq-1/telemetry") != 0
            new = await client.rotate_secret("aq-2")
            assert new.secret
            for secret, opens in ((victim.secret, True), (new.secret, True), (victim.secret, False)):  # with overlap
                code = await publish("aq-2", secret, "iot/v1/aq-2/telemetry")
                assert (code == 0) is opens
