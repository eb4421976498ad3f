"""Open what a sender packed: gzip (RFC 1952), known by its first bytes, and never larger than we take. Pure."""

from __future__ import annotations

import zlib
from typing import Final

from iot_core.errors import DecodeError
from iot_core.model import Reason

__all__ = ["GZIP", "unpacked"]

GZIP: Final = b"\x1f"
"""The first byte; the other two are looked at here."""
_REST: Final = b"\x8b\x08"
_WITH_HEADER: Final = 16 + zlib.MAX_WBITS


def unpacked(payload: bytes, most: int, *, text: bool) -> bytes:
    """Give the payload, unpacked if it was packed. Raises DecodeError for one that would be larger than `most` bytes.

    A vendor's own bytes may begin like gzip by chance; only a whole archive whose checksum holds is one. Where `text`
    is spoken (JSON, CBOR, SenML) they cannot, and half an archive is called so.
    """
    if payload[:1] != GZIP or payload[1:3] != _REST:
        return payload
    opener = zlib.decompressobj(_WITH_HEADER)
    try:
        opened = opener.decompress(payload, most + 1)
    except zlib.error as exc:
        if text:
            raise DecodeError(Reason.CHECKSUM, f"gzip: {exc}") from None
        return payload
    if len(opened) > most:
        raise DecodeError(Reason.TOO_LARGE, f"more than {most} bytes unpacked")
    if opener.eof and not opener.unused_data:
        return opened
    if text:
        raise DecodeError(Reason.TRUNCATED, "gzip")
    return payload
