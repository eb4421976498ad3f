"""The stand-in operations center: takes webhooks, checks each signature for itself, and remembers when what came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class AlarmSaid(msgspec.Struct, frozen=True):
    """The part of a webhook's alarm that the center reads."""

    id: int
    rule: str
    severity: str
    raised_at: datetime | None = None
    received_at: datetime | None = None


class DeviceSaid(msgspec.Struct, frozen=True):
    """The part of a webhook's device that the center reads."""

    key: str
    name: str = ""


class DataSaid(msgspec.Struct, frozen=True):
    """What a webhook is about; a test message has neither."""

    alarm: AlarmSaid | None = None
    device: DeviceSaid | None = None


class Said(msgspec.Struct, frozen=True):
    """A webhook's body."""

    type: str
    timestamp: datetime
    data: DataSaid = DataSaid()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified webhook and when it came. `again` marks a repetition of an id that was there before."""

    id: str
    said: Said
    at: datetime
    again: bool = False


@dataclass(slots=True)
class Center:
    """What the operations center knows. It believes nothing until it was given the target's secret."""

    secret: str = ""
    url: str = ""
    receipts: list[Receipt] = field(default_factory=list)
    rejected: int = 0
    _seen: set[str] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        """Answer a webhook: 204 when its signature is right, 401 when not, 400 when it says nothing we know."""
        body = await request.read()
        try:
            if not self.secret:
                raise WebhookVerificationError("no secret yet")  # noqa: TRY301 - one place answers
            Webhook(self.secret).verify(body, dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            self.rejected += 1
            return web.Response(status=401)
        try:
            said = msgspec.json.decode(body, type=Said)
        except msgspec.DecodeError:
            return web.Response(status=400)
        identity = request.headers["webhook-id"]
        self.receipts.append(Receipt(identity, said, datetime.now(UTC), identity in self._seen))
        self._seen.add(identity)
        return web.Response(status=204)

    def raised(self) -> list[Receipt]:
        """Give the raised alarms that came, each once."""
        return [receipt for receipt in self.receipts if receipt.said.type == "alarm.raised" and not receipt.again]


@asynccontextmanager
async def operations_center(port: int = 0) -> AsyncIterator[Center]:
    """Run a center on a loopback port, 0: on a free one."""
    center = Center()
    app = web.Application()
    app.router.add_post("/alarms", center.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        center.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alarms"
        yield center
    finally:
        await runner.cleanup()
