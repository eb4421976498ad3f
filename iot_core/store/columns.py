"""The column a metric is stored in: its SQL type follows type, precision and range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from iot_core.model import DeviceClass, Metric, MetricType, Title

_REAL_EXACT: Final = 2**23
"""Up to here a `real` tells apart all multiples of the last decimal; beyond, two rounded ones could fall together."""
_INT4: Final = 2**31 - 1
_INT8: Final = 2**63 - 1
_REAL: Final = 3.4e38

_NO_ROUNDING: Final = 15
"""Decimals of a metric whose own are not known any more: what was rounded to fewer stays as it is."""

FIXED_COLUMNS: Final = ("time", "received_at", "bad", "device_id", "quality")


@dataclass(frozen=True, slots=True)
class Column:
    """A metric as stored. `code` is its `struct` letter, `limit` the largest magnitude the type holds."""

    metric: Metric
    bit: int
    sql_type: str
    code: str
    size: int
    limit: float

    @property
    def name(self) -> str:
        """The column's name: the metric's key."""
        return self.metric.key


def sql_type(metric: Metric) -> str:
    """Choose the narrowest SQL type that keeps the metric's declared precision over its plausible range."""
    if metric.type is MetricType.BOOL:
        return "boolean"
    if metric.type is MetricType.ENUM:
        return "smallint"
    bounds = (metric.minimum, metric.maximum)
    largest = None if None in bounds else max(abs(bound) for bound in bounds if bound is not None)
    if metric.type is MetricType.INT:
        return "integer" if largest is not None and largest <= _INT4 else "bigint"
    exact = largest is not None and largest * 10**metric.precision < _REAL_EXACT
    return "real" if exact else "double precision"


_LAYOUT: Final = {
    "boolean": ("?", 1, 1.0),
    "smallint": ("h", 2, 2.0**15 - 1),
    "integer": ("i", 4, float(_INT4)),
    "bigint": ("q", 8, float(_INT8)),
    "real": ("f", 4, _REAL),
    "double precision": ("d", 8, float("inf")),
}


def column(metric: Metric, bit: int, stored_type: str) -> Column:
    """Describe the column of a metric that has its bit."""
    code, size, limit = _LAYOUT[stored_type]
    return Column(metric, bit, stored_type, code, size, limit)


def retired_column(key: str, bit: int, stored_type: str) -> Column:
    """Describe the column of a metric that its class has no more: a number or truth of unknown range."""
    kind = {"boolean": MetricType.BOOL, "real": MetricType.FLOAT, "double precision": MetricType.FLOAT}
    said = kind.get(stored_type, MetricType.INT)
    metric = Metric(key=key, title=Title(vi=key, en=key), type=said, precision=_NO_ROUNDING)
    return column(metric, bit, stored_type)


@dataclass(frozen=True, slots=True)
class ClassTable:
    """A class with the columns of its telemetry table, in storage order; `retired` ones are said by files only."""

    device_class: DeviceClass
    columns: tuple[Column, ...]
    retired: tuple[Column, ...] = ()

    @property
    def whole(self) -> ClassTable:
        """The same with its retired columns among the others."""
        return replace(self, columns=self.columns + self.retired, retired=())

    @property
    def name(self) -> str:
        """The table's name within the schema `telemetry`: the class's key."""
        return self.device_class.key
