"""`iot profile try --live`: a device is read, or heard once, without its being registered anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.modbus.look import look as look_modbus
from drivers.mqtt.look import look as look_mqtt
from iot_core.errors import DeviceUnreachable, RequestError
from iot_core.profiles import load_file
from iot_core.profiles.load import load
from tests.drivers.modbus_peer import Memory, Peer, listening

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
    profile = load_file(path, load())
    peer = Peer(free_port(), {1: Memory(words={4: 852})})
    async with listening(peer):
        address = f"modbus://127.0.0.1:{peer.port}/1"
        uplink = await look_modbus(address, profile, 5, tmp_path)
        decoded = profile.decode(uplink)
        assert [dict(each.values) for each in decoded.samples] == [{"power": 85.2}]
        assert [each.detail for each in decoded.problems] == ["holding:900 was not read"]
        with pytest.raises(DeviceUnreachable) as caught:
            await look_modbus(f"modbus://127.0.0.1:{peer.port}/2", profile, 0.2, tmp_path)
        assert caught.value.code == "modbus.silent"


async def test_without_a_core_or_with_a_wrong_address_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasmota = load().get("tasmota-energy")
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
