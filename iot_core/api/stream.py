"""Writing a stream of server-sent events to one client, for as long as it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from iot_core.api.access import who
from iot_core.api.hub import HUB
from iot_core.api.problems import Unauthorized
from iot_core.api.routes import Call
from iot_core.api.sse import HEARTBEAT, Message
from iot_core.store.connection import AWAY

__all__ = ["TICK_S", "send"]

TICK_S: Final = 1.0
"""How often a source of messages gives at least None, so that a client that left is noticed."""
_HEARTBEAT_S: Final = 15.0
_CHECK_S: Final = 15.0
_WRITE_S: Final = 20.0
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def send(call: Call[Any], messages: AsyncGenerator[Message | None, None]) -> web.StreamResponse:
    """Send messages as they come, and a heartbeat where none has come for long.

    Ends when the client has left, when it stops reading, or when its token or session is no longer good.
    """
    response = web.StreamResponse(headers=_HEADERS)
    async with aclosing(messages):
        await response.prepare(call.request)
        with call.request.app[HUB].attend(), suppress(ConnectionResetError, Unauthorized, *AWAY):
            await _pour(call, response, messages)
    return response


async def _pour(call: Call[Any], response: web.StreamResponse, messages: AsyncGenerator[Message | None, None]) -> None:
    await response.write(HEARTBEAT)
    request, clock = call.request, asyncio.get_running_loop().time
    written = checked = clock()
    hub = request.app[HUB]
    access = hub.access
    async for message in messages:
        if request.transport is None or request.transport.is_closing():
            return
        ended = call.who.expires_at is not None and call.who.expires_at <= datetime.now(UTC)
        if ended or access != hub.access or clock() >= checked + _CHECK_S:
            access = hub.access
            async with call.connection() as connection:
                now = await who(request, connection)
            if call.action is not None and now.rights != call.who.rights:
                return  # it comes back, and is told what it may see now
            checked = clock()
        if message is None and clock() < written + _HEARTBEAT_S:
            continue
        try:
            async with asyncio.timeout(_WRITE_S):
                await response.write(HEARTBEAT if message is None else message.encode())
        except TimeoutError:  # it stopped reading: drop it, it will come back and ask for what it missed
            hub.count_dropped()
            request.transport.abort()
            return
        written = clock()
