"""A schedule's moments come when the clock and the sun say so, in the zone of the place."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.commanding import sun
from iot_core.errors import RequestError

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
HANOI = sun.Place(21.0285, 105.8542, ZONE)
EVENING = [sun.parse(each) for each in ("sunset-15m dim level=100", "23:00 dim level=60", "sunrise dim level=0")]


@pytest.mark.parametrize(
    ("day", "rises", "sets"),
    [  # almanac of Hanoi, to the minute
        (date(2026, 6, 21), "05:16", "18:40"),
        (date(2026, 12, 21), "06:30", "17:19"),
        (date(2026, 3, 20), "06:00", "18:07"),
    ],
)
def test_the_sun_of_hanoi_rises_and_sets_as_the_almanac_says(day: date, rises: str, sets: str) -> None:
    for event, said in (("sunrise", rises), ("sunset", sets)):
        ((at, _),) = sun.moments([sun.parse(f"{event} switch on=true")], day, HANOI)
        wanted = datetime.combine(day, datetime.strptime(said, "%H:%M").time(), ZONE)  # noqa: DTZ007 - has a zone next
        assert abs(at - wanted) <= timedelta(minutes=2), (event, at)


def test_weekdays_holidays_and_what_is_neither() -> None:
    points = [
        sun.parse(each) for each in ("workday 22:00 dim level=50", "holiday 22:00 dim level=90", "sat,sun 6:30 a")
    ]
    tet = frozenset({date(2026, 2, 17)})  # a Tuesday
    said = {
        day: [(f"{at:%H:%M}", point.params) for at, point in sun.moments(points, day, HANOI, tet)]
        for day in (date(2026, 2, 16), date(2026, 2, 17), date(2026, 2, 21))
    }
    assert list(said.values()) == [[("22:00", {"level": 50})], [("22:00", {"level": 90})], [("06:30", {})]]


@pytest.mark.parametrize(
    "wrong",
    [
        "", "dusk", "25:00 dim", "dusk-5x dim", "someday 5:00 dim", "5:00 dim level", "dusk+25h dim", "dusk-1441m dim",
        "dusk+999999999999999h dim", f"dusk+{'9' * 5000}h dim",
    ],
)  # fmt: skip
def test_what_is_no_point_is_named(wrong: str) -> None:
    with pytest.raises(RequestError, match="bad_point"):
        sun.parse(wrong)


def test_beyond_the_polar_circle_a_day_without_sunset_has_no_such_moment() -> None:
    tromso = sun.Place(69.65, 18.96, ZoneInfo("Europe/Oslo"))
    assert sun.moments([sun.parse("sunset switch on=true")], date(2026, 6, 21), tromso) == []


@given(st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - zone beside it
def test_the_newest_moment_is_past_and_the_next_one_is_to_come(now: datetime) -> None:
    found = sun.last(EVENING, now, HANOI)
    assert found is not None
    following = next(sun.coming(EVENING, now, HANOI, days=2))
    assert found[0] <= now < following[0]
    between = list(sun.coming(EVENING, found[0], HANOI, days=2))
    assert between[0] == following, "nothing lies between them"


NIGHT = [sun.parse(each) for each in ("03:00 dim level=50", "dusk+11h off")]


def test_what_an_offset_brings_into_the_next_day_is_newer_than_what_that_day_had_before_it() -> None:
    off = datetime(2026, 11, 28, 4, 34, tzinfo=ZONE)  # dusk of the 27th at 17:34
    now = off + timedelta(hours=1, minutes=25)
    found = sun.last(NIGHT, now, HANOI)
    assert found is not None
    assert (found[1].name, abs(found[0] - off) < timedelta(minutes=5)) == ("off", True)
    following = [point.name for _, point in sun.coming(NIGHT, off - timedelta(hours=2), HANOI, days=2)]
    assert following == ["dim", "off", "dim", "off"], "in order across days"


def test_of_what_comes_at_one_moment_the_last_holds() -> None:
    points = [sun.parse(each) for each in ("22:00 dim level=50", "22:00 off", "21:00 on")]
    found = sun.last(points, datetime(2026, 11, 28, 22, 30, tzinfo=ZONE), HANOI)
    assert found is not None
    assert found[1].name == "off"


SHIFTED = st.builds("{} {} dim level={}".format, st.sampled_from(["mon", "sat,sun", "mon-sun"]), st.one_of(
    st.sampled_from(["00:00", "03:00", "23:59"]),
    st.builds("{}{:+d}h".format, st.sampled_from(["dawn", "sunrise", "dusk"]), st.integers(-24, 24)),
), st.integers(0, 100))  # fmt: skip


@given(
    st.lists(SHIFTED, min_size=1, max_size=4),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - zone beside it
)
def test_the_newest_moment_is_the_newest_of_all_days_around(said: list[str], now: datetime) -> None:
    points = [sun.parse(each) for each in said]
    every = [
        each
        for ahead in range(-12, 4)
        for each in sun.moments(points, now.astimezone(ZONE).date() + timedelta(days=ahead), HANOI)
    ]
    found = sun.last(points, now, HANOI)
    assert found is not None
    assert found[0] == max(at for at, _ in every if at <= now)
    following = [at for at, _ in sun.coming(points, now, HANOI, days=1)]
    assert following == sorted(at for at, _ in every if now < at <= now + timedelta(days=1))
