"""Times as people read and type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import pytest

from iot_core.cli.preview import difference
from iot_core.cli.times import Until, When, age, local, span, zone
from iot_core.cli.words import ending

if TYPE_CHECKING:
    from tests.cli.conftest import Iot

NOON = datetime(2026, 6, 1, 5, 0, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh_zone() -> None:
    zone.cache_clear()


def test_a_change_of_a_list_is_written_as_people_write_lists() -> None:
    assert difference({"labels": ["a"], "notes": ""}, {"labels": ["a", "b"], "notes": "x"}) == (
        "labels: a → a, b, notes: - → x"
    )
    assert difference({"labels": ["a"]}, {"labels": []}) == "labels: a → -"


def test_what_is_no_more_is_named_and_a_deed_that_changed_nothing_takes_nothing_away() -> None:
    assert difference({"until": "22:00", "reason": "a new driver", "area": None}, None) == (
        "no more: until: 22:00, reason: a new driver"
    )
    assert difference(None, None) == "-"


def test_times_are_shown_in_the_platforms_zone_with_its_offset() -> None:
    assert local(NOON) == "2026-06-01 12:00:07 +07"
    assert local(NOON, millis=True) == "2026-06-01 12:00:07.000 +07"
    assert local(None) == "-"


@pytest.mark.parametrize(("name", "said"), [("Asia/Kolkata", "10:30:07 +05:30"), ("UTC", "05:00:07 +00")])
def test_the_zone_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv("IOT_TIMEZONE", name)
    zone.cache_clear()
    assert local(NOON).endswith(said)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(seconds=120), "2 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_an_age_is_said_in_the_largest_unit_of_which_there_are_two(length: timedelta, said: str) -> None:
    assert span(length) == said
    assert age(NOON - length, NOON) == f"{said} ago"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-06-01", datetime(2026, 5, 31, 17, tzinfo=UTC)),
        ("2026-06-01T12:00:07", NOON),
        ("2026-06-01 12:00:07", NOON),
        ("2026-06-01T05:00:07Z", NOON),
        ("2026-06-01T05:00:07+00:00", NOON),
    ],
)
def test_a_moment_without_a_zone_is_in_the_zone_that_times_are_shown_in(typed: str, meant: datetime) -> None:
    assert When().convert(typed, None, None) == meant


@pytest.mark.parametrize(("typed", "ago"), [("30s", 30), ("5m", 300), ("5 min", 300), ("2h", 7200), ("7d", 604800)])
def test_a_moment_can_be_an_age(typed: str, ago: int) -> None:
    before = datetime.now(UTC)
    said = When().convert(typed, None, None) + timedelta(seconds=ago)
    assert before <= said <= datetime.now(UTC)


@pytest.mark.parametrize(
    "typed",
    ["", "yesterday", "2h ago", "25:00", "-2h", "2026-13-01", "99999999d", "9" * 5000 + "d", "0001-01-01"],
)
def test_what_is_no_moment_is_refused(typed: str) -> None:
    with pytest.raises(click.BadParameter, match="2h"):
        When().convert(typed, None, None)


def test_a_span_as_an_end_is_from_now_on() -> None:
    assert timedelta(minutes=59) < Until().convert("1h", None, None) - datetime.now(UTC) <= timedelta(hours=1)
    assert timedelta(weeks=1) < Until().convert("8d", None, None) - datetime.now(UTC) < timedelta(weeks=2)
    assert Until().convert("2031-06-30T14:00+07:00", None, None) == datetime(2031, 6, 30, 7, tzinfo=UTC)


def test_a_time_in_a_change_is_shown_as_all_times_are() -> None:
    said = difference({"until": None}, {"until": "2026-09-01T03:05:00.123456+00:00"})
    assert said == "until: - → 2026-09-01 10:05:00 +07"
    assert difference(None, {"passed": False, "id": 2, "note": None}) == "+ passed: no, id: 2"
    assert difference({"name": "2026-09-01"}, {"name": "a"}) == "name: 2026-09-01 → a"


def test_what_ends_later_says_how_long_that_is_yet_and_what_is_over_says_nothing() -> None:
    assert ending(NOON + timedelta(hours=24), NOON) == "2026-06-02 12:00:07 +07 (in 24 h)"
    assert ending(NOON, NOON) == "-"


@pytest.mark.parametrize("typed", ["0s", "0.5s", "31d", "soon"])
def test_a_length_of_time_outside_its_bounds_is_refused_by_the_name_of_its_option(iot: Iot, typed: str) -> None:
    ended = iot("command", "send", "lamp-1", "switch", "on=true", "--ttl", typed)
    assert ended.code == 2
    assert "--ttl" in ended.err
    assert "from 1s to 30d" in ended.err
