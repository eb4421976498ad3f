"""Hold a sample against its class: types, finiteness, plausible range, time. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

from iot_core.model import MetricType, Observation, Problem, Reason, Sample, Value
from iot_core.store.columns import ClassTable, Column

CLOCK_SET: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A device clock that stands before this was never set."""
AHEAD: Final = timedelta(minutes=10)

_NUMBER: Final = re.compile(r"-?[0-9]{1,5}")

Convert = Callable[[object], Value | None]
"""Turn a wire value into the metric's own type, rounded as stored; None when it is of another type."""


class Unfit(Exception):
    """A value that cannot be stored, with the reason."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class Checker:
    """Checks the samples of one class; built once from its table.

    With `gone`, as for a file of what was stored, an enum's number is taken that its class names no more.
    """

    def __init__(self, table: ClassTable, *, gone: bool = False) -> None:
        self.table = table
        self.window = table.device_class.window
        self.life_safety = table.device_class.life_safety
        self._columns = {column.name: (column, _converter(column, gone=gone)) for column in table.columns}

    def values(self, sample: Sample) -> tuple[dict[str, Value], int, list[Problem]]:
        """Give the storable values, the `bad` mask of implausible ones, and a problem for each that is neither."""
        values: dict[str, Value] = {}
        bad = 0
        problems: list[Problem] = []
        for key, said in sample.values.items():
            if said is None:
                continue  # null is unknown, never zero
            found = self._columns.get(key)
            if found is None:
                problems.append(Problem(Reason.UNKNOWN_METRIC, str(key), {key: said}))
                continue
            column, convert = found
            try:
                value = convert(said)
            except Unfit as unfit:
                problems.append(Problem(unfit.reason, key, {key: said}))
                continue
            if value is None:
                problems.append(Problem(Reason.WRONG_TYPE, f"{key}: {column.metric.type}", {key: said}))
                continue
            values[key] = value
            if not column.metric.plausible(value):
                bad |= 1 << column.bit
        return values, bad, problems


def usable_time(time: datetime | None, received_at: datetime) -> bool:
    """Say whether a device's time can be believed: said, from a clock that was set, not from the future."""
    return time is not None and CLOCK_SET <= time <= received_at + AHEAD


def rounded(value: float, precision: int) -> float:
    """Round to `precision` decimals: a decimal that a device writes with no more of them stays what it is.

    A fifth of what `round(value, precision)` costs, and alike but for ties. A float beyond `exact_below` has no more
    decimals to lose.
    """
    bound = exact_below(precision)
    scale = 10.0**precision
    return float.__round__(value * scale) / scale if -bound <= value <= bound else value


def exact_below(precision: int) -> float:
    """Give the magnitude up to which whole multiples of the last decimal are whole floats."""
    return 2.0**52 / 10.0**precision


def merge_values(first: Observation, second: Observation, bits: dict[str, int]) -> dict[str, Value]:
    """Merge `second` into `first` (same device and time): nulls are filled; give back what conflicts.

    Both are corrections, or neither is: a correction replaces instead.
    """
    conflicts: dict[str, Value] = {}
    for key, value in second.values.items():
        if key in first.values and not second.correction:
            if first.values[key] != value:
                conflicts[key] = value
            continue
        first.values[key] = value
        first.bad = (first.bad & ~bits[key]) | (second.bad & bits[key])
    first.quality = second.quality if second.correction else max(first.quality, second.quality)
    if second.extra:
        before = first.extra or {}
        first.extra = {**before, **second.extra} if second.correction else {**second.extra, **before}
    return conflicts


def _converter(column: Column, *, gone: bool) -> Convert:
    match column.metric.type:
        case MetricType.FLOAT:
            return _float(column)
        case MetricType.INT:
            return _int(column)
        case MetricType.BOOL:
            return lambda said: said if isinstance(said, bool) else None
        case MetricType.ENUM:
            return _enum(column, gone=gone)


def _float(column: Column) -> Convert:
    precision, limit = column.metric.precision, column.limit

    def convert(said: object) -> Value | None:
        if type(said) is not float and type(said) is not int:
            return None
        if not isfinite(said):
            raise Unfit(Reason.NOT_FINITE)
        if not -limit <= said <= limit:
            raise Unfit(Reason.WRONG_TYPE)
        return rounded(float(said), precision)

    return convert


def _int(column: Column) -> Convert:
    limit = column.limit

    def convert(said: object) -> Value | None:
        if type(said) is float:
            if not isfinite(said):
                raise Unfit(Reason.NOT_FINITE)
            if not said.is_integer():
                return None
        elif type(said) is not int:
            return None
        if not -limit <= said <= limit:
            raise Unfit(Reason.WRONG_TYPE)
        return int(said)

    return convert


def _enum(column: Column, *, gone: bool) -> Convert:
    members, limit = column.metric.members, column.limit
    names = {number: name for name, number in members.items()}

    def convert(said: object) -> Value | None:
        if isinstance(said, str) and said in members:
            return said
        if gone and isinstance(said, str) and _NUMBER.fullmatch(said):  # how a number without a name is shown
            said = int(said)
        if type(said) is not int:
            return None
        return names.get(said, said if gone and -limit <= said <= limit else None)

    return convert
