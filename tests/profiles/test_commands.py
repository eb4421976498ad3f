"""A class says what can be asked, a profile how its model is told: topics, fPorts, paths and registers."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot_core.errors import CommandRejected, ConfigError, RequestError
from iot_core.profiles import CheckResult, Profile, Profiles, checked_params, load
from iot_core.profiles.check import check_command
from iot_core.profiles.envelope import downlink
from iot_core.profiles.modbus import RegisterWrite

CLASS = """\
title: {vi: Đèn, en: Lamp}
metrics:
  dim: {title: {vi: Mức sáng, en: Level}, ucum: "%", range: [0, 100]}
  "on": {title: {vi: Bật, en: On}, type: bool}
commands:
  switch: {title: {vi: Bật tắt, en: Switch}, params: {"on": {title: {vi: Bật, en: On}, type: bool}}}
  dim: {title: {vi: Chỉnh sáng, en: Dim}, params: {level: {title: {vi: Mức, en: Level}, ucum: "%", range: [0, 100]}}}
  reset: {title: {vi: Khởi động lại, en: Restart}}
"""
HEAD = """\
model: lamp-1
vendor: Trial
title: {vi: Đèn, en: Lamp}
source: this test
interval: 60s
"""
MQTT = """\
address: "mqtt:{address}"
topics: {"z/{address}": {json: {values: {dim: {path: brightness, scale: 100/254}}}}}
commands:
  switch: {topic: "cmnd/{address}/POWER", text: "{on}", params: {"on": {map: {"ON": true, "OFF": false}}}}
  dim: {topic: "zigbee2mqtt/{address}/set", json: {brightness: {param: level, scale: 100/254, round: true}, state: "ON"}}
examples: [{topic: z/a, payload: {brightness: 127}, values: {dim: 50}}, {topic: z/a, payload: "", held: empty}]
"""
LORA = """\
lorawan: {bytes: {length: 1, values: {dim: {}}}}
commands:
  dim: {port: 60, confirmed: true, hex: "01FE00", params: {level: {at: 2}}}
  reset: {port: 51, hex: "FE"}
examples: [{hex: "32", values: {dim: 50}}, {hex: "", held: empty}]
"""
MODBUS = """\
modbus: {numbering: one, points: {dim: {address: 16, type: uint16, scale: 0.1}}}
commands:
  switch: {write: [{table: coil, address: 4, param: "on"}]}
  dim: {write: [{address: 16, type: uint16, scale: 0.1, param: level}, {address: 20, type: uint16, mask: 0x00F0, value: 3, single: true, read_back: false}]}
examples: [{registers: {"holding:15": [500]}, values: {dim: 50}}, {registers: {}, held: truncated}]
"""
COAP = """\
json: {values: {dim: d}}
commands: {dim: {put: "3311/0/5851", text: "{level}"}, reset: {post: "3/0/4", text: ""}}
examples: [{payload: {d: 50}, values: {dim: 50}}, {payload: "", held: empty}]
"""


def lamp(folder: Path, text: str, of_class: str = CLASS) -> Profile:
    own = folder / "lamp"
    own.mkdir(exist_ok=True)
    (own / "class.yaml").write_text(of_class, encoding="utf-8")
    (own / "lamp.yaml").write_text(HEAD + text, encoding="utf-8")
    return load(folder).get("lamp-1")


def test_a_command_becomes_a_topic_and_a_message(tmp_path: Path) -> None:
    tasmota = lamp(tmp_path, MQTT)
    sent = tasmota.downlink("switch", {"on": True}, "desk")
    assert (sent.topic, sent.payload, sent.retain) == ("cmnd/desk/POWER", b"ON", False)
    sent = tasmota.downlink("dim", {"level": 60.0}, "0x01")
    assert (sent.topic, sent.payload) == ("zigbee2mqtt/0x01/set", b'{"brightness":152,"state":"ON"}')
    with pytest.raises(CommandRejected) as caught:
        tasmota.downlink("reset", {}, "desk")
    assert caught.value.facts["known"] == "switch, dim"


def test_a_command_becomes_bytes_for_an_fport(tmp_path: Path) -> None:
    nas = lamp(tmp_path, LORA)
    sent = nas.downlink("dim", {"level": 100.0}, "0101")
    assert (sent.port, sent.confirmed, sent.payload.hex()) == (60, True, "01fe64")
    assert nas.downlink("reset", {}, "0101").payload.hex() == "fe"


def test_a_command_becomes_writes_of_registers(tmp_path: Path) -> None:
    dali = lamp(tmp_path, MODBUS)
    assert dali.downlink("switch", {"on": True}, "h:502/1").writes == (RegisterWrite("coil", 3, (1,)),)
    assert dali.downlink("dim", {"level": 50.0}, "h:502/1").writes == (
        RegisterWrite("holding", 15, (500,)),
        RegisterWrite("holding", 19, (0x30,), 0xF0, single=True, read_back=False),
    )
    with pytest.raises(CommandRejected):
        dali.downlink("dim", {"level": 7000.0}, "h:502/1")


def test_a_command_becomes_a_request_to_a_coap_server(tmp_path: Path) -> None:
    sent = lamp(tmp_path, COAP).downlink("dim", {"level": 50.0}, "host")
    assert (sent.method, sent.path, sent.payload, sent.content_format) == ("PUT", "3311/0/5851", b"50", 0)
    assert lamp(tmp_path, COAP).downlink("reset", {}, "host").method == "POST"


def test_parameters_are_held_against_the_class(tmp_path: Path) -> None:
    lamp(tmp_path, COAP)
    command = load(tmp_path).classes["lamp"].command("dim")
    assert command is not None
    assert checked_params(command, {"level": 40}) == {"level": 40}
    for params, code in (
        ({}, "command.missing_param"),
        ({"level": None}, "command.missing_param"),
        ({"level": 101}, "command.wrong_param"),
        ({"level": "40"}, "command.wrong_param"),
        ({"level": True}, "command.wrong_param"),
        ({"level": float("nan")}, "command.wrong_param"),
        ({"level": 1, "colour": 2}, "command.unknown_param"),
    ):
        with pytest.raises(RequestError) as caught:
            checked_params(command, params)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("  switch: {topic", "  swich: {topic", "did you mean switch?"),
        ("param: level", "param: levle", "did you mean level?"),
        ('text: "{on}"', 'text: "{off}"', "a parameter of the command: on"),
        ('topic: "cmnd/{address}/POWER", ', "", "where it goes"),
        (', text: "{on}"', "", "what is sent"),
    ],
)
def test_a_mistake_in_a_command_is_named(tmp_path: Path, before: str, after: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lamp(tmp_path, MQTT.replace(before, after))
    assert expected in str(caught.value.facts["expected"])
    assert caught.value.facts["line"] in {9, 10}


def test_a_network_server_takes_downlinks_on_a_topic_of_its_own() -> None:
    chirpstack = downlink("application/17c8/device/0101/event/up", "0101", b"\x01\xfe\x64", 60, confirmed=True)
    assert chirpstack == (
        "application/17c8/device/0101/command/down",
        b'{"devEui":"0101","confirmed":true,"fPort":60,"data":"Af5k"}',
    )
    stack = downlink("v3/app1@tenant1/devices/dev1/up", "dev1", b"\x01", 60, confirmed=False)
    assert stack is not None
    assert stack[0] == "v3/app1@tenant1/devices/dev1/down/push"
    assert downlink("mqtt/things/1/uplink", "1", b"", 1, confirmed=False) is None


def test_no_device_that_guards_life_is_told_anything_by_a_test() -> None:
    guarding = [each for each in load().classes.values() if each.life_safety]
    assert guarding
    assert [command.key for each in guarding for command in each.commands if command.harmless] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  switch: {", "  switch: {harmless: true, "),
        ("en: Restart}}", "en: Restart}, harmless: true, once: true}"),
        ("en: Restart}}", "en: Restart}, harmless: true, confirm: two}"),
    ],
)
def test_only_a_command_that_can_be_tried_without_thought_is_harmless(tmp_path: Path, before: str, after: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lamp(tmp_path, LORA, CLASS.replace(before, after, 1))
    assert "harmless" in str(caught.value.facts)
    assert "once" in str(caught.value.facts)


def test_every_example_of_a_shipped_command_holds_and_each_command_has_one(profiles: Profiles) -> None:
    played = [(each, codec) for each in profiles.all() for codec in each.commands.values()]
    assert len(played) >= 20
    assert [(each.model, codec.name) for each, codec in played if not codec.examples] == []
    wrong = [check_command(each, codec, example) for each, codec in played for example in codec.examples]
    assert [(each.model, each.example, each.got, each.expected) for each in wrong if not each.ok] == []


@pytest.mark.parametrize(
    ("text", "before", "good", "bad", "differs"),
    [
        (MQTT, '"OFF": false}}}', '{params: {"on": true}, payload: "ON"}', '{params: {"on": true}, payload: "AN"}', "payload"),
        (MQTT, 'state: "ON"}', '{params: {level: 60}, payload: {brightness: 152, state: "ON"}}',
         '{params: {level: 60}, payload: {brightness: 153, state: "ON"}}', "payload.brightness"),
        (LORA, "{level: {at: 2}}", '{params: {level: 100}, hex: "01 FE 64"}', '{params: {level: 100}, hex: "01FE65"}', "hex"),
        (MODBUS, "read_back: false}]", '{params: {level: 50}, registers: {"holding:15": [500], "holding:0x13": [0x30]}}',
         '{params: {level: 50}, registers: {"holding:15": [501], "holding:19": [0x30]}}', "registers.holding:15[0]"),
        (COAP, 'text: "{level}"', '{params: {level: 50}, payload: "50"}', "{params: {level: 50}, refused: true}", "payload"),
        (MODBUS, "read_back: false}]", '{params: {level: 0}, registers: {"holding:15": [0], "holding:19": [0x30]}}',
         "{params: {level: 0}, refused: true}", "registers"),
    ],
)  # fmt: skip
def test_an_example_of_a_command_is_played_and_shows_both_sides(
    tmp_path: Path, *, text: str, before: str, good: str, bad: str, differs: str
) -> None:
    def played(example: str) -> CheckResult:
        model = lamp(tmp_path, text.replace(before, f"{before}, examples: [{example}]"))
        found = [check_command(model, codec, each) for codec in model.commands.values() for each in codec.examples]
        return found[0]

    assert played(good).ok, played(good).differences
    wrong = played(bad)
    assert not wrong.ok
    assert differs in {each.place for each in wrong.differences}


@pytest.mark.parametrize(
    ("example", "key", "expected"),
    [
        ("{params: {level: 50}}", "commands.dim.examples.0", "exactly one of payload, hex"),
        ('{params: {level: 50}, payload: "50", hex: "32"}', "commands.dim.examples.0", "exactly one of payload, hex"),
        ('{params: {level: 500}, payload: "500"}', "commands.dim.examples.0.params", "level"),
        ('{params: {levle: 50}, payload: "50"}', "commands.dim.examples.0.params", "levle"),
        ('{parms: {level: 50}, payload: "50"}', "commands.dim.examples.0.parms", "did you mean params?"),
        ('{params: {level: 50}, hex: "5"}', "commands.dim.examples.0.hex", "hexadecimal"),
        ('{params: {level: 50}, registers: {"hold:4": [1]}}', "commands.dim.examples.0.registers.hold:4", "holding:4"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_example_of_a_command_is_named(tmp_path: Path, example: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lamp(tmp_path, COAP.replace('text: "{level}"', f'text: "{{level}}", examples: [{example}]'))
    assert caught.value.facts["key"] == key
    assert expected in str(caught.value.facts["expected"])


@pytest.mark.parametrize("name", ["secret", "firmware"])
def test_no_class_names_a_command_as_the_platform_names_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lamp(tmp_path, LORA, CLASS.replace("  switch: {", f"  {name}: {{", 1))
    said = caught.value.facts
    assert (str(said["file"]).endswith("class.yaml"), said["key"]) == (True, f"commands.{name}")
    assert (isinstance(said["line"], int), "firmware, secret" in str(said["expected"])) == (True, True)
