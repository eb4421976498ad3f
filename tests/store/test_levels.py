"""Which level answers, where the gaps are, and which points a chart keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from iot_core.store.downsample import lttb
from iot_core.store.levels import RAW_ROWS, Level, choose, gaps, whole_buckets

T0 = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ZONE = "Asia/Ho_Chi_Minh"


def test_the_level_follows_from_what_is_stored_not_from_the_span_alone() -> None:
    assert choose(timedelta(days=3650), RAW_ROWS) is Level.RAW
    assert choose(timedelta(days=30), RAW_ROWS + 1) is Level.HOUR
    assert choose(timedelta(days=365), RAW_ROWS + 1) is Level.DAY


def test_one_or_two_late_readings_are_no_gap() -> None:
    times = [T0 + MINUTE * n for n in (0, 1, 4, 5, 9)]
    found = gaps(times, T0, T0 + MINUTE * 10, level=Level.RAW, interval=MINUTE)
    assert found == [(T0 + MINUTE * 5, T0 + MINUTE * 9)]


def test_the_ends_of_a_span_can_be_gaps_too() -> None:
    found = gaps([T0 + MINUTE * 10], T0, T0 + MINUTE * 30, level=Level.RAW, interval=MINUTE)
    assert found == [(T0, T0 + MINUTE * 10), (T0 + MINUTE * 10, T0 + MINUTE * 30)]


def test_an_hour_without_a_bucket_is_a_gap_of_that_hour() -> None:
    hour = timedelta(hours=1)
    found = gaps([T0, T0 + hour, T0 + hour * 3], T0, T0 + hour * 4, level=Level.HOUR, interval=MINUTE)
    assert found == [(T0 + hour * 2, T0 + hour * 3)] or found == []
    found = gaps([T0, T0 + hour * 4], T0, T0 + hour * 5, level=Level.HOUR, interval=MINUTE)
    assert found == [(T0 + hour, T0 + hour * 4)]


def test_nobody_knows_gaps_of_a_device_without_interval() -> None:
    assert gaps([T0], T0, T0 + timedelta(days=9), level=Level.RAW, interval=None) == []


def test_a_day_is_a_civil_day_of_the_zone() -> None:
    late = datetime(2026, 11, 20, 16, 59, tzinfo=UTC)  # 23:59 there
    start, end = whole_buckets(late, late + MINUTE * 2, Level.DAY, ZONE)
    assert start == datetime(2026, 11, 19, 17, 0, tzinfo=UTC)
    assert end == datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
    assert whole_buckets(start, end, Level.DAY, ZONE) == (start, end)


@given(
    ys=st.lists(st.floats(-1e6, 1e6), max_size=300),
    most=st.integers(3, 60),
)
def test_a_chart_keeps_real_points_in_order_with_both_ends(ys: list[float], most: int) -> None:
    points = [(float(x), y) for x, y in enumerate(ys)]
    kept = lttb(points, most)
    assert len(kept) == min(len(points), most)
    assert kept == sorted(set(kept))
    assert not points or (kept[0], kept[-1]) == (0, len(points) - 1)


def test_a_chart_keeps_a_single_spike() -> None:
    points = [(float(x), 1.0) for x in range(10_000)]
    points[4321] = (4321.0, 99.0)
    assert 4321 in lttb(points, 100)
