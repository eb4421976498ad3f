"""Times as a person in the field reads and types them: local zone with its offset, ages, `2h`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from iot_core.messages import text
from iot_core.settings import Settings, environment

__all__ = ["Day", "Length", "Until", "When", "age", "local", "midnight", "span", "zone_name"]

_AGO = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_STEPS = (("days", 86400, 2 * 86400), ("hours", 3600, 2 * 3600), ("minutes", 60, 120), ("seconds", 1, 0))


@cache
def zone() -> tzinfo | None:
    """Name the zone that times are shown in: IOT_TIMEZONE, else the platform's default; None: this machine's."""
    try:
        return ZoneInfo(environment("IOT_TIMEZONE") or Settings().timezone)
    except (ZoneInfoNotFoundError, ValueError):
        return None


def zone_name() -> str:
    """Name the zone that times are shown in."""
    return str(zone() or datetime.now().astimezone().tzinfo)


def local(time: datetime | None, *, millis: bool = False) -> str:
    """Write a time with its offset; `-` when there is none."""
    if time is None:
        return "-"
    there = time.astimezone(zone())
    offset = there.strftime("%z")
    clock = there.isoformat(" ", "milliseconds" if millis else "seconds").removesuffix(offset[:3] + ":" + offset[3:])
    return f"{clock} {offset[:3]}{'' if offset.endswith('00') else ':' + offset[3:]}"


def age(time: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago a time was, in the largest unit of which there are at least two."""
    if time is None:
        return "-"
    return text("cli.ago", span=span((now or datetime.now(UTC)) - time))


def span(length: timedelta) -> str:
    """Write a length of time in one unit."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size, least in _STEPS:
        if seconds >= least:
            return text(f"cli.span_{unit}", n=seconds // size)
    return text("cli.span_seconds", n=seconds)


class When(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A moment: `2h` (ago), `2025-06-01`, `2025-06-01T14:00`, with a zone or in the zone that times are shown in."""

    name = "time"
    _sign = -1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read a moment."""
        if isinstance(value, datetime):
            return value
        ago = _AGO.fullmatch(value.strip())
        try:
            if ago:
                return datetime.now(UTC) + self._sign * timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
            moment = datetime.fromisoformat(value.strip())
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone()).astimezone(UTC)
        except (ValueError, OverflowError):  # no moment, or none of this calendar
            self.fail(text("cli.expect_when"), param, ctx)


class Until(When):
    """A moment to come: like `When`, but `2h` is from now on."""

    _sign = 1


class Day(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A day: `2031-06-30`."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read a day."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value.strip())
        except ValueError:
            self.fail(text("cli.expect_day"), param, ctx)


class Length(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A length of time: `30m`, `2h`, `1d`."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read a length; none is refused, because what begins is to last."""
        if isinstance(value, timedelta):
            return value
        said = _AGO.fullmatch(value.strip())
        length = timedelta(seconds=int(said[1]) * _SECONDS[said[2]]) if said and len(said[1]) < 9 else timedelta(0)
        if not length:
            self.fail(text("cli.expect_length"), param, ctx)
        return length


def midnight(time: datetime) -> datetime:
    """Give the start of the civil day that a time falls in, in the zone that times are shown in."""
    there = time.astimezone(zone())
    return there.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
