"""How wide each column of a table is: words stay whole, and what matters least goes first where there is no room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GAP", "Room", "fit"]

GAP: Final = 2
"""Spaces between columns."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a column takes: at least as much that no word of it breaks, at most its longest cell.

    Columns of the highest `drop` are left out first; those of 0 never are. `raw` ones get the room that words leave.
    """

    least: int
    most: int
    drop: int = 0
    raw: bool = False


def fit(rooms: Sequence[Room], width: int) -> Mapping[int, int]:
    """Choose columns by their index, each with its width; none when even the needed ones do not fit."""
    shown = dict(enumerate(rooms))
    while (spare := width - _least(shown)) < 0:
        index = max(shown, key=lambda each: (shown[each].drop, each))
        if shown[index].drop == 0:
            return {}
        del shown[index]
    widths = {index: room.least for index, room in shown.items()}
    # Who lacks little is served first: that makes most columns as wide as they want to be.
    for index in sorted(shown, key=lambda each: (shown[each].raw, shown[each].most - shown[each].least)):
        more = min(spare, shown[index].most - shown[index].least)
        widths[index] += more
        spare -= more
    return widths


def _least(shown: Mapping[int, Room]) -> int:
    return sum(room.least for room in shown.values()) + GAP * (len(shown) - 1)
