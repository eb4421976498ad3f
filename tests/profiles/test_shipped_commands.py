"""What shipped models are told is what their makers publish."""

from __future__ import annotations

from typing import Any

import pytest

from iot_core import sparkplug
from iot_core.profiles import Profile, Profiles, checked_params
from iot_core.profiles.modbus import RegisterWrite


@pytest.mark.parametrize(
    ("model", "command", "params", "port", "data"),
    [
        ("nas-ul20xx", "dim", {"level": 100.0}, 60, "01fe64"),  # docs.nasys.no: all DALI drivers 100 %
        ("nas-ul20xx", "switch", {"on": False}, 60, "01fe00"),
        ("nas-ul20xx", "resume", {}, 60, "01feff"),
        ("nas-ul20xx", "restart", {}, 51, "fe"),
        ("milesight-ws523", "switch", {"on": True}, 85, "0801ffff"),  # ws523-encoder.js socketStatus
    ],
)
def test_a_downlink_is_the_published_bytes(
    profiles: Profiles, *, model: str, command: str, params: dict[str, Any], port: int, data: str
) -> None:
    sent = profiles.get(model).downlink(command, params, "0101")
    assert (sent.port, sent.payload.hex()) == (port, data)


@pytest.mark.parametrize(
    ("model", "command", "params", "topic", "text"),
    [
        ("tasmota-energy", "switch", {"on": True}, "cmnd/desk/POWER", "ON"),
        ("tasmota-energy", "dim", {"level": 40.0}, "cmnd/desk/Dimmer", "40"),
        ("tasmota-dual", "switch", {"on": False}, "cmnd/desk/POWER0", "OFF"),
        ("zigbee2mqtt-plug", "dim", {"level": 50.0}, "zigbee2mqtt/desk/set", '{"brightness":127}'),
        ("shelly-gen2", "switch", {"on": True}, "desk/command/switch:0", "on"),
    ],
)
def test_a_topic_and_a_message_are_what_the_firmware_takes(
    profiles: Profiles, *, model: str, command: str, params: dict[str, Any], topic: str, text: str
) -> None:
    sent = profiles.get(model).downlink(command, params, "desk")
    assert (sent.topic, sent.payload.decode()) == (topic, text)


@pytest.mark.parametrize(
    ("address", "topic"),
    [("park/node-1", "spBv1.0/park/NCMD/node-1"), ("park/node-1/board", "spBv1.0/park/DCMD/node-1/board")],
)
def test_a_metric_is_written_to_the_node_or_its_device(profiles: Profiles, address: str, topic: str) -> None:
    sent = profiles.get("sparkplug-pibrella").downlink("switch", {"on": True}, address)
    assert sent.topic == topic
    payload = sparkplug.read(sent.payload)
    assert payload.seq is None, "commands are not counted"
    assert payload.time is not None
    assert [(each.name, each.type, each.value) for each in payload.metrics] == [("Outputs/E", 11, True)]


def test_a_panel_is_reset_with_the_code_of_its_manual(profiles: Profiles) -> None:
    sent = profiles.get("calectro-ug3-modbus").downlink("reset", {}, "10.0.0.1:502/1")
    assert sent.writes == (RegisterWrite("holding", 0, (234,), read_back=False),)
    sent = profiles.get("ge-a-series").downlink("switch", {"on": True}, "10.0.0.1:502/1")
    assert sent.writes == (RegisterWrite("holding", 2001, (1,)),)


def test_every_class_says_what_can_be_asked(profiles: Profiles) -> None:
    for device_class in profiles.classes.values():
        assert device_class.commands, device_class.key
        for command in device_class.commands:
            assert command.title.vi != command.title.en


def test_every_command_of_a_model_is_one_of_its_class_and_can_be_written(profile: Profile) -> None:
    for command in profile.device_class.commands:
        if command.key in profile.commands:
            params = {each.key: True if each.type == "bool" else 50.0 for each in command.params}
            sent = profile.downlink(command.key, checked_params(command, params), "1")
            assert sent.topic or sent.port or sent.path or sent.writes
