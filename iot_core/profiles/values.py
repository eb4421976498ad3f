"""From what the wire holds to a metric's value and back: sentinels, maps, scale, offset, units, named cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Metric, MetricType, Reason
from iot_core.profiles.near import like
from iot_core.profiles.units import SAME, Linear, conversion, convertible

if TYPE_CHECKING:
    from iot_core.model import Value
    from iot_core.profiles.document import Document, Place

__all__ = [
    "Cases",
    "Codec",
    "Scalar",
    "Test",
    "ValueSpec",
    "apply",
    "compile_cases",
    "compile_codec",
    "compile_test",
    "listed",
    "scale_of",
]

_LONGEST_NUMBER: Final = 40
_LONGEST_TEXT: Final = 200
_CLOSE: Final = 1e-9
_STARTS: Final = (0.0, 1.0, 100.0, 10_000.0)
_MOST_TURNS: Final = 60


Scalar = str | int | float | bool
Say = Scalar | None


class ValueSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that every format's value has. Each format adds where the value stands."""

    scale: float | int | str = 1
    """value = raw x scale + offset. A fraction may be written as text: `100/254`."""
    offset: float | int = 0
    unit: str = ""
    """The unit on the wire (UCUM, `[degF]`, `Pa`, `W.h`, `[ppm]`); converted to the metric's."""
    unknown: list[float | int | str] = msgspec.field(default_factory=list)
    """Raw values, and ranges such as `65520..65535`, that mean "not available"."""
    map: dict[Any, Say] = msgspec.field(default_factory=dict)
    """Raw value -> value; null is unknown. A raw value that is not listed is held, unless there is `otherwise`."""
    otherwise: Say | msgspec.UnsetType = msgspec.UNSET
    """What `map` says of every raw value that it does not list; null is unknown."""
    equals: Scalar | list[Scalar] | None = None
    """For a truth value: the raw value is this, or one of these."""
    between: tuple[float | int, float | int] | None = None
    """For a truth value: the raw value lies within `[low, high]`."""
    curve: list[tuple[float | int, float | int]] = msgspec.field(default_factory=list)
    """`[[raw, value], ...]`: straight lines between these points, level beyond both ends (a battery's voltage -> %)."""
    polynomial: list[float | int] = msgspec.field(default_factory=list)
    """`[c0, c1, c2, ...]`: value = c0 + c1 x + c2 x^2 ..., where x = raw x scale + offset (a soil probe's curve)."""
    value: Scalar | None = None
    """A constant: what it means that this message, block or record came at all. It needs no place."""
    wraps: float | int | None = None
    """Of a counter that starts again below its type's limit: the raw value at which it is 0 again."""
    cases: dict[str | int, dict[str, Any]] | None = None
    """Of an entry of `states`: raw value or range `1..32767` -> what it says of several metrics."""


@dataclass(frozen=True, slots=True)
class Test:
    """A condition on a raw value; without any word of its own: it is neither zero, nor false, nor empty."""

    values: tuple[object, ...] = ()
    between: tuple[float, float] | None = None
    negated: bool = False

    def holds(self, raw: object) -> bool:
        """Say whether a raw value fulfils it."""
        if self.values:
            return _is_one_of(raw, self.values) is not self.negated
        if self.between is not None:
            number = int(raw) if isinstance(raw, bool) else number_of(raw)
            return (number is not None and self.between[0] <= number <= self.between[1]) is not self.negated
        return bool(raw) is not self.negated

    @property
    def example(self) -> object:
        """A raw value that fulfils it."""
        wanted = self.values[0] if self.values else self.between[0] if self.between is not None else 1
        return _other_than(wanted) if self.negated else wanted


@dataclass(frozen=True, slots=True)
class Codec:
    """One metric's way between wire and value. `type` is None for what goes to `extra` as it is."""

    key: str
    type: MetricType | None
    linear: Linear = SAME
    unknown: tuple[object, ...] = ()
    map: Mapping[object, object] = field(default_factory=dict)
    otherwise: object = msgspec.UNSET
    test: Test | None = None
    curve: tuple[tuple[float, float], ...] = ()
    polynomial: tuple[float, ...] = ()
    """Of what `linear` gives: the lowest power first."""
    constant: object = None
    wraps: float | None = None
    members: Mapping[str, int] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, raw: object) -> object:  # noqa: PLR0911 - one way for each key of the language
        """Give the value; None when it is unknown. Raises DecodeError when it cannot be one."""
        if self.constant is not None:
            return self.constant
        if raw is None or (self.unknown and _is_unknown(raw, self.unknown)) or _is_nan(raw):
            return None
        if self.map:
            return self._mapped(raw)
        if self.test is not None:
            return self.test.holds(_number(raw, self.key) if self.test.between is not None else raw)
        if self.type is MetricType.BOOL:
            return _truth(raw, self.key)
        if self.curve:
            return self._whole(_along(self.curve, _number(raw, self.key)))
        if self.type in {MetricType.FLOAT, MetricType.INT}:
            number = _number(raw, self.key)
            return None if _is_nan(number) else self._whole(self._reckoned(number))
        if self.type is MetricType.ENUM and (not isinstance(raw, str) or raw not in self.members):
            raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: {str(raw)[:40]} is none of {', '.join(self.members)}")
        return self._beside(raw) if self.type is None else raw

    def write(self, value: object) -> object:
        """Give what the wire holds for a value."""
        if self.map:
            return next((raw for raw, mapped in self.map.items() if _same(mapped, value)), self._unmapped(value))
        if self.test is not None:
            opposite = replace(self.test, negated=not self.test.negated)
            return self.test.example if value else opposite.example
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.type is not MetricType.BOOL:
            if self.curve:
                return _back(self.curve, value)
            if self.polynomial:
                value = _root(self.polynomial, value)
            return (value - self.linear.offset) / self.linear.factor if self.linear != SAME else value
        return value

    def nothing(self) -> object:
        """Give what the wire holds for unknown, None when it has no word for that."""
        if self.unknown:
            first = self.unknown[0]
            return first[0] if isinstance(first, tuple) else first
        return next((raw for raw, mapped in self.map.items() if mapped is None), None)

    @property
    def step(self) -> float:
        """How far two neighbouring wire values of a whole-number type lie apart."""
        if self.curve:
            return max(abs((b[1] - a[1]) / (b[0] - a[0])) for a, b in pairwise(self.curve))
        return abs(self.linear.factor)

    def _unmapped(self, value: object) -> object:
        """Find a raw value that `map` does not list, for what stands under `otherwise`."""
        if not _same(self.otherwise, value):
            return None
        return next(raw for raw in range(len(self.map) + 1) if raw not in self.map)

    def _mapped(self, raw: object) -> object:
        found = listed(raw, self.map)
        if found is not msgspec.UNSET:
            return found
        if self.otherwise is not msgspec.UNSET:
            return self.otherwise
        raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: {str(raw)[:40]} is none of {', '.join(map(str, self.map))}")

    def _beside(self, raw: object) -> object:
        """Give what is kept beside a row: one number, truth value or short text."""
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, (int, float)) or self.linear != SAME or self.curve or self.polynomial:
            number = _number(raw, self.key)
            return _along(self.curve, number) if self.curve else self._reckoned(number)
        if isinstance(raw, str):
            return raw[:_LONGEST_TEXT].replace("\0", "")  # PostgreSQL's jsonb takes no NUL
        raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: one value was expected")

    def _reckoned(self, raw: float) -> float:
        """Give scale and offset, then the polynomial."""
        value = apply(self.linear, raw)
        return round(_polynomial(self.polynomial, value), 9) if self.polynomial else value

    def _whole(self, value: float) -> float | int:
        if self.type is not MetricType.INT or not math.isfinite(value):
            return value
        nearest = round(value)
        if abs(value - nearest) > _CLOSE:
            raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: {value} is not a whole number")
        return nearest


@dataclass(frozen=True, slots=True)
class Cases:
    """One wire value that says several things at once: an event code, a status register."""

    key: str
    cases: tuple[tuple[float | str, float | str, Mapping[str, Value]], ...]
    """Lowest and highest raw value (the same for one), and what it says."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for _, _, says in self.cases for key in says))

    def read(self, raw: object) -> Mapping[str, Value]:
        """Give all that a raw value says. Raises DecodeError for one that no case names."""
        number = int(raw) if isinstance(raw, bool) else number_of(raw)
        for low, high, says in self.cases:
            if isinstance(low, str) or isinstance(high, str):
                if raw == low:
                    return says
            elif number is not None and low <= number <= high:
                return says
        raise DecodeError(Reason.BAD_FIELD, f"{self.key}: {str(raw)[:40]} is no case of the profile")

    def write(self, values: Mapping[str, Value]) -> float | str | None:
        """Find the case that says what is given best: what is true (an alarm) first, then what is false.

        Where the wire cannot say it all, the case that stands first in the file wins. None when every case would say
        something that is not so: a button that only knows how to say "pressed" is then not heard of.
        """

        def fit(says: Mapping[str, Value]) -> tuple[int, int, int]:
            agreed = [key for key, value in values.items() if key in says and _same(says[key], value)]
            true = sum(1 for key in agreed if values[key] is not False)
            invented = sum(1 for key, said in says.items() if said is True and values.get(key) is False)
            return true, -invented, len(agreed) - true

        best = max(self.cases, key=lambda case: fit(case[2]))
        return None if fit(best[2]) < (0, 0, 0) else best[0]


def apply(linear: Linear, value: float) -> float:
    """Apply scale and offset so that 352 at 0.1 is 35.2, not 35.2 and some dust."""
    factor, offset = linear.factor, linear.offset
    if offset == 0:
        if factor == 1:
            return value
        divisor = round(1 / factor) if abs(factor) < 1 else 0
        if divisor and abs(1 / factor - divisor) < _CLOSE:
            return value / divisor
    result = value * factor + offset
    return round(result, 9) if math.isfinite(result) else result


def compile_codec(
    document: Document, place: Place, spec: ValueSpec, metric: Metric | None, molar_mass: float | None = None
) -> Codec:
    """Compile the value keys of one metric (None: an entry of `extra`). Raises ConfigError."""
    key = str(place[-1])
    ways = ("map", "equals", "between", "curve", "polynomial", "value")
    if sum(bool(getattr(spec, way)) or getattr(spec, way) is False for way in ways) > 1:
        raise document.error(place, f"only one of {', '.join(ways)}")
    if metric is not None:
        _check_says(document, place, spec, metric)
    curve = tuple(sorted((float(raw), float(value)) for raw, value in spec.curve))
    if spec.curve and (len(curve) < 2 or any(low[0] == high[0] for low, high in pairwise(curve))):
        raise document.error((*place, "curve"), "at least two points [raw, value] of different raw values")
    scale = scale_of(document, (*place, "scale"), spec.scale)
    unit = _unit(document, place, spec, metric, molar_mass)
    if len(spec.polynomial) == 1 or not all(math.isfinite(each) for each in spec.polynomial):
        raise document.error((*place, "polynomial"), "[c0, c1, ...]: at least two numbers")
    constant, *powers = spec.polynomial or [0.0]
    return Codec(
        key=key,
        type=metric.type if metric is not None else None,
        linear=Linear(scale, spec.offset)
        if powers
        else Linear(scale * unit.factor, spec.offset * unit.factor + unit.offset),
        polynomial=(apply(unit, constant), *(each * unit.factor for each in powers)) if powers else (),
        unknown=tuple(_range_or_value(each) for each in spec.unknown),
        map=spec.map,
        otherwise=spec.otherwise,
        test=compile_test(document, place, spec.equals, spec.between),
        curve=tuple((raw, apply(unit, value)) for raw, value in curve),
        constant=spec.value,
        wraps=None if spec.wraps is None else float(spec.wraps),
        members=metric.members if metric is not None else {},
    )


def compile_test(
    document: Document,
    place: Place,
    equals: Scalar | list[Scalar] | None,
    between: tuple[float, float] | None,
    *,
    negated: bool = False,
) -> Test | None:
    """Compile `equals` and `between`; None when neither is given. Raises ConfigError."""
    if equals is not None and between is not None:
        raise document.error(place, "only one of equals and between")
    if equals == []:
        raise document.error((*place, "equals"), "at least one value")
    if between is not None and between[0] > between[1]:
        raise document.error((*place, "between"), "[lowest, highest]")
    if equals is None and between is None:
        return None
    values = () if equals is None else tuple(equals) if isinstance(equals, list) else (equals,)
    return Test(values, between, negated)


def scale_of(document: Document, place: Place, scale: float | str) -> float:
    """Read a scale: a number, or a fraction such as `100/254`. Raises ConfigError."""
    if isinstance(scale, str):
        above, _, below = scale.partition("/")
        try:
            scale = float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            raise document.error(place, "a number, or a fraction such as 100/254") from None
    if scale == 0 or not math.isfinite(scale):
        raise document.error(place, "a number other than 0")
    return scale


def _unit(document: Document, place: Place, spec: ValueSpec, metric: Metric | None, molar_mass: float | None) -> Linear:
    if not spec.unit:
        return Linear()
    found = conversion(spec.unit, metric.ucum, molar_mass) if metric is not None else None
    if found is None:
        if metric is None:
            raise document.error((*place, "unit"), "no unit: what is only kept beside the row is not converted")
        known = convertible(metric.ucum)
        names = ", ".join(known)
        raise document.error(
            (*place, "unit"),
            f"a unit of measure that can be converted to {metric.ucum}: {names}{like(spec.unit, known)}",
        )
    return found


def compile_cases(document: Document, place: Place, spec: ValueSpec, metrics: Mapping[str, Metric]) -> Cases:
    """Compile a state: raw value or range `1..32767` -> what it says. Raises ConfigError."""
    cases: list[tuple[float | str, float | str, Mapping[str, Value]]] = []
    for raw, says in (spec.cases or {}).items():
        where = (*place, "cases", raw)
        for key, value in says.items():
            metric = metrics.get(key)
            if metric is None:
                raise document.error((*where, key), f"a metric of the class: {', '.join(metrics)}")
            if not _suits(metric, value):
                raise document.error((*where, key), _what_suits(metric))
        low, high = _range(raw)
        cases.append((low, high, says))
    if not cases:
        raise document.error((*place, "cases"), "at least one case")
    return Cases(str(place[-1]), tuple(cases))


def _range(raw: str | int) -> tuple[float | str, float | str]:
    found = _range_or_value(raw)
    if isinstance(found, tuple):
        return found
    return found, found


def _range_or_value(raw: float | str) -> float | str | tuple[float, float]:
    """Read `1..32767` or `0xFF00..0xFFFF` as a range, anything else as itself."""
    if isinstance(raw, str) and ".." in raw:
        low, _, high = raw.partition("..")
        try:
            return int(low, 0), int(high, 0)
        except ValueError:
            return raw
    return raw


def _check_says(document: Document, place: Place, spec: ValueSpec, metric: Metric) -> None:
    """Raise ConfigError for a value that the metric cannot have."""
    for raw, value in spec.map.items():
        if value is not None and not _suits(metric, value):
            raise document.error((*place, "map", raw), _what_suits(metric))
    for key in ("otherwise", "value"):
        value = getattr(spec, key)
        if value is not None and value is not msgspec.UNSET and not _suits(metric, value):
            raise document.error((*place, key), _what_suits(metric))
    if (spec.equals is not None or spec.between is not None) and metric.type is not MetricType.BOOL:
        raise document.error(place, "equals and between only for a metric of type bool")


def _what_suits(metric: Metric) -> str:
    if metric.type is MetricType.BOOL:
        return "true or false: the metric is of type bool"
    if metric.type is MetricType.ENUM:
        return f"one of {', '.join(metric.members)}"
    return f"a number: the metric is of type {metric.type}"


def _suits(metric: Metric, value: object) -> bool:
    if metric.type is MetricType.BOOL:
        return isinstance(value, bool)
    if metric.type is MetricType.ENUM:
        return isinstance(value, str) and value in metric.members
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(raw: object, key: str) -> float | int:
    number = number_of(raw)
    if number is None:
        raise DecodeError(Reason.WRONG_TYPE, f"{key}: {str(raw)[:40]} is not a number")
    return number


def _is_nan(raw: object) -> bool:
    return isinstance(raw, float) and math.isnan(raw)


def _truth(raw: object, key: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, (int, float)) and raw in {0, 1}:
        return bool(raw)
    if isinstance(raw, str) and raw.lower() in {"true", "false", "1", "0"}:
        return raw.lower() in {"true", "1"}
    raise DecodeError(Reason.WRONG_TYPE, f"{key}: {str(raw)[:40]} is neither true nor false")


def _along(curve: tuple[tuple[float, float], ...], raw: float) -> float:
    """Follow straight lines between points; level beyond both ends."""
    if not math.isfinite(raw) or raw <= curve[0][0]:
        return curve[0][1] if math.isfinite(raw) else raw
    for (low, first), (high, second) in pairwise(curve):
        if raw <= high:
            return round(first + (raw - low) * (second - first) / (high - low), 9)
    return curve[-1][1]


def _back(curve: tuple[tuple[float, float], ...], value: float) -> float:
    """Find the raw value that `_along` gives a value for: on the first line that has it, else the nearest end."""
    for (low, first), (high, second) in pairwise(curve):
        if first != second and min(first, second) <= value <= max(first, second):
            return round(low + (value - first) * (high - low) / (second - first), 9)
    return min(curve, key=lambda point: abs(point[1] - value))[0]


def _polynomial(coefficients: tuple[float, ...], at: float) -> float:
    """Sum the powers (Horner). What is too large for a number is infinite, and held as such."""
    total = 0.0
    for each in reversed(coefficients):
        total = total * at + each
    return total


def _root(coefficients: tuple[float, ...], value: float) -> float:
    """Find where a polynomial has a value (Newton). Raises ValueError where it is not found to have it."""
    slopes = tuple(power * each for power, each in enumerate(coefficients))[1:]
    for start in _STARTS:
        at = start
        for _ in range(_MOST_TURNS):
            slope = _polynomial(slopes, at)
            if slope == 0:
                break
            step = (_polynomial(coefficients, at) - value) / slope
            at -= step
            if abs(step) <= _CLOSE * max(1.0, abs(at)):
                return at
    raise ValueError(f"{value} is nowhere on the polynomial")


def _is_unknown(raw: object, unknown: tuple[object, ...]) -> bool:
    number = number_of(raw)
    for each in unknown:
        if isinstance(each, tuple):
            if number is not None and each[0] <= number <= each[1]:
                return True
        elif _means(raw, each):
            return True
    return False


def _is_one_of(raw: object, sentinels: tuple[object, ...]) -> bool:
    return any(_means(raw, each) for each in sentinels)


def number_of(raw: object) -> float | int | None:
    """Give a number, also one that is written as text (`"-999.0"`); None for everything else."""
    if isinstance(raw, (int, float)):
        return None if isinstance(raw, bool) else raw
    if isinstance(raw, str) and len(raw) <= _LONGEST_NUMBER and "_" not in raw:
        try:
            return float(raw)
        except ValueError:
            return None
    return None


def listed(raw: object, table: Mapping[Any, Any]) -> Any:
    """Find a raw value in a table, also a number that is written as text; UNSET when it is not there."""
    try:
        if raw in table:
            return table[raw]
    except TypeError:
        return msgspec.UNSET  # a list or mapping
    number = number_of(raw) if isinstance(raw, str) else None
    return msgspec.UNSET if number is None else table.get(number, msgspec.UNSET)


def _means(raw: object, wanted: object) -> bool:
    """Compare a raw value with a word or number of the profile: to many senders a number is text."""
    if isinstance(raw, str) and isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return number_of(raw) == wanted
    return _same(raw, wanted)


def _same(one: object, other: object) -> bool:
    """Compare without taking 1 for true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _other_than(value: object) -> object:
    if isinstance(value, str):
        return ""
    return not value if isinstance(value, bool) else (0 if value != 0 else 1)
