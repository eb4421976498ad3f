"""How long a record of an M-Bus or wM-Bus telegram is: EN 13757-3, the DIF says it."""

from __future__ import annotations

from typing import Final

__all__ = ["record_sizes"]

_SIZES: Final = (0, 1, 2, 3, 4, 4, 6, 8, 0, 1, 2, 3, 4, -1, 6, -1)
"""By the low four bits of the DIF; -1: variable (0xD), special (0xF)."""
_FILLER: Final = 0x2F
_OWN: Final = (0x0F, 0x1F)
"""From here to the end everything is the manufacturer's own; 0x1F: and more records follow in the next telegram."""
_MOST_EXTENSIONS: Final = 10


def record_sizes(data: bytes, at: int) -> tuple[int, int] | None:
    """Give where the body of the record at `at` begins and how long it is; None when the bytes do not say it."""
    dif = data[at]
    if dif == _FILLER or dif in _OWN:
        return at + 1, len(data) - at - 1 if dif in _OWN else 0
    begin = _past_extensions(data, at)  # the DIF and its DIFEs
    if begin is None or begin >= len(data):
        return None
    first_vif = data[begin]
    begin = _past_extensions(data, begin)
    if begin is None:
        return None
    if first_vif in {0x7C, 0xFC} and begin < len(data):  # a unit in plain text: its length, then the text
        begin += 1 + data[begin]
    size = _SIZES[dif & 0x0F]
    if dif & 0x0F == 0x0D:
        if begin >= len(data) or data[begin] > 0xBF:
            return None
        return begin + 1, data[begin]
    return None if size < 0 else (begin, size)


def _past_extensions(data: bytes, at: int) -> int | None:
    """Step over a byte and those that extend it: each with its highest bit set is followed by another."""
    for _ in range(_MOST_EXTENSIONS):
        if at >= len(data):
            return None
        at += 1
        if not data[at - 1] & 0x80:
            return at
    return None
