"""JSON, CBOR, SenML, text, envelopes: where values stand in the messages of real devices and network servers."""

from __future__ import annotations

from datetime import UTC, datetime

import cbor2
import pytest

from iot_core.model import Reason, Uplink
from tests.profiles.making import Make, decode, values_of

NETMORE = (
    '[{"devEui":"116c52b4274f","sensorType":"qalcosonic_w1t","messageType":"payload.Payload",'
    '"timestamp":"2022-08-25T07:35:21.834484Z","Payload":"5F00FA","fCntUp":"1490","rssi":"-115","snr":"-1.8","fPort":"100"}]'
)
THINGPARK = (
    '{"DevEUI_uplink":{"Time":"2018-06-04T15:17:23.433+02:00","DevEUI":"70B3D57050000DC4","FPort":41,"FCntUp":598,'
    '"payload_hex":"5f052afb0528e005","LrrRSSI":-114.0,"LrrSNR":-14.0}}'
)
SERVANET = (
    '{"data":"FgARAL0KAAMAAB0n","fPort":2,"object":{"no2":2.11,"pm10":10.17,"pm25":8.457,"humidity":76.8,"temperature":1.7},'
    '"rxInfo":[{"snr":-5,"rssi":-112}],"timestamp":"2025-02-13T00:25:49.864785Z","deviceName":"AirQuality_4"}'
)
V3 = '{"devEUI":"0101010101010101","data":"AXVkA2diAASCMgMFAAA=","fPort":85,"fCnt":7,"rxInfo":[{"rssi":-60,"loRaSNR":7.5}]}'


def test_netmore_writes_hexadecimal_numbers_as_text_and_an_array(make: Make) -> None:
    trial = make("lorawan: {port: 100, bytes: {length: 3, values: {battery: {at: 0}}}}\n")
    (sample,) = decode(trial, NETMORE).samples
    assert (sample.seq, sample.time) == (1490, datetime(2022, 8, 25, 7, 35, 21, 834484, UTC))
    assert dict(sample.extra or {}) == {"rssi": -115, "snr": -1.8}
    two = decode(trial, NETMORE[:-1] + "," + NETMORE[1:])
    assert values_of(two) == [{"battery": 95}, {"battery": 95}]


@pytest.mark.parametrize(
    ("whole", "lacking", "port"),
    [
        (NETMORE, NETMORE.replace('"fCntUp":"1490",', ""), 100),
        (NETMORE, NETMORE.replace('"1490"', "null"), 100),
        (THINGPARK, THINGPARK.replace('"FCntUp":598,', ""), 41),
        (THINGPARK, THINGPARK.replace("598", '"none"'), 41),
        (V3, V3.replace('"fCnt":7,', ""), 85),
    ],
    ids=["Netmore", "Netmore null", "ThingPark", "ThingPark text", "ChirpStack v3"],
)
def test_a_frame_counter_that_is_not_there_is_none_and_not_zero(
    make: Make, whole: str, lacking: str, port: int
) -> None:
    trial = make(f"lorawan: {{port: {port}, bytes: {{length: 1, rest: true, values: {{battery: {{at: 0}}}}}}}}\n")
    assert [each.seq for each in decode(trial, whole).samples] != [None]
    assert [each.seq for each in decode(trial, lacking).samples] == [None], (
        "as 0 the second would be taken for the first"
    )


def test_thingpark_counts_the_port_as_the_first_byte(make: Make) -> None:
    probes = make(
        "lorawan:\n  port_in_front: true\n  bytes:\n    endian: little\n    records:\n"
        '      "29": {length: 2, values: {temperature: {type: int16, scale: 0.01}}}\n'
        '      "2a": {length: 2, extra: {probe_2: {type: int16, scale: 0.01}}}\n'
        '      "28": {length: 2, extra: {internal: {type: int16, scale: 0.01}}}\n'
    )
    (sample,) = decode(probes, THINGPARK).samples
    assert dict(sample.values) == {"temperature": 13.75}
    assert dict(sample.extra or {}) == {"rssi": -114, "snr": -14, "probe_2": 15.31, "internal": 15.04}


def test_what_the_network_server_decoded_can_be_read_in_place_of_the_bytes(make: Make) -> None:
    municipal = make("lorawan: {decoded: {values: {pm10: pm10, pm25: pm25, no2: no2, humidity: humidity}}}\n")
    (sample,) = decode(municipal, SERVANET).samples
    assert dict(sample.values) == {"pm10": 10.17, "pm25": 8.457, "no2": 2.11, "humidity": 76.8}
    assert sample.time == datetime(2025, 2, 13, 0, 25, 49, 864785, UTC)


def test_chirpstack_v3_has_other_names_for_the_same(make: Make) -> None:
    tld = make(
        'lorawan: {bytes: {records: {"0175": {length: 1, values: {battery: {}}}, "0367": {length: 2}, "0482": {length: 2}, "0500": {length: 1}}}}\n'
    )
    (sample,) = decode(tld, V3).samples
    assert (dict(sample.values), sample.seq, dict(sample.extra or {})) == (
        {"battery": 100},
        7,
        {"rssi": -60, "snr": 7.5},
    )
    assert [each.reason for each in decode(tld, "[1]").problems] == [Reason.WRONG_FORMAT]
    assert [each.reason for each in decode(tld, '{"a": 1}').problems] == [Reason.WRONG_FORMAT]


GATEWAY = """
address: "mqtt:gw/{address}"
topics:
  "gw/{address}/many": {json: {each: sensors, channel: id, values: {temperature: t, humidity: {path: h, unknown: [255]}}}}
  "gw/{address}/table": {json: {each: LwReceived, channel: "@key", values: {battery: {path: Battery, curve: [[2, 0], [3, 100]]}}}}
  "gw/{address}/cbor": {cbor: {values: {temperature: t}}}
  "gw/{address}/temperature": {text: {values: {temperature: {after: " C"}}}}
  "gw/{address}/csv": {text: {split: ";", time: {path: 0, form: "%d/%m/%Y %H:%M", zone: "+07:00"}, values: {temperature: 1, humidity: 2}}}
  "gw/{address}/pairs": {text: {split: ",", pairs: "=", values: {temperature: T, pm25: PM}}}
  "gw/{address}/state": {presence: {path: state, online: online, offline: offline}}
  "gw/{address}/log": {quiet: true}
"""


def test_a_gateway_speaks_for_several_devices(make: Make) -> None:
    gateway = make(GATEWAY)
    said = decode(
        gateway,
        '{"sensors": [{"id": "a", "t": 21.5, "h": 255}, {"id": 7, "t": "22.5", "h": 60}, {"t": 1}]}',
        topic="gw/1/many",
    )
    assert [(each.channel, dict(each.values)) for each in said.samples] == [
        ("a", {"temperature": 21.5}),
        ("7", {"temperature": 22.5, "humidity": 60}),
    ]
    assert [each.reason for each in said.problems] == [Reason.BAD_FIELD]
    table = decode(
        gateway, '{"LwReceived": {"0x4AD6": {"Battery": 2.5}, "0x4AD7": {"Battery": 3.6}}}', topic="gw/1/table"
    )
    assert [(each.channel, dict(each.values)) for each in table.samples] == [
        ("0x4AD6", {"battery": 50}),
        ("0x4AD7", {"battery": 100}),
    ]


def test_cbor_text_tables_pairs_presence_and_silence(make: Make) -> None:
    gateway = make(GATEWAY)
    assert values_of(decode(gateway, cbor2.dumps({"t": 20.5}), topic="gw/1/cbor")) == [{"temperature": 20.5}]
    assert values_of(decode(gateway, "20.5 C", topic="gw/1/temperature")) == [{"temperature": 20.5}]
    assert [each.reason for each in decode(gateway, "warm", topic="gw/1/temperature").problems] == [Reason.WRONG_TYPE]
    (row,) = decode(gateway, "15/01/2026 15:30; 20.5 ;", topic="gw/1/csv").samples
    assert (row.time, dict(row.values)) == (datetime(2026, 1, 15, 8, 30, tzinfo=UTC), {"temperature": 20.5})
    assert values_of(decode(gateway, "PM=35,T=20", topic="gw/1/pairs")) == [{"temperature": 20, "pm25": 35}]
    assert decode(gateway, '{"state": "offline"}', topic="gw/1/state").online is False
    assert decode(gateway, "\x00whatever", topic="gw/1/log").online is True


def test_instances_of_an_object_are_channels_and_their_unit_is_a_record(make: Make) -> None:
    ipso = make(
        'main: "0"\nsenml:\n  values:\n'
        '    temperature: {name: "3303/{channel}/5700", unit_from: "3303/{channel}/5701", units: {milliCelsius: mCel, Cel: Cel}}\n'
    )
    said = decode(
        ipso,
        '[{"bn":"/3303/0/","n":"5700","v":45000},{"n":"5701","vs":"milliCelsius"},{"bn":"/3303/1/","n":"5700","v":20.5}]',
    )
    assert [(each.channel, dict(each.values)) for each in said.samples] == [
        ("", {"temperature": 45.0}),
        ("1", {"temperature": 20.5}),
    ]


@pytest.mark.parametrize(
    ("time", "said", "expected"),
    [
        ("{path: t, zone: '+07:00'}", '"2026-01-15T15:30:00"', datetime(2026, 1, 15, 8, 30, tzinfo=UTC)),
        ("{path: t, zone: Asia/Ho_Chi_Minh}", '"2026-01-15T15:30:00"', datetime(2026, 1, 15, 8, 30, tzinfo=UTC)),
        ("{path: t, form: milliseconds}", "1768465800000", datetime(2026, 1, 15, 8, 30, tzinfo=UTC)),
        ("{path: t, ago: true}", "60", datetime(2026, 1, 15, 8, 29, tzinfo=UTC)),
        ("t", '"1768465800"', datetime(2026, 1, 15, 8, 30, tzinfo=UTC)),
        ("t", '"2026-01-15T15:30:00"', None),
        (
            "{path: t, form: '%Y%m%d%H%M%S', zone: '+07:00'}",
            '"20260115153000"',
            datetime(2026, 1, 15, 8, 30, tzinfo=UTC),
        ),
        ("{path: t, form: '%H:%M:%S', zone: '+07:00'}", '"13:05:10"', datetime(2026, 1, 15, 6, 5, 10, tzinfo=UTC)),
        ("{path: t, form: '%H:%M:%S', zone: '+07:00'}", '"15:39:59"', datetime(2026, 1, 15, 8, 39, 59, tzinfo=UTC)),
        ("{path: t, form: '%H:%M:%S', zone: '+07:00'}", '"15:41:00"', datetime(2026, 1, 14, 8, 41, tzinfo=UTC)),
        ("{path: t, form: '%H:%M:%S', zone: '+07:00'}", '"25:00:00"', None),
        ("{path: t, form: dsmr, zone: Europe/Amsterdam}", '"260114120000W"', datetime(2026, 1, 14, 11, tzinfo=UTC)),
        ("{path: t, form: dsmr, zone: Europe/Amsterdam}", '"251026023000S"', datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
        ("{path: t, form: dsmr, zone: Europe/Amsterdam}", '"251026023000W"', datetime(2025, 10, 26, 1, 30, tzinfo=UTC)),
        ("{path: t, form: dsmr, zone: Europe/Amsterdam}", '"251026023000X"', None),
        ("{path: t, form: dsmr, zone: Europe/Amsterdam}", '""', None),
    ],
)
def test_times_as_devices_write_them(make: Make, time: str, said: str, expected: datetime | None) -> None:
    profile = make(f"json: {{time: {time}, values: {{pm25: v}}}}\n")
    payload = f'{{"t": {said}, "v": 1}}'.encode()
    arrival = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    (sample,) = profile.decode(Uplink(driver="mqtt", address="iot:a", payload=payload, received_at=arrival)).samples
    assert sample.time == expected


def test_conditions_factors_and_constants_in_json(make: Make) -> None:
    profile = make(
        "json:\n  values:\n    temperature: {path: v, when: {path: kind, equals: [temp, t]}, scale_from: {path: f, factors: {0: 1, 1: 0.1}}}\n"
        "    battery: {path: b, map: {low: 5, full: 100}, otherwise: null}\n"
    )
    assert values_of(decode(profile, '{"kind": "temp", "v": 215, "f": 1, "b": "??"}')) == [{"temperature": 21.5}]
    assert values_of(decode(profile, '{"kind": "hum", "v": 215, "f": 1, "b": "low"}')) == [{"battery": 5}]
    assert [each.reason for each in decode(profile, '{"kind": "t", "v": 215, "f": 9}').problems] == [Reason.BAD_FIELD]
    assert values_of(decode(profile, profile.encode({"temperature": 20.0, "battery": 5}).payload)) == [
        {"temperature": 20, "battery": 5}
    ]


def test_bytes_in_the_json_of_any_gateway(make: Make) -> None:
    helium = make(
        'address: "mqtt:gw/{address}"\nlorawan:\n  topics: ["gw/{address}/rx"]\n'
        "  envelope: {payload: msg.raw, encoding: hex, port: msg.port, time: {path: at, form: milliseconds}, seq: msg.n}\n"
        "  ports: {2: {bytes: {length: 2, values: {temperature: {type: int16, scale: 0.1}}}}}\n"
    )
    message = '{"id": "a", "at": 1768465800000, "msg": {"raw": "00FA", "port": "2", "n": 7}}'
    (sample,) = decode(helium, message, topic="gw/a/rx").samples
    assert (dict(sample.values), sample.seq) == ({"temperature": 25.0}, 7)
    assert sample.time == datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    bad = decode(helium, message.replace("00FA", "00F"), topic="gw/a/rx")
    assert [each.reason for each in bad.problems] == [Reason.BAD_FIELD]
    assert [each.reason for each in decode(helium, '{"id": 1}', topic="gw/a/rx").problems] == [Reason.WRONG_FORMAT]
    chirpstack = '{"deviceInfo": {"devEui": "a"}, "fPort": 2, "data": "APo="}'
    assert values_of(decode(helium, chirpstack, topic="application/1/device/a/event/up")) == [{"temperature": 25.0}]


OWN_SERVER = """
address: "mqtt:gw/{address}"
lorawan:
  topics: ["gw/+/{address}"]
  envelope: {payload: msg.raw, encoding: hex}
  bytes: {length: 2, values: {temperature: {type: int16, scale: 0.1}}}
"""


def test_a_server_that_counts_nothing_numbers_nothing(make: Make) -> None:
    """Number 0 for each message would make the second one a redelivery of the first."""
    (sample,) = decode(make(OWN_SERVER), '{"msg": {"raw": "00f5"}}', topic="gw/a/b").samples
    assert (sample.seq, sample.values) == (None, {"temperature": 24.5})


@pytest.mark.parametrize(
    ("said", "seq"),
    [("7", 7), ('"7"', 7), ("0", 0), ("null", None), ("12.0", None), ('"x"', None), ("-1", None), ("true", None)],
)
def test_what_is_no_number_numbers_nothing(make: Make, said: str, seq: int | None) -> None:
    """As number 0 it would make the second message a redelivery of the first: acknowledged, and not stored."""
    profile = make(OWN_SERVER.replace("encoding: hex}", "encoding: hex, seq: msg.n}"))
    (sample,) = decode(profile, f'{{"msg": {{"raw": "00f5", "n": {said}}}}}', topic="gw/a/b").samples
    assert (sample.seq, sample.values) == (seq, {"temperature": 24.5})


def test_a_model_of_another_server_is_played_in_that_servers_envelope(make: Make) -> None:
    encoded = make(OWN_SERVER).encode({"temperature": 24.5}, address="b")
    assert (encoded.topic, encoded.payload) == ("gw/city/b", b'{"msg":{"raw":"00f5"}}')


def test_bytes_alone_are_put_into_the_envelope_of_the_models_own_server(make: Make) -> None:
    assert values_of(decode(make(OWN_SERVER), "hex:00f5")) == [{"temperature": 24.5}]


def test_the_quotes_that_loggers_put_around_a_field_are_no_part_of_it(make: Make) -> None:
    profile = make(
        """
address: "mqtt:x/{address}"
text:
  split: ","
  time: {path: 0, form: "%Y-%m-%d %H:%M:%S", zone: "+07:00"}
  values: {temperature: 2}
"""
    )
    (sample,) = decode(profile, '"2026-01-15 15:30:00",1,"24.5"').samples
    assert (sample.time, sample.values) == (datetime(2026, 1, 15, 8, 30, tzinfo=UTC), {"temperature": 24.5})
