"""Rows as PostgreSQL's binary COPY wants them, packed with `struct`.

One compiled Struct for each set of metrics that is present: `copy_records_to_table` would cost 2-3 us a reading.
Format: https://www.postgresql.org/docs/current/sql-copy.html (Binary Format).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from iot_core.model import Observation
from iot_core.store.columns import FIXED_COLUMNS, ClassTable

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LENGTH: Final = struct.Struct(">i")
_JSONB_VERSION: Final = b"\x01"


def microseconds(time: datetime) -> int:
    """Give an aware time as PostgreSQL's microseconds since 2000-01-01 UTC."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


class Packer:
    """Packs the observations of one class for COPY into `copied`, the columns in that order."""

    def __init__(self, table: ClassTable) -> None:
        self._columns = table.columns
        self._names = tuple(column.name for column in table.columns)
        self.copied = [*FIXED_COLUMNS, *self._names, "extra"]
        self._structs: dict[tuple[str, ...], tuple[struct.Struct, tuple[int, ...]]] = {}
        self._members = {column.name: column.metric.members for column in table.columns if column.metric.members}

    def pack(self, observations: Iterable[Observation]) -> bytes:
        """Pack a batch, header and trailer included."""
        return b"".join((_HEADER, *(self._row(each) for each in observations), _TRAILER))

    def _row(self, each: Observation) -> bytes:
        values = each.values
        present = tuple([name for name in self._names if name in values])
        found = self._structs.get(present)
        if found is None:
            found = self._structs[present] = self._compile(frozenset(present))
        layout, template = found
        fields: list[float] = [
            len(self.copied),
            8,
            microseconds(each.time),
            8,
            microseconds(each.received_at),
            8,
            each.bad,
        ]
        fields += (4, each.device_id, 2, each.quality)
        read = iter(present)
        for size in template:
            if size < 0:
                fields.append(-1)
            else:
                name = next(read)
                value = values[name]
                fields += (size, self._members[name][value] if isinstance(value, str) else value)
        return layout.pack(*fields) + self._extra(each)

    def _compile(self, present: frozenset[str]) -> tuple[struct.Struct, tuple[int, ...]]:
        code = ">h iq iq iq ii ih ".replace(" ", "")
        template = []
        for column in self._columns:
            here = column.name in present
            code += f"i{column.code}" if here else "i"
            template.append(column.size if here else -1)
        return struct.Struct(code), tuple(template)

    @staticmethod
    def _extra(each: Observation) -> bytes:
        if not each.extra:
            return _LENGTH.pack(-1)
        body = _JSONB_VERSION + msgspec.json.encode(each.extra)
        return _LENGTH.pack(len(body)) + body
