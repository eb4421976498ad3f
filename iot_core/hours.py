"""Hours of the week in words: `mon-fri 07:00-17:00, sat 08:00-12:00, holiday 00:00-24:00`. Pure.

On a holiday only what names `holiday` or `daily` counts. A span may run over midnight (`daily 22:00-06:00`); it belongs
to the day on which it begins. The empty text is always.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from iot_core.errors import RequestError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOLIDAY = "holiday"
_SPAN = re.compile(r"(?P<days>[a-z]{3,7}(?:-[a-z]{3})?) +(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")
_MIDNIGHT = 24 * 60


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of a day, on some days; past 24:00 (1,440) it is the next morning."""

    days: frozenset[str]
    start: int
    end: int


@lru_cache(maxsize=1_000)
def parse(words: str) -> tuple[Span, ...]:
    """Read hours. Raises RequestError `push.bad_hours`."""
    return tuple(_span(part.strip(), words) for part in words.split(",")) if words.strip() else ()


def within(words: str, at: datetime, zone: str, holidays: AbstractSet[date] = frozenset()) -> bool:
    """Say whether a moment lies in these hours, as the clocks of `zone` show it."""
    spans = parse(words)
    if not spans:
        return True
    local = at.astimezone(ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    today, yesterday = local.date(), local.date() - timedelta(days=1)
    return any(
        (_on(span, today, holidays) and span.start <= minute < span.end)
        or (_on(span, yesterday, holidays) and minute < span.end - _MIDNIGHT)
        for span in spans
    )


def _on(span: Span, day: date, holidays: AbstractSet[date]) -> bool:
    return (_HOLIDAY if day in holidays else _DAYS[day.weekday()]) in span.days


def _span(part: str, words: str) -> Span:
    found = _SPAN.fullmatch(part)
    days = _days(found["days"]) if found else None
    if found is None or days is None:
        raise RequestError("push.bad_hours", hours=words)
    start, end = _minute(found["from"]), _minute(found["to"])
    if start is None or end is None or start in (end, _MIDNIGHT):
        raise RequestError("push.bad_hours", hours=words)
    return Span(days, start, end if end > start else end + _MIDNIGHT)


def _days(word: str) -> frozenset[str] | None:
    if word == "daily":
        return frozenset((*_DAYS, _HOLIDAY))
    if word == _HOLIDAY:
        return frozenset((_HOLIDAY,))
    first, _, last = word.partition("-")
    if first not in _DAYS or (last and last not in _DAYS):
        return None
    start, end = _DAYS.index(first), _DAYS.index(last or first)
    return frozenset(_DAYS[number % 7] for number in range(start, end + 1 + (7 if end < start else 0)))


def _minute(clock: str) -> int | None:
    hour, minute = int(clock[:2]), int(clock[3:])
    total = hour * 60 + minute
    return total if minute < 60 and total <= _MIDNIGHT else None
