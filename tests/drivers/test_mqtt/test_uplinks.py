"""What is published, with clients that are not ours, arrives as uplinks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import aiomqtt
import pytest

from drivers.mqtt import MqttDriver
from drivers.mqtt.topics import Topics
from iot_core.errors import DeviceUnreachable
from iot_core.model import Command, MountedUnit, Uplink
from tests.drivers.test_mqtt.bench import (
    Ingest,
    NoUnits,
    StubProfile,
    StubProfiles,
    context,
    publish,
    running,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot_core.driver import Units
    from iot_core.profiles import Profiles
    from tests.servers import Mosquitto

PLUG = StubProfile("acme-plug", "mqtt:tele/{address}", ("tele/{address}/SENSOR", "tele/{address}/LWT"))
STATION = StubProfile("acme-station", "mqtt:site/{address}", ("site/+/st-{address}/up",))
UNIT = MountedUnit(
    unit_id=1,
    device_id=1,
    device_key="lamp-1",
    class_key="streetlight",
    profile="native-streetlight",
    address="iot:lamp-1",
    mounted_from=datetime(2026, 1, 1, tzinfo=UTC),
)


async def test_a_native_message_becomes_an_uplink_with_its_payload_untouched(mosquitto: Mosquitto) -> None:
    ingest = Ingest()
    payload = '{"pm25": 35.2, \n "x": NaN}'
    async with running(context(mosquitto.port), ingest.emit):
        assert await publish(mosquitto, "-q", "1", "-t", "iot/v1/aq-1/telemetry", "-m", payload) == 0
        await until(lambda: ingest.taken)
    uplink = ingest.taken[0]
    assert (uplink.driver, uplink.address, uplink.kind) == ("mqtt", "iot:aq-1", "telemetry")
    assert uplink.payload == payload.encode()
    assert uplink.topic == "iot/v1/aq-1/telemetry"
    assert not uplink.retained


async def test_every_native_channel_is_heard_under_its_own_kind(mosquitto: Mosquitto) -> None:
    ingest = Ingest()
    kinds = ["telemetry", "status"]
    told: list[Uplink] = []

    async def said(uplink: Uplink) -> None:
        told.append(uplink)
        assert uplink.settle is not None
        await uplink.settle([uplink.token], {})

    made = replace(context(mosquitto.port), said=said)
    async with running(made, ingest.emit):
        for kind in ["telemetry", "commands/result", "status", "config/reported"]:
            await publish(mosquitto, "-q", "1", "-t", f"iot/v1/aq-1/{kind}", "-m", kind)
        await until(lambda: len(ingest.taken) == len(kinds) and len(told) == 2)
    assert [(uplink.kind, uplink.payload) for uplink in told] == [
        ("commands/result", b"commands/result"), ("config/reported", b"config/reported"),
    ], "an answer is no telemetry"  # fmt: skip
    assert [uplink.kind for uplink in ingest.taken] == kinds
    assert {uplink.address for uplink in ingest.taken} == {"iot:aq-1"}


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe\x00", b"x" * 300_000], ids=["empty", "not UTF-8", "300 kB"])
async def test_bytes_that_mean_nothing_are_handed_on_too(mosquitto: Mosquitto, payload: bytes) -> None:
    ingest = Ingest()
    async with running(context(mosquitto.port), ingest.emit), aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.publish("iot/v1/aq-1/telemetry", payload, qos=1)
        await until(lambda: ingest.taken)
    assert ingest.taken[0].payload == payload


async def test_vendor_topics_are_read_by_the_profiles_patterns(mosquitto: Mosquitto) -> None:
    ingest = Ingest()
    async with running(context(mosquitto.port, PLUG, STATION), ingest.emit):
        await publish(mosquitto, "-q", "1", "-t", "tele/plug_0A1B/SENSOR", "-m", "1")
        await publish(mosquitto, "-q", "1", "-t", "tele/plug_0A1B/LWT", "-m", "2")
        await publish(mosquitto, "-q", "1", "-t", "site/north/st-77/up", "-m", "3")
        await publish(mosquitto, "-q", "1", "-t", "site/north/other/up", "-m", "nobody's")
        await publish(mosquitto, "-q", "1", "-t", "site/north/st-78/up", "-m", "4")
        await until(lambda: len(ingest.taken) == 4)
    assert [uplink.address for uplink in ingest.taken] == [
        "mqtt:tele/plug_0A1B",
        "mqtt:tele/plug_0A1B",
        "mqtt:site/77",
        "mqtt:site/78",
    ]


async def test_a_topic_of_nobody_is_acknowledged_and_counted(mosquitto: Mosquitto) -> None:
    ingest, counted = Ingest(), Counter[str]()
    bench = context(mosquitto.port, STATION, counted=counted)
    async with running(bench, ingest.emit):
        await publish(mosquitto, "-q", "1", "-t", "site/north/other/up", "-m", "nobody's")
        await until(lambda: counted["mqtt_topic_of_nobody"] == 1)
    async with running(bench, ingest.emit):
        await publish(mosquitto, "-q", "1", "-t", "site/north/st-1/up", "-m", "after")
        await until(lambda: ingest.taken)
    assert ingest.payloads() == ["after"]
    assert counted["mqtt_topic_of_nobody"] == 1


async def test_where_two_profiles_share_a_topic_the_mounted_unit_is_meant(mosquitto: Mosquitto) -> None:
    twin = StubProfile("other-plug", "mqtt:plugs/{address}", ("tele/{address}/SENSOR",))
    ingest = Ingest()
    async with running(context(mosquitto.port, PLUG, twin), ingest.emit, NoUnits("mqtt:plugs/b")):
        await publish(mosquitto, "-q", "1", "-t", "tele/a/SENSOR", "-m", "1")
        await publish(mosquitto, "-q", "1", "-t", "tele/b/SENSOR", "-m", "2")
        await until(lambda: len(ingest.taken) == 2)
    assert [uplink.address for uplink in ingest.taken] == ["mqtt:tele/a", "mqtt:plugs/b"]


def test_a_deveui_is_the_same_in_capital_and_small_letters() -> None:
    lorawan = StubProfile(
        "em500", "lorawan:{address}", ("application/+/device/{address}/event/up", "v3/+/devices/{address}/up")
    )
    topics = Topics(cast("Profiles", StubProfiles(lorawan)))
    topic = "application/a/device/24e124136b501234/event/up"
    typed = "lorawan:24E124136B501234"
    assert topics.sender(topic, cast("Units", NoUnits(typed))) == (typed, "telemetry"), "as its label has it"
    assert topics.sender(topic, cast("Units", NoUnits())) == (typed.replace("24E124136B", "24e124136b"), "telemetry")
    named = topics.sender("v3/app@t/devices/Gauge-1/up", cast("Units", NoUnits("lorawan:gauge-1")))
    assert named == ("lorawan:Gauge-1", "telemetry"), "a name is what it is"


async def test_a_retained_status_is_marked_as_retained_and_a_live_one_is_not(mosquitto: Mosquitto) -> None:
    ingest = Ingest()
    await publish(mosquitto, "-q", "1", "-r", "-t", "iot/v1/lamp-1/status", "-m", "online")
    async with running(context(mosquitto.port), ingest.emit):
        await until(lambda: ingest.taken)
        await publish(mosquitto, "-q", "1", "-r", "-t", "iot/v1/lamp-1/status", "-m", "offline")
        await until(lambda: len(ingest.taken) == 2)
    assert [(uplink.kind, uplink.payload, uplink.retained) for uplink in ingest.taken] == [
        ("status", b"online", True),
        ("status", b"offline", False),
    ]


async def test_a_last_will_arrives_when_the_device_is_cut_off(mosquitto: Mosquitto) -> None:
    ingest = Ingest()
    will = ["--will-topic", "iot/v1/lamp-1/status", "--will-payload", "offline", "--will-qos", "1", "--will-retain"]
    words = ["mosquitto_sub", "-p", str(mosquitto.port), "-t", "hello", *will]
    device = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert device.stdout is not None
    async with running(context(mosquitto.port), ingest.emit):
        await publish(mosquitto, "-r", "-t", "hello", "-m", "to whoever comes")
        async with asyncio.timeout(60):
            await device.stdout.readline()
        device.kill()
        await until(lambda: ingest.taken)
    await device.communicate()
    assert ingest.payloads() == ["offline"]


async def test_a_command_reaches_the_device_on_its_own_topic(mosquitto: Mosquitto) -> None:
    command = Command(id=7, name="dim", params={"level": 40}, expires=datetime(2026, 5, 1, tzinfo=UTC))
    device = aiomqtt.Client("127.0.0.1", mosquitto.port)
    async with running(context(mosquitto.port), Ingest().emit) as driver, device:
        await device.subscribe("iot/v1/lamp-1/commands", qos=1)
        await until(lambda: driver._outlet._link is not None)
        await driver.send(UNIT, command)
        message = await anext(aiter(device.messages))
    assert isinstance(message.payload, bytes)
    assert json.loads(message.payload) == {
        "id": 7,
        "name": "dim",
        "params": {"level": 40},
        "expires": "2026-05-01T00:00:00Z",
    }
    assert not message.retain


async def test_a_command_without_a_broker_says_that_it_was_not_sent(free_port: Callable[[], int]) -> None:
    driver = MqttDriver(context(free_port()))
    with pytest.raises(DeviceUnreachable, match="lamp-1"):
        await driver.send(UNIT, Command(id=1, name="dim", params={}, expires=datetime(2026, 5, 1, tzinfo=UTC)))
