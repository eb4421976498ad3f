"""Text as people type it: without diacritics, đ as d, in any case, whatever Unicode form it came in. Pure.

fold("Vịnh Hạ Long, Đường 3/2") == "vinh ha long, duong 3/2"
"""

from __future__ import annotations

import unicodedata

__all__ = ["fold"]

_D = str.maketrans({"đ": "d"})  # the one Vietnamese letter that does not decompose


def fold(text: str) -> str:
    """Fold case, diacritics, đ/d and Unicode form away; any white space becomes one blank."""
    caseless = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in caseless if not unicodedata.combining(letter))
    return " ".join(plain.translate(_D).split())
