"""What was meant, when a word is none that the language knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["like"]


def like(word: object, known: Iterable[object]) -> str:
    """Give ` (did you mean ...?)` for a word that is near a known one, else nothing."""
    names = {str(each).lower(): str(each) for each in known}
    found = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.6)
    return f" (did you mean {names[found[0]]}?)" if found else ""
