"""Continuous flow, bursts and night flow: the worked examples of the module, and their edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.derived.water import burst_flow, continuous_flow, night_flow_ratio

if TYPE_CHECKING:
    from iot_core.derived.water import Hours

USUAL: list[Hours] = [[11.0, 10.0, 12.0]] * 5


def test_four_litres_an_hour_that_never_stop_are_a_continuous_flow() -> None:
    assert continuous_flow([0.004] * 24, [0.4] * 24) == pytest.approx(0.004)


def test_one_hour_of_standstill_ends_it() -> None:
    assert continuous_flow([*[0.004] * 23, 0.0], [0.4] * 24) == 0


def test_less_than_three_quarters_of_a_day_are_no_day() -> None:
    assert continuous_flow([*[0.004] * 17, *[None] * 7], [0.4] * 24) is None
    assert continuous_flow([*[0.004] * 18, *[None] * 6], [0.4] * 24) is not None


def test_main_of_a_district_is_not_judged_as_a_house() -> None:
    assert continuous_flow([12.0] * 24, [60.0] * 24) is None
    assert burst_flow([12.0, 12.0], [60.0, 60.0]) is None
    assert burst_flow([], []) is None


def test_burst_is_a_flow_that_two_hours_never_fell_below() -> None:
    assert burst_flow([1.6, 1.4, 0.0], [1.9, 1.8, 0.3]) == pytest.approx(1.4)
    assert burst_flow([5.6, 5.4, *[0.0] * 22], [5.9, 5.8, *[0.3] * 22]) == pytest.approx(5.4), "more than a house draws"
    assert burst_flow([1.6, 0.0, 0.0], [1.9, 1.8, 0.3]) == 0
    assert burst_flow([1.6, None, 0.0], [1.9, None, 0.3]) is None


def test_block_of_flats_or_a_school_has_no_burst_where_a_house_would() -> None:
    assert burst_flow([1.6, 1.4, *[0.2] * 22], [1.9, 1.8, *[2.3] * 22]) is None, "it never stands still"
    assert burst_flow([1.6, 1.4, *[0.0] * 22], [1.9, 1.8, *[4.5] * 22]) is None, "it draws more in most hours"
    assert continuous_flow([0.2] * 24, [4.5] * 24) is None


def test_standstill_ends_a_burst_that_lasted_longer_than_a_day() -> None:
    assert burst_flow([5.6] * 24, [5.9] * 24) is None
    assert burst_flow([0.0, 0.0, *[5.6] * 22], [0.0, 0.0, *[5.9] * 22]) == 0
    assert continuous_flow([0.0, *[5.6] * 23], [0.0, *[5.9] * 23]) == 0


def test_night_is_compared_with_the_median_of_those_before() -> None:
    assert night_flow_ratio([[13.0, 12.0, 14.0], *USUAL]) == pytest.approx(1.2)
    assert night_flow_ratio([[None] * 3, *USUAL]) is None


def test_night_that_lacks_an_hour_says_nothing_though_one_before_may() -> None:
    assert night_flow_ratio([[13.0, None, 14.0], *USUAL]) is None
    assert night_flow_ratio([[13.0, 12.0, 14.0], *USUAL[1:], [None, 10.0, 12.0]]) == pytest.approx(1.2)


def test_four_nights_are_no_usual_and_a_house_has_none() -> None:
    assert night_flow_ratio([[13.0, 12.0, 14.0], *USUAL[:4]]) is None
    assert night_flow_ratio([[0.4, 0.0, 0.2], *[[0.0] * 3] * 9]) is None


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(0, 500)), min_size=3, max_size=3), max_size=20))
def test_ratio_of_any_nights_is_a_number_from_nought_on_or_unknown(nights: list[Hours]) -> None:
    ratio = night_flow_ratio(nights)
    assert ratio is None or ratio >= 0
