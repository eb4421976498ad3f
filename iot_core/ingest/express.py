"""The short way for the one message nearly every device sends: one native JSON object with a usable time.

payload -> typed decode, compiled once a class (msgspec) -> round, range -> Observation
     '---> None: anything else, and anything odd, goes the long way (profile -> Sample -> Checker)

Both ways give the same observation for the same message; tests/ingest/test_express.py holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import ceil, floor
from typing import Annotated, Any, Final, Literal

import msgspec

from iot_core.ingest.check import exact_below, rounded, usable_time
from iot_core.model import Metric, MetricType, MountedUnit, Observation, Uplink, Value
from iot_core.profiles.native import MAX_RUN, MAX_SEQ
from iot_core.store.columns import ClassTable, Column

__all__ = ["Express"]

# A number for a time is seconds or milliseconds, which the long way tells apart.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Run = Annotated[str, msgspec.Meta(max_length=MAX_RUN)]
_HEAD: Final = 3
_to_whole = float.__round__


class Express:
    """Reads plain messages of one class. `messages` of other classes, formats and kinds are not for it."""

    def __init__(self, table: ClassTable) -> None:
        self._class_key = table.device_class.key
        self._window = table.device_class.window
        names = [column.name for column in table.columns]
        fields: list[Any] = [("time", _Time), ("seq", _Seq | None, None), ("run", _Run, "")]
        fields += [(f"m{index}", _wire_type(column.metric) | None, None) for index, column in enumerate(table.columns)]
        message = msgspec.defstruct(
            f"Native_{self._class_key}",
            fields,
            rename={f"m{index}": name for index, name in enumerate(names)},  # a metric may be called `class`
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(message).decode
        self._columns = tuple(_rules(column) for column in table.columns)

    def __call__(self, uplink: Uplink, unit: MountedUnit) -> Observation | None:
        """Read an uplink of `unit`; None when it needs the long way."""
        try:
            time, seq, run, *said = msgspec.structs.astuple(self._decode(uplink.payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        received_at = uplink.received_at
        if unit.channels or unit.class_key != self._class_key or "\0" in run:
            return None
        if not usable_time(time, received_at) or received_at - time > self._window:
            return None
        stored = self._checked(said)
        if stored is None:
            return None
        values, bad = stored
        return Observation(
            device_id=unit.device_id,
            unit_id=unit.unit_id,
            class_key=self._class_key,
            time=time if time.tzinfo is UTC else time.astimezone(UTC),
            received_at=received_at,
            values=values,
            bad=bad,
            seq=seq,
            run=run,
            simulated=unit.simulated,
        )

    def _checked(self, said: Sequence[Any]) -> tuple[dict[str, Value], int] | None:
        """Round and hold against the plausible range; None when a number cannot be stored, or nothing is said."""
        values: dict[str, Value] = {}
        bad = 0
        for value, column in zip(said, self._columns, strict=True):
            if value is None:
                continue
            name, scale, low, high, odd = column
            if odd is None:
                values[name] = value  # bool, enum
            elif low <= value <= high:
                values[name] = _to_whole(value * scale) / scale if scale else value  # check.rounded(), without the call
            elif (stored := odd(value)) is not None:
                values[name], out_of_range = stored
                bad |= out_of_range
            else:
                return None
        return (values, bad) if values else None


def _wire_type(metric: Metric) -> Any:
    match metric.type:
        case MetricType.FLOAT:
            return float
        case MetricType.INT:
            return int
        case MetricType.BOOL:
            return bool
        case MetricType.ENUM:
            return Literal[tuple(metric.members)]


_Odd = Callable[[float], tuple[float, int] | None]
"""What to store of a number that is not surely plausible, and its bit if it is not; None when it cannot be stored."""


def _rules(column: Column) -> tuple[str, int, float, float, _Odd | None]:
    """Give name, scale (0: not rounded), the range within which a number is surely plausible, and what else is done."""
    metric = column.metric
    if metric.type not in {MetricType.FLOAT, MetricType.INT}:
        return column.name, 0, 0.0, 0.0, None
    whole = metric.type is MetricType.INT
    scale = 0 if whole else 10**metric.precision
    limit = column.limit if whole else min(column.limit, exact_below(metric.precision))
    low = -limit if metric.minimum is None else max(-limit, ceil(metric.minimum * (scale or 1)) / (scale or 1))
    high = limit if metric.maximum is None else min(limit, floor(metric.maximum * (scale or 1)) / (scale or 1))

    def odd(value: float) -> tuple[float, int] | None:
        if not -limit <= value <= limit:
            return None
        stored = value if whole else rounded(value, metric.precision)
        return stored, 0 if metric.plausible(stored) else 1 << column.bit

    return column.name, scale, low, high, odd
