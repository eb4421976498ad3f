"""What a row is found by, and what was typed to find it, both folded."""

from __future__ import annotations

from collections.abc import Iterable

from iot_core.folding import fold

__all__ = ["folded", "patterns"]


def folded(parts: Iterable[str | None]) -> str:
    """Write what the `search` column of a row keeps."""
    return fold(" ".join(part for part in parts if part))


def patterns(asked: str) -> list[str]:
    """Turn what was typed into LIKE patterns, one a word, all of which must match."""
    return [f"%{_escaped(word)}%" for word in fold(asked).split(" ") if word]


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
