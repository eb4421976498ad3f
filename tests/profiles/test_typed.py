"""What a technician types for a place, and what a message tells of itself, becomes the keys of a draft."""

from __future__ import annotations

from typing import Any

import pytest

from iot_core.profiles import Profiles
from iot_core.profiles.draft import guessed, moment_of
from iot_core.profiles.typed import splitting, where_of


@pytest.mark.parametrize(
    ("way", "typed", "keys"),
    [
        ("modbus", "4", {"address": 4, "type": "uint16"}),
        ("modbus", "0x5B00:uint32:0.1", {"address": 0x5B00, "type": "uint32", "scale": 0.1}),
        ("modbus", "input:4:float32:CDAB:W.h", {"table": "input", "address": 4, "type": "float32", "order": "CDAB", "unit": "W.h"}),
        ("modbus", "4:int16:1/10:BADC", {"address": 4, "type": "int16", "scale": "1/10", "order": "BADC"}),
        ("modbus", "coil:0x10", {"table": "coil", "address": 16}),
        ("modbus", "coil:1:uint16", None),
        ("modbus", "x:1", None),
        ("modbus", "-1", None),
        ("modbus", "4:int16:0.1:0.2", None),
        ("modbus", "4:int16:", None),
        ("bytes", "2:uint16:little:mm", {"at": 2, "type": "uint16", "endian": "little", "unit": "mm"}),
        ("bytes", "a", None),
        ("records", "0367:int16:-1e-1:big", {"key": "0367", "type": "int16", "scale": -0.1, "endian": "big", "length": 2}),
        ("records", "036", None),
        ("text", "2", {"field": 2}),
        ("text", "Ta", {"field": "Ta"}),
        ("senml", "3303/0/5700", {"name": "3303/0/5700"}),
        ("json", "", None),
    ],
)  # fmt: skip
def test_where_a_value_stands_is_typed_in_one_word(way: str, typed: str, keys: dict[str, Any] | None) -> None:
    assert where_of(way, typed) == keys


@pytest.mark.parametrize(
    ("sample", "named", "expected"),
    [
        ("21.5;80;1013", False, (";", "")),
        ("2026-01-15 08:30:00,21.5,80", False, (",", "")),
        ("21.5", False, ("", "")),
        ("21.5\t80\r\n22\t81", False, ("\t", "")),
        ("0R2,Ta=16.1C,Ua=79.3P", True, (",", "=")),
        ("T:21.5 H:80", True, (" ", ":")),
        ("a=1&b=2", True, ("&", "=")),
        ("T=21.5", True, (",", "=")),
        ("", True, (",", "=")),
    ],
)
def test_a_text_tells_what_divides_it(sample: str, expected: tuple[str, str], *, named: bool) -> None:
    assert splitting(sample, named=named) == expected


def test_a_message_tells_its_time_only_where_it_can_be_placed() -> None:
    assert moment_of({"v": 1, "ts": 1700000000}) == "ts"
    assert moment_of({"data": {"time": "2026-01-15T08:30:00+07:00"}}) == "data.time"
    assert moment_of({"time": "2026-01-15T08:30:00", "ts": 12.5, "date": "today", "timestamp": None}) == ""


def test_values_are_known_by_the_name_around_them_too(profiles: Profiles) -> None:
    said = {
        "temperature": {"value": 21.5, "unit": "C"},
        "wind": {"speed": 3, "dir": 90},
        "list": [{"humidity": 50}],
        "x": {"y": 1},
    }
    found = {path: metric for path, _, metric in guessed(said, profiles.classes["weather"]) if metric}
    assert found == {
        "temperature.value": "temperature",
        "wind.speed": "wind_speed",
        "wind.dir": "wind_direction",
        "list[0].humidity": "humidity",
    }
