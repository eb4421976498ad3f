"""Registers: types, orders, sentinels, scale registers, and how points become requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iot_core.errors import ConfigError
from iot_core.model import Decoded, Reason, Uplink
from iot_core.profiles import Profile, Profiles, Read, load_file

HEAD = """\
model: trial
vendor: Trial
title: {vi: Thử, en: Trial}
source: this test
interval: 60s
examples:
  - {registers: {}, held: no_values}
  - {registers: {"holding:0": [0]}, values: {}}
"""


@pytest.fixture
def make(tmp_path: Path, profiles: Profiles) -> Any:
    def build(points: str, class_key: str = "streetlight") -> Profile:
        folder = tmp_path / class_key
        folder.mkdir(exist_ok=True)
        (folder / "trial.yaml").write_text(f"{HEAD}modbus:\n  points: {points}\n")
        return load_file(folder / "trial.yaml", profiles)

    return build


def decode(profile: Profile, **registers: list[int]) -> Decoded:
    named = {name.replace("_", ":"): words for name, words in registers.items()}
    return profile.decode(Uplink(driver="modbus", address="modbus://h:502/1", registers=named))


def value(profile: Profile, **registers: list[int]) -> object:
    (sample,) = decode(profile, **registers).samples
    (said,) = sample.values.values()
    return said


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("type: uint16", [65535], 65535),
        ("type: int16", [65336], -200),
        ("type: uint32", [1, 2], 65538),
        ("type: int32", [0xFFFF, 0xFFFE], -2),
        ("type: uint64", [0, 0, 1, 0], 65536),
        ("type: int64", [0xFFFF] * 4, -1),
        ("type: float32", [0x4366, 0x3334], 230.20001),
        ("type: float64", [0x406C, 0xC666, 0x6666, 0x6666], 230.2),
        ("type: bcd16", [0x1234], 1234),
        ("type: bcd32", [0x1234, 0x5678], 12345678),
        ("type: float32, order: CDAB", [0x806B, 0x4212], 36.62541),
        ("type: float32, order: BADC", [0x6643, 0x3433], 230.20001),
        ("type: float32, order: DCBA", [0x3433, 0x6643], 230.20001),
        ("type: uint16, order: BADC", [0x0100], 1),
        ("type: uint16, mask: 0x0FF0", [0x1230], 0x23),
        ("type: uint16, scale: 0.1, offset: -40", [652], 25.2),
        ("type: uint16, unit: mV", [2302], 2.302),
    ],
)
def test_a_word_means_what_its_type_and_order_say(make: Any, kind: str, words: list[int], expected: float) -> None:
    metric = "voltage" if "mV" in kind else "power"
    profile = make(f"{{{metric}: {{address: 0, {kind}}}}}")
    assert value(profile, holding_0=words) == pytest.approx(expected, rel=1e-7)
    again = profile.encode({metric: expected}).registers["holding:0"]
    if "mask" not in kind:
        assert again == words


def test_sentinels_and_not_a_number_are_unknown(make: Any) -> None:
    profile = make(
        "{power: {address: 0, type: int16, unknown: [-32768]}, voltage: {address: 1, type: float32},"
        " dim: {address: 3, type: uint16}}"
    )
    assert decode(profile, holding_0=[0x8000, 0x7FC0, 0, 40]).samples[0].values == {"dim": 40}
    assert profile.encode({"dim": 40}).registers == {"holding:0": [0x8000, 0, 0, 40]}


def test_sunspec_scale_registers(make: Any) -> None:
    profile = make("{power: {address: 0, type: int16, scale_from: 1}}")
    for words, expected in (([100, 0xFFFF], 10), ([50, 2], 5000), ([1000, 0xFFFE], 10), ([65521, 0xFFFF], -1.5)):
        assert value(profile, holding_0=words) == pytest.approx(expected)
    assert decode(profile, holding_0=[100, 0x8000]).samples == []
    assert decode(profile, holding_0=[100, 11]).problems[0].reason is Reason.BAD_FIELD
    assert decode(profile, holding_0=[100]).problems[0].reason is Reason.TRUNCATED
    for power in (12.34, 5000, 250_000):
        registers = profile.encode({"power": power}).registers
        assert value(profile, holding_0=registers["holding:0"]) == pytest.approx(power)


def test_bits_of_one_register_are_metrics_of_their_own(make: Any) -> None:
    profile = make("{'on': {address: 5, type: uint16, bit: 2}, lamp_failure: {address: 5, type: uint16, bit: 1}}")
    assert decode(profile, holding_5=[4]).samples[0].values == {"on": True, "lamp_failure": False}
    assert profile.encode({"on": True, "lamp_failure": True}).registers == {"holding:5": [6]}


def test_coils_and_discrete_inputs_are_bits(make: Any) -> None:
    profile = make("{'on': {table: coil, address: 3}, lamp_failure: {table: discrete, address: 0}}")
    assert decode(profile, coil_3=[1], discrete_0=[0]).samples[0].values == {"on": True, "lamp_failure": False}
    assert profile.modbus is not None
    assert profile.modbus.reads(8) == (Read("coil", 3, 1), Read("discrete", 0, 1))


def test_bcd_with_letters_is_held(make: Any) -> None:
    profile = make("{power: {address: 0, type: bcd16}, dim: {address: 1, type: uint16}}")
    decoded = decode(profile, holding_0=[0x12AF, 40])
    assert decoded.samples[0].values == {"dim": 40}
    assert decoded.problems[0].reason is Reason.BAD_FIELD


def test_an_optional_point_may_be_absent(make: Any) -> None:
    profile = make("{power: {address: 0, type: uint16}, voltage: {address: 90, type: uint16, optional: true}}")
    decoded = decode(profile, holding_0=[5])
    assert decoded.samples[0].values == {"power": 5}
    assert decoded.problems == []


def test_neighbours_are_read_in_one_request(make: Any) -> None:
    profile = make(
        "{power: {address: 10, type: float32}, voltage: {address: 12, type: uint16},"
        " current: {address: 20, type: uint16},"
        " dim: {address: 300, type: uint16}, energy: {table: input, address: 13, type: uint32}}"
    )
    assert profile.modbus is not None
    apart = (Read("holding", 10, 3), Read("holding", 20, 1), Read("holding", 300, 1), Read("input", 13, 2))
    assert profile.modbus.reads(0) == apart
    assert profile.modbus.reads(7) == (Read("holding", 10, 11), Read("holding", 300, 1), Read("input", 13, 2))


def test_a_request_never_exceeds_what_modbus_allows(profiles: Profiles, make: Any) -> None:
    profile = make(
        "{power: {address: 0, type: uint16}, voltage: {address: 124, type: uint16}, dim: {address: 125, type: uint16}}"
    )
    assert profile.modbus is not None
    assert profile.modbus.reads(1000) == (Read("holding", 0, 125), Read("holding", 125, 1))
    kidde = profiles.get("kidde-alarmline2").modbus
    assert kidde is not None
    assert kidde.reads(100, {"2"}) == (Read("input", 0, 4),)


def test_only_channels_that_feed_a_device_are_polled(profiles: Profiles) -> None:
    dali = profiles.get("intesis-dali").modbus
    kidde = profiles.get("kidde-alarmline2").modbus
    assert dali is not None
    assert kidde is not None
    assert dali.reads(8, {"0", "3"}) == tuple(
        Read("holding", first, count) for first, count in ((5, 3), (80, 1), (305, 3), (380, 1))
    )
    assert len(dali.reads(8)) == 128
    assert kidde.reads(8) == (Read("input", 0, 1), Read("input", 2, 1))


def test_a_fire_wins_when_a_simulator_asks_for_more_than_the_wire_can_say(profiles: Profiles) -> None:
    kidde = profiles.get("kidde-alarmline2")
    assert kidde.encode({"heat": True, "fault": True}).registers == {"input:0": [1], "input:2": [0]}


@pytest.mark.parametrize(
    ("numbering", "point", "read"),
    [
        ("wire", "{table: input, address: 30, type: uint16}", Read("input", 30, 1)),
        ("one", "{table: input, address: 31, type: uint16}", Read("input", 30, 1)),
        ("plc", "{address: 30031, type: uint16}", Read("input", 30, 1)),
        ("plc", "{address: 400031, type: float32}", Read("holding", 30, 2)),
    ],
)
def test_addresses_are_counted_as_the_manual_does(make: Any, numbering: str, point: str, read: Read) -> None:
    profile = make(f"{{power: {point}}}\n  numbering: {numbering}")
    assert profile.modbus.reads() == (read,)


@pytest.mark.parametrize(
    ("numbering", "point", "key"),
    [
        ("plc", "{address: 20001, type: uint16}", "address"),
        ("plc", "{table: holding, address: 30001, type: uint16}", "table"),
        ("one", "{address: 0, type: uint16}", "address"),
        ("wire", "{address: 65536, type: uint16}", "address"),
    ],
)
def test_a_number_that_is_none_is_refused(make: Any, numbering: str, point: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"modbus\.points\.power\.{key}"):
        make(f"{{power: {point}}}\n  numbering: {numbering}")


def test_a_ratio_a_unit_and_a_condition_stand_in_other_registers(make: Any) -> None:
    profile = make(
        "\n    power: {address: 0, type: uint16, scale_from: {address: 10, type: uint16}}"
        "\n    temperature: {address: 1, type: int16, scale: 0.1, unit_from: {table: coil, address: 9},"
        " units: {0: Cel, 1: '[degF]'}}"
        "\n    dim: {address: 2, type: uint16, mask: 0xFF00, when: {address: 2, type: uint16, bit: 0}}"
    )
    read = decode(profile, holding_0=[100, 770, 0x3201], holding_10=[30], coil_9=[1])
    assert read.samples[0].values == {"power": 3000, "temperature": pytest.approx(25.0), "dim": 50}
    assert decode(profile, holding_0=[100, 250, 0x3200], holding_10=[30], coil_9=[0]).samples[0].values == {
        "power": 3000,
        "temperature": 25.0,
    }
    assert set(profile.modbus.reads(8)) == {Read("holding", 0, 11), Read("coil", 9, 1)}
    encoded = profile.encode({"power": 50.0, "temperature": 20.0, "dim": 10.0})
    (sample,) = profile.decode(Uplink(driver="modbus", address="m", registers=encoded.registers)).samples
    assert sample.values == {"power": 50, "temperature": 20, "dim": 10}


def test_a_signed_byte_of_a_register_and_bcd_without_a_value(make: Any) -> None:
    profile = make(
        "{temperature: {address: 0, type: int16, mask: 0xFF00}, power: {address: 1, type: bcd16, scale: 0.1}}"
    )
    assert decode(profile, holding_0=[0xF600, 0x1234]).samples[0].values == {"temperature": -10, "power": 123.4}
    assert decode(profile, holding_0=[0xF600, 0xFFFF]).samples[0].values == {"temperature": -10}


def test_a_counter_says_where_it_starts_again(make: Any, profiles: Profiles) -> None:
    for point, expected in (
        ("type: uint32, unit: W.h", 4294967.296),
        ("type: uint16, scale: 0.1", 6553.6),
        ("type: bcd32", 1e8),
        ("type: uint32, wraps: 1000000, scale: 0.01", 10_000),
        ("type: float32", None),
    ):
        assert make(f"{{energy: {{address: 0, {point}}}}}").rollover("energy") == expected
    assert profiles.get("milesight-em300-di").rollover("volume") is None
    assert profiles.native("water_meter").rollover("volume") is None
