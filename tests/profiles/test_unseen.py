"""What models that nobody had seen taught the language: numbers as text, keys as numbers, rows, signs, newest last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest

from iot_core.errors import ConfigError
from iot_core.model import Reason, Uplink
from iot_core.profiles import check, uplink_of
from iot_core.profiles.paths import find, parse_path, put
from iot_core.profiles.text_checksums import TEXT_CHECKSUMS
from tests.profiles.making import HEAD, Make, decode, values_of

AT = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)


# ---------------------------------------------------------------- numbers that are written as text
@pytest.mark.parametrize(
    ("keys", "said", "expected"),
    [
        ("unknown: [-999]", "-999.0", {}),
        ("unknown: ['-9999..-1']", "-50", {}),
        ("unknown: [-999]", "21.5", {"temperature": 21.5}),
        ("scale: 0.1", "215", {"temperature": 21.5}),
        ("scale: 0.1", "NaN", {}),
        ("scale: 0.1", "nan", {}),
    ],
)
def test_a_sentinel_is_met_also_where_numbers_are_text(
    make: Make, keys: str, said: str, expected: dict[str, Any]
) -> None:
    csv = make(f"text: {{split: ';', values: {{humidity: 0, temperature: {{field: 1, {keys}}}}}}}\n")
    json = make(f"json: {{values: {{humidity: h, temperature: {{path: t, {keys}}}}}}}\n")
    for decoded in (decode(csv, f"40;{said}"), decode(json, f'{{"h": "40", "t": "{said}"}}')):
        assert (values_of(decoded), decoded.problems) == ([{"humidity": 40, **expected}], [])


def test_conditions_and_cases_meet_numbers_that_are_text(make: Make) -> None:
    row = make(
        "text: {split: ',', values: {temperature: {field: 1, when: {field: 2, between: [1, 3]}}, humidity: {field: 1, when: {field: 0, equals: 1}}},"
        " states: {code: {field: 3, cases: {0: {pm25: 0}, '5..9': {pm25: 7}}}}}\n"
    )
    assert values_of(decode(row, "1,21,2,7")) == [{"temperature": 21, "humidity": 21, "pm25": 7}]
    assert values_of(decode(row, "0,21,9,0")) == [{"pm25": 0}]
    held = decode(row, "0,21,9,3")
    assert [each.reason for each in held.problems] == [Reason.BAD_FIELD]


def test_what_is_kept_beside_a_row_of_text_is_a_number_where_nothing_is_lost(make: Make) -> None:
    row = make(
        "text: {split: ',', values: {temperature: 0}, extra: {a: 1, b: 2, c: 3, volts: {field: 4, scale: 0.1}}}\n"
    )
    (sample,) = decode(row, "20,12,007,1.50,126").samples
    assert dict(sample.extra or {}) == {"a": 12, "b": "007", "c": "1.50", "volts": 12.6}


def test_a_factor_may_be_a_fraction_and_its_selector_a_text(make: Make) -> None:
    pulses = make("json: {values: {humidity: {path: n, scale_from: {path: kind, factors: {0: 1/450, 1: 1/10}}}}}\n")
    assert values_of(decode(pulses, '{"n": 45, "kind": 0}')) == [{"humidity": 0.1}]
    assert values_of(decode(pulses, '{"n": 45, "kind": "1"}')) == [{"humidity": 4.5}]
    assert [each.reason for each in decode(pulses, '{"n": 45, "kind": 7}').problems] == [Reason.BAD_FIELD]


# ---------------------------------------------------------------- keys and selectors that are numbers
def test_a_path_finds_the_numbered_keys_of_cbor_and_writes_them(make: Make) -> None:
    node = make("cbor: {values: {temperature: {path: '1', scale: 0.01}, humidity: {path: '-2.3[1]'}}}\n")
    packed = cbor2.dumps({1: 2500, -2: {3: [0, 55]}})
    assert values_of(decode(node, packed)) == [{"temperature": 25, "humidity": 55}]
    sent = cbor2.loads(node.encode({"temperature": 25, "humidity": 55}).payload)
    assert sent == {1: 2500, -2: {3: [None, 55]}}


def test_a_selector_meets_text_numbers_and_truth_values() -> None:
    path = parse_path("rows[kind=1].v")
    assert path is not None
    assert find({"rows": [{"kind": 2, "v": 0}, {"kind": 1, "v": 5}]}, path) == 5
    assert find({"rows": [{"kind": "1", "v": 6}]}, path) == 6
    assert find(put({}, path, 9), path) == 9
    truth = parse_path("rows[on=true].v")
    assert truth is not None
    assert find({"rows": [{"on": True, "v": 7}]}, truth) == 7


# ---------------------------------------------------------------- messages that say nothing now
@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("json: {values: {temperature: t}}", '{"t": null}'),
        ("json: {each: rows, channel: id, values: {temperature: t}}", '{"rows": [{"id": 1, "t": null}]}'),
        ("json: {values: {temperature: t}, extra: {volts: v}}", '{"v": 3}'),
        ("text: {split: ',', pairs: '=', values: {temperature: T}, extra: {volts: V}}", "V=3"),
        ("text: {split: ',', pairs: '=', values: {temperature: T}}", "T="),
        ("text: {quiet: true, split: ',', pairs: '=', values: {temperature: T}}", "hello"),
        ("senml: {values: {temperature: t}, extra: {volts: v}}", '[{"n": "v", "v": 3}]'),
        ("senml: {quiet: true, values: {temperature: t}}", '[{"n": "x", "v": 3}]'),
    ],
)
def test_a_message_whose_values_are_unknown_is_a_sign_of_life_and_not_held(make: Make, way: str, said: str) -> None:
    decoded = decode(make(way + "\n"), said)
    assert (decoded.online, list(decoded.samples), list(decoded.problems)) == (True, [], [])


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("json: {values: {temperature: t}}", '{"x": null}'),
        ("text: {split: ',', pairs: '=', values: {temperature: T}}", "V=3"),
        ("senml: {values: {temperature: t}}", '[{"n": "x", "v": 3}]'),
    ],
)
def test_a_message_without_any_place_of_ours_is_held(make: Make, way: str, said: str) -> None:
    assert [each.reason for each in decode(make(way + "\n"), said).problems] == [Reason.NO_VALUES]


# ---------------------------------------------------------------- text
ROWS = (
    'text: {split: ",", rows: "\\n", time: {path: 0, form: "%Y-%m-%d %H:%M:%S", zone: "+07:00"},'
    " values: {temperature: 1, humidity: 2}}\n"
)


def test_rows_of_a_logger_have_each_its_own_time(make: Make) -> None:
    decoded = decode(make(ROWS), '"2026-01-15 08:30:00",20,40\r\n"2026-01-15 08:40:00",21,-\n\n')
    assert [(each.time, each.element) for each in decoded.samples] == [
        (datetime(2026, 1, 15, 1, 30, tzinfo=UTC), True),
        (datetime(2026, 1, 15, 1, 40, tzinfo=UTC), True),
    ]
    assert values_of(decoded) == [{"temperature": 20, "humidity": 40}, {"temperature": 21}]
    assert [each.reason for each in decoded.problems] == [Reason.WRONG_TYPE]


def test_a_row_without_a_time_is_held_and_the_others_stand(make: Make) -> None:
    decoded = decode(make(ROWS), "yesterday,20,40\n,22,40\n2026-01-15 08:40:00,21,41")
    assert values_of(decoded) == [{"temperature": 21, "humidity": 41}]
    assert [each.reason for each in decoded.problems] == [Reason.BAD_TIME, Reason.NO_TIME]


def test_more_rows_than_anybody_needs_are_held(make: Make) -> None:
    decoded = decode(make(ROWS), "\n".join(["2026-01-15 08:40:00,21,41"] * 1500))
    assert len(decoded.samples) == 1000
    assert [each.reason for each in decoded.problems] == [Reason.TOO_LARGE]


@pytest.mark.parametrize(
    ("split", "said", "expected"),
    [
        ("sign", "0+1.5-12.25+98", {"humidity": 1.5, "temperature": -12.25, "pm25": 98}),
        ("sign", "0+1.5e+01-1E-1+9", {"humidity": 15, "temperature": -0.1, "pm25": 9}),
        ('[",", " ", "; "]', "x,1.5 -12.25; 98", {"humidity": 1.5, "temperature": -12.25, "pm25": 98}),
    ],
)
def test_fields_end_at_any_of_several_texts_or_at_a_sign(
    make: Make, split: str, said: str, expected: dict[str, float]
) -> None:
    probe = make(f"text: {{split: {split}, values: {{humidity: 1, temperature: 2, pm25: 3}}}}\n")
    assert values_of(decode(probe, said)) == [expected]
    assert values_of(probe.decode(Uplink(driver="t", address="t", payload=probe.encode(expected).payload))) == [
        expected
    ]


# ---------------------------------------------------------------- SenML and bytes
def test_the_parts_of_a_senml_name_end_at_colons_too(make: Make) -> None:
    ow = make("senml: {values: {temperature: temp, humidity: '{channel}:hum'}}\n")
    pack = '[{"bn":"urn:dev:ow:10e2073a:","bu":"Cel","bv":20,"n":"temp","v":3.5},{"n":"hum","u":"%RH","v":25}]'
    decoded = decode(ow, pack)
    assert {each.channel: dict(each.values) for each in decoded.samples} == {
        "": {"temperature": 23.5},
        "10e2073a": {"humidity": 45},
    }


CURVE = """
bytes:
  length: 4
  values: {pm10: {at: 0, type: uint32}}
  blocks: [{repeat: 3, reverse: true, start: -10m, every: -10m, length: 2, values: {pm10: {type: uint16, delta: subtract}}}]
"""


def test_a_history_whose_newest_stands_last_is_read_from_its_end(make: Make) -> None:
    meter = make(CURVE)
    decoded = meter.decode(uplink_of(meter, data=bytes.fromhex("000003E8" + "0001" + "0002" + "0003"), time=AT))
    assert [(each.time and each.time.strftime("%H:%M"), dict(each.values)) for each in decoded.samples] == [
        (None, {"pm10": 1000}),
        ("07:50", {"pm10": 997}),
        ("07:40", {"pm10": 995}),
        ("07:30", {"pm10": 994}),
    ]
    short = meter.decode(uplink_of(meter, data=bytes.fromhex("000003E8" + "0001" + "00"), time=AT))
    assert [dict(each.values) for each in short.samples] == [{"pm10": 1000}, {"pm10": 999}]
    assert [each.reason for each in short.problems] == [Reason.TRUNCATED]


@pytest.mark.parametrize("wrong", ["repeat: 3, reverse: true, ", ""])
def test_what_is_read_from_its_end_has_one_length(make: Make, wrong: str) -> None:
    text = CURVE.replace("repeat: 3, reverse: true, start: -10m, every: -10m, ", wrong or "reverse: true, ")
    inner = "every: -1m, length: 2, blocks: [{when: {at: 0}, length: 1}], " if wrong else "length: 2, "
    with pytest.raises(ConfigError) as caught:
        make(text.replace("length: 2, ", inner))
    assert str(caught.value.facts["key"]).endswith("reverse")


@pytest.mark.parametrize(
    ("way", "data", "expected"),
    [
        ("length: 3, values: {battery: {at: 0}}, text: {at: 3, split: sign, values: {temperature: 2}}", "640D01302B312D31322E35", {"battery": 100, "temperature": -12.5}),
        ('records: {"01": {length: 6, text: {at: 1, split: ",", values: {temperature: 0, humidity: 1}}}}', "0102372C380000", {"temperature": 7, "humidity": 8}),
        ("text: {split: ',', pairs: '=', values: {temperature: T}}", "413D312C543D3231", {"temperature": 21}),
    ],
)  # fmt: skip
def test_text_stands_among_bytes(make: Make, way: str, data: str, expected: dict[str, Any]) -> None:
    probe = make(f"bytes: {{{way}}}\n")
    assert values_of(decode(probe, f"hex:{data}")) == [expected]
    again = probe.decode(Uplink(driver="t", address="t", payload=probe.encode(expected).payload))
    assert values_of(again) == [expected]


def test_a_field_that_does_not_begin_as_it_must_is_held_whatever_else_holds(make: Make) -> None:
    row = make("text: {split: ',', values: {temperature: {field: 0, before: T, when: {field: 1, equals: 1}}}}\n")
    assert decode(row, "X5,0").online is True
    assert [each.reason for each in decode(row, "X5,1").problems] == [Reason.BAD_FIELD]


# The check values of "123456789" in the catalogue of parametrised CRC algorithms.
@pytest.mark.parametrize(
    ("checksum", "end"),
    [
        ("crc16_modbus", "374B"),
        ("{kind: crc16_modbus, endian: big}", "4B37"),
        ("crc16_ccitt", "29B1"),
        ("{kind: crc16_ccitt, endian: little}", "B129"),
        ("crc16_xmodem", "31C3"),
        ("crc16_arc", "3DBB"),
        ("crc16_x25", "6E90"),
        ("crc8", "F4"),
        ("crc8_sensirion", "F7"),
        ("sum16", "01DD"),
        ("{kind: crc, bits: 8, polynomial: 0x31, reflected: true}", "A1"),  # MAXIM
        ("{kind: crc, polynomial: 0x3D65, xor: 0xFFFF}", "C2B7"),  # EN 13757
        ("{kind: crc, polynomial: 0x1021, init: 0xC6C6, reflected: true, endian: little}", "05BF"),  # ISO 14443-3-A
        ("{kind: crc, bits: 24, polynomial: 0x864CFB, init: 0xB704CE}", "21CF02"),  # OpenPGP
        (
            "{kind: crc, bits: 32, polynomial: 0x04C11DB7, init: 0xFFFFFFFF, reflected: true, xor: 0xFFFFFFFF}",
            "CBF43926",
        ),
    ],
)
def test_a_checksum_is_known_by_name_or_by_its_parameters(make: Make, checksum: str, end: str) -> None:
    length = 9 + len(end) // 2
    frame = make(f"bytes: {{length: {length}, checksum: {checksum}, values: {{battery: {{at: 0}}}}}}\n")
    assert values_of(decode(frame, f"hex:313233343536373839{end}")) == [{"battery": 49}]
    wrong = f"{int(end, 16) ^ 1:0{len(end)}X}"
    assert [each.reason for each in decode(frame, f"hex:313233343536373839{wrong}").problems] == [Reason.CHECKSUM]


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        ("{kind: crc}", "a polynomial exactly beside"),
        ("{kind: crc8, polynomial: 7}", "a polynomial exactly beside"),
        ("{kind: crc, bits: 8, polynomial: 0x107}", "of 8 bits"),
        ("{kind: crc, bits: 12, polynomial: 7}", "12"),
    ],
)
def test_a_checksum_that_cannot_be_is_named(make: Make, checksum: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(f"bytes: {{length: 9, checksum: {checksum}, values: {{battery: {{at: 0}}}}}}\n")
    assert expected in str(caught.value.facts["expected"])


@pytest.mark.parametrize("first", ["5B", "7B", "5B31"])
def test_a_devices_own_bytes_may_begin_like_json(make: Make, first: str) -> None:
    node = make(f"lorawan: {{port: 2, bytes: {{length: {len(first) // 2}, values: {{humidity: {{at: 0}}}}}}}}\n")
    assert values_of(decode(node, f"hex:{first}")) == [{"humidity": int(first[:2], 16)}]


@pytest.mark.parametrize(
    ("way", "said"),
    [("json: {values: {humidity: h}}", '{"h": 5}'), ("senml: {values: {humidity: h}}", '[{"n":"h","v":5}]')],
)
def test_lorawan_carries_every_format(make: Make, way: str, said: str) -> None:
    node = make(f"lorawan: {{ports: {{7: {{{way}}}}}}}\n")
    assert values_of(decode(node, said.encode(), port=7)) == [{"humidity": 5}]


# ---------------------------------------------------------------- examples
BAD = '  - {payload: "x", held: no_values}\n'


def checked(tmp_path: Path, way: str, examples: str) -> list[str]:
    """Check a profile of these examples; give what differs."""
    folder = tmp_path / "air_quality"
    folder.mkdir(exist_ok=True)
    file = folder / "trial.yaml"
    file.write_text(HEAD.partition("examples:")[0] + way + "\nexamples:\n" + examples, encoding="utf-8")
    results = check(file)
    return [f"{each.place}: {each.expected} {each.got}" for result in results for each in result.differences] + [
        str(result.error.facts["expected"]) for result in results if result.error is not None
    ]


def test_null_in_an_example_is_what_is_not_said(tmp_path: Path) -> None:
    way = "text: {split: ',', values: {temperature: {field: 0, unknown: [-99]}, humidity: 1}}"
    good = '  - {payload: "-99,40", values: {temperature: null, humidity: 40}}\n  - {payload: "a,1", values: {humidity: 1}, held: wrong_type}\n'
    assert checked(tmp_path, way, good) == []
    assert checked(tmp_path, way, good.replace("-99,40", "20,40")) == ["values.temperature: null 20"]
    none = good.replace("humidity: 40", "humidity: null").replace("-99,40", "-99,")
    assert checked(tmp_path, way, none) == []


def test_an_example_of_any_protocol_says_when_it_was_heard(tmp_path: Path) -> None:
    way = "json: {time: {path: age, ago: true}, values: {temperature: t}}"
    good = (
        '  - {payload: {t: 20, age: 60}, time: "2026-01-15T08:00:00Z", samples: [{time: "2026-01-15T07:59:00Z", values: {temperature: 20}}]}\n'
        "  - {payload: {t: warm}, held: wrong_type}\n"
    )
    assert checked(tmp_path, way, good) == []


def test_a_number_that_is_text_is_told_apart_from_a_number(tmp_path: Path) -> None:
    way = "json: {values: {temperature: t}, extra: {kind: k}}"
    text = '  - {payload: {t: 20, k: "7"}, samples: [{values: {temperature: 20}, extra: {kind: 7}}]}\n  - {payload: {t: warm}, held: wrong_type}\n'
    assert checked(tmp_path, way, text) == ['samples[0].extra.kind: 7 "7"']


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("{payload: x, held: profile}", "one of truncated, checksum"),
        ("{payload: x, samples: [{value: {temperature: 1}}]}", "did you mean values?"),
        ("{payload: x, samples: [{values: {temperature: 1}, time: 5}]}", "text (in quotes)"),
    ],
)
def test_a_mistake_in_an_example_is_named(tmp_path: Path, example: str, expected: str) -> None:
    (said,) = checked(tmp_path, "text: {values: {temperature: 0}}", f"  - {example}\n{BAD}")
    assert expected in said


# ---------------------------------------------------------------- lists that run parallel
PARALLEL = "json: {columns: ., time: t, values: {temperature: temp, humidity: h}, extra: {site: site}}\n"


def test_lists_that_run_parallel_are_rows_with_their_own_times(make: Make) -> None:
    decoded = decode(make(PARALLEL), '{"site": 7, "t": [1768464000, 1768464600], "temp": [20.5, null], "h": [40, 41]}')
    assert values_of(decoded) == [{"temperature": 20.5, "humidity": 40}, {"humidity": 41}]
    assert [each.time and each.time.minute for each in decoded.samples] == [0, 10]
    assert [dict(each.extra or {}) for each in decoded.samples] == [{"site": 7}, {"site": 7}]


def test_a_parallel_list_that_is_shorter_says_nothing_there(make: Make) -> None:
    decoded = decode(make(PARALLEL), '{"t": [1768464000, 1768464600], "temp": [20.5, 21, 22], "h": []}')
    assert values_of(decoded) == [{"temperature": 20.5}, {"temperature": 21}]
    assert [each.reason for each in decoded.problems] == [Reason.NO_TIME]


@pytest.mark.parametrize("said", ['{"t": 1}', "[1]", "{}"])
def test_without_a_list_there_are_no_rows(make: Make, said: str) -> None:
    assert [each.reason for each in decode(make(PARALLEL), said).problems] == [Reason.NOT_AN_OBJECT]


def test_more_cells_than_anybody_needs_are_held(make: Make) -> None:
    said = '{"t": [' + ",".join(["1"] * 100_001) + '], "h": [1]}'
    assert [each.reason for each in decode(make(PARALLEL), said).problems] == [Reason.TOO_LARGE]


@pytest.mark.parametrize("path", [".", "hourly"])
def test_parallel_lists_are_written_as_they_are_read(make: Make, path: str) -> None:
    node = make(f"json: {{columns: {path}, time: t, constant: {{v: 1}}, values: {{temperature: temp, humidity: h}}}}\n")
    uplink = node.encode({"temperature": 20.5, "humidity": 40}, time=AT)
    assert b'"v":1' in bytes(uplink.payload or b"")
    (sample,) = decode(node, bytes(uplink.payload or b"")).samples
    assert (dict(sample.values), sample.time) == ({"temperature": 20.5, "humidity": 40}, AT)


def test_parallel_lists_can_be_channels(make: Make) -> None:
    bank = make('json: {columns: ., channel: "@key", values: {temperature: temp, humidity: h}}\n')
    assert [
        (each.channel, dict(each.values)) for each in decode(bank, '{"temp": [20, 21], "h": [40, 41]}').samples
    ] == [
        ("0", {"temperature": 20, "humidity": 40}),
        ("1", {"temperature": 21, "humidity": 41}),
    ]


# ---------------------------------------------------------------- checksums in text
NMEA = (
    "text: {split: ',', rows: \"\\n\", checksum: nmea, values: {"
    "wind_direction: {field: 1, when: {field: 0, equals: WIMWV}},"
    " wind_speed: {field: 3, unit_from: 4, units: {N: '[kn_i]', M: m/s}, when: {field: 0, equals: WIMWV}},"
    " pressure: {field: 3, unit: bar, when: {field: 0, equals: WIMDA}}}}\n"
)
WIND, AIR = "$WIMWV,214.8,R,10.0,N,A*1D", "$WIMDA,29.7,I,1.006,B,21.4,C*3C"


def test_sentences_of_nmea_are_one_message_each_with_its_checksum(make: Make) -> None:
    decoded = decode(make(NMEA, "weather"), f"{WIND}\r\n{AIR}\r\n")
    assert (values_of(decoded), decoded.problems) == (
        [{"wind_direction": 214.8, "wind_speed": pytest.approx(5.144444, abs=1e-5), "pressure": 1006}],
        [],
    )


def test_a_sentence_with_a_wrong_checksum_spoils_no_other(make: Make) -> None:
    decoded = decode(make(NMEA, "weather"), f"{WIND[:-1]}4\r\n{AIR}\r\n$WIMWV,214.8")
    assert values_of(decoded) == [{"pressure": 1006}]
    assert [each.reason for each in decoded.problems] == [Reason.CHECKSUM, Reason.TRUNCATED]


def test_sentences_are_written_as_they_are_read(make: Make) -> None:
    station = make(NMEA, "weather")
    values = {"wind_direction": 214, "wind_speed": 5, "pressure": 1006}
    uplink = station.encode(values)
    assert bytes(uplink.payload or b"").count(b"*") == 2
    assert values_of(decode(station, bytes(uplink.payload or b""))) == [pytest.approx(values, abs=1e-5)]


def test_the_checksums_are_those_of_their_standards() -> None:
    position = "GPGLL,5300.97914,N,00259.98174,E,125926,A"
    assert TEXT_CHECKSUMS["nmea"].closed(position) == f"${position}*28"
    assert TEXT_CHECKSUMS["nmea"].opened(f"!{position}*28") == position


# ---------------------------------------------------------------- keys whose bits say two things
KEYED = (
    "main: '0'\nbytes: {key: {mask: 0x1F, channel: 0xE0}, records: {"
    "'03': {length: 2, values: {temperature: {type: int16, scale: 0.1}}}, '04': {length: 1, values: {humidity: {}}}}}\n"
)


def test_a_record_says_its_channel_in_the_high_bits_of_its_key(make: Make) -> None:
    decoded = decode(make(KEYED), "hex:0300d704282400ff01")
    assert [(each.channel, dict(each.values)) for each in decoded.samples][:2] == [
        ("", {"temperature": 21.5, "humidity": 40}),
        ("1", {"humidity": 0}),
    ]
    assert [each.reason for each in decoded.problems] == [Reason.BAD_FIELD], "0xFF is type 31, which nobody knows"


def test_a_key_with_its_channel_is_written_as_it_is_read(make: Make) -> None:
    bank = make(KEYED)
    assert bank.channels == ("", "1", "2", "3", "4", "5", "6", "7")
    assert bank.encode({"temperature": 21.5}).payload == bytes.fromhex("0300d7")
    assert bank.encode({"temperature": 21.5, "humidity": 40}, channel="2").payload == bytes.fromhex("4300d74428")


# ---------------------------------------------------------------- sums, and an interval that the frame says
@pytest.mark.parametrize(
    ("way", "said", "sent"),
    [
        (
            "text: {split: ';', values: {humidity: {field: 0, plus: {field: 1, scale: 10}, scale: 0.5}}}",
            "4;3",
            "34.0;0",
        ),
        ("json: {values: {humidity: {path: a, plus: {path: b, scale: 10}, scale: 0.5}}}", '{"a": "4", "b": 3}', ""),
    ],
)
def test_two_places_make_one_number(make: Make, way: str, said: str, sent: str) -> None:
    meter = make(way + "\n")
    assert values_of(decode(meter, said)) == [{"humidity": 17}]
    payload = bytes(meter.encode({"humidity": 17}).payload or b"")
    assert values_of(decode(meter, payload)) == [{"humidity": 17}]
    assert not sent or payload in {sent.encode(), sent.replace(".0", "").encode()}


def test_a_sum_of_which_one_part_is_missing_is_not_said(make: Make) -> None:
    meter = make("json: {values: {humidity: {path: a, plus: {path: b}}, temperature: t}}\n")
    assert values_of(decode(meter, '{"a": 4, "t": 1}')) == [{"temperature": 1}]
    assert values_of(decode(meter, '{"a": 4, "b": null, "t": 1}')) == [{"temperature": 1}]


HISTORY = (
    "bytes: {length: 1, blocks: [{repeat: end, every: {at: 0, scale: -60}, length: 1, values: {temperature: {}}}]}\n"
)


def test_a_frame_may_say_how_far_its_history_is_apart(make: Make) -> None:
    logger = make(HISTORY)
    decoded = logger.decode(uplink_of(logger, data=bytes([15, 20, 21, 22]), time=AT))
    assert [(each.time and each.time.strftime("%H:%M"), each.values["temperature"]) for each in decoded.samples] == [
        ("08:00", 20), ("07:45", 21), ("07:30", 22),
    ]  # fmt: skip


def test_a_history_whose_distance_is_unknown_keeps_only_its_first(make: Make) -> None:
    decoded = decode(make(HISTORY), bytes([0, 20, 21]))
    assert values_of(decoded) == [{"temperature": 20}]
    assert [each.reason for each in decoded.problems] == [Reason.BAD_TIME]


def test_a_sign_bit_and_a_size_are_a_curve(make: Make) -> None:
    probe = make(
        "bytes: {length: 2, values: {temperature: {type: uint16,"
        " curve: [[0, 0], [32767, 3276.7], [32768, 0], [65535, -3276.7]]}}}\n"
    )
    for data, value in (("00d7", 21.5), ("80d7", -21.5), ("8000", 0), ("0000", 0)):
        assert values_of(decode(probe, f"hex:{data}")) == [{"temperature": value}]
        (written,) = (bytes(probe.encode({"temperature": value}).payload or b""),)
        assert values_of(decode(probe, written)) == [{"temperature": value}]


def test_an_object_instance_of_lwm2m_tlv_holds_its_resources(make: Make) -> None:
    tlv = make(
        'bytes: {records: {"0800": {length: {at: 0, add: 1}, records: {"e41644": {length: 4, values: {temperature:'
        " {type: float32}}}}}}}\n"
    )
    assert values_of(decode(tlv, "hex:080007e4164441ac0000")) == [{"temperature": 21.5}]
    assert [each.reason for each in decode(tlv, "hex:080007e4164441ac").problems] == [Reason.TRUNCATED]
    written = bytes(tlv.encode({"temperature": 21.5}).payload or b"")
    assert values_of(decode(tlv, written)) == [{"temperature": 21.5}]


def test_a_register_of_an_example_below_zero_is_told_as_it_is_written(tmp_path: Path) -> None:
    said = "modbus: {points: {temperature: {address: 0, type: int16}}}"
    (found,) = checked(tmp_path, said, '  - {registers: {"holding:0": [-100]}, values: {temperature: -100}}\n' + BAD)
    assert "numbers from 0 to 65535; -100 is written 65436" in found


# ---------------------------------------------------------------- several conditions on one value
@pytest.mark.parametrize(
    ("text", "both", "one"),
    [
        ("json: {values: {humidity: h, temperature: {path: t, when: [{path: ok}, {path: kind, equals: 7}]}}}",
         '{"h": 40, "t": 21, "ok": true, "kind": 7}', '{"h": 40, "t": 21, "ok": true, "kind": 8}'),
        ("text: {split: ',', values: {humidity: 0, temperature: {field: 1, when: [{field: 2, equals: A}, {field: 3, between: [1, 3]}]}}}",
         "40,21,A,2", "40,21,A,4"),
        ("text: {split: ',', rows: \"\\n\", values: {humidity: {field: 2, when: {field: 0, equals: H}}, temperature: {field: 2, when: [{field: 0, equals: T}, {field: 1, equals: in}]}}}",
         "H,in,40\nT,in,21", "H,in,40\nT,out,21"),
        ("bytes: {length: 4, values: {humidity: {at: 0}, temperature: {at: 1, when: [{at: 2, bit: 0}, {at: 3, equals: 9, unless: true}]}}}",
         "hex:28150100", "hex:28150109"),
        ("bytes: {length: 2, values: {humidity: {at: 0}}, blocks: [{when: [{at: 1, bit: 0}, {at: 1, bit: 1}], optional: true, length: 1, values: {temperature: {}}}]}",
         "hex:280315", "hex:2801"),
        ("senml: {values: {humidity: h, temperature: {name: t, when: [{name: ok}, {name: kind, equals: 7}]}}}",
         '[{"n":"h","v":40},{"n":"t","v":21},{"n":"ok","vb":true},{"n":"kind","v":7}]',
         '[{"n":"h","v":40},{"n":"t","v":21},{"n":"ok","vb":true},{"n":"kind","v":8}]'),
    ],
)  # fmt: skip
def test_of_several_conditions_all_must_hold(make: Make, text: str, both: str, one: str) -> None:
    node = make(text + "\n")
    assert values_of(decode(node, both)) == [{"humidity": 40, "temperature": 21}]
    assert values_of(decode(node, one)) == [{"humidity": 40}]
    written = bytes(node.encode({"humidity": 40, "temperature": 21}).payload or b"")
    assert values_of(decode(node, written)) == [{"humidity": 40, "temperature": 21}]


def test_registers_can_have_several_conditions(make: Make) -> None:
    node = make(
        "modbus: {points: {humidity: {address: 0, type: uint16}, temperature: {address: 1, type: int16,"
        " when: [{address: 2, type: uint16, bit: 3}, {address: 9, type: uint16, equals: 7}]}}}\n"
    )
    for said, expected in (
        ({"holding:0": [40, 21, 8], "holding:9": [7]}, {"humidity": 40, "temperature": 21}),
        ({"holding:0": [40, 21, 8], "holding:9": [6]}, {"humidity": 40}),
    ):
        assert values_of(node.decode(uplink_of(node, registers=said))) == [expected]
    written = node.encode({"humidity": 40, "temperature": 21})
    assert values_of(
        node.decode(uplink_of(node, registers={key: list(each) for key, each in (written.registers or {}).items()}))
    ) == [{"humidity": 40, "temperature": 21}]


@pytest.mark.parametrize(
    ("when", "key", "expected"),
    [
        ("[]", "when", "at least one condition"),
        ("[{path: a}, {path: b, equal: 1}]", "when.1.equal", "did you mean equals?"),
        ("[{path: a, is: 1}]", "when.0.is", "did you mean equals?"),
        ("[{path: a}, {path: b, equals: 1, between: [1, 2]}]", "when.1", "only one of equals and between"),
        ("[{path: a}, {path: '$.b'}]", "when.1.path", "without $"),
        ("yes", "when", "a table with the keys path, equals, between, unless or a list"),
    ],
)
def test_a_mistake_in_one_of_several_conditions_is_named(make: Make, when: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(f"json: {{values: {{temperature: {{path: t, when: {when}}}}}}}\n")
    assert str(caught.value.facts["key"]).endswith(key)
    assert expected in str(caught.value.facts["expected"])


# ---------------------------------------------------------------- what network servers' own codecs give; two ratios
def test_a_unit_behind_a_number_in_json_is_cut_off(make: Make) -> None:
    node = make(
        'json: {values: {temperature: {path: t, after: " °C"}, humidity: {path: h, before: "RH ", after: "%"}}}\n'
    )
    assert values_of(decode(node, '{"t": "30.11 °C", "h": "RH 40%"}')) == [{"temperature": 30.11, "humidity": 40}]
    assert values_of(decode(node, '{"t": 30.11, "h": "RH 40"}')) == [{"temperature": 30.11, "humidity": 40}]
    assert [each.reason for each in decode(node, '{"h": "40%"}').problems] == [Reason.BAD_FIELD]
    written = bytes(node.encode({"temperature": 21.5, "humidity": 40}).payload or b"")
    assert values_of(decode(node, written)) == [{"temperature": 21.5, "humidity": 40}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("json: {values: {temperature: {path: t, scale_from: [{path: a}, {path: b, power: 10}]}}}", '{"t": 7, "a": 3, "b": -1}'),
        ("bytes: {length: 3, values: {temperature: {at: 0, scale_from: [{at: 1}, {at: 2, factors: {5: 0.1}}]}}}", "hex:070305"),
    ],
)  # fmt: skip
def test_several_factors_are_multiplied(make: Make, text: str, said: str) -> None:
    node = make(text + "\n")
    assert values_of(decode(node, said)) == [{"temperature": 2.1}]
    written = bytes(node.encode({"temperature": 2}).payload or b"")
    assert values_of(decode(node, written)) == [{"temperature": 2}]


def test_the_ratios_of_two_transformers_scale_one_register(make: Make) -> None:
    node = make(
        "modbus: {points: {temperature: {address: 9, type: int16,"
        " scale_from: [{address: 3, type: uint16}, {address: 4, type: uint16}]}}}\n"
    )
    assert node.modbus is not None
    assert {each.address for each in node.modbus.reads(0)} == {3, 9}
    said = {"holding:3": [2, 3], "holding:9": [65535]}
    assert values_of(node.decode(uplink_of(node, registers=said))) == [{"temperature": -6}]
    assert [each.reason for each in node.decode(uplink_of(node, registers={"holding:9": [1]})).problems] == [
        Reason.TRUNCATED
    ]
