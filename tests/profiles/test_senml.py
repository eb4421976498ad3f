"""SenML after RFC 8428: its published packs, JSON and CBOR."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from iot_core.errors import DecodeError
from iot_core.model import Problem, Quality, Reason, Uplink
from iot_core.profiles import Profiles
from iot_core.profiles.senml import Record, read_pack, resolve

NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
# RFC 8428 section 5.1.2 and the same pack in CBOR, section 6.
CURRENT = (
    '[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},'
    '{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},'
    '{"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]'
)
CURRENT_CBOR = (
    "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120050067766f6c7461"
    "676501615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e74062302fb3ff4cc"
    "cccccccccda3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00a3006763757272656e7406"
    "2002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333333333"
)
COLLECTION = (
    '[{"bn":"2001:db8::2/","bt":1320078429,"n":"temperature","v":25.2,"u":"Cel"},{"n":"humidity","v":30,"u":"%RH"},'
    '{"bn":"2001:db8::1/","n":"temperature","v":12.3,"u":"Cel"},{"n":"humidity","v":67,"u":"%RH"}]'
)


def records(payload: bytes, content_format: int = 110) -> list[Record]:
    problems: list[Problem] = []
    found = resolve(read_pack(payload, content_format), NOW, problems)
    assert problems == []
    return found


def test_the_rfc_pack_means_the_same_in_json_and_cbor() -> None:
    found = records(CURRENT.encode())
    assert records(bytes.fromhex(CURRENT_CBOR), 112) == found
    assert [(each.value, each.unit) for each in found] == [
        (120.1, "V"), (1.2, "A"), (1.3, "A"), (1.4, "A"), (1.5, "A"), (1.6, "A"), (1.7, "A"),
    ]  # fmt: skip
    assert found[1].time == datetime(2010, 6, 8, 18, 1, 11, 1000, UTC)
    assert {each.metric_key for each in found} == {"voltage", "current"}


def test_a_second_base_name_replaces_the_first_and_the_base_time_stays() -> None:
    found = records(COLLECTION.encode())
    assert [each.name for each in found][2:] == ["2001:db8::1/temperature", "2001:db8::1/humidity"]
    assert {each.time for each in found} == {datetime.fromtimestamp(1320078429, UTC)}


def test_a_series_under_the_base_name_alone() -> None:
    found = records(b'[{"bn":"x","bt":1320067464,"bu":"%RH","v":21.2,"t":0},{"v":21.3,"t":10},{"v":21.4,"t":20}]')
    assert [(each.value, each.unit, each.name) for each in found] == [
        (21.2, "%RH", "x"),
        (21.3, "%RH", "x"),
        (21.4, "%RH", "x"),
    ]
    assert found[2].time == datetime.fromtimestamp(1320067484, UTC)


def test_base_value_is_added_and_a_sum_is_no_reading() -> None:
    assert [each.value for each in records(b'[{"bn":"a","bv":20,"v":1.5},{"v":2.5},{"n":"b","s":9}]')] == [21.5, 22.5]


@pytest.mark.parametrize(
    "record",
    [
        '{"n":"a","v":1,"vs":"x"}',
        '{"n":"a"}',
        '{"v":1}',
        '{"n":"a","v":1,"must_":2}',
        '{"n":7,"v":1}',
        '{"n":"a","v":1,"bver":11}',
    ],
)
def test_a_record_that_breaks_the_rules_leaves_the_others(record: str) -> None:
    problems: list[Problem] = []
    pack = read_pack(f'[{record},{{"n":"pm25","v":2,"bver":5}}]'.encode(), 110)
    assert [each.value for each in resolve(pack, NOW, problems)] == [2]
    assert [problem.reason for problem in problems] == [Reason.NOT_SENML]


def test_a_pack_is_an_array_of_records() -> None:
    for payload in (b"{}", b"[1]", b"3"):
        with pytest.raises(DecodeError) as caught:
            read_pack(payload, 110)
        assert caught.value.reason is Reason.NOT_SENML


def test_times_that_count_back_from_now_are_uncertain_and_now_is_the_arrival(profiles: Profiles) -> None:
    payload = b'[{"bn":"urn:x:","n":"pm25","v":3},{"n":"pm25","t":-60,"v":2}]'
    decoded = profiles.native("air_quality").decode(
        Uplink(driver="coap", address="iot:a", payload=payload, content_format=110, received_at=NOW)
    )
    assert [(sample.time, sample.values) for sample in decoded.samples] == [
        (NOW, {"pm25": 3}),
        (NOW - timedelta(seconds=60), {"pm25": 2}),
    ]
    assert {sample.quality for sample in decoded.samples} == {Quality.UNCERTAIN}


def test_without_any_time_the_arrival_is_left_to_the_core(profiles: Profiles) -> None:
    decoded = profiles.native("air_quality").decode(
        Uplink(driver="coap", address="iot:a", payload=b'[{"n":"pm25","v":3}]', content_format=110)
    )
    assert decoded.samples[0].time is None


def test_units_are_converted_and_foreign_ones_held(profiles: Profiles) -> None:
    pack = [
        {"bn": "urn:x:", "n": "temperature", "u": "K", "v": 296.0},
        {"n": "co", "u": "ppm", "v": 1},
        {"n": "humidity", "u": "%RH", "v": 61},
        {"n": "pressure", "u": "lx", "v": 3},
        {"n": "pm25", "u": "ug/m3", "v": 35.2},
    ]
    decoded = profiles.native("air_quality").decode(
        Uplink(driver="coap", address="iot:a", payload=msgspec.json.encode(pack), content_format=110)
    )
    assert decoded.samples[0].values == pytest.approx(
        {"temperature": 22.85, "co": 1144.900879, "humidity": 61, "pm25": 35.2}
    )
    assert [problem.reason for problem in decoded.problems] == [Reason.BAD_FIELD]


def test_one_name_twice_at_one_time_gives_two_samples_for_merging_to_judge(profiles: Profiles) -> None:
    twice = b'[{"bt":1768465800,"n":"/3428/0/3","v":3},{"n":"/3428/0/3","v":4}]'
    vendor = profiles.get("ucifi-air-quality").decode(Uplink(driver="coap", address="iot:a", payload=twice))
    assert [sample.values for sample in vendor.samples] == [{"pm25": 3}, {"pm25": 4}]
    decoded = profiles.native("air_quality").decode(
        Uplink(
            driver="coap",
            address="iot:a",
            payload=b'[{"bt":1768465800,"n":"pm25","v":3},{"n":"pm25","v":4}]',
            content_format=110,
        )
    )
    assert [sample.values for sample in decoded.samples] == [{"pm25": 3}, {"pm25": 4}]
