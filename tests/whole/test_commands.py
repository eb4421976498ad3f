"""Commands reach devices of every kind through a whole core, and what is said of them is true."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from iot_core.errors import DeviceUnreachable, IotError, RequestError
from tests.core import command, core_running, until

pytestmark = pytest.mark.timeout(120)
Free = Callable[[int], int]


@asynccontextmanager
async def city(dsn: str, state_path: Path, free_ports: Free) -> AsyncIterator[tuple[Core, Client]]:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        yield core, client


async def added(client: Client, key: str, profile: str, address: str | None = None) -> str:
    made = await client.add_device(shapes.DeviceNew(key=key, profile=profile, address=address))
    return made.secret or ""


def device(core: Core, key: str, secret: str) -> aiomqtt.Client:
    return aiomqtt.Client(core.broker.host, core.broker.port, username=key, password=secret, identifier=key)


async def heard(client: aiomqtt.Client) -> tuple[str, bytes]:
    async with asyncio.timeout(60):
        message = await anext(aiter(client.messages))
    return str(message.topic), bytes(message.payload)


async def said(core: Core, key: str, online: bool) -> None:
    """Wait until the registry has the device's presence."""
    wanted = "SELECT online FROM iot.device_status s JOIN iot.device d ON d.id = s.device_id WHERE d.key = $1"

    async def known() -> bool:
        return (await core.pool.fetchval(wanted, key)) is online

    await until(known)


async def test_a_native_device_carries_a_command_out_and_says_so(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with city(dsn, state_path, free_ports) as (core, client):
        secret = await added(client, "lamp-1", "native-streetlight")
        with pytest.raises(DeviceUnreachable, match="offline"):
            await client.command("lamp-1", "dim", {"level": 40})
        async with device(core, "lamp-1", secret) as lamp:
            await lamp.subscribe("iot/v1/lamp-1/commands", qos=1)
            await lamp.publish("iot/v1/lamp-1/status", "online", qos=1, retain=True)
            await said(core, "lamp-1", online=True)
            sending = asyncio.create_task(client.command("lamp-1", "dim", {"level": 40}, wait_s=30))
            topic, payload = await heard(lamp)
            asked = json.loads(payload)
            assert (topic, asked["name"], asked["params"]) == ("iot/v1/lamp-1/commands", "dim", {"level": 40})
            result = {"id": asked["id"], "state": "succeeded", "detail": "dimmed"}
            await lamp.publish("iot/v1/lamp-1/commands/result", json.dumps(result), qos=1)
            sent = await sending
            assert (sent.state, sent.detail, sent.id) == ("succeeded", "dimmed", asked["id"])
            assert (await client.command("lamp-1", "restart", {}, wait_s=0)).state == "sent"
            assert not await core.pool.fetchval("SELECT count(*) FROM iot.held_uplink"), "an answer is no telemetry"
            with pytest.raises(RequestError, match="level"):
                await client.command("lamp-1", "dim", {"level": 140})
            with pytest.raises(RequestError, match="fly"):
                await client.command("lamp-1", "fly", {})


async def test_nobody_answers_for_another_device(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with city(dsn, state_path, free_ports) as (core, client):
        one, two = [await added(client, key, "native-streetlight") for key in ("lamp-1", "lamp-2")]
        async with device(core, "lamp-1", one) as lamp, device(core, "lamp-2", two) as other:
            await lamp.subscribe("iot/v1/lamp-1/commands", qos=1)
            await lamp.publish("iot/v1/lamp-1/status", "online", qos=1)
            await said(core, "lamp-1", online=True)
            sending = asyncio.create_task(client.command("lamp-1", "switch", {"on": True}, wait_s=2))
            asked = json.loads((await heard(lamp))[1])
            for payload in (json.dumps({"id": asked["id"], "state": "failed"}), "garbage", "{}"):
                await other.publish("iot/v1/lamp-2/commands/result", payload, qos=1)
            assert (await sending).state == "sent"


VENDORS = [
    ("tasmota-energy", "kerb_7", "switch", {"on": True}, "cmnd/kerb_7/POWER", "ON"),
    ("tasmota-energy", "kerb_7", "dim", {"level": 40}, "cmnd/kerb_7/Dimmer", "40"),
    ("zigbee2mqtt-plug", "0x00158d", "switch", {"on": False}, "zigbee2mqtt/0x00158d/set", {"state": "OFF"}),
]


@pytest.mark.parametrize(("profile", "address", "name", "params", "topic", "payload"), VENDORS)
async def test_a_vendors_device_hears_it_on_its_own_topic_with_its_own_login(  # noqa: PLR0917 - one row of the table
    dsn: str, state_path: Path, free_ports: Free, profile: str, address: str, name: str, params: dict[str, Any],
    topic: str, payload: object,
) -> None:  # fmt: skip
    async with city(dsn, state_path, free_ports) as (core, client):
        secret = await added(client, "lamp-1", profile, address)
        async with device(core, "lamp-1", secret) as lamp:
            await lamp.subscribe(topic, qos=1)
            sent = await client.command("lamp-1", name, params)
            where, what = await heard(lamp)
    assert (where, sent.state) == (topic, "sent")
    assert (what.decode() if isinstance(payload, str) else json.loads(what)) == payload


async def test_a_lorawan_command_goes_into_the_queue_of_the_server_it_was_heard_through(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    eui = "24e124538c018734"
    uplink = {
        "deviceInfo": {"devEui": eui}, "fPort": 85, "fCnt": 7, "time": "2026-11-20T01:00:00Z",
        "data": base64.b64encode(bytes.fromhex("08700105812C07C94A0003743009068309660000048007000000")).decode(),
    }  # fmt: skip
    async with city(dsn, state_path, free_ports) as (core, client):
        await added(client, "plug-1", "milesight-ws523", eui)
        # The network server has a login of its own: the gateway that the unit is behind.
        made = await client.add_device(shapes.DeviceNew(key="chirpstack", profile="native-streetlight"))
        await client.add_device(
            shapes.DeviceNew(key="plug-2", profile="milesight-ws523", address="24e124538c018735", gateway="chirpstack")
        )
        with pytest.raises(IotError, match="never_heard"):
            await client.command("plug-2", "switch", {"on": True})
        async with device(core, "chirpstack", made.secret or "") as server:
            down = "application/5/device/24e124538c018735/command/down"
            await server.subscribe(down, qos=1)
            uplink["deviceInfo"] = {"devEui": "24e124538c018735"}
            await server.publish("application/5/device/24e124538c018735/event/up", json.dumps(uplink), qos=1)
            await until(lambda: core.counters.total("ingest_stored") >= 1)
            sent = await client.command("plug-2", "switch", {"on": True})
            where, what = await heard(server)
    assert (where, sent.state) == (down, "sent")
    queued = json.loads(what)
    assert (queued["devEui"], queued["fPort"]) == ("24e124538c018735", 85)
    assert base64.b64decode(queued["data"]) == bytes.fromhex("0801FFFF")


async def test_the_command_line_says_what_became_of_it(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with city(dsn, state_path, free_ports) as (core, client):
        await added(client, "lamp-1", "tasmota-energy", "kerb_7")
        await added(client, "lamp-2", "native-streetlight")
        words = (sys.executable, "-m", "iot_core.cli", "--url", core.url, "--token", core.token, "device", "command")
        code, out, err = await command(*words, "lamp-1", "switch", "on=true")
        assert (code, "lamp-1" in out) == (0, True), err
        code, out, _ = await command(*words, "lamp-1", "dim", "level=40", "--output", "json")
        assert (code, json.loads(out)["state"]) == (0, "sent")
        for wrong in (("lamp-1", "switch"), ("lamp-1", "switch", "on=3"), ("lamp-2", "dim", "level=1"), ("x", "dim")):
            code, _, err = await command(*words, *wrong)
            assert code != 0
            assert err.strip()
