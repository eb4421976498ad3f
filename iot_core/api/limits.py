"""How often somebody may try: buckets by address and by user, in bounded memory.

A bucket holds `burst` tries and gets one back each `1 / rate` seconds. Of more senders than `_MOST` the one that tried
longest ago is forgotten: whoever has that many addresses is not held up by such a list anyway.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from iot_core.api.problems import TooOften

__all__ = ["Attempts", "Bucket", "Limit"]

_MOST: Final = 20_000
_NOTED_S: Final = 60.0


@dataclass(slots=True)
class Bucket:
    """What somebody has left, as of when."""

    left: float
    at: float


class Limit:
    """Lets each key through `burst` times at once and `rate` times a second for ever."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, cost: float = 1.0) -> None:
        """Take one try. Raises TooOften, with the seconds after which there is another."""
        now = self._clock()
        bucket = self._buckets.pop(key, None) or Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        if bucket.left < cost:
            raise TooOften("api.too_often", seconds=math.ceil((cost - bucket.left) / self._rate))
        bucket.left -= cost

    def give(self, key: str) -> None:
        """Give one try back."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.left = min(self._burst, bucket.left + 1)


class Attempts:
    """Tries to sign in: ten at once by address and by user, then one each fifteen seconds; a success costs none.

    By user *and* address a stranger cannot lock a user out; by user alone, guessing from many addresses is slowed to
    one try each second or so.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._by_address = Limit(1 / 6, 20, clock)
        self._by_both = Limit(1 / 15, 10, clock)
        self._by_user = Limit(1, 100, clock)
        self._noted = Limit(1 / _NOTED_S, 1, clock)

    def begin(self, address: str | None, user: str) -> Attempt:
        """Take a try. Raises TooOften."""
        tries = [(self._by_address, address or "?")]
        if user:
            tries += [(self._by_both, f"{user}@{address}"), (self._by_user, user)]
        for limit, key in tries:
            limit.take(key)
        return Attempt(tuple(tries))

    def worth_noting(self, address: str | None, user: str) -> bool:
        """Say whether this refusal is the first of its minute."""
        try:
            self._noted.take(f"{user}@{address}")
        except TooOften:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that was taken."""

    tries: tuple[tuple[Limit, str], ...]

    def forgive(self) -> None:
        """Give it back: it was somebody who may come in."""
        for limit, key in self.tries:
            limit.give(key)
