"""From what the wire holds to a metric's value and back: sentinels, maps, scale, offset, units, named cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import Metric, MetricType, Reason
from iot_core.profiles.units import Linear, conversion

if TYPE_CHECKING:
    from iot_core.model import Value
    from iot_core.profiles.document import Document, Place

__all__ = ["Cases", "Codec", "ValueSpec", "apply", "compile_cases", "compile_codec"]

_LONGEST_NUMBER: Final = 40
_LONGEST_TEXT: Final = 200
_CLOSE: Final = 1e-9


class ValueSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that every format's value has. Each format adds where the value stands."""

    scale: float | int = 1
    offset: float | int = 0
    unit: str = ""
    unknown: list[float | int | str] = msgspec.field(default_factory=list)
    map: dict[Any, str | int | float | bool] = msgspec.field(default_factory=dict)
    equals: str | int | float | bool | None = None
    between: tuple[float | int, float | int] | None = None
    cases: dict[str | int, dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Codec:
    """One metric's way between wire and value. `type` is None for what goes to `extra` as it is."""

    key: str
    type: MetricType | None
    linear: Linear
    unknown: tuple[object, ...]
    map: Mapping[object, object]
    equals: object
    between: tuple[float, float] | None
    members: Mapping[str, int]

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, raw: object) -> object:  # noqa: PLR0911 - one way for each key of the language
        """Give the value; None when it is unknown. Raises DecodeError when it cannot be one."""
        if raw is None or _is_one_of(raw, self.unknown):
            return None
        if self.map:
            return self._mapped(raw)
        if self.equals is not None:
            return raw == self.equals
        if self.between is not None:
            return self.between[0] <= _number(raw, self.key) <= self.between[1]
        if self.type is MetricType.BOOL:
            return _truth(raw, self.key)
        if self.type in {MetricType.FLOAT, MetricType.INT}:
            return self._whole(apply(self.linear, _number(raw, self.key)))
        if self.type is MetricType.ENUM and raw not in self.members:
            raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: {str(raw)[:40]} is none of {', '.join(self.members)}")
        return self._beside(raw) if self.type is None else raw

    def write(self, value: object) -> object:
        """Give what the wire holds for a value."""
        if self.map:
            return next((raw for raw, mapped in self.map.items() if _same(mapped, value)), None)
        if self.equals is not None:
            return self.equals if value else _other_than(self.equals)
        if self.between is not None:
            low, high = self.between
            return low if value else (0 if not low <= 0 <= high else high + 1)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.type is not MetricType.BOOL:
            return (value - self.linear.offset) / self.linear.factor if self.linear != Linear() else value
        return value

    def nothing(self) -> object:
        """Give what the wire holds for unknown, None when it has no word for that."""
        return self.unknown[0] if self.unknown else None

    @property
    def step(self) -> float:
        """How far two neighbouring wire values of a whole-number type lie apart."""
        return abs(self.linear.factor)

    def _mapped(self, raw: object) -> object:
        try:
            if raw in self.map:
                return self.map[raw]
            if isinstance(raw, str) and raw.lstrip("-").isdigit() and int(raw[:18]) in self.map:
                return self.map[int(raw[:18])]
        except TypeError:
            pass  # a list or mapping
        raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: {str(raw)[:40]} is none of {', '.join(map(str, self.map))}")

    def _beside(self, raw: object) -> object:
        """Give what is kept beside a row: one number, truth value or short text."""
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, (int, float)):
            return apply(self.linear, raw)
        if isinstance(raw, str):
            return raw[:_LONGEST_TEXT].replace("\0", "")  # PostgreSQL's jsonb takes no NUL
        raise DecodeError(Reason.WRONG_TYPE, f"{self.key}: one value was expected")

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
        for low, high, says in self.cases:
            if isinstance(low, str) or isinstance(raw, str):
                if raw == low:
                    return says
            elif isinstance(raw, (int, float)) and not isinstance(high, str) and low <= raw <= high:
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
    if spec.scale == 0:
        raise document.error((*place, "scale"), "a number other than 0")
    if sum((bool(spec.map), spec.equals is not None, spec.between is not None)) > 1:
        raise document.error(place, "only one of map, equals and between")
    unit = Linear()
    if spec.unit:
        found = conversion(spec.unit, metric.ucum, molar_mass) if metric is not None else None
        if found is None:
            into = metric.ucum if metric is not None else "extra"
            raise document.error((*place, "unit"), f"a unit of measure that can be converted to {into}")
        unit = found
    if metric is not None:
        _check_map(document, place, spec, metric)
    return Codec(
        key=key,
        type=metric.type if metric is not None else None,
        linear=Linear(spec.scale * unit.factor, spec.offset * unit.factor + unit.offset),
        unknown=tuple(spec.unknown),
        map=spec.map,
        equals=spec.equals,
        between=spec.between,
        members=metric.members if metric is not None else {},
    )


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
                raise document.error((*where, key), f"a value of type {metric.type}")
        low, high = _range(raw)
        cases.append((low, high, says))
    if not cases:
        raise document.error((*place, "cases"), "at least one case")
    return Cases(str(place[-1]), tuple(cases))


def _range(raw: str | int) -> tuple[float | str, float | str]:
    if isinstance(raw, str) and ".." in raw:
        low, _, high = raw.partition("..")
        try:
            return int(low), int(high)
        except ValueError:
            return raw, raw
    return raw, raw


def _check_map(document: Document, place: Place, spec: ValueSpec, metric: Metric) -> None:
    for raw, value in spec.map.items():
        if not _suits(metric, value):
            raise document.error((*place, "map", raw), f"a value of type {metric.type}")
    if (spec.equals is not None or spec.between is not None) and metric.type is not MetricType.BOOL:
        raise document.error(place, "equals and between only for a metric of type bool")


def _suits(metric: Metric, value: object) -> bool:
    if metric.type is MetricType.BOOL:
        return isinstance(value, bool)
    if metric.type is MetricType.ENUM:
        return value in metric.members
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(raw: object, key: str) -> float | int:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and len(raw) <= _LONGEST_NUMBER and "_" not in raw:
        try:
            return float(raw)
        except ValueError:
            pass
    raise DecodeError(Reason.WRONG_TYPE, f"{key}: {str(raw)[:40]} is not a number")


def _truth(raw: object, key: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, (int, float)) and raw in {0, 1}:
        return bool(raw)
    raise DecodeError(Reason.WRONG_TYPE, f"{key}: {str(raw)[:40]} is neither true nor false")


def _is_one_of(raw: object, sentinels: tuple[object, ...]) -> bool:
    return any(_same(raw, each) for each in sentinels)


def _same(one: object, other: object) -> bool:
    """Compare without taking 1 for true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _other_than(value: object) -> object:
    if isinstance(value, str):
        return ""
    return not value if isinstance(value, bool) else (0 if value != 0 else 1)
