"""The stand-in operations center: takes webhooks, checks each signature for itself, and remembers when what came.

The signature is checked by the Standard Webhooks library. HTTP is read by httptools without a web framework around it,
which would cost more than what is sent to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httptools
import msgspec
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

_PATH: Final = "/alarms"
_TAKEN: Final = 204


class AlarmSaid(msgspec.Struct, frozen=True):
    """The part of a webhook's alarm that the center reads."""

    id: int
    rule: str
    severity: str
    raised_at: datetime | None = None
    received_at: datetime | None = None


class DeviceSaid(msgspec.Struct, frozen=True):
    """The part of a webhook's device that the center reads; an incident is of a class, and of no device."""

    key: str | None = None
    name: str | None = None


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

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """Answer a webhook: 204 when its signature is right, 401 when not, 400 when it says nothing we know."""
        try:
            if not self.secret:
                raise WebhookVerificationError("no secret yet")  # noqa: TRY301 - one place answers
            Webhook(self.secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            self.rejected += 1
            return 401
        try:
            said = msgspec.json.decode(body, type=Said)
        except msgspec.DecodeError:
            return 400
        identity = headers["webhook-id"]
        self.receipts.append(Receipt(identity, said, datetime.now(UTC), identity in self._seen))
        self._seen.add(identity)
        return _TAKEN

    def raised(self) -> list[Receipt]:
        """Give the raised alarms that came, each once."""
        return [receipt for receipt in self.receipts if receipt.said.type == "alarm.raised" and not receipt.again]


class _Line(asyncio.Protocol):
    """One connection of a sender: requests, one after the other."""

    def __init__(self, center: Center, lines: set[asyncio.Transport]) -> None:
        self._center = center
        self._lines = lines
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lines.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._lines.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        wanted = self._parser.get_method() == b"POST" and self._url == _PATH.encode()
        status = self._center.take(self._headers, b"".join(self._body)) if wanted else 404
        length = b"" if status == _TAKEN else b"Content-Length: 0\r\n"
        self._transport.write(b"HTTP/1.1 %d -\r\n%s\r\n" % (status, length))
        if not self._parser.should_keep_alive():
            self._transport.close()
        self._url, self._headers, self._body = b"", {}, []


@asynccontextmanager
async def operations_center(port: int = 0) -> AsyncIterator[Center]:
    """Run a center on a loopback port, 0: on a free one."""
    center = Center()
    lines: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Line(center, lines), "127.0.0.1", port)
    try:
        center.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{_PATH}"
        yield center
    finally:
        server.close()
        for line in list(lines):
            line.abort()
        await asyncio.sleep(0)
        await server.wait_closed()
