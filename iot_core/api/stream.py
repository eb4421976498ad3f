"""Writing a stream of server-sent events to one client, for as long as it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web

from iot_core.api.hub import HUB
from iot_core.api.sse import HEARTBEAT, Message

__all__ = ["HEARTBEAT_S", "send"]

HEARTBEAT_S: Final = 15.0
_WRITE_S: Final = 20.0
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def send(request: web.Request, messages: AsyncGenerator[Message | None, None]) -> web.StreamResponse:
    """Send messages as they come, a heartbeat for each None; a client that stops reading is dropped and counted."""
    response = web.StreamResponse(headers=_HEADERS)
    async with aclosing(messages):
        await response.prepare(request)
        with suppress(ConnectionResetError):
            await response.write(HEARTBEAT)
            async for message in messages:
                try:
                    async with asyncio.timeout(_WRITE_S):
                        await response.write(HEARTBEAT if message is None else message.encode())
                except TimeoutError:
                    request.app[HUB].count_dropped()
                    if request.transport is not None:
                        request.transport.abort()
                    break
    return response
