"""When a unit is polled: a grid of its own, never drifting. Pure; times are seconds of one monotonic clock."""

from __future__ import annotations

import hashlib
import math
import random

FIRST_WITHIN_S = 5.0
"""A unit that was just mounted, or a core that just started, shows a value this soon."""

TICK_S = 0.025
"""Gateways wake on a common beat: one wake-up then serves several of them, which halves the cost of a poll."""

LONGEST_BACK_OFF_S = 120.0


def share(address: str) -> float:
    """Give a unit its place between 0 and 1, the same in every run."""
    return int.from_bytes(hashlib.blake2b(address.encode(), digest_size=6).digest()) / 2**48


def first(address: str, interval: float, now: float) -> float:
    """Say when a new unit is polled first."""
    return now + share(address) * min(interval, FIRST_WITHIN_S)


def next_slot(share_: float, interval: float, now: float) -> float:
    """Say when a unit is due next: the grid `share + k * interval`, whatever the last poll took."""
    phase = share_ * interval
    return phase + (math.floor((now - phase) / interval) + 1) * interval


def beat(at: float) -> float:
    """Give the beat at or after a time."""
    return math.ceil(at / TICK_S) * TICK_S


def back_off(interval: float, failures: int) -> float:
    """Say how long a unit is left alone after so many silent cycles in a row; the first costs it nothing."""
    longest = max(interval, LONGEST_BACK_OFF_S)
    return 0.0 if failures <= 1 else min(interval * 2.0 ** min(failures - 2, 20), longest)


def reconnect_delay(failures: int) -> float:
    """Say how long to wait before the next attempt to connect: 1 s doubling to a minute, jittered."""
    return min(2.0 ** min(failures - 1, 6), 60.0) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, hides nothing
