"""Chance without state: numbers that depend on a seed and a place only."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_MASK = (1 << 64) - 1
_normal = NormalDist()
_REMEMBERED = 30
"""Steps after which an innovation has lost its weight (0.9 ** 30 < 0.05)."""


def _mix(state: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64)."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def seeded(seed: int, *place: int | str) -> int:
    """Derive a seed for one place: a device, a quantity, a day."""
    state = _mix((seed + 0x9E3779B97F4A7C15) & _MASK)
    for part in place:
        number = part if isinstance(part, int) else int.from_bytes(part.encode(), "big")
        while True:
            state = _mix((state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK)
            number >>= 64
            if number in {0, -1}:
                break
    return state


def uniform(seed: int, *place: int | str) -> float:
    """Draw from [0, 1)."""
    return (seeded(seed, *place) >> 11) / (1 << 53)


def between(low: float, high: float, seed: int, *place: int | str) -> float:
    """Draw from [low, high)."""
    return low + (high - low) * uniform(seed, *place)


@lru_cache(maxsize=65_536)
def _step(seed: int, index: int, phi: float) -> float:
    """One value of an AR(1) series with unit variance, as the moving average of its innovations."""
    draw = sum(
        phi**lag * _normal.inv_cdf((uniform(seed, index - lag) * (1 - 2e-12)) + 1e-12) for lag in range(_REMEMBERED)
    )
    return draw * math.sqrt((1 - phi * phi) / (1 - phi ** (2 * _REMEMBERED)))


def wander(seed: int, at: float, step_s: float, phi: float = 0.9) -> float:
    """AR(1) noise of unit variance at `at` (epoch seconds), drawn every `step_s` and joined by lines."""
    index, part = divmod(at / step_s, 1.0)
    left, right = _step(seed, int(index), phi), _step(seed, int(index) + 1, phi)
    return left + (right - left) * part
