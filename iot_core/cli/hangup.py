"""When the terminal goes (a window closed, a connection lost): the end comes in order, and finds somewhere to write.

A program that has children of its own (database, broker) must not die of SIGHUP as others do: they would live on. An
interactive shell sends SIGHUP a second time, so it never counts as "at once", as a second Ctrl-C does.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["ends_as_interrupted", "on_hangup"]


def on_hangup(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Call `end` when the terminal goes; never under `nohup`, which asks for the opposite."""
    if _heard():
        loop.add_signal_handler(signal.SIGHUP, _once(end))


def ends_as_interrupted() -> None:
    """End of SIGTERM and of a terminal that goes as of Ctrl-C, which `asyncio.run` makes a cancellation."""

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, lambda *_: interrupt())
    if _heard():
        gone = _once(interrupt)
        signal.signal(signal.SIGHUP, lambda *_: gone())


def _heard() -> bool:
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _once(end: Callable[[], None]) -> Callable[[], None]:
    terminals = [number for number in (1, 2) if os.isatty(number)]  # asked now: later a dead one says that it is none
    over = False

    def gone() -> None:
        nonlocal over
        if over:
            return
        over = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)
        end()

    return gone
