"""Which messages came lately, and what was answered: repetitions get the same answer (RFC 7252 section 4.2)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ["REMEMBERED", "Recent"]

REMEMBERED: Final = 20_000
"""How many messages are known at most; beyond it, merging by time and seq tells repetitions."""

EXCHANGE_LIFETIME_S: Final = 247.0

Answer = Any
"""A Message of aiocoap, the bytes of one, or None while there is none."""


class Recent:
    """A bounded memory by sender and message id. The oldest are forgotten first, and no timer is needed.

    aiocoap remembers every request for 247 s, with its answer and a timer each: at 1,000 requests a second some
    hundred megabytes.
    """

    def __init__(self, most: int = REMEMBERED, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._answers = OrderedDict[Hashable, tuple[float, Answer]]()

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._answers

    def repeated(self, key: Hashable) -> bool:
        """Say whether this came before; from now on it did."""
        now = self._clock()
        answers = self._answers
        while answers:
            first = next(iter(answers))
            if answers[first][0] > now - EXCHANGE_LIFETIME_S and len(answers) < self._most:
                break
            del answers[first]
        if key in answers:
            return True
        answers[key] = (now, None)
        return False

    def answer(self, key: Hashable) -> Answer:
        """Give what was answered, None when nothing was yet."""
        return self._answers.get(key, (0.0, None))[1]

    def answered(self, key: Hashable, answer: Answer) -> None:
        """Note the answer to a message that is remembered."""
        known = self._answers.get(key)
        if known is not None:
            self._answers[key] = (known[0], answer)
