"""A real receiver: checks signatures with the `standardwebhooks` library, answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """What arrived, in order. `answer` decides on the status; `hold` keeps every request waiting until it is set."""

    port: int
    secret: str = SECRET
    bodies: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], int] = lambda _: 204
    hold: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alarms"

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.text()
        try:
            body = Webhook(self.secret).verify(raw, dict(request.headers))
        except WebhookVerificationError as exc:
            self.refused.append(str(exc))
            return web.Response(status=401)
        self.bodies.append(body)
        self.ids.append(request.headers["webhook-id"])
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=self.answer(body))

    async def arrived(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.ids) < number:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def receiving(port: int, **facts: Any) -> AsyncIterator[Receiver]:
    """Run a receiver while the block lasts."""
    receiver = Receiver(port, **facts)
    async with serving(port, receiver.take):
        yield receiver


@asynccontextmanager
async def serving(port: int, handler: Handler) -> AsyncIterator[None]:
    """Serve every POST on a loopback port with one handler."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
