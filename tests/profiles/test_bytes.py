"""Frames, blocks and records: what the published bytes of real devices say through profiles of a few lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_core.errors import ConfigError
from iot_core.model import Reason, Uplink
from iot_core.profiles import uplink_of
from tests.profiles.making import Make, decode, values_of

ATM41 = """
lorawan:
  bytes:
    length: 5
    values: {}
    blocks:
      - when: {at: 3, type: uint16, bit: 0}
        length: 34
        values:
          temperature: {at: 14, type: uint16, offset: -3276.8, scale: 0.1}
          pressure:    {at: 18, type: uint16, offset: -327.68, scale: 0.01, unit: kPa}
          humidity:    {at: 20, type: uint16, offset: -3276.8, scale: 0.1}
        extra:
          solar: {at: 0, type: uint16, offset: -32768}
      - when: {at: 3, type: uint16, bit: 1}
        length: 2
        extra: {battery_v: {at: 0, type: uint16, scale: 0.001}}
""".replace("    values: {}\n", "")
VEGA = """
lorawan:
  bytes:
    frames:
      - require: {packet: {at: 0, equals: 2}}
        length: 11
        values:
          battery: {at: 7}
        extra:
          distance: {at: 2, type: float32}
      - require: {packet: {at: 0, equals: 8}}
        length: 11
        values:
          temperature: {at: 7, type: int16, scale: 0.1, unit_from: {at: 9}, units: {32: Cel, 33: "[degF]"}}
          battery: {at: 6}
"""


def test_flagged_blocks_are_read_in_their_order_and_may_be_missing(make: Make) -> None:
    atm41 = make(ATM41)
    whole = decode(atm41, "hex:02035a0003800a8000800080008009812b8014810880b4a57c820c810980027fe88056800880040bf5")
    assert values_of(whole) == [{"temperature": 26.4, "pressure": 959.6, "humidity": 52.4}]
    assert dict(whole.samples[0].extra or {})["battery_v"] == 3.061
    assert dict(whole.samples[0].extra or {})["solar"] == 10
    alone = decode(atm41, "hex:02035a00020bf5")
    assert (list(alone.samples), list(alone.problems), alone.online) == (
        [],
        [],
        True,
    )  # the battery's volts are no metric
    cut = decode(atm41, "hex:02035a0003800a8000800080008009812b8014810880b4a57c820c810980027fe8")
    assert [problem.reason for problem in cut.problems] == [Reason.TRUNCATED]


def test_a_block_sets_its_flag_when_it_is_written(make: Make) -> None:
    atm41 = make(ATM41)
    encoded = atm41.encode({"temperature": 21.5}, address="a")
    uplink = Uplink(driver="mqtt", address="lorawan:a", topic=encoded.topic, payload=encoded.payload)
    assert atm41.decode(uplink).samples[0].values["temperature"] == 21.5


def test_frames_are_told_apart_by_what_they_require_and_units_by_the_message(make: Make) -> None:
    vega = make(VEGA)
    assert values_of(decode(vega, "hex:0200400000002d6000d1af")) == [{"battery": 96}]
    assert values_of(decode(vega, "hex:083FA31F152D2401042009")) == [{"temperature": 26.0, "battery": 36}]
    assert values_of(decode(vega, "hex:083FA31F152D2403022109")) == [{"temperature": 25.0, "battery": 36}]
    assert [each.reason for each in decode(vega, "hex:02003FA31F152D2400FA").problems] == [Reason.TRUNCATED]
    assert [each.reason for each in decode(vega, "hex:1b").problems] == [Reason.WRONG_FORMAT]
    assert [each.reason for each in decode(vega, "hex:").problems] == [Reason.EMPTY]


def test_ports_speak_different_formats_and_one_may_be_of_no_interest(make: Make) -> None:
    nas = make("lorawan:\n  ports:\n    24: {bytes: {length: 1, values: {battery: {at: 0}}}}\n    99: {quiet: true}\n")
    assert values_of(decode(nas, "hex:40", port=24)) == [{"battery": 64}]
    assert decode(nas, "hex:40", port=99).online
    assert [each.reason for each in decode(nas, "hex:40", port=60).problems] == [Reason.WRONG_FORMAT]


def test_twelve_bits_over_three_half_bytes(make: Make) -> None:
    oy1210 = make(
        "lorawan:\n  port: 2\n  bytes:\n    length: 5\n    values:\n"
        "      temperature: {parts: [{at: 0}, {at: 2, mask: 0xF0}], scale: 0.1, offset: -80}\n"
        "      humidity: {parts: [{at: 1}, {at: 2, mask: 0x0F}], scale: 0.1, offset: -25}\n"
        "      co2: {at: 3, type: uint16}\n"
    )
    assert values_of(decode(oy1210, "hex:412B10033A", port=2)) == [{"temperature": 24.1, "humidity": 43.8, "co2": 826}]
    encoded = oy1210.encode({"temperature": -3.2, "humidity": 99.9, "co2": 400}, address="a")
    again = oy1210.decode(Uplink(driver="mqtt", address="lorawan:a", topic=encoded.topic, payload=encoded.payload))
    assert values_of(again) == [{"temperature": -3.2, "humidity": 99.9, "co2": 400}]


TLV = """
lorawan:
  bytes:
    endian: little
    records:
      "0175": {length: 1, values: {battery: {}}}
      "0367": {length: 2, values: {temperature: {type: int16, scale: 0.1}}}
      "20ce": {length: 7, time: {type: uint32}, values: {temperature: {at: 4, type: int16, scale: 0.1}, humidity: {at: 6, scale: 0.5}}}
      "08": {length: 2, channel: "2", values: {temperature: {type: int16, scale: 0.1}}}
"""


def test_records_have_keys_of_any_size_channels_and_times_of_their_own(make: Make) -> None:
    tlv = make(TLV)
    said = decode(tlv, "hex:01755C" + "20CE9E74466310015D" + "08FA00" + "0367E100")
    assert [(each.channel, each.time, each.element) for each in said.samples] == [
        ("", None, False),
        ("2", None, False),
        ("", datetime.fromtimestamp(1665561758, UTC), True),
    ]
    assert values_of(said) == [
        {"battery": 92, "temperature": 22.5},
        {"temperature": 25.0},
        {"temperature": 27.2, "humidity": 46.5},
    ]


def test_a_time_from_memory_takes_no_number_of_the_envelope(make: Make) -> None:
    tlv = make(TLV)
    uplink = uplink_of(tlv, data=bytes.fromhex("01755C20CE9E74466310015D"), time=datetime(2022, 10, 12, 9, tzinfo=UTC))
    now, then = tlv.decode(uplink).samples
    assert (now.time, now.seq) == (datetime(2022, 10, 12, 9, tzinfo=UTC), 0)
    assert (then.time, then.seq) == (datetime.fromtimestamp(1665561758, UTC), None)


def test_repeated_blocks_count_back_from_the_message(make: Make) -> None:
    history = make(
        "lorawan:\n  bytes:\n    length: 1\n    values: {battery: {at: 0}}\n    blocks:\n"
        "      - {repeat: end, every: -10m, length: 2, values: {temperature: {type: int16, scale: 0.1}}}\n"
    )
    at = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    said = history.decode(uplink_of(history, data=bytes.fromhex("5F" + "00FA" + "00F9" + "FFF6"), time=at))
    assert [(each.time, dict(each.values)) for each in said.samples] == [
        (at, {"battery": 95}),
        (at, {"temperature": 25.0}),
        (at - timedelta(minutes=10), {"temperature": 24.9}),
        (at - timedelta(minutes=20), {"temperature": -1.0}),
    ]
    odd = decode(history, "hex:5F00FA00")
    assert [each.reason for each in odd.problems] == [Reason.TRUNCATED]
    assert len(odd.samples) == 2


def test_a_channel_stands_in_each_block(make: Make) -> None:
    usage = make(
        "lorawan:\n  bytes:\n    endian: little\n    blocks:\n"
        "      - {repeat: end, channel: {at: 0, names: {0xFF: internal, 4: dali-2, 6: dali-3}}, length: 7,"
        " values: {energy: {at: 1, type: uint32, unit: W.h}, power: {at: 5, type: uint16}}}\n",
        "streetlight",
    )
    said = decode(usage, "hex:04000000000000" + "06151400000000" + "ffed0000000400")
    assert [(each.channel, dict(each.values)) for each in said.samples] == [
        ("dali-2", {"energy": 0, "power": 0}),
        ("dali-3", {"energy": 5.141, "power": 0}),
        ("internal", {"energy": 0.237, "power": 4}),
    ]
    assert [each.reason for each in decode(usage, "hex:05000000000000").problems] == [Reason.BAD_FIELD]


REPEATED = """
bytes:
  blocks:
    - repeat: end
      length: 7
      HEAD
      values: {temperature: {at: 6}}
      blocks:
        - {when: {at: 6, bit: 7, unless: true}, length: 1, values: {humidity: {at: 0}}}
"""


@pytest.mark.parametrize(
    ("head", "bad", "reason", "samples"),
    [
        ("time: {form: fields}", "1a0d0f08201e", Reason.BAD_TIME, [{"temperature": 22}, {"humidity": 51}]),  # month 13
        ("channel: {at: 0, names: {26: a}}", "09010f08201e", Reason.BAD_FIELD, [{"temperature": 22, "humidity": 51}]),
    ],
)
def test_a_repetition_that_cannot_be_used_takes_as_many_bytes_as_one_that_can(
    make: Make, head: str, bad: str, reason: Reason, samples: list[dict[str, int]]
) -> None:
    found = decode(make(REPEATED.replace("HEAD", head)), f"hex:{bad}15 32 1a010f08201e 16 33")
    assert [each.reason for each in found.problems] == [reason]
    assert values_of(found) == samples


def test_a_frame_of_an_unknown_channel_says_nothing_else(make: Make) -> None:
    head = "{length: 1, channel: {at: 0, names: {1: a}}, blocks: [{length: 1, values: {temperature: {}}}]}"
    found = decode(make(f"bytes: {head}\n"), "hex:0915")
    assert ([each.reason for each in found.problems], found.samples) == ([Reason.BAD_FIELD], [])


def test_wireless_mbus_records_and_what_is_stepped_over(make: Make) -> None:
    hydrus = make(
        "bytes:\n  encoding: hex\n  endian: little\n  length: 15\n"
        "  require: {maker: {at: 2, type: hex, length: 2, equals: a511}}\n  sized: mbus\n  records:\n"
        '    "0c13": {length: 4, values: {volume: {type: bcd32, scale: 0.001}}}\n'
        '    "0413": {length: 4, values: {volume: {type: uint32, scale: 0.001}}}\n'
        '    "0b3b": {length: 3, values: {flow: {type: bcd24, scale: 0.001}}}\n'
        '    "025a": {length: 2, values: {temperature: {type: int16, scale: 0.1}}}\n'
        '    "c4016d": {length: 4}\n',
        "water_meter",
    )
    telegram = (
        "4E44A5116464646470077AED004005_2F2F01FD08300C13741100007C1300000000FC101300000000FC201300000000"
        "726C00000B3B00000002FD748713025A6800C4016D3B177F2ACC011300020000"
    )
    said = decode(hydrus, telegram)
    assert said.samples[0].values["volume"] == 1.174
    assert said.samples[0].values["temperature"] == 10.4
    assert said.samples[0].values["flow"] == 0
    backwards = (
        "6344A5112018646470078C00D7900F002C256AB59B00F0F13032019092DE7A6A004007102F2F0C13896729004C13234624"
        "00CC101300000000CC201323462400426CDF2C0B3B0200F002FD742F0D025AC100C4016D3B17FE29CC01132841290001FD089F"
    )
    other = make(
        "bytes:\n  encoding: hex\n  endian: little\n  length: 35\n  sized: mbus\n  records:\n"
        '    "0b3b": {length: 3, values: {flow: {type: bcd24, scale: 0.001}}}\n'
        '    "0c13": {length: 4, values: {volume: {type: bcd32, scale: 0.001}}}\n',
        "water_meter",
    )
    assert values_of(decode(other, backwards)) == [{"flow": -0.002, "volume": 296.789}]


@pytest.mark.parametrize("dif", ["0F", "1F"])
def test_what_is_the_manufacturers_own_ends_a_telegram_of_mbus(make: Make, dif: str) -> None:
    meter = make(
        "bytes:\n  endian: little\n  sized: mbus\n  records:\n"
        '    "0c13": {length: 4, values: {volume: {type: bcd32, scale: 0.001}}}\n',
        "water_meter",
    )
    said = decode(meter, f"hex:0C1374110000{dif}0C1399999999FF")
    assert (values_of(said), list(said.problems)) == ([{"volume": 1.174}], [])


def test_the_time_of_a_wireless_mbus_meter(make: Make) -> None:
    meter = make(
        "bytes:\n  encoding: hex\n  endian: little\n  length: 4\n  time: {form: mbus, zone: '+07:00'}\n"
        "  blocks: [{length: 1, values: {battery: {}}}]\n",
        "water_meter",
    )
    assert decode(meter, "0110a927" + "62").samples[0].time == datetime(2021, 7, 9, 9, 1, tzinfo=UTC)


def test_records_that_say_their_own_length(make: Make) -> None:
    own = make(
        'bytes:\n  records:\n    "01": {length: {at: 0, add: 1}, rest: true}\n    "02": {length: 1, values: {battery: {}}}\n'
    )
    assert values_of(decode(own, b"\x01\x02\xaa\xbb\x02\x40")) == [{"battery": 0x40}]
    sized = make('bytes:\n  sized: byte\n  records:\n    "02": {length: 1, values: {battery: {}}}\n')
    assert values_of(decode(sized, b"\x07\x03abc\x02\x01\x40")) == [{"battery": 0x40}]
    assert [each.reason for each in decode(sized, b"\x07\x09abc").problems] == [Reason.TRUNCATED]


def test_records_of_which_none_is_left_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError) as caught:
        make('bytes: {records: {"01": null}}\n')
    assert caught.value.facts["expected"] == "at least one record"


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("sum8", "0102035C62"),
        ("sum8_zero", "0102035C9E"),
        ("xor8", "0102035C5C"),
        ("crc16_modbus", "0104044366 3334 1B38".replace(" ", "")),
    ],
)
def test_checksums_hold_and_one_wrong_bit_does_not(make: Make, kind: str, frame: str) -> None:
    size = len(frame) // 2
    profile = make(f"bytes: {{length: {size}, checksum: {kind}, values: {{battery: {{at: 3}}}}}}")
    assert decode(profile, bytes.fromhex(frame)).problems == []
    damaged = bytearray.fromhex(frame)
    damaged[1] ^= 0x10
    assert [each.reason for each in decode(profile, bytes(damaged)).problems] == [Reason.CHECKSUM]
    assert profile.decode(uplink_of(profile, data=profile.encode({"battery": 50}).payload)).problems == []


def test_a_value_is_said_only_when_its_condition_holds(make: Make) -> None:
    flagged = make(
        "bytes:\n  length: 2\n  values:\n    temperature: {at: 1, type: int8, when: {at: 0, bit: 7}}\n"
        "    battery: {at: 1, when: {at: 0, bit: 7, unless: true}}\n"
    )
    assert values_of(decode(flagged, b"\x80\xf6")) == [{"temperature": -10}]
    assert values_of(decode(flagged, b"\x00\x46")) == [{"battery": 70}]
    for value in ({"temperature": -10.0}, {"battery": 70.0}):
        assert values_of(decode(flagged, flagged.encode(value).payload)) == [value]


def test_a_signed_part_of_a_word_a_curve_a_sum_and_sentinel_ranges(make: Make) -> None:
    odd = make(
        "bytes:\n  length: 8\n  values:\n"
        "    temperature: {at: 0, type: int16, mask: 0x0FFF, scale: 0.1, unknown: [-2048]}\n"
        "    battery: {at: 2, type: uint16, curve: [[2100, 0], [3000, 100]]}\n"
        "    pressure: {at: 4, type: uint8, scale: 0.1, plus: {at: 5, type: uint16, scale: 256}}\n"
        "    humidity: {at: 7, unknown: ['101..255']}\n"
    )
    assert values_of(decode(odd, bytes.fromhex("0FFF0A4110002740"))) == [
        {"temperature": -0.1, "battery": pytest.approx(58.33333), "pressure": 1000.0, "humidity": 64}
    ]
    assert values_of(decode(odd, bytes.fromhex("0800FFFF10002765"))) == [{"battery": 100, "pressure": 1000.0}]


def test_a_family_lends_what_it_knows_and_what_a_class_lacks_is_kept_beside(tmp_path: Any, make: Make) -> None:
    (tmp_path / "_families").mkdir()
    (tmp_path / "_families" / "kin.yaml").write_text(
        "vendor: Kin\ninterval: 10m\nlorawan:\n  port: 85\n  bytes:\n    endian: little\n    records:\n"
        '      "0175": {length: 1, values: {battery: {}}}\n'
        '      "0382": {length: 2, values: {level: {type: uint16, unit: mm}}}\n'
        '      "0400": {length: 1, states: {position: {cases: {0: {tilted: false}, 1: {tilted: true}}}}}\n',
        encoding="utf-8",
    )
    head = (
        "extends: kin\nmodel: kin-1\ntitle: {vi: Thử, en: Trial}\nsource: this test\nexamples:\n"
        "  - {hex: 01755C, port: 85, values: {battery: 92}}\n  - {hex: '01', port: 85, held: truncated}\n"
    )
    mine = make('lorawan: {bytes: {records: {"0175": null, "0176": {length: 1, values: {battery: {}}}}}}\n', head=head)
    assert (mine.vendor, mine.metrics) == ("Kin", ("battery",))
    said = decode(mine, "hex:01765C038244080400FF")
    assert dict(said.samples[0].extra or {}) == {"level": 2116}
    (tmp_path / "_families" / "kin.yaml").write_text(
        (tmp_path / "_families" / "kin.yaml").read_text().replace("length: 1, values", "lenght: 1, values")
    )
    with pytest.raises(ConfigError) as caught:
        make("", head=head)
    assert str(caught.value.facts["file"]).endswith("kin.yaml")
    assert caught.value.facts["line"] == 8
    with pytest.raises(ConfigError, match="did you mean kin"):
        make("", head=head.replace("extends: kin", "extends: kinn"))


def test_differences_are_added_to_the_number_before_them(make: Make) -> None:
    hourly = make(
        "lorawan:\n  bytes:\n    endian: little\n    length: 9\n    time: {at: 0, type: uint32}\n"
        "    values: {volume: {at: 5, type: uint32, unit: L}}\n    blocks:\n"
        "      - {length: 8, time: {at: 0, type: uint32}, values: {volume: {at: 4, type: uint32, unit: L}}}\n"
        "      - {repeat: end, start: 1h, every: 1h, length: 2, values: {volume: {type: uint16, unit: L, delta: add}}}\n",
        "water_meter",
    )
    at = datetime(2026, 1, 15, 8, tzinfo=UTC)
    head = int(at.timestamp()).to_bytes(4, "little") + b"\0" + (1010).to_bytes(4, "little")
    log = int((at - timedelta(hours=3)).timestamp()).to_bytes(4, "little") + (1000).to_bytes(4, "little")
    said = decode(hourly, head + log + b"\x05\0\x03\0")
    assert [(each.time, dict(each.values)) for each in said.samples] == [
        (at, {"volume": 1.01}),
        (at - timedelta(hours=3), {"volume": 1.0}),
        (at - timedelta(hours=2), {"volume": 1.005}),
        (at - timedelta(hours=1), {"volume": 1.008}),
    ]
