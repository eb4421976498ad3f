"""Server-sent events as bytes and back: what both ends of a stream share (WHATWG HTML section 9.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

HEARTBEAT: Final = b"event: alive\ndata:\n\n"
"""An event, not a comment: browsers keep comments to themselves, and the page must notice a connection that died."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event. `id` is what a client says as Last-Event-ID when it comes back; empty keeps the one before.

    `area_id` is where it happened: it is told only to who may see that area, and does not go over the wire.
    """

    event: str
    data: str
    id: str = ""
    area_id: int | None = None
    discreet: str = ""
    """The same for who may not see what a household uses, where that differs."""

    def discreetly(self) -> Message:
        """Give it as it is told to them."""
        return replace(self, data=self.discreet)

    def encode(self) -> bytes:
        """Write it for the wire. Our data is one line of JSON."""
        head = f"id: {self.id}\n" if self.id else ""
        return f"{head}event: {self.event}\ndata: {self.data}\n\n".encode()


class Parser:
    """Takes bytes as they come and gives whole messages; comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._id = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Take some bytes, give the messages that they complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = self._take(line.rstrip(b"\r").decode("utf-8", "replace"))
            if message is not None:
                yield message

    def _take(self, line: str) -> Message | None:
        if not line:
            message = Message(self._event or "message", "\n".join(self._data), self._id) if self._data else None
            self._event, self._id, self._data = "", "", []
            return message
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None
