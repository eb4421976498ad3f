"""A connection for one person's tool: opened at once, opened again when it broke."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from drivers.modbus.link import Link

if TYPE_CHECKING:
    from drivers.modbus.address import Place
    from drivers.modbus.scan import Exchange

__all__ = ["lone"]

_CONNECT_S: Final = 3.0


@asynccontextmanager
async def lone(place: Place, timeout_s: float) -> AsyncIterator[Exchange]:
    """Give a way to hold a connection of our own for a request. Raises Broken when there is no connection at all."""
    link = Link(place, max(timeout_s, _CONNECT_S))

    @asynccontextmanager
    async def exchange() -> AsyncIterator[Link]:
        if not link.connected:
            await link.open()
        yield link

    await link.open()
    try:
        yield exchange
    finally:
        link.close()
