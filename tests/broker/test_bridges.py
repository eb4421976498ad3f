"""docs/bridges.md against a real Mosquitto: each vendor's account says its own topics, and nothing else arrives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iot_core.api.shapes import DeviceNew, InboxAccept
from iot_core.app import Core
from iot_core.client import Client
from iot_core.errors import RequestError
from iot_core.registry.bridges import topic_of
from tests.core import command, core_running, last_week, mosquitto_pub, until
from tests.servers import free_ports as ports
from tests.servers import mosquitto

LEVEL = "AXVcA4IeAA=="  # 01 75 5C 03 82 1E 00: battery 92, distance 30 mm (Milesight EM500-UDL)
CHIRPSTACK = json.dumps({"deviceInfo": {"devEui": "24e124713b1f0001"}, "fPort": 85, "data": LEVEL})
TTS = json.dumps(
    {"uplink_message": {"f_port": 85, "frm_payload": LEVEL}, "end_device_ids": {"device_id": "muc-nuoc-7"}}
)
PLUG = json.dumps({"state": "ON", "power": 12.5})
BRIDGES = {
    "chirpstack": ("application", "application/a-1/device/24e124713b1f0001/event/up", CHIRPSTACK),
    "tts": ("v3", "v3/city@ttn/devices/muc-nuoc-7/up", TTS),
    "zigbee2mqtt": ("zigbee2mqtt", "zigbee2mqtt/den-hanh-lang", PLUG),
}
DAY = last_week()
TASMOTA = json.dumps({"Time": f"{DAY}T12:00:00", "ENERGY": {"Power": 56}})
SHELLY = json.dumps({"id": 0, "output": True, "apower": 10.7})
DEVICES = {
    "tasmota-energy": ("den_001", "tele/den_001/SENSOR", "tele/den_002/SENSOR", TASMOTA),
    "shelly-gen2": ("shellyplus1pm-a1", "shellyplus1pm-a1/status/switch:0", "shellyplus1pm-a2/status/switch:0", SHELLY),
}


DISCOVERED = {
    "config": {
        "ip": "10.0.0.31", "dn": "Đèn cổng", "hn": "tasmota-D3F3F6-5110", "mac": "3C71BFD3F3F6", "md": "Sonoff POW R2",
        "sw": "12.0.2", "t": "den_009", "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"], "ver": 1,
    },
    "sensors": {"sn": {"Time": f"{DAY}T11:55:00", "ENERGY": {"Power": 55, "Total": 1.5}}, "ver": 1},
}  # fmt: skip


async def publish(core: Core, key: str, secret: str, topic: str, body: str) -> None:
    await command(*mosquitto_pub(core, key, secret, topic, body))


async def waiting(client: Client) -> set[str]:
    return {each.address for each in (await client.inbox()).items}


async def test_each_account_says_its_own_topics_and_nothing_else(
    dsn: str, state_path: Path, free_ports: Callable[[int], int]
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        secrets: dict[str, str] = {}
        for key, (topic, _, _) in BRIDGES.items():
            secrets[key] = (await client.add_device(DeviceNew(key=key, profile="native-lighting-cabinet"))).secret or ""
            await client.set_bridge(key, [topic])
        for model, (address, *_) in DEVICES.items():
            new = DeviceNew(key=f"own-{model}", profile=model, address=address)
            secrets[f"own-{model}"] = (await client.add_device(new)).secret or ""
        await _bridges(core, client, secrets)
        await _devices(core, client, secrets)
        assert (await client.device("own-shelly-gen2")).latest[0].value != 99
        assert await core.pool.fetchval("SELECT count(*) FROM iot.held_uplink WHERE address LIKE 'iot:%'") == 0


async def _bridges(core: Core, client: Client, secrets: dict[str, str]) -> None:
    """What a bridge brings of strangers waits in the inbox; what is another's is dropped by the broker."""
    for key, (_, topic, body) in BRIDGES.items():
        for other, (_, others, foreign) in BRIDGES.items():
            if other != key:
                await publish(core, key, secrets[key], others, foreign)
        await publish(core, key, secrets[key], "iot/v1/own-shelly-gen2/telemetry", json.dumps({"power": 99}))
        await publish(core, key, secrets[key], "tele/den_001/SENSOR", TASMOTA)
        before = await waiting(client)

        async def brought(seen: set[str] = before, at: str = topic, said: str = body, by: str = key) -> set[str]:
            await publish(core, by, secrets[by], at, said)
            return await waiting(client) - seen

        assert len(await until(brought, what=f"{key} is heard")) == 1, "its own, and none of the others' before"
    assert await waiting(client) == {"lorawan:24e124713b1f0001", "lorawan:muc-nuoc-7", "mqtt:zigbee2mqtt/den-hanh-lang"}
    await client.accept(
        InboxAccept(address="lorawan:muc-nuoc-7", profile="milesight-em500-udl", key="muc-nuoc-7", gateway="tts")
    )
    latest = {each.metric: each.value for each in (await client.device("muc-nuoc-7")).latest}
    assert latest["battery"] == 92


async def _devices(core: Core, client: Client, secrets: dict[str, str]) -> None:
    for model, (_, own, others, body) in DEVICES.items():
        key = f"own-{model}"
        await publish(core, key, secrets[key], others, body)

        async def heard(at: str = own, said: str = body, by: str = key) -> object:
            await publish(core, by, secrets[by], at, said)
            return (await client.device(by)).latest

        assert {each.metric for each in await until(heard, what=f"{model} is heard")} >= {"power"}
    assert not {each for each in await waiting(client) if "den_002" in each or "a2" in each}


async def test_the_guides_mosquitto_carries_the_things_stacks_messages_across(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], tmp_path: Path
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "bridges.md").read_text(encoding="utf-8")
    lines = guide.partition("# tts-bridge.conf")[2].partition("```")[0].splitlines()[1:]
    async with core_running(dsn, state_path, free_ports) as (core, client):
        secret = (await client.add_device(DeviceNew(key="lns-01", profile="native-lighting-cabinet"))).secret or ""
        await client.set_bridge("lns-01", ["v3"])
        with mosquitto(tmp_path / "tts") as tts:
            ours = {
                "listener": None,
                "bridge_capath": None,  # the one of this test has no TLS
                "address eu1": f"address 127.0.0.1:{tts.port}",
                "address 10.0.0.5": f"address 127.0.0.1:{core.broker.port}",
                "remote_password PASSWORD": f"remote_password {secret}",
            }
            written = []
            for line in lines:
                found = next((key for key in ours if line.startswith(key)), "")
                written.append(ours[found] if found else line)
            config = [line.partition("  #")[0] for line in written if line]
            with mosquitto(tmp_path / "between", "allow_anonymous true", *config, port=ports(1)):

                async def carried() -> bool:
                    await command(
                        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(tts.port), "-t", BRIDGES["tts"][1], "-m", TTS
                    )
                    return "lorawan:muc-nuoc-7" in await waiting(client)

                await until(carried, what="a message came across")


def test_both_languages_show_the_same_configuration() -> None:
    docs = Path(__file__).parents[2] / "docs"
    english, vietnamese = ((docs / each).read_text(encoding="utf-8") for each in ("bridges.md", "vi/bridges.md"))

    def shown(text: str) -> list[str]:
        blocks = text.split("```")[1::2]
        return [
            line.partition(" #")[0].rstrip()
            for block in blocks
            for line in block.splitlines()
            if not line.startswith("#")
        ]

    assert shown(english) == shown(vietnamese)


@pytest.mark.parametrize("topic", ["#", "iot", "iot/v1", "+/x", "$SYS", "", "iot/alarmsx"])
def test_what_is_everybodys_or_ours_is_no_bridges(topic: str) -> None:
    with pytest.raises(RequestError):
        topic_of(topic)


async def test_a_tasmota_that_a_bridge_discovers_waits_with_its_name_and_guess_and_keeps_what_it_sent(
    dsn: str, state_path: Path, free_ports: Callable[[int], int]
) -> None:
    address = "mqtt:tele/den_009"
    async with core_running(dsn, state_path, free_ports) as (core, client):
        new = DeviceNew(key="site-1", profile="native-lighting-cabinet")
        secret = (await client.add_device(new)).secret or ""
        await client.set_bridge("site-1", ["tasmota", "tele"])
        for kind in ("sensors", "config", "config"):
            topic = f"tasmota/discovery/3C71BFD3F3F6/{kind}"
            await publish(core, "site-1", secret, topic, json.dumps(DISCOVERED[kind]))
        await publish(core, "site-1", secret, "tasmota/discovery/junk/config", "[1")
        await until(lambda: waiting(client))
        (found,) = (await client.inbox()).items
        assert found.guess[0] == "tasmota-energy"
        assert (found.says["dn"], found.says["md"], found.messages) == ("Đèn cổng", "Sonoff POW R2", 1)
        await publish(core, "site-1", secret, "tele/den_009/SENSOR", TASMOTA)

        async def messages() -> bool:
            return (await client.inbox()).items[0].messages == 2

        await until(messages)
        accepted = await client.accept(InboxAccept(address=address, key="den-009", gateway="site-1"))
        assert accepted.device.profile == "tasmota-energy"
        (power,) = [each for each in (await client.latest("den-009")).items if each.metric == "power"]
        assert power.value == 56, "measured before it was registered"
        await publish(core, "site-1", secret, "tasmota/discovery/3C71BFD3F3F6/config", json.dumps(DISCOVERED["config"]))
        await publish(core, "site-1", secret, "tele/den_009/SENSOR", TASMOTA.replace("56", "57").replace(":00", ":01"))

        async def newest() -> bool:
            return any(each.value == 57 for each in (await client.latest("den-009")).items)

        await until(newest)
        assert not (await client.inbox()).items
        assert not (await client.held()).items
