"""Show a Mosquitto that was just started who the core's session belongs to, before anything else happens.

A session that Mosquitto 2.0 read back from disk knows its subscriptions, but not its login. If accounts are reloaded
(SIGHUP) before its client has connected once, Mosquitto drops what arrives for it from then on, and tells nobody. So
the core connects for a moment with the session's client id. It also shows that our login is accepted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

__all__ = ["introduce"]

_TRY_S: Final = 30.0  # it may be writing a large queue to disk
_CONNECT: Final = 0x10
_CONNACK: Final = 0x20
_DISCONNECT: Final = b"\xe0\x00"
_LOGIN_AND_KEPT_SESSION: Final = 0xC0
_MQTT_3_1_1: Final = 4
_KEEP_ALIVE_S: Final = 60


async def introduce(socket: str, client_id: str, username: str, password: str) -> bool:
    """Connect to a kept session and leave it again; False when the broker does not take our login."""
    fields = b"".join(_text(part) for part in (client_id, username, password))
    head = _text("MQTT") + bytes([_MQTT_3_1_1, _LOGIN_AND_KEPT_SESSION]) + _KEEP_ALIVE_S.to_bytes(2, "big")
    packet = bytes([_CONNECT]) + _length(len(head) + len(fields)) + head + fields
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_TRY_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(packet)
                answer = await reader.readexactly(4)
                writer.write(_DISCONNECT)
                await writer.drain()
            finally:
                writer.close()
        return answer[0] == _CONNACK and answer[3] == 0
    return False


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def _length(number: int) -> bytes:
    """Write MQTT's variable byte integer (2.2.3)."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)
