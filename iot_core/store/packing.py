"""Rows as PostgreSQL's binary COPY wants them, packed with `struct`.

One compiled layout for each set of metrics that is said: `copy_records_to_table` would cost 2-3 us a reading.
Format: https://www.postgresql.org/docs/current/sql-copy.html (Binary Format).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final

import msgspec

from iot_core.model import Observation, Value
from iot_core.store.columns import FIXED_COLUMNS, ClassTable

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_EPOCH: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_JSONB_VERSION: Final = b"\x01"
_MOST_LAYOUTS: Final = 1_000
"""A sender may say its metrics in another order every time."""
_FIXED: Final = dict(zip(FIXED_COLUMNS, "qqqih", strict=True))

Values = Mapping[str, Value]
_Layout = tuple[Callable[..., bytes], list[object], Callable[[Values], tuple[Value, ...]]]
"""How to pack a row; its fields, all that stands between values in place; how to take a row's values in their order."""


def microseconds(time: datetime) -> int:
    """Give an aware time as PostgreSQL's microseconds since 2000-01-01 UTC. Exact until 2255: a float has 53 bits."""
    return round(time.timestamp() * 1e6) - _EPOCH


class Packer:
    """Packs the observations of one class for COPY into `copied`, the columns in that order.

    What stands between two values (the length of the next one, and -1 for each metric that is not said) is alike in all
    rows that say the same metrics: only the values are laid in.
    """

    def __init__(self, table: ClassTable) -> None:
        self._columns = table.columns
        self.copied = [*FIXED_COLUMNS, *(column.name for column in table.columns), "extra"]
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._members = {column.name: column.metric.members for column in table.columns if column.metric.members}

    def pack(self, observations: Iterable[Observation]) -> bytes:
        """Pack a batch, header and trailer included."""
        return b"".join((_HEADER, *map(self._row, observations), _TRAILER))

    def _row(self, each: Observation) -> bytes:
        values: Values = each.values
        said = tuple(values)
        found = self._layouts.get(said)
        if found is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            found = self._layouts[said] = self._compile(frozenset(said))
        pack, between, take = found
        if self._members:
            values = self._numbered(values)
        fields = between.copy()
        time, received_at = microseconds(each.time), microseconds(each.received_at)
        fields[1::2] = (time, received_at, each.bad, each.device_id, each.quality, *take(values))
        return pack(*fields) + (self._extra(each) if each.extra else _NULL)

    def _compile(self, said: frozenset[str]) -> _Layout:
        columns = [*_FIXED.items(), *((column.name, column.code) for column in self._columns)]
        code, between, names = ">", [struct.pack(">h", len(self.copied))], []
        for name, letter in columns:
            if name in said or name in _FIXED:
                between[-1] += _LENGTH.pack(struct.calcsize(f">{letter}"))
                code += f"{len(between[-1])}s{letter}"
                between.append(b"")
                names.append(name)
            else:
                between[-1] += _NULL
        room: list[object] = []
        for each in between:
            room += (each, 0)
        return struct.Struct(f"{code}{len(between[-1])}s").pack, room[:-1], _taker(names[len(_FIXED) :])

    def _numbered(self, values: Values) -> Values:
        """Give members of enums as the numbers that are stored."""
        members = self._members
        return {name: members[name][value] if isinstance(value, str) else value for name, value in values.items()}

    @staticmethod
    def _extra(each: Observation) -> bytes:
        body = _JSONB_VERSION + msgspec.json.encode(each.extra)
        return _LENGTH.pack(len(body)) + body


def _taker(names: Sequence[str]) -> Callable[[Values], tuple[Value, ...]]:
    """Make what takes the values of these metrics, in this order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)
