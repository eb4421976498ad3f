"""What was meant, when a word is none that the language knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["like"]

_OTHER_WORDS: Final = {
    "float": "float32", "real": "float32", "single": "float32", "double": "float64",
    "int": "int16", "short": "int16", "word": "uint16", "ushort": "uint16", "long": "int32", "dword": "uint32",
    "byte": "uint8", "char": "int8", "text": "string", "boolean": "bool",
    "register": "address", "reg": "address", "position": "at", "start": "at", "byte_at": "at",
    "factor": "scale", "multiplier": "scale", "gain": "scale", "ratio": "scale", "resolution": "scale",
    "function": "table", "register_type": "table", "datatype": "type", "data_type": "type",
    "byte_order": "order", "byteorder": "endian", "word_order": "order", "endianness": "endian",
    "size": "length", "bytes": "length", "null": "unknown", "nan": "unknown", "sentinel": "unknown", "enum": "map",
    "key": "path", "json_path": "path", "column": "field", "index": "field", "separator": "split",
    "is": "equals", "fport": "port", "f_port": "port", "crc": "checksum", "timestamp": "time", "timezone": "zone",
}  # fmt: skip
"""What manuals and other platforms call things, where no letters are alike."""


def like(word: object, known: Iterable[object]) -> str:
    """Give ` (did you mean ...?)` for a word that is near a known one, else nothing."""
    names = {str(each).lower(): str(each) for each in known}
    other = _OTHER_WORDS.get(str(word).lower())
    if other in names:
        return f" (did you mean {other}?)"
    found = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.6)
    return f" (did you mean {names[found[0]]}?)" if found else ""
