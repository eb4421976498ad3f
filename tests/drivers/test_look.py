"""`iot profile try --live`: a device is read, or heard once, without its being registered anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.coap.look import look as look_coap
from drivers.modbus.look import look as look_modbus
from drivers.mqtt.look import look as look_mqtt
from iot_core.errors import DeviceUnreachable, RequestError
from iot_core.profiles import load_file
from tests.classes import shipped
from tests.cli.conftest import IOT
from tests.core import command
from tests.drivers.modbus_peer import Memory, Peer, listening
from tests.drivers.test_coap_client import libcoap

OWN = """\
model: trial
vendor: Trial
title: {vi: Thử, en: Trial}
source: this test
interval: 60s
modbus: {points: {power: {address: 4, type: uint16, scale: 0.1}, voltage: {address: 900, type: uint16}}}
examples:
  - {registers: {"holding:4": [852], "holding:900": [230]}, values: {power: 85.2, voltage: 230}}
  - {registers: {}, held: truncated}
"""


async def test_a_modbus_device_is_read_once_and_what_it_refuses_is_named(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "streetlight").mkdir()
    path = tmp_path / "streetlight" / "a.yaml"
    path.write_text(OWN, encoding="utf-8")
    profile = load_file(path, shipped())
    peer = Peer(free_port(), {1: Memory(words={4: 852})})
    async with listening(peer):
        address = f"modbus://127.0.0.1:{peer.port}/1"
        (uplink,) = await look_modbus(address, profile, 5, tmp_path)
        decoded = profile.decode(uplink)
        assert [dict(each.values) for each in decoded.samples] == [{"power": 85.2}]
        assert [each.detail for each in decoded.problems] == ["holding:900 was not read"]
        with pytest.raises(DeviceUnreachable) as caught:
            await look_modbus(f"modbus://127.0.0.1:{peer.port}/2", profile, 0.2, tmp_path)
        assert caught.value.code == "modbus.silent"


async def test_without_a_core_or_with_a_wrong_address_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasmota = shipped().get("tasmota-energy")
    with pytest.raises(RequestError) as caught:
        await look_mqtt("mqtt:tele/desk", tasmota, 1, tmp_path)
    assert caught.value.code == "driver.no_core"
    monkeypatch.setenv("IOT_BROKER", "127.0.0.1:1")
    with pytest.raises(RequestError) as caught:
        await look_mqtt("mqtt:other/desk", tasmota, 1, tmp_path)
    assert caught.value.code == "driver.other_address"
    with pytest.raises(DeviceUnreachable) as away:
        await look_mqtt("mqtt:tele/desk", tasmota, 1, tmp_path)
    assert away.value.code == "driver.no_broker"


LAMP = """\
model: trial-lamp
vendor: Trial
title: {vi: Đèn thử, en: Trial lamp}
source: this test
interval: 60s
coap:
  resources:
    example_data: {text: {values: {power: {after: " W"}}}}
    nowhere: {text: {values: {voltage: 0}}}
    example_data?2: {text: {split: " ", values: {voltage: 0}}}
examples:
  - {topic: example_data, payload: 85.2 W, values: {power: 85.2}}
  - {topic: nowhere, payload: x, held: bad_field}
"""


@pytest.fixture
def lamp(tmp_path: Path) -> Path:
    (tmp_path / "streetlight").mkdir()
    path = tmp_path / "streetlight" / "lamp.yaml"
    path.write_text(LAMP, encoding="utf-8")
    return path


async def test_a_coap_server_is_asked_once_for_each_resource_and_what_it_refuses_is_left_out(
    lamp: Path, free_port: Callable[[], int]
) -> None:
    profile = load_file(lamp, shipped())
    address = f"coap://127.0.0.1:{(port := free_port())}"
    async with libcoap(port):
        await command(
            "coap-client-notls", "-B", "60", "-m", "put", "-t", "0", "-e", "85.2 W", f"{address}/example_data"
        )
        uplinks = await look_coap(address, profile, 10, lamp.parent)
        assert [(each.topic, each.payload) for each in uplinks] == [
            ("example_data", b"85.2 W"), ("example_data?2", b"85.2 W"),
        ]  # fmt: skip
        assert [dict(one.values) for each in uplinks for one in profile.decode(each).samples] == [
            {"power": 85.2}, {"voltage": 85.2},
        ]  # fmt: skip
        words = (*IOT, "profile", "try", lamp, "--live", address)
        code, out, err = await command(*words, "--output", "json")
        assert code == 0, err
        assert [each["samples"][0]["values"] for each in json.loads(out)] == [{"power": 85.2}, {"voltage": 85.2}]
        code, out, err = await command(*words)
        assert code == 0, err
        assert "/example_data?2\n" in out
        assert "85.2 W" in out


async def test_a_coap_server_that_is_silent_refuses_or_is_none_is_told_apart(
    lamp: Path, free_port: Callable[[], int]
) -> None:
    profile = load_file(lamp, shipped())
    address = f"coap://127.0.0.1:{(port := free_port())}"
    with pytest.raises(DeviceUnreachable) as caught:
        await look_coap(address, profile, 0.3, lamp.parent)
    assert caught.value.code == "driver.coap_silent"
    async with libcoap(port):
        with pytest.raises(DeviceUnreachable) as caught:
            await look_coap(f"{address}/elsewhere", profile, 10, lamp.parent)
        assert caught.value.facts["detail"] == "example_data?2: 4.04"
    with pytest.raises(DeviceUnreachable) as caught:
        await look_coap(address, shipped().get("tuf-2000m"), 1, lamp.parent)
    assert caught.value.code == "driver.coap_no_resources"
    for wrong in ("coap:10.0.3.8", "coap://10.0.3.8:port"):
        with pytest.raises(RequestError) as wrong_one:
            await look_coap(wrong, profile, 1, lamp.parent)
        assert wrong_one.value.code == "driver.other_address"
