"""The native contract: time, seq, run, quality, null, lenient numbers; one message may give several samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from iot_core.model import Decoded, Quality, Reason, Uplink
from iot_core.profiles import Profiles

Decode = Callable[..., Decoded]
NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


@pytest.fixture
def decode(profiles: Profiles) -> Decode:
    native = profiles.native("air_quality")

    def run(payload: str, content_format: int | None = None, kind: str = "telemetry") -> Decoded:
        return native.decode(
            Uplink(
                driver="mqtt",
                address="iot:a",
                kind=kind,
                payload=payload.encode(),
                content_format=content_format,
                received_at=NOW,
            )
        )

    return run


@pytest.mark.parametrize(
    "stamp",
    [
        '"2026-01-15T08:30:00Z"',
        '"2026-01-15T15:30:00+07:00"',
        '"2026-01-15 08:30:00.000Z"',
        "1768465800",
        '"2026-01-15t08:30:00z"',
        '"2026-01-15T08:29:60Z"',
        '"2026-01-15t15:29:60.0+07:00"',
        "1768465800.0",
        "1768465800000",
    ],
)
def test_times_that_mean_the_same(decode: Decode, stamp: str) -> None:
    decoded = decode(f'{{"time": {stamp}, "pm25": 1}}')
    assert decoded.samples[0].time == NOW
    assert not decoded.problems


@pytest.mark.parametrize(
    "stamp", ['"yesterday"', '"2026-01-15T08:30:00"', "true", "1e300", "[]", '"2026-13-01T00:00:00Z"']
)
def test_a_time_that_cannot_be_read_is_held_and_the_values_stand(decode: Decode, stamp: str) -> None:
    decoded = decode(f'{{"time": {stamp}, "pm25": 1}}')
    assert [problem.reason for problem in decoded.problems] == [Reason.BAD_TIME]
    assert decoded.samples[0].time is None
    assert decoded.samples[0].values == {"pm25": 1}


def test_null_is_unknown_and_never_zero(decode: Decode) -> None:
    decoded = decode('{"time": null, "pm25": null, "pm10": 0, "seq": null, "quality": null, "run": null}')
    (sample,) = decoded.samples
    assert (sample.values, sample.time, sample.seq, sample.run, sample.quality) == (
        {"pm10": 0},
        None,
        None,
        "",
        Quality.GOOD,
    )
    assert not decoded.problems


def test_numbers_that_are_none_leave_the_others_alone(decode: Decode) -> None:
    decoded = decode('{"pm25": NaN, "pm10": 61, "co": -Infinity, "no2": 1e999}')
    values = decoded.samples[0].values
    assert values["pm10"] == 61
    assert math.isnan(float(str(values["pm25"])))
    assert values["no2"] == math.inf


@pytest.mark.parametrize("digits", [20, 400, 5000, 100_000])
@pytest.mark.parametrize("content_format", [None, 110])
def test_a_whole_number_without_bounds_leaves_the_others_alone(
    decode: Decode, digits: int, content_format: int | None
) -> None:
    long = "1" * digits
    native = f'{{"pm25": {long}, "pm10": 61}}'
    pack = f'[{{"n": "co", "u": "ppm", "v": {long}}}, {{"n": "co2", "v": 5, "t": -{long}}}, {{"n": "pm10", "v": 61}}]'
    decoded = decode(pack if content_format else native, content_format)
    assert [sample.values["pm10"] for sample in decoded.samples if "pm10" in sample.values] == [61]


def test_unknown_keys_stay_for_the_check(decode: Decode) -> None:
    assert decode('{"pm25": 1, "device_id": 9, "bad": 1}').samples[0].values == {"pm25": 1, "device_id": 9, "bad": 1}


@pytest.mark.parametrize(
    "field",
    [
        '"seq": -1',
        '"seq": 1.5',
        '"seq": "7"',
        '"seq": 9223372036854775807',
        '"run": 7',
        '"run": 0',
        '"run": []',
        '"correction": 0',
        '"quality": "fine"',
        '"quality": 0',
        '"correction": "yes"',
        '"extra": 1',
        '"extra": {"a": "\\u0000"}',
    ],
)
def test_a_field_that_makes_no_sense_is_held_alone(decode: Decode, field: str) -> None:
    decoded = decode(f'{{"pm25": 1, {field}}}')
    assert [problem.reason for problem in decoded.problems] == [Reason.BAD_FIELD]
    assert decoded.samples[0].values == {"pm25": 1}


def test_a_seq_whose_run_is_unusable_is_not_counted_in_another_run(decode: Decode) -> None:
    sample = decode('{"pm25": 1, "seq": 4, "run": ["a"]}').samples[0]
    assert (sample.seq, sample.run) == (None, "")


def test_nonsense_for_a_quality_makes_the_values_uncertain(decode: Decode) -> None:
    assert decode('{"pm25": 1, "quality": "fine"}').samples[0].quality is Quality.UNCERTAIN
    assert decode('{"pm25": 1, "quality": "calibration"}').samples[0].quality is Quality.CALIBRATION


@pytest.mark.parametrize(("said", "quality"), [("00", Quality.GOOD), ("01", Quality.CALIBRATION), ("02", Quality.BAD)])
def test_the_words_of_circular_10_are_qualities(decode: Decode, said: str, quality: Quality) -> None:
    decoded = decode(f'{{"pm25": 1, "quality": "{said}"}}')
    assert decoded.samples[0].quality is quality
    assert not decoded.problems


def test_each_element_of_an_array_stands_for_itself(decode: Decode) -> None:
    decoded = decode(
        '[{"time": 1768465800, "seq": 1, "pm25": 1}, 5, {"pm25": 2},'
        ' {"time": "x", "pm25": 3}, {"time": 1768465860, "pm25": 4}]'
    )
    assert [sample.values["pm25"] for sample in decoded.samples] == [1, 4]
    assert [problem.reason for problem in decoded.problems] == [Reason.NOT_AN_OBJECT, Reason.NO_TIME, Reason.BAD_TIME]


def test_status_is_presence_and_no_reading(decode: Decode) -> None:
    assert decode("online", kind="status").online is True
    assert decode("offline", kind="status") == Decoded(online=False)
    assert decode("perhaps", kind="status").problems[0].reason is Reason.BAD_FIELD
