"""The one message nearly every device sends, read from its datagram at once (RFC 7252 section 3). Pure.

    POST /v1/KEY/telemetry?token=SECRET, with or without a Content-Format, in one datagram

Whatever has another path, method or option is None here and is read by aiocoap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Post", "answer", "read_post"]

CON: Final = 0
NON: Final = 1
ACK: Final = 2
_POST: Final = 0x02
_URI_HOST: Final = 3
_URI_PORT: Final = 7
_URI_PATH: Final = 11
_CONTENT_FORMAT: Final = 12
_URI_QUERY: Final = 15
_MARKER: Final = 0xFF
_TOKEN: Final = b"token="
_PATH: Final = (b"v1", b"telemetry")


@dataclass(frozen=True, slots=True)
class Post:
    """Who posts what: `secret` is what stands behind `token=`."""

    confirmable: bool
    mid: int
    token: bytes
    key: str
    secret: str
    content_format: int | None
    payload: bytes


def read_post(data: bytes) -> Post | None:  # noqa: C901, PLR0911, PLR0912 - flat on purpose: it reads each datagram
    """Read a plain POST of telemetry; None for anything that aiocoap has to look at."""
    size = len(data)
    # Version 1, CON or NON, a token of at most 8 bytes; POST.
    if size < 5 or data[0] & 0xE0 != 0x40 or data[1] != _POST or (token_length := data[0] & 0x0F) > 8:
        return None
    at = 4 + token_length
    number = 0
    path: list[bytes] = []
    query = b""
    content_format: int | None = None
    payload = b""
    while at < size:
        sign = data[at]
        at += 1
        if sign == _MARKER:
            payload = data[at:]
            break
        delta, length = sign >> 4, sign & 0x0F
        if delta > 12 or length > 13:  # no option of ours is so far from the one before, none so long
            return None
        if length == 13:
            if at >= size:
                return None
            length += data[at]
            at += 1
        number += delta
        end = at + length
        if end > size:
            return None
        value = data[at:end]
        at = end
        if number == _URI_PATH:
            path.append(value)
        elif number == _URI_QUERY:
            if query or not value.startswith(_TOKEN):
                return None
            query = value
        elif number == _CONTENT_FORMAT:
            if content_format is not None or length > 2:
                return None
            content_format = int.from_bytes(value, "big")
        elif number not in {_URI_HOST, _URI_PORT}:
            return None
    if not query or not payload or len(path) != 3 or (path[0], path[2]) != _PATH:
        return None
    try:
        key, secret = path[1].decode(), query[len(_TOKEN) :].decode()
    except UnicodeDecodeError:
        return None
    return Post(
        data[0] & 0x10 == 0,
        data[2] << 8 | data[3],
        data[4 : 4 + token_length],
        key,
        secret,
        content_format,
        payload,
    )


def answer(kind: int, code: int, mid: int, token: bytes = b"") -> bytes:
    """Write a message without options and payload: 2.04, or with code 0 an empty acknowledgement."""
    return bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 0xFF)) + token
