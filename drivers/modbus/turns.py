"""Whose turn it is behind one gateway. Pure; times are seconds of one monotonic clock.

Units that answered last time go first, in the order in which they fell due. A doubtful one (silent, or never heard)
goes when none of those is due, and once in the shortest interval even then: so all the dead behind a gateway cost a
neighbour one timeout a cycle, and one that comes back is noticed however busy the gateway is.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

__all__ = ["Turns"]


class Waiting(Protocol):
    """What a queue needs to know of a unit."""

    due: float
    alive: bool


U = TypeVar("U", bound=Waiting)


class Turns(Generic[U]):
    """The units behind a gateway by the time they are due. A unit stands in it once; `put` moves it."""

    def __init__(self) -> None:
        self._living: list[tuple[float, int, U]] = []
        self._doubtful: list[tuple[float, int, U]] = []
        self._numbers: dict[int, int] = {}
        """Of each unit's entry that counts; others are left over from before it moved."""
        self._count = 0
        self._doubtful_at = 0.0

    def put(self, unit: U) -> None:
        """Place a unit by its `due` and `alive`, or move it."""
        self._count += 1
        self._numbers[id(unit)] = self._count
        heapq.heappush(self._living if unit.alive else self._doubtful, (unit.due, self._count, unit))

    def remove(self, unit: U) -> None:
        """Take a unit out."""
        self._numbers.pop(id(unit), None)

    def take(self, now: float, shortest: float) -> U | None:
        """Take out the unit whose turn it is; None while nobody is due. `shortest` is the shortest interval."""
        living, doubtful = self._first(self._living), self._first(self._doubtful)
        if doubtful is not None and doubtful[0] <= now:
            nobody_else = living is None or living[0] > now
            if nobody_else or now >= self._doubtful_at:
                self._doubtful_at = now + shortest
                return self._taken(self._doubtful)
        if living is not None and living[0] <= now:
            return self._taken(self._living)
        return None

    def next_due(self) -> float | None:
        """Say when somebody is due next; None while there is nobody."""
        firsts = (self._first(self._living), self._first(self._doubtful))
        return min((entry[0] for entry in firsts if entry is not None), default=None)

    def _first(self, heap: list[tuple[float, int, U]]) -> tuple[float, int, U] | None:
        while heap and self._numbers.get(id(heap[0][2])) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _taken(self, heap: list[tuple[float, int, U]]) -> U:
        _, _, unit = heapq.heappop(heap)
        del self._numbers[id(unit)]
        return unit
