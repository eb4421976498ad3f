"""A long list goes to the core in pieces; what two rows of different pieces have against each other is found here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from iot_core.messages import text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["Pieces", "gateways_first"]

_DEEPEST: Final = 16
"""Gateways behind gateways; a ring of them ends here too, and is refused by the core."""


class Pieces:
    """What a dry run has seen so far: keys and addresses with their rows, which the core has forgotten again."""

    def __init__(self) -> None:
        self.problems: list[shapes.RowProblem] = []
        self.added: set[str] = set()
        """Keys of devices that the pieces so far would have added."""
        self._keys: dict[str, int] = {}
        self._addresses: dict[str, int] = {}

    def without_doubles(self, part: Sequence[shapes.DeviceRow]) -> tuple[shapes.DeviceRow, ...]:
        """Leave out rows whose key stands in an earlier piece; doubles within a piece are the core's to find."""
        fresh = []
        for row in part:
            if row.key in self._keys:
                self._twice(row.row, "key", row.key, self._keys[row.key])
            else:
                fresh.append(row)
        return tuple(fresh)

    def note(self, part: Sequence[shapes.DeviceRow], done: shapes.DevicesImported) -> int:
        """Remember a piece; give how many of those that it would have added stand at an address of an earlier one."""
        numbers: dict[str, int] = {}
        for row in part:
            numbers.setdefault(row.key, row.row)
        doubles = 0
        for each in done.added:
            first = self._addresses.setdefault(each.address, numbers[each.key])
            if first != numbers[each.key]:
                self._twice(numbers[each.key], "address", each.address, first)
                doubles += 1
            else:
                self.added.add(each.key)
        self._keys |= numbers
        return doubles

    def _twice(self, row: int, column: str, value: str, first: int) -> None:
        from iot_core.api import shapes

        code = "registry.row_twice"
        self.problems.append(
            shapes.RowProblem(row=row, column=column, code=code, detail=text(code, first=first, value=value))
        )


def gateways_first(rows: Sequence[shapes.DeviceRow]) -> list[shapes.DeviceRow]:
    """Order rows so that each comes after its gateway, else as they stand: a piece knows only what came before it."""
    there = {row.key: row.gateway for row in rows}

    def depth(row: shapes.DeviceRow) -> int:
        steps, key = 0, row.gateway
        while key in there and steps < _DEEPEST:
            steps, key = steps + 1, there[key]
        return steps

    return sorted(rows, key=depth)
