"""When a message says that it was measured: a place in JSON or text, and how it is written there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from iot_core.profiles.times import parse_time

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place

__all__ = ["Moment", "MomentSpec", "compile_moment", "is_wall_clock"]


class MomentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `time` in JSON or text; a path alone may be written short."""

    path: str | int
    """Where it stands; in text the number or name of the field."""
    form: str = ""
    """`seconds` or `milliseconds` since 1970, or a pattern such as `%d/%m/%Y %H:%M:%S`; one without a date, `%H:%M:%S`,
    is the newest such moment before the arrival. `dsmr`: `231128120000W`, S in summer time and W in winter time.
    Without it RFC 3339 or a number, from 100,000,000,000 on milliseconds."""
    zone: str = ""
    """What a clock without a zone shows: `+07:00` or `Asia/Ho_Chi_Minh`. Without it such a time counts as not said."""
    ago: bool = False
    """Seconds before the arrival, not a time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A place, and how the time there is written."""

    place: Any
    form: str = ""
    zone: tzinfo | None = None
    ago: bool = False
    dated: bool = True
    """Whether `form` names a day; one of hours alone is the newest such moment before the arrival."""

    def read(self, stamp: object, arrival: datetime) -> datetime | None:
        """Read a time, aware UTC; None when it is none, or when nobody can say of which zone."""
        number = _number(stamp)
        try:
            if self.ago or self.form in {"seconds", "milliseconds"}:
                return None if number is None else self._counted(number, arrival)
            if self.form:
                return self._formed(str(stamp)[:_LONGEST].strip(), arrival)
            time = parse_time(stamp if number is None else number)
            if time is None and self.zone is not None and isinstance(stamp, str):
                return self._placed(datetime.fromisoformat(stamp))
        except (ValueError, OverflowError, OSError):
            return None
        return time

    def _formed(self, stamp: str, arrival: datetime) -> datetime | None:
        if self.form == "dsmr":
            return self._lettered(stamp.rstrip(")"))
        time = datetime.strptime(stamp, self.form)  # noqa: DTZ007 - placed next
        return self._placed(time) if self.dated else self._newest(time, arrival)

    def _counted(self, number: float, arrival: datetime) -> datetime:
        seconds = number / 1000 if self.form == "milliseconds" else number
        return arrival - timedelta(seconds=seconds) if self.ago else datetime.fromtimestamp(seconds, UTC)

    def write(self, time: datetime, arrival: datetime) -> object:
        """Write a time as `read` reads it."""
        if self.ago:
            return (arrival - time).total_seconds()
        if self.form == "dsmr":
            local = (time + timedelta(seconds=0.5)).astimezone(self.zone or UTC)
            return f"{local:{_DSMR}}{'S' if local.dst() else 'W'}"
        if self.form in {"seconds", "milliseconds"}:
            return time.timestamp() * (1000 if self.form == "milliseconds" else 1)
        if self.form:  # without fractions it tells the nearest second
            nearest = time if "%f" in self.form else time + timedelta(seconds=0.5)
            return nearest.astimezone(self.zone or UTC).strftime(self.form)
        return time.astimezone(UTC).isoformat()

    def _newest(self, clock: datetime, arrival: datetime) -> datetime | None:
        """Give hours the day on which they last were; a clock may be as far ahead as any (DESIGN.md section 7)."""
        if self.zone is None:
            return None
        today = arrival.astimezone(self.zone)
        time = clock.replace(year=today.year, month=today.month, day=today.day, tzinfo=self.zone)
        ahead = time.astimezone(UTC) - arrival
        if ahead > _AHEAD:
            time -= timedelta(days=1)
        elif ahead < _AHEAD - timedelta(days=1):  # a clock that runs ahead of us across midnight
            time += timedelta(days=1)
        return time.astimezone(UTC)

    def _lettered(self, stamp: str) -> datetime | None:
        """Read DSMR's stamp: the letter tells the two like hours of autumn apart (DSMR 5.0.2 P1, section 6.4, TST)."""
        time = datetime.strptime(stamp[:-1], _DSMR)  # noqa: DTZ007 - placed next
        letters = {"S": 0, "W": 1}
        return self._placed(time.replace(fold=letters[stamp[-1]])) if stamp[-1:] in letters else None

    def _placed(self, time: datetime) -> datetime | None:
        if time.tzinfo is None:
            if self.zone is None:
                return None
            time = time.replace(tzinfo=self.zone)
        return time.astimezone(UTC)


_LONGEST = 64
_DSMR = "%y%m%d%H%M%S"
_AHEAD = timedelta(minutes=10)
_DAYS = ("%d", "%j", "%x", "%c", "%D", "%F", "%u", "%U")


def compile_moment(
    document: Document, place: Place, given: Any, where: Callable[[Place, str | int], Any]
) -> Moment | None:
    """Compile a time that is written short (its place) or as a table. Raises ConfigError."""
    if given is None:
        return None
    spec = MomentSpec(path=given) if isinstance(given, (str, int)) else document.read(place, MomentSpec)
    found = where(place, spec.path)
    if spec.form and spec.form not in {"seconds", "milliseconds", "dsmr"} and "%" not in spec.form:
        raise document.error((*place, "form"), "seconds, milliseconds, dsmr or a pattern such as %d/%m/%Y %H:%M:%S")
    dated = "%" not in spec.form or any(each in spec.form for each in _DAYS)
    if (spec.form == "dsmr" or not dated) and not spec.zone:
        raise document.error((*place, "zone"), "a zone such as +07:00 or Asia/Ho_Chi_Minh")
    return Moment(found, spec.form, _zone(document, (*place, "zone"), spec.zone), spec.ago, dated)


def is_wall_clock(stamp: object) -> bool:
    """Say whether a text is a date and time that names no zone."""
    try:
        return isinstance(stamp, str) and datetime.fromisoformat(stamp).tzinfo is None
    except ValueError:
        return False


def _zone(document: Document, place: Place, name: str) -> tzinfo | None:
    if not name:
        return None
    try:
        if name[0] in "+-":
            return datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise document.error(place, "a zone such as +07:00 or Asia/Ho_Chi_Minh") from None


def _number(stamp: object) -> float | None:
    if isinstance(stamp, bool):
        return None
    if isinstance(stamp, (int, float)):
        return stamp
    if isinstance(stamp, str) and len(stamp) <= 20:
        body = stamp.removeprefix("-")
        # Eight digits or fourteen are a date: 20260115, 20260115083000.
        if body.replace(".", "", 1).isdecimal() and len(body.partition(".")[0]) not in {8, 14}:
            return float(stamp)
    return None
