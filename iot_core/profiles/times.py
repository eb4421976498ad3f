"""What devices write for a time -> aware UTC datetime, fast."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

__all__ = ["parse_time"]

_MILLISECONDS_FROM: Final = 1e11
"""Numbers from here on are milliseconds (docs/protocol.md): in seconds it would be the year 5138."""


def parse_time(value: object) -> datetime | None:
    """Read RFC 3339 with a zone, or a number of seconds or milliseconds since 1970; None when it is neither."""
    try:
        if type(value) is str:
            time = _read_text(value)
            if time.tzinfo is UTC:
                return time
            return None if time.tzinfo is None else time.astimezone(UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return datetime.fromtimestamp(value / 1000 if value >= _MILLISECONDS_FROM else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _read_text(value: str) -> datetime:
    """Read RFC 3339 as typed decoders do; else what else ISO 8601 allows, and a leap second, which is the next one."""
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        upright = value.upper()
        if upright[16:19] == ":60":
            return datetime.fromisoformat(upright[:16] + ":59" + upright[19:]) + timedelta(seconds=1)
        return datetime.fromisoformat(upright)
