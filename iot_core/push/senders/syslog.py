"""RFC 5424 messages: over UDP (5426), TCP with octet counting (6587) or TLS (5425). Facility 13, the audit's.

Syslog has no receipt. Delivered means: the other side's system took it (TCP, TLS), or it left this machine (UDP).
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from yarl import URL

from iot_core.push.answer import Answer
from iot_core.push.senders import tls
from iot_core.push.senders.base import Sender, reachable, word

if TYPE_CHECKING:
    from iot_core.push.outbox import Endpoint
    from iot_core.push.parcel import Parcel
    from iot_core.push.senders.base import Access

__all__ = ["PORTS", "SyslogSender", "frame"]

PORTS: Final = {"syslog": 514, "syslog+tcp": 601, "syslog+tls": 6514}
_FACILITY: Final = 13
_LEVEL: Final = {"critical": 2, "high": 3, "medium": 4, "low": 5}
_NOTICE: Final = 5
_BOM: Final = b"\xef\xbb\xbf"
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
"""A log is one line a message, and is read on terminals."""


def frame(parcel: Parcel, at: datetime, host: str) -> bytes:
    """Write one message; what a header cannot hold is a dash."""
    priority = _FACILITY * 8 + _LEVEL.get(parcel.severity, _NOTICE)
    header = f"<{priority}>1 {at.isoformat(timespec='milliseconds')} {host} iot-core - {parcel.message_id[:32]} - "
    return header.encode("ascii", "replace") + _BOM + _CONTROL.sub(b" ", parcel.data)


class SyslogSender(Sender):
    """Keeps one TCP or TLS connection, one message at a time on it."""

    def __init__(self, target: Endpoint, access: Access) -> None:
        self._target = target
        self._access = access
        self._url = URL(target.url)
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._turn = asyncio.Lock()

    async def send(self, parcel: Parcel) -> Answer:
        """Send one message."""
        data = frame(parcel, datetime.now(UTC), socket.gethostname() or "-")
        try:
            async with self._turn, asyncio.timeout(self._access.timeout_s):
                if self._url.scheme == "syslog":
                    await self._datagram(data)
                else:
                    await self._stream(f"{len(data)} ".encode() + data)
        except OSError as exc:
            await self.close()
            return Answer(None, word(exc))
        return Answer(None, None)

    async def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._writer.wait_closed()
        self._writer = self._reader = None

    async def _datagram(self, data: bytes) -> None:
        port = self._url.port or PORTS["syslog"]
        address = await reachable(self._url.host or "", port, self._access)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(address, port)
        )
        try:
            transport.sendto(data)
        finally:
            transport.close()

    async def _stream(self, data: bytes) -> None:
        # A peer that closed is seen by reading; else the first message into a dead connection would seem sent.
        if self._reader is not None and self._reader.at_eof():
            await self.close()
        if self._writer is None:
            host, port = self._url.host or "", self._url.port or PORTS[self._url.scheme]
            address = await reachable(host, port, self._access)
            own = tls.context(self._target.options) if self._url.scheme == "syslog+tls" else None
            self._reader, self._writer = await asyncio.open_connection(
                address, port, ssl=own, server_hostname=host if own else None
            )
        self._writer.write(data)
        await self._writer.drain()
