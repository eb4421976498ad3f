"""The core as Sparkplug's primary host application (specification 3.0.0, section 5.14). Pure.

Edge nodes wait for its word. A connection is `online` while it is subscribed and hands over; its will says `offline`,
so that nodes keep what they have while the core, its store or its network is away. Both carry the connection's time.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from iot_core import sparkplug

__all__ = ["Host"]

_STATE: Final = f"{sparkplug.NAMESPACE}/STATE/"


class Host:
    """What is published, retained and at QoS 1, on `topic`."""

    def __init__(self, host_id: str) -> None:
        self.topic = f"{_STATE}{host_id}" if host_id else ""
        self._since = 0

    def will(self) -> tuple[str, bytes] | None:
        """Begin a connection: give its will, or None where the core is no host."""
        self._since = round(time.time() * 1000)
        return (self.topic, self.offline()) if self.topic else None

    def online(self) -> bytes:
        """Say that the core listens."""
        return _said(online=True, at=self._since)

    def offline(self) -> bytes:
        """Say that it does so no longer."""
        return _said(online=False, at=self._since)

    def contradicted(self, payload: bytes) -> bool:
        """Say whether a message on our topic says that we are away: a will that came late."""
        try:
            return msgspec.json.decode(payload, type=_Said).online is False
        except msgspec.DecodeError:
            return False


class _Said(msgspec.Struct, frozen=True):
    online: bool
    timestamp: int


def _said(*, online: bool, at: int) -> bytes:
    return msgspec.json.encode(_Said(online, at))
