"""How a simulation ends early: the first Ctrl-C (or SIGTERM) asks it to, the second ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED: Final = 130


class Ending(asyncio.Event):
    """Set when a person wants the end."""

    async def wait_for(self, seconds: float) -> None:
        """Wait for it, but not longer than `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()


@contextmanager
def ending() -> Iterator[Ending]:
    """Listen for the signals while the block lasts."""
    loop, ended = asyncio.get_running_loop(), Ending()

    def on_signal() -> None:
        if ended.is_set():
            os._exit(_INTERRUPTED)
        ended.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield ended
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
