"""Positions: exchanged, inside, outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.errors import IotError
from iot_core.registry.device_import import Areas
from iot_core.registry.positions import inside, swapped

RING = [[107.0, 20.9], [107.1, 20.9], [107.1, 21.0], [107.0, 21.0], [107.0, 20.9]]
HOLE = [[107.04, 20.94], [107.06, 20.94], [107.06, 20.96], [107.04, 20.96], [107.04, 20.94]]
WARD = {"type": "Polygon", "coordinates": [RING]}
WITH_HOLE = {"type": "Polygon", "coordinates": [RING, HOLE]}
TWO = {"type": "MultiPolygon", "coordinates": [[RING], [[[x + 1, y] for x, y in RING]]]}


@pytest.mark.parametrize(
    ("geometry", "latitude", "longitude", "within"),
    [
        (WARD, 20.95, 107.05, True),
        (WARD, 20.85, 107.05, False),
        (WARD, 107.05, 20.95, False),
        (WITH_HOLE, 20.95, 107.05, False),
        (WITH_HOLE, 20.91, 107.05, True),
        (TWO, 20.95, 108.05, True),
        (TWO, 20.95, 107.5, False),
        ({"type": "Point", "coordinates": [0, 0]}, 20.95, 107.05, True),
    ],
)
def test_a_point_is_inside_or_not(geometry: dict[str, object], latitude: float, longitude: float, within: bool) -> None:
    assert inside(geometry, latitude, longitude) is within


@given(st.floats(20.9001, 20.9999), st.floats(107.0001, 107.0999))
def test_every_point_of_a_rectangle_is_inside_whichever_way_its_ring_runs(latitude: float, longitude: float) -> None:
    assert inside(WARD, latitude, longitude)
    assert inside({"type": "Polygon", "coordinates": [RING[::-1]]}, latitude, longitude)


def test_vietnam_the_wrong_way_round_is_noticed() -> None:
    assert swapped(107.05, 20.95)
    assert not swapped(20.95, 107.05)
    assert not swapped(107.05, 200.0)


def test_a_code_that_lost_its_zeros_is_found_unless_it_could_be_two() -> None:
    rows = [
        {"key": key, "code": key, "name": name}
        for key, name in (("04", "Tỉnh Cao Bằng"), ("00004", "Phường Ba Đình"), ("00025", "Phường Giảng Võ"))
    ]
    areas = Areas(rows)
    assert [areas.find(said) for said in ("25", "00025", "00004", "04", "phuong ba dinh")] == [
        "00025", "00025", "00004", "04", "00004",
    ]  # fmt: skip
    with pytest.raises(IotError) as caught:
        areas.find("4")
    assert (caught.value.code, caught.value.facts["keys"]) == ("registry.area_ambiguous", "00004, 04")
