"""When a schedule's points come: by the clock of the platform's zone, or by the sun at a place. Pure.

    "mon-fri dusk-15m dim level=60"  ->  Point  --moments(day)-->  2026-11-20 17:22:10 +07  dim {level: 60}

Sun times are astral's (docs/decisions/025): sunrise and sunset at the horizon with refraction; dawn and dusk civil, the
sun 6 degrees below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, Final

from astral import Observer, sun

from iot_core.errors import RequestError

__all__ = ["Place", "Point", "coming", "last", "moments", "parse"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SUN: Final[Mapping[str, Callable[..., datetime]]] = {
    "sunrise": sun.sunrise,
    "sunset": sun.sunset,
    "dawn": sun.dawn,
    "dusk": sun.dusk,
}
_AT: Final = re.compile(r"(?:(\d{1,2}):(\d{2})|(sunrise|sunset|dawn|dusk)(?:([+-])(\d{1,4})(m|h))?)")
_PARAM: Final = re.compile(r"([a-z][a-z0-9_]*)=(\S+)")
_MINUTES: Final = {"m": 1, "h": 60}
_LONGEST_OFFSET: Final = timedelta(days=1)
_NEAR: Final = 2
"""Days: what comes at a moment belongs to a civil day so near, by the longest offset."""
_LOOK_BACK: Final = 9
"""Days: a schedule of one weekday has a moment within them, offset or not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sun is looked at, in degrees, None where nobody knows; and the zone of the clock."""

    latitude: float | None
    longitude: float | None
    zone: tzinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A command at a time of day. `days` are weekdays from Monday 0; `holidays` None: these like other days."""

    days: frozenset[int]
    holidays: bool | None
    clock: time | None
    event: str
    offset: timedelta
    name: str
    params: Mapping[str, Any]

    def at(self, day: date, place: Place) -> datetime | None:
        """Say when it comes on a day; None where the sun does not do so there (beyond the polar circles)."""
        if self.clock is not None:
            return datetime.combine(day, self.clock, place.zone)
        if place.latitude is None or place.longitude is None:
            return None
        try:
            return _SUN[self.event](Observer(place.latitude, place.longitude), day, tzinfo=place.zone) + self.offset
        except ValueError:
            return None


def parse(said: str) -> Point:
    """Read `[DAYS] TIME COMMAND [PARAM=VALUE]...`; DAYS: mon-fri, sat,sun, holiday, workday. Raises RequestError."""
    words = said.split()
    days, holidays = frozenset(range(7)), None
    if words and not _AT.fullmatch(words[0]):
        days, holidays = _days(words.pop(0), said)
    found = _AT.fullmatch(words[0]) if len(words) >= 2 else None
    if found is None:
        raise RequestError("schedule.bad_point", point=said)
    hour, minute, event, sign, amount, unit = found.groups()
    if hour is not None and not (int(hour) < 24 and int(minute) < 60):
        raise RequestError("schedule.bad_point", point=said)
    minutes = int(amount) * _MINUTES[unit] if amount else 0
    if minutes > _LONGEST_OFFSET // timedelta(minutes=1):
        raise RequestError("schedule.bad_point", point=said)
    shift = timedelta(minutes=minutes)
    params = {}
    for word in words[2:]:
        given = _PARAM.fullmatch(word)
        if given is None:
            raise RequestError("schedule.bad_point", point=said)
        params[given[1]] = _value(given[2])
    return Point(
        days=days, holidays=holidays, clock=None if hour is None else time(int(hour), int(minute)),
        event=event or "", offset=-shift if sign == "-" else shift, name=words[1], params=params,
    )  # fmt: skip


def _days(word: str, said: str) -> tuple[frozenset[int], bool | None]:
    if word in {"holiday", "workday"}:
        return (frozenset(range(7)), True) if word == "holiday" else (frozenset(range(5)), False)
    days: set[int] = set()
    for part in word.split(","):
        first, _, final = part.partition("-")
        if first not in _DAYS or (final and final not in _DAYS):
            raise RequestError("schedule.bad_point", point=said)
        start, end = _DAYS.index(first), _DAYS.index(final or first)
        days.update(range(start, end + 1) if start <= end else [*range(start, 7), *range(end + 1)])
    return frozenset(days), None


def _value(said: str) -> bool | int | float | str:
    if said in {"true", "false"}:
        return said == "true"
    for number in (int, float):
        try:
            return number(said)
        except ValueError:
            continue
    return said


def moments(
    points: Sequence[Point], day: date, place: Place, holidays: AbstractSet[date] = frozenset()
) -> list[tuple[datetime, Point]]:
    """List what comes on one civil day, in order."""
    found = [
        (at, point)
        for point in points
        if day.weekday() in point.days and point.holidays in {None, day in holidays}
        if (at := point.at(day, place)) is not None
    ]
    return sorted(found, key=lambda each: each[0])


def coming(
    points: Sequence[Point], now: datetime, place: Place, holidays: AbstractSet[date] = frozenset(), *, days: int
) -> Iterator[tuple[datetime, Point]]:
    """Give what comes after `now`, in order, for so many days."""
    today = now.astimezone(place.zone).date()
    found = (
        each
        for ahead in range(-_NEAR, days + _NEAR + 1)
        for each in moments(points, today + timedelta(days=ahead), place, holidays)
        if now < each[0] <= now + timedelta(days=days)
    )
    yield from _in_order(found)


def last(
    points: Sequence[Point], now: datetime, place: Place, holidays: AbstractSet[date] = frozenset()
) -> tuple[datetime, Point] | None:
    """Give the newest moment that is past: the state that devices should be in."""
    today = now.astimezone(place.zone).date()
    past: list[tuple[datetime, Point]] = []
    looks = 2 * _NEAR  # from the first day with one: those before it may have a later one
    for back in range(-_NEAR, _LOOK_BACK + 1):
        day = moments(points, today - timedelta(days=back), place, holidays)
        past[:0] = [each for each in day if each[0] <= now]
        looks -= bool(past)
        if not looks:
            break
    return _in_order(past)[-1] if past else None


def _in_order(found: Iterable[tuple[datetime, Point]]) -> list[tuple[datetime, Point]]:
    return sorted(found, key=lambda each: each[0])
