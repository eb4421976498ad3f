"""Fields: where each value stands in a message, read one by one so that a bad one spoils no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from iot_core.errors import DecodeError
from iot_core.model import Problem, Reason
from iot_core.profiles.units import SAME, Linear
from iot_core.profiles.values import Cases, Codec, Test, apply, listed, number_of

if TYPE_CHECKING:
    from iot_core.model import Value

__all__ = [
    "MISSING",
    "Added",
    "Field",
    "Group",
    "Trace",
    "When",
    "always",
    "bare",
    "chained",
    "collect",
    "scaled_by",
    "unit_named",
    "worded",
]

S = TypeVar("S")
_SHOWN: Final = 40
_MOST_POWER: Final = 10


class _Missing:
    """Stands for "the message does not say this"."""


MISSING: Final = _Missing()
P = TypeVar("P")
Trace = Callable[..., None]
"""Told of each step while somebody watches: step, key, before, after, and where it stands."""


@dataclass(frozen=True, slots=True)
class Field(Generic[S]):
    """One entry of `values`, `states` or `extra`.

    `place` is where its format writes it; `adjust` gives a further scale that the message itself names; `when` is what
    must hold in the message for the entry to be said at all.
    """

    codec: Codec | Cases
    locate: Callable[[S], object]
    adjust: Callable[[S], Linear | None] | None = None
    place: Any = None
    when: When[S] | None = None
    beside: tuple[tuple[Any, object], ...] = ()
    """What is written in other places so that this entry is read as it was meant: conditions, units, factors."""
    given: Linear = SAME
    """The conversion that `adjust` makes of what `beside` writes."""
    power: Any = None
    """Where the power stands that scales it, so that a writer can choose one."""
    delta: int = 0
    """1 or -1: a difference that is added to the number before it, or taken from it."""

    @property
    def wraps(self) -> float | None:
        """The value, in the metric's unit, at which a counter in this place starts from 0 again; None: nobody knows."""
        if isinstance(self.codec, Cases) or self.adjust is not None:
            return None
        raw = self.codec.wraps
        wire = getattr(self.place, "wire", None)
        if raw is None and wire is not None and self.place.plus is None and wire.kind in {"uint", "int", "bcd"}:
            raw = self.place.limits[1] + 1
        return None if raw is None else round(raw * abs(self.codec.linear.factor), 9)

    def raw(self, values: Mapping[str, Any]) -> object:
        """Give what the wire holds for these values; what is not given is unknown, None without a word for that."""
        if isinstance(self.codec, Cases):
            return self.codec.write(values)  # of a code that must say something the best that fits
        if self.codec.key not in values:
            return self.codec.nothing()
        value = values[self.codec.key]
        if self.given != SAME and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = (value - self.given.offset) / self.given.factor
        return self.codec.write(value)


def bare(text: str, before: str, after: str) -> str:
    """Cut off what stands around a value. Raises DecodeError for a text that does not begin so."""
    if before:
        if not text.startswith(before):
            raise DecodeError(Reason.BAD_FIELD, f"{text[:_SHOWN]} does not begin with {before}")
        text = text[len(before) :]
    return text.removesuffix(after) if after else text


def worded(raw: object, before: str, after: str) -> str:
    """Write a raw value as `bare` reads it."""
    text = str(raw).lower() if isinstance(raw, bool) else f"{raw:.12g}" if isinstance(raw, float) else str(raw)
    return f"{before}{text}{after}"


@dataclass(frozen=True, slots=True)
class Added(Generic[P]):
    """A second place whose number, times `scale`, is added to a first one's: an energy of two tariffs."""

    place: P
    scale: float = 1

    def to(self, raw: object, rest: object) -> object:
        """Add. MISSING where one of the two is missing, None where one is no number, which says nothing."""
        if raw is MISSING or rest is MISSING:
            return MISSING
        first, second = number_of(raw), number_of(rest)
        return None if first is None or second is None else first + second * self.scale


@dataclass(frozen=True, slots=True)
class When(Generic[S]):
    """A condition on another place of the message."""

    locate: Callable[[S], object]
    test: Test
    place: Any = None
    also: tuple[When[S], ...] = ()
    """Further conditions, which must hold as well."""

    def holds(self, source: S) -> bool:
        """Say whether it is fulfilled; a place that the message does not have fulfils only `unless`."""
        raw = self.locate(source)
        held = self.test.negated if raw is MISSING else self.test.holds(raw)
        return held and all(each.holds(source) for each in self.also)

    @property
    def wanted(self) -> tuple[tuple[Any, object], ...]:
        """What must stand in which places for it to hold, for a writer."""
        return ((self.place, self.test.example), *(wanted for each in self.also for wanted in each.wanted))


def always(_: object) -> object:
    """Locate a constant."""
    return True


def chained(first: Callable[[S], Linear | None] | None, second: Callable[[S], Linear | None] | None) -> Any:
    """Apply one conversion after another; None when there is neither. Unknown stays unknown."""
    if first is None or second is None:
        return first or second

    def both(source: S) -> Linear | None:
        one, other = first(source), second(source)
        if one is None or other is None:
            return None
        return Linear(one.factor * other.factor, one.offset * other.factor + other.offset)

    return both


def scaled_by(
    locate: Callable[[S], object], factors: Mapping[object, float], power: float | None
) -> Callable[[S], Linear | None]:
    """Make the function that finds the scale a message names: by a list, as a power, or as it stands."""

    def adjust(source: S) -> Linear | None:
        raw = locate(source)
        if raw is MISSING or raw is None:
            return None
        if factors:
            factor = listed(raw, factors)
            if not isinstance(factor, float):
                raise DecodeError(Reason.BAD_FIELD, f"scale {str(raw)[:_SHOWN]} is not known")
            return Linear(factor)
        if not isinstance(raw, (int, float)) or isinstance(raw, bool):
            raise DecodeError(Reason.BAD_FIELD, f"scale {str(raw)[:_SHOWN]} is not a number")
        if power is None:
            return Linear(raw) if raw else None
        if raw == -0x8000:  # SunSpec: not implemented
            return None
        if not -_MOST_POWER <= raw <= _MOST_POWER:
            raise DecodeError(Reason.BAD_FIELD, f"power of ten {raw}")
        return Linear(power**raw)

    return adjust


def unit_named(locate: Callable[[S], object], units: Mapping[object, Linear]) -> Callable[[S], Linear | None]:
    """Make the function that finds the conversion from the unit a message names; none named is none needed."""

    def adjust(source: S) -> Linear | None:
        unit = locate(source)
        if unit is MISSING or unit is None:
            return Linear()
        linear = listed(unit, units)
        if isinstance(linear, Linear):
            return linear
        raise DecodeError(Reason.BAD_FIELD, f"unit {str(unit)[:_SHOWN]} is not known")

    return adjust


@dataclass(frozen=True, slots=True)
class Group(Generic[S]):
    """The fields of one channel; the channel without a name is the unit itself."""

    channel: str
    fields: tuple[Field[S], ...]
    extra: tuple[Field[S], ...] = field(default=())

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for each in self.fields for key in each.codec.keys))


def collect(
    fields: tuple[Field[S], ...], source: S, problems: list[Problem], trace: Trace | None = None
) -> dict[str, Any]:
    """Read fields out of a message; what is not said or unknown is absent, what is wrong becomes a Problem."""
    values: dict[str, Any] = {}
    for each in fields:
        raw: object = MISSING
        try:
            if each.when is not None and not each.when.holds(source):
                continue
            raw = each.locate(source)
            if raw is MISSING or raw is None:
                continue
            found = _read(each, raw, source)
        except DecodeError as exc:
            part = None if raw is MISSING else {each.codec.key: raw}
            problems.append(Problem(exc.reason, exc.detail or each.codec.key, part))
            continue
        if trace is not None:
            trace("value", each.codec.key, raw, dict(found) or None, getattr(each.place, "text", ""))
        for key, value in found.items():
            if values.setdefault(key, value) is not value and values[key] != value:
                problems.append(Problem(Reason.BAD_FIELD, f"{key}: the message says it twice, differently"))
    return values


def _read(each: Field[S], raw: object, source: S) -> Mapping[str, Value]:
    if isinstance(each.codec, Cases):
        return each.codec.read(raw)
    value: Any = each.codec.read(raw)
    if value is not None and each.adjust is not None:
        linear = each.adjust(source)
        value = apply(linear, value) if linear is not None and not isinstance(value, (bool, str)) else None
    return {} if value is None else {each.codec.key: value}
