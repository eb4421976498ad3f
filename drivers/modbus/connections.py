"""How many gateways are connected at once: a bound, and who gives way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol


class Closable(Protocol):
    """What a slot is lent to."""

    @property
    def connected(self) -> bool: ...
    def close(self) -> None: ...


class Connections:
    """At most `limit` links hold a connection; the one that has been idle longest is closed for another.

    async with connections.lend(link): ...    # waits while all are busy
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: OrderedDict[Closable, int] = OrderedDict()  # link -> how many use it; used longest ago first
        self._released = asyncio.Event()

    @asynccontextmanager
    async def lend(self, link: Closable) -> AsyncIterator[None]:
        """Hold a slot for the length of a block; an open link keeps it afterwards, as long as nobody wants it."""
        await self.take(link)
        try:
            yield
        finally:
            self.give_back(link)

    async def take(self, link: Closable) -> None:
        """Hold a slot until `give_back`."""
        while link not in self._holders and not self._room():
            self._released.clear()
            await self._released.wait()
        self._holders[link] = self._holders.get(link, 0) + 1
        self._holders.move_to_end(link)

    def give_back(self, link: Closable) -> None:
        """Hold it no longer."""
        if link in self._holders:
            self._holders[link] -= 1
            if not self._holders[link] and not link.connected:
                del self._holders[link]
        self._released.set()

    def forget(self, link: Closable) -> None:
        """Give the slot of a link back that is used no more."""
        link.close()
        self._holders.pop(link, None)
        self._released.set()

    def _room(self) -> bool:
        if len(self._holders) < self._limit:
            return True
        idle = next((link for link, users in self._holders.items() if not users), None)
        if idle is None:
            return False
        idle.close()
        del self._holders[idle]
        return True
