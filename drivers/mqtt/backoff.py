"""How long to wait before the next try."""

from __future__ import annotations

import asyncio
import random
from typing import Final

__all__ = ["Backoff"]

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 10.0


class Backoff:
    """Doubles from a quarter second to ten, with jitter, until something succeeded."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    async def wait(self) -> None:
        """Wait, and next time longer."""
        delay = self._next_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        self._next_s = min(self._next_s * 2, _LONGEST_S)
        await asyncio.sleep(delay)

    def succeeded(self) -> None:
        """Begin anew."""
        self._next_s = _FIRST_S
