"""How a simulation ends early: a first Ctrl-C (SIGTERM, or its terminal's end) lets it count and end in order.

A second Ctrl-C leaves the counting out, a third ends the process where it stands.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from iot_core.cli.hangup import on_hangup

__all__ = ["Ending", "ending", "run"]

_T = TypeVar("_T")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED: Final = 130
_SHOW_CURSOR: Final = b"\x1b[?25h\n"
_IN_ORDER, _UNCOUNTED = 1, 2


class Ending(asyncio.Event):
    """Set when a person wants the end."""

    async def wait_for(self, seconds: float) -> None:
        """Wait for it, but not longer than `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()


@contextmanager
def ending() -> Iterator[Ending]:
    """Listen for the signals while the block lasts; the second one cancels the task that it is in."""
    loop, task, ended, asked = asyncio.get_running_loop(), asyncio.current_task(), Ending(), 0

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        if asked == _IN_ORDER:
            ended.set()
        elif asked == _UNCOUNTED and task is not None:
            task.cancel()
        else:
            if os.isatty(1):
                os.write(1, _SHOW_CURSOR)
            os._exit(_INTERRUPTED)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    on_hangup(loop, ended.set)
    try:
        yield ended
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def run(simulation: Coroutine[Any, Any, _T]) -> _T:
    """Run it in a loop of its own; raises `KeyboardInterrupt` when a person would not wait for its result."""
    try:
        return asyncio.run(simulation)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
