"""Letters that stdout and stderr cannot write: Windows in Vietnam redirects in Windows-1258, which lacks most of them.

Files and pipes get UTF-8, as scripts read it. Where somebody asked for another encoding (PYTHONIOENCODING), or a
terminal has one, a letter is written by its parts, else without its marks: `ộ` is `ô` and a dot in Windows-1258, `o` in
cp850.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import Final

from iot_core.settings import environment

__all__ = ["speak_every_language"]

_TONES: Final = "\u0300\u0301\u0303\u0309\u0323"
_PLAIN: Final = str.maketrans(
    {"đ": "d", "Đ": "D", "→": "->", "›": ">", "…": "...", "–": "-", "—": "-", "“": '"', "”": '"', "·": "-"}
)


def speak_every_language() -> None:
    """Let nothing that is to be said fail for its letters."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or codecs.lookup(stream.encoding).name == "utf-8":
            continue
        if stream.isatty() or environment("PYTHONIOENCODING"):
            stream.reconfigure(errors=_nearest_in(stream.encoding))
        else:
            stream.reconfigure(encoding="utf-8")


def _nearest_in(encoding: str) -> str:
    """Register what is done about a letter that this encoding lacks, and name it."""

    def nearest(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        letters = error.object[error.start : error.end]
        return "".join(_written(letter, encoding) for letter in letters), error.end

    name = f"nearest-{encoding}"
    codecs.register_error(name, nearest)
    return name


def _written(letter: str, encoding: str) -> str:
    parts = unicodedata.normalize("NFD", letter)
    bare = "".join(part for part in parts if part not in _TONES)
    tones = "".join(part for part in parts if part in _TONES)
    for said in (unicodedata.normalize("NFC", bare) + tones, parts[:1].translate(_PLAIN)):
        try:
            said.encode(encoding)
        except UnicodeEncodeError:
            continue
        return said
    return "?"
