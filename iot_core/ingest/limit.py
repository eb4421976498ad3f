"""How much one sender may say: a bucket each, filled by its messages and drained at the rate it may have. No I/O.

Only those who say more than the rate in a batch have a bucket at all, so that 100,000 well-behaved ones cost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

__all__ = ["RateLimit"]

_SAMPLE_S = 10.0


class RateLimit:
    """Lets `burst` messages of a sender through at any speed, and `rate` a second for ever."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._filled: dict[str, float] = {}
        self._sampled: dict[str, float] = {}
        self._last: float | None = None

    def above(self, addresses: Sequence[str], now: float, limited: Callable[[str], bool]) -> set[int]:
        """Say which of a batch (by position) are above their sender's limit: the last ones of it."""
        drained = (now - (now if self._last is None else self._last)) * self._rate
        self._last = now
        said = Counter(addresses)
        excess: dict[str, int] = {}
        for address in {*self._filled, *(each for each, number in said.items() if number > drained)}:
            if not limited(address):
                continue
            filled = max(0.0, self._filled.get(address, 0.0) - drained) + said[address]
            if filled > self._burst:
                excess[address] = min(said[address], int(filled - self._burst))
                filled -= excess[address]
            if filled:
                self._filled[address] = filled
            else:
                self._filled.pop(address, None)
                self._sampled.pop(address, None)
        return _last_of(addresses, excess) if excess else set()

    def sampled(self, address: str, now: float) -> bool:
        """Say whether a message above the limit is one to look at: one of a sender every ten seconds."""
        if now - self._sampled.get(address, -_SAMPLE_S) < _SAMPLE_S:
            return False
        self._sampled[address] = now
        return True


def _last_of(addresses: Sequence[str], excess: dict[str, int]) -> set[int]:
    left = dict(excess)
    chosen: set[int] = set()
    positions: Iterable[int] = range(len(addresses) - 1, -1, -1)
    for position in positions:
        address = addresses[position]
        if left.get(address, 0):
            left[address] -= 1
            chosen.add(position)
    return chosen
