"""Search as people type: without diacritics, đ as d, in any case, whatever Unicode form the text came in.

fold("Vịnh Hạ Long, Đường 3/2") == "vinh ha long, duong 3/2"
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["fold", "folded", "patterns"]

_D = str.maketrans({"đ": "d"})  # the one Vietnamese letter that does not decompose


def fold(text: str) -> str:
    """Fold case, diacritics, đ/d and Unicode form away; any white space becomes one blank."""
    caseless = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in caseless if not unicodedata.combining(letter))
    return " ".join(plain.translate(_D).split())


def folded(parts: Iterable[str | None]) -> str:
    """Write what the `search` column of a row keeps."""
    return fold(" ".join(part for part in parts if part))


def patterns(asked: str) -> list[str]:
    """Turn what was typed into LIKE patterns, one a word, all of which must match."""
    return [f"%{_escaped(word)}%" for word in fold(asked).split(" ") if word]


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
