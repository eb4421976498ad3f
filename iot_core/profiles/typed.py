"""Where a value stands, as it is typed: `input:0x34:int32:0.01:CDAB:W.h` -> the keys of a profile."""

from __future__ import annotations

import re
from typing import Final, get_args

from iot_core.profiles.modbus import Table as RegisterTable
from iot_core.profiles.wire import Order

__all__ = ["splitting", "where_of"]

_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?:/\d+(?:\.\d+)?)?")
_ADDRESS: Final = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
_ENDIANS: Final = ("big", "little")
_BETWEEN: Final = (";", "\t", "&", "|", ",", " ")
"""What stands between fields, the rarest inside a field first."""
_PAIR: Final = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_.-]*\s*([=:])")


def where_of(way: str, text: str) -> dict[str, object] | None:
    """Read where a value stands; None when it is not said as this way needs it.

    `a.b`, `3303/0/5700`, `2` or `Ta`, `input:0x34:int16:0.1:CDAB:W.h`, `0367:int16:0.1` or `2:uint16:1/16:little`.
    """
    if not text:
        return None
    if way in {"json", "cbor", "senml"}:
        return {"name" if way == "senml" else "path": text}
    if way == "text":
        return {"field": int(text) if text.isdecimal() else text}
    parts = text.split(":")
    if way == "modbus":
        return _register(parts)
    if way == "records":
        key = parts.pop(0).lower()
        keys = _typed({"key": key}, parts, "uint8") if re.fullmatch(r"(?:[0-9a-f]{2})+", key) else None
        return (
            None if keys is None else {**keys, "length": int("".join(filter(str.isdigit, str(keys["type"]))) or 8) // 8}
        )
    return _typed({"at": int(parts.pop(0))}, parts, "uint8") if parts[0].isdecimal() else None


def _register(parts: list[str]) -> dict[str, object] | None:
    keys: dict[str, object] = {}
    if parts[0] in get_args(RegisterTable):
        keys["table"] = parts.pop(0)
    if not parts or not _ADDRESS.fullmatch(parts[0]):
        return None
    keys["address"] = int(parts[0], 16 if parts[0][:2] in {"0x", "0X"} else 10)
    parts.pop(0)
    if keys.get("table") in {"coil", "discrete"}:
        return None if parts else keys
    return _typed(keys, parts, "uint16")


def _typed(keys: dict[str, object], parts: list[str], default: str) -> dict[str, object] | None:
    """Add the type, and behind it scale, order and unit, each told by how it looks."""
    keys["type"] = parts.pop(0) if parts else default
    for part in parts:
        if part in get_args(Order):
            name: str = "order"
        elif part in _ENDIANS:
            name = "endian"
        else:
            name = "scale" if _NUMBER.fullmatch(part) else "unit"
        if name in keys or not part:
            return None
        keys[name] = float(part) if name == "scale" and "/" not in part else part
    return keys


def splitting(sample: str, *, named: bool) -> tuple[str, str]:
    """Guess what stands between the fields of a text, and between a name and its value where fields are `named`."""
    row = sample.strip().splitlines()[0] if sample.strip() else ""
    between = next((each for each in _BETWEEN if each in row.strip()), "")
    if not named:
        return between, ""
    for each in _BETWEEN:
        found = [_PAIR.match(piece) for piece in row.split(each)] if each in row else []
        signs = {match[1] for match in found if match}
        if len(signs) == 1 and 2 * sum(1 for match in found if match) > len(found):
            return each, signs.pop()
    alone = _PAIR.match(row)
    return between or ",", alone[1] if alone else "="
