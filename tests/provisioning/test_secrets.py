"""Secrets change and die, seen by clients that hold a connection open."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import pytest

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import Reason
from tests.conftest import missing
from tests.core import command, core_running, last_week, stopwatch, until
from tests.servers import Mosquitto

WITHIN_S = 2.0
DAY = last_week()
MODEL = "native-water-meter"


@pytest.fixture
async def running(dsn: str, state_path: Path, free_ports: Callable[[int], int]) -> AsyncIterator[tuple[Core, Client]]:
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        missing("Mosquitto is not installed: apt-get install --no-install-recommends mosquitto")
    first = free_ports(4)
    async with core_running(
        dsn, state_path, lambda _: first, mqtt={"broker": "mosquitto"}, claims={"port": first + 3}
    ) as made:
        yield made


def body() -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(), "volume": 12.5})


async def over_mqtt(core: Core, key: str, secret: str) -> bool:
    where = ("-h", core.broker.host, "-p", str(core.broker.port), "-q", "1", "-u", key, "-P", secret)
    code, _, _ = await command("mosquitto_pub", *where, "-t", f"iot/v1/{key}/telemetry", "-m", body())
    return code == 0


async def over_coap(core: Core, key: str, secret: str) -> bool:
    host, port = core.coap
    url = f"coap://{host}:{port}/v1/{key}/telemetry?token={secret}"
    _, out, err = await command("coap-client-notls", "-m", "post", "-t", "50", "-e", body(), url)
    return "4.01" not in out + err


async def ends_within(client: aiomqtt.Client, seconds: float) -> float:
    """Listen until the broker ends the connection; say how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        with suppress(aiomqtt.MqttError):
            async for _ in client.messages:
                pass
    return time.monotonic() - began


async def test_on_mosquitto_the_new_secret_takes_over_when_the_device_has_shown_it(
    running: tuple[Core, Client],
) -> None:
    core, client = running
    old = (await client.add_device(shapes.DeviceNew(key="wm-1", profile=MODEL))).secret
    assert old
    made = await client.rotate_secret("wm-1")
    assert made.secret
    assert made.pending
    assert await over_mqtt(core, "wm-1", old)
    assert not await over_mqtt(core, "wm-1", made.secret)
    port = core.broker.port + 2  # the claims' listener: base, broker, CoAP, claims
    async with aiomqtt.Client("127.0.0.1", port, username="wm-1", password=made.secret, identifier="wm-1"):
        pass
    assert await over_mqtt(core, "wm-1", made.secret)
    assert not await over_mqtt(core, "wm-1", old)
    with pytest.raises(ConflictError):
        await client.confirm_secret("wm-1")
    again = await client.rotate_secret("wm-1")
    await client.confirm_secret("wm-1")
    assert again.secret
    assert await over_mqtt(core, "wm-1", again.secret)
    with pytest.raises(NotFoundError):
        await client.rotate_secret("nobody")


async def test_over_coap_both_open_until_the_new_one_was_used(running: tuple[Core, Client]) -> None:
    core, client = running
    old = (await client.add_device(shapes.DeviceNew(key="wm-1", profile=MODEL))).secret
    assert old
    assert await over_coap(core, "wm-1", old)
    new = (await client.rotate_secret("wm-1")).secret
    assert new
    assert await over_coap(core, "wm-1", old)
    assert await over_coap(core, "wm-1", new)
    assert not await over_coap(core, "wm-1", old)
    assert await over_coap(core, "wm-1", new)


@pytest.mark.parametrize("how", ["revoke", "rotate", "retire"])
async def test_an_open_connection_ends_within_two_seconds(running: tuple[Core, Client], how: str) -> None:
    core, client = running
    secret = (await client.add_device(shapes.DeviceNew(key="wm-1", profile=MODEL))).secret
    assert secret
    assert await over_coap(core, "wm-1", secret)
    where = core.broker
    async with aiomqtt.Client(where.host, where.port, username="wm-1", password=secret, identifier="wm-1") as device:
        await device.subscribe("iot/v1/wm-1/commands", qos=1)
        async with stopwatch() as watch:
            ending = asyncio.create_task(ends_within(device, 30))
            if how == "revoke":
                await client.revoke_secret("wm-1")
            elif how == "rotate":
                await client.rotate_secret("wm-1", at_once=True)
            else:
                await client.remove_device("wm-1")
            await ending
    assert watch.seconds < WITHIN_S
    assert not await over_mqtt(core, "wm-1", secret)
    assert not await over_coap(core, "wm-1", secret)
    if how == "revoke":
        new = (await client.rotate_secret("wm-1")).secret
        assert new
        await until(lambda: over_mqtt(core, "wm-1", new))


@pytest.mark.parametrize("kind", ["external", "embedded"])
async def test_what_a_revoked_device_says_where_no_connection_can_be_ended_is_held_and_not_stored(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], mosquitto: Mosquitto, kind: str
) -> None:
    where = {"broker": kind} | ({"port": mosquitto.port} if kind == "external" else {})
    async with core_running(dsn, state_path, free_ports, mqtt=where) as (core, client):
        secret = (await client.add_device(shapes.DeviceNew(key="wm-1", profile=MODEL))).secret
        await client.add_device(shapes.DeviceNew(key="wm-2", profile=MODEL))
        counted = core.counters.total
        at = core.broker
        async with aiomqtt.Client(at.host, at.port, username="wm-1", password=secret, identifier="wm-1") as device:

            async def say(key: str = "wm-1", what: str = "telemetry", said: str = "") -> None:
                await device.publish(f"iot/v1/{key}/{what}", said or body(), qos=1)

            await say()
            await until(lambda: counted("ingest_stored") == 1)
            async with stopwatch() as watch:
                await client.revoke_secret("wm-1")
                while not counted("ingest_held"):
                    await say()
                    await asyncio.sleep(0.05)
            assert watch.seconds < WITHIN_S
            stored = counted("ingest_stored")
            for minute in range(3):
                await say(said=json.dumps({"time": f"{DAY}T08:0{minute}:00Z", "volume": 99.9}))
            await say(what="commands/result", said='{"id": 1, "state": "succeeded"}')
            await say("wm-2")  # which this broker lets it
            await until(lambda: counted("ingest_stored") == stored + 1)
            rows = (await client.held(device="wm-1", reason=Reason.REVOKED)).items
            assert sum("99.9" in row.payload for row in rows) == 3
            assert [row.kind for row in rows].count("commands/result") == 1
            assert "iot device rotate" in rows[0].said
            assert not await core.pool.fetchval('SELECT count(*) FROM telemetry."water_meter" WHERE volume > 99')
            assert (await client.rotate_secret("wm-1")).secret
            await until(lambda: (unit := core.directory.at("iot:wm-1")) and not unit.revoked)
            await say()
            await until(lambda: counted("ingest_stored") == stored + 2)


async def test_devices_behind_a_bridge_are_heard_guessed_accepted_and_stored_once(
    running: tuple[Core, Client],
) -> None:
    core, client = running
    bridge = (await client.add_device(shapes.DeviceNew(key="gw-1", profile="native-streetlight"))).secret
    assert bridge

    async def says(topic: str, said: str) -> None:
        where = ("-h", core.broker.host, "-p", str(core.broker.port), "-q", "1", "-u", "gw-1", "-P", bridge)
        await command("mosquitto_pub", *where, "-t", topic, "-m", said)

    smoke = '{"smoke": %s, "battery": 87, "battery_low": false, "last_seen": "' + DAY + 'T08:0%d:00+07:00"}'
    await says("zigbee2mqtt/hall", smoke % ("false", 1))  # not a bridge yet
    assert (await client.set_bridge("gw-1", ["zigbee2mqtt/#"])).topics == ("zigbee2mqtt",)
    for minute in (2, 3, 3):
        await says("zigbee2mqtt/hall", smoke % ("false", minute))
    await says("zigbee2mqtt/stair 2", smoke % ("false", 4))
    await until(lambda: core.counters.total("ingest_held") == 4)
    seen = {each.address: each for each in (await client.inbox()).items}
    assert seen["mqtt:zigbee2mqtt/hall"].messages == 3
    assert seen["mqtt:zigbee2mqtt/hall"].guess[0] == "zigbee2mqtt-smoke"
    preview = await client.accept_all(shapes.InboxAcceptAll(dry_run=True, gateway="gw-1"))
    assert {each.key: each.profile for each in preview.preview} == {
        "hall": "zigbee2mqtt-smoke", "stair-2": "zigbee2mqtt-smoke",
    }  # fmt: skip
    done = await client.accept(shapes.InboxAccept(address="mqtt:zigbee2mqtt/hall", key="smoke-1", gateway="gw-1"))
    assert (done.replayed, done.secret) == (3, None)
    rest = await client.accept_all(shapes.InboxAcceptAll(gateway="gw-1"))
    assert [(each.device.key, each.replayed) for each in rest.items] == [("stair-2", 1)]
    assert not rest.left
    await says("zigbee2mqtt/stair 2", smoke % ("false", 5))
    await until(lambda: core.counters.total("ingest_stored") == 1)
    times = await core.pool.fetch("SELECT time FROM telemetry.fire_detector ORDER BY time")
    assert [row["time"].minute for row in times] == [2, 3, 4, 5]
    for topic in ("#", "iot/v1", "$SYS", "+/x", ""):
        with pytest.raises(RequestError):
            await client.set_bridge("gw-1", [topic])
