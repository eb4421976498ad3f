"""What one unit is asked in a cycle, and what its refusals taught. Pure; times are seconds of one monotonic clock.

asked together -> "illegal address" -> asked in pieces, again and again halved -> the one value that it does not have
is left out, the others are not. What was learned is kept for a minute, then for two, at last for an hour each time;
then the device is asked anew, for it may just have been starting, or has other firmware now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from drivers.modbus.pdu import Block

__all__ = ["KEEP_S", "LONGEST_KEEP_S", "Blocks", "Merge"]

KEEP_S: Final = 60.0
LONGEST_KEEP_S: Final = 3600.0
_SILENCES: Final = 3
"""So often in a row one block is met with silence by a unit that answers others, before it is left out."""


Merge = Callable[[Sequence[Block], int], tuple[Block, ...]]
"""Turn neighbours, in order, into requests that bridge at most so many unneeded registers (the profile's)."""


@dataclass(slots=True)
class Blocks:
    """The requests of one unit: its values in order, merged over gaps of at most `gap`."""

    atoms: tuple[Block, ...]
    gap: int
    merge: Merge
    current: tuple[Block, ...] = field(init=False)
    _forget_at: float | None = None
    _keep_s: float = KEEP_S
    _silent: dict[Block, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.current = self.merge(self.atoms, self.gap)

    def start(self, now: float) -> tuple[Block, ...]:
        """Give the requests of a cycle; what was learned long ago is tried anew."""
        if self._forget_at is not None and (now >= self._forget_at or not self.current):
            self._forget_at = None
            self._keep_s = min(2 * self._keep_s, LONGEST_KEEP_S)
            self._silent.clear()
            self.current = self.merge(self.atoms, self.gap)
        return self.current

    @property
    def learned(self) -> bool:
        """Say whether the device refused anything lately."""
        return self._forget_at is not None

    @property
    def left_out(self) -> tuple[Block, ...]:
        """What the unit does not have."""
        if self._forget_at is None:
            return ()
        return tuple(atom for atom in self.atoms if not any(_within(atom, block) for block in self.current))

    def refuse(self, block: Block, now: float) -> tuple[Block, ...]:
        """Take note that a block is illegal as it is. Gives the pieces to ask instead; none: that value is left out."""
        pieces = self._pieces([atom for atom in self.atoms if _within(atom, block)], block)
        at = self.current.index(block) if block in self.current else len(self.current)
        self.current = (*self.current[:at], *pieces, *self.current[at + 1 :])
        self._learn(now)
        return pieces

    def silent(self, block: Block, now: float) -> bool:
        """Take note that a block was met with silence by a unit that answers others. True: it is now left out."""
        times = self._silent[block] = self._silent.get(block, 0) + 1
        if times < _SILENCES:
            return False
        self.current = tuple(each for each in self.current if each != block)
        self._learn(now)
        return True

    def answered(self, block: Block) -> None:
        """Take note that a block was answered."""
        if self._silent:
            self._silent.pop(block, None)

    def _learn(self, now: float) -> None:
        if self._forget_at is None:
            self._forget_at = now + self._keep_s

    def _pieces(self, atoms: Sequence[Block], block: Block) -> tuple[Block, ...]:
        """Cut a block where registers were bridged that nobody needs, else in the middle."""
        runs = self.merge(atoms, 0)
        if len(runs) > 1:
            return runs
        half = len(atoms) // 2
        halves = self.merge(atoms[:half], 0) + self.merge(atoms[half:], 0) if half else ()
        return () if block in halves else halves


def _within(atom: Block, block: Block) -> bool:
    inside = block.address <= atom.address and atom.address + atom.count <= block.address + block.count
    return atom.table == block.table and inside
