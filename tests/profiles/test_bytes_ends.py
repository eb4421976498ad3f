"""Bits across bytes, what stands at the end of a frame, clocks of bits and bytes, and formulas: each read and written."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.errors import ConfigError
from iot_core.model import MetricType, Reason, Uplink, Value
from iot_core.profiles import Profile
from iot_core.profiles.units import Linear
from iot_core.profiles.values import Codec
from tests.profiles.making import Make, decode, values_of

TAIL = """
lorawan:
  bytes:
    length: 2
    require: {code: {at: 0, equals: 0x4C}}
    blocks:
      - {repeat: end, every: -10m, length: 2, values: {temperature: {type: int16, scale: 0.1}}}
    tail: {when: {at: 1, bit: 2}, length: 4, time: {type: uint32, epoch: 2013-01-01}}
"""
LATEST = """
lorawan:
  bytes:
    length: 2
    values: {temperature: {type: int16, scale: 0.1}}
    checksum: sum8
    rest: true
    tail: {length: 4, time: {type: uint32}}
"""
ACROSS = """
lorawan:
  bytes:
    length: 3
    values:
      temperature: {bits: [3, 11], type: int16, scale: 0.1}
      humidity: {bits: [14, 7]}
"""
CLOCK = """
lorawan:
  bytes:
    length: 9
    time: {at: 1, FORM}
    values: {temperature: {at: 0}}
"""


def there_and_back(profile: Profile, values: Mapping[str, Value], time: datetime | None = None) -> list[object]:
    encoded = profile.encode(values, address="a", time=time)
    uplink = Uplink(driver="mqtt", address="lorawan:a", topic=encoded.topic, payload=encoded.payload)
    return [(sample.values, sample.time) for sample in profile.decode(uplink).samples]


def test_a_tail_gives_the_time_that_repetitions_count_from(make: Make) -> None:
    found = decode(make(TAIL), "hex:4C04 00C5 00C7 14ABA3E9")
    newest = datetime(2023, 12, 28, 19, 22, 17, tzinfo=UTC)
    assert [(each.values["temperature"], each.time) for each in found.samples] == [
        (19.7, newest),
        (19.9, newest - timedelta(minutes=10)),
    ]
    assert not found.problems


def test_a_tail_that_its_flag_does_not_announce_is_no_tail(make: Make) -> None:
    found = decode(make(TAIL), "hex:4C00 00C5 00C7")
    assert values_of(found) == [{"temperature": 19.7}, {"temperature": 19.9}]


@pytest.mark.parametrize("cut", ["4C", "4C04", "4C0414ABA3"])
def test_a_tail_that_is_cut_off_is_truncated(make: Make, cut: str) -> None:
    found = decode(make(TAIL), f"hex:{cut}")
    assert not found.samples
    assert [each.reason for each in found.problems] == [Reason.TRUNCATED]


def test_a_tail_stands_before_the_checksum_and_is_written_with_its_time(make: Make) -> None:
    time = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    assert there_and_back(make(LATEST), {"temperature": -4.5}, time) == [({"temperature": -4.5}, time)]


def test_a_tail_and_a_checksum_are_not_counted_in_a_fixed_head(make: Make) -> None:
    fixed = make(LATEST.replace("    rest: true\n", ""))
    time = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    assert there_and_back(fixed, {"temperature": -4.5}, time) == [({"temperature": -4.5}, time)]
    frame = fixed.encode({"temperature": -4.5}, time=time).payload
    data = base64.b64decode(json.loads(frame)["data"])
    assert len(data) == 2 + 4 + 1
    for wrong, reason in ((data[:-1], Reason.TRUNCATED), (data + b"\0", Reason.BAD_FIELD)):
        assert [each.reason for each in decode(fixed, wrong).problems] == [reason]


def test_a_tail_has_a_fixed_length(make: Make) -> None:
    for wrong in ("{length: 4, repeat: 2, every: 1m}", "{length: 2, optional: true}", "{records: {'01': {length: 1}}}"):
        with pytest.raises(ConfigError) as caught:
            make(TAIL.replace("{when: {at: 1, bit: 2}, length: 4, time: {type: uint32, epoch: 2013-01-01}}", wrong))
        assert "fixed length" in str(caught.value.facts["expected"]), wrong


def test_bits_lie_across_bytes_from_the_highest_of_the_first(make: Make) -> None:
    # 000 | 11111010111 = -41 | 1100100 = 100 | 000
    assert values_of(decode(make(ACROSS), "hex:1F5F20")) == [{"temperature": -4.1, "humidity": 100}]


@pytest.mark.parametrize(("temperature", "humidity"), [(-300, 0), (-1, 100), (0, 1), (600, 64)])
def test_bits_are_written_as_they_are_read(make: Make, temperature: int, humidity: int) -> None:
    said: dict[str, Value] = {"temperature": temperature / 10, "humidity": humidity}
    assert there_and_back(make(ACROSS), said) == [(said, None)]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("bits: [3, 11], at: 1", "no at, mask or bit"),
        ("bits: [3, 11], mask: 3", "no at, mask or bit"),
        ("bits: [3, 0]", "within 8 bytes"),
        ("bits: [-1, 4]", "within 8 bytes"),
        ("bits: [1, 64]", "within 8 bytes"),
        ("bits: [20, 11]", "a place within 3 bytes"),
        ("bits: 3", "a list, not a whole number"),
    ],
)
def test_bits_that_cannot_be_are_named(make: Make, wrong: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(ACROSS.replace("bits: [14, 7]", wrong))
    assert expected in str(caught.value.facts["expected"])
    assert caught.value.facts["line"] == 15


@pytest.mark.parametrize(
    ("plus", "expected", "key"),
    [
        ("{bits: [-4, 8]}", "within 8 bytes", "plus.bits"),
        ("{at: 1, mask: 256}", "a bit from 0 to 7", "plus.mask"),
        ("{at: 1, mask: 1, bit: 0}", "either mask or bit", "plus.bit"),
        ("{at: 1, type: float32, bit: 0}", "a whole-number type", "plus.type"),
        ("{at: 1, type: string}", "a length in bytes", "plus.length"),
        ("{at: 1, scale: 0}", "other than 0", "plus.scale"),
        ("{at: 3}", "a place within 3 bytes", "at"),
    ],
)
def test_what_is_added_is_checked_like_what_it_is_added_to(make: Make, plus: str, expected: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(f"\nbytes: {{length: 3, values: {{temperature: {{at: 0, plus: {plus}}}}}}}\n")
    assert expected in str(caught.value.facts["expected"])
    assert str(caught.value.facts["key"]) == f"bytes.values.temperature.{key}"


@pytest.mark.parametrize(
    ("form", "data", "expected"),
    [
        ("form: packed", "342f440f", datetime(2026, 1, 15, 8, 32, 30, tzinfo=UTC)),
        ("form: packed, endian: little", "0f442f34", datetime(2026, 1, 15, 8, 32, 30, tzinfo=UTC)),
        ("form: fields", "1a010f08201e", datetime(2026, 1, 15, 8, 32, 30, tzinfo=UTC)),
        ("form: bcd, order: smhDMY", "303208150126", datetime(2026, 1, 15, 8, 32, 30, tzinfo=UTC)),
        ("form: bcd, order: D-MYhm, zone: '+07:00'", "150401260832", datetime(2026, 1, 15, 1, 32, tzinfo=UTC)),
    ],
)
def test_a_clock_of_bits_or_bytes_in_any_order(make: Make, form: str, data: str, expected: datetime) -> None:
    profile = make(CLOCK.replace("FORM", form))
    (sample,) = decode(profile, f"hex:15{data:0<16}").samples
    assert sample.time == expected
    assert there_and_back(profile, {"temperature": 21}, expected) == [({"temperature": 21}, expected)]


@pytest.mark.parametrize("part", ["bits: [8, 32]", "mask: 15", "bit: 1"])
@pytest.mark.parametrize("form", ["packed", "mbus", "bcd", "fields"])
def test_a_clock_of_whole_bytes_has_no_mask_nor_bits(make: Make, form: str, part: str) -> None:
    clock = CLOCK.replace("at: 1, ", "" if "bits" in part else "at: 1, ")
    with pytest.raises(ConfigError) as caught:
        make(clock.replace("FORM", f"form: {form}, {part}"))
    assert caught.value.facts["expected"] == "no mask, bit or bits beside a form other than seconds"
    assert str(caught.value.facts["key"]).endswith("time." + part.partition(":")[0])


@pytest.mark.parametrize("order", ["YM", "YMDhmsY", "YMDx", ""])
def test_an_order_that_is_no_date_is_named(make: Make, order: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(CLOCK.replace("FORM", f"form: bcd, order: '{order}'"))
    assert "Y, M and D" in str(caught.value.facts["expected"])


def test_a_packed_clock_of_zeros_is_no_time(make: Make) -> None:
    found = decode(make(CLOCK.replace("FORM", "form: packed")), "hex:150000000000000000")
    assert [each.reason for each in found.problems] == [Reason.BAD_TIME]


def test_a_polynomial_follows_scale_and_offset_and_the_unit_comes_last(make: Make) -> None:
    profile = make(
        """
lorawan:
  bytes:
    length: 2
    values:
      temperature: {type: uint16, scale: 0.5, offset: -1, polynomial: [32, 1, 0.1], unit: "[degF]"}
"""
    )
    (sample,) = decode(profile, "hex:0016").samples  # x = 10: 32 + 10 + 10 degF
    assert sample.values["temperature"] == pytest.approx(20 / 1.8)
    assert there_and_back(profile, {"temperature": 20 / 1.8}) == [({"temperature": pytest.approx(20 / 1.8)}, None)]


@given(raw=st.integers(0, 4000))
def test_a_polynomial_is_written_as_it_is_read(raw: int) -> None:
    topp = Codec("soil_moisture", MetricType.FLOAT, Linear(0.02), polynomial=(-5.3, 2.92, -0.055, 0.00043))
    found = topp.write(topp.read(raw))
    assert isinstance(found, float)
    assert found == pytest.approx(raw, abs=0.01)


def test_what_a_polynomial_never_reaches_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        Codec("temperature", MetricType.FLOAT, polynomial=(5.0, 0.0, 1.0)).write(1.0)


@pytest.mark.parametrize("wrong", ["polynomial: [1]", "polynomial: [1, 2], curve: [[0, 0], [1, 1]]"])
def test_a_polynomial_that_is_none_is_named(make: Make, wrong: str) -> None:
    with pytest.raises(ConfigError):
        make(f"\nlorawan: {{bytes: {{length: 1, values: {{temperature: {{{wrong}}}}}}}}}\n")
