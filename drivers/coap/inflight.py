"""Requests that are being answered: bounded, and carried through even when their sender hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class InFlight:
    """A bounded set of tasks.

    aiocoap cancels a handler when its sender re-uses a token or vanishes; what such a sender has said is still worth
    storing, so the work runs in a task of its own and the handler only waits for it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def full(self) -> bool:
        """Say whether no more work is taken: too much of it, or the server is stopping."""
        return self._closing or len(self._tasks) >= self._limit

    async def carry(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end whatever becomes of the caller, and give its result."""
        task = asyncio.create_task(work, name="coap request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> None:
        """Take no more; wait a little for what is under way, then end it."""
        self._closing = True
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
